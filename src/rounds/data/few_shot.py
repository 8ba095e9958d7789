"""Choose few-shot examples from the training side of a split, to put before a query."""

import itertools
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rounds.config.recipe import Prompts
from rounds.data.prompts import format_texts
from rounds.data.text import normalize_text
from rounds.errors import UserError


@dataclass(frozen=True)
class QueryMetadata:
    """A query's text, and the metadata by which its few-shot examples are chosen.

    Attributes:
        question, construct, subject: empty where unknown, as in JSONL files of other tools.
    """

    text: str
    question: str = ""
    construct: str = ""
    subject: str = ""


class ExampleBank:
    """Training queries with their positives, from which examples are chosen.

    All queries of a construct get the same examples, except those of their own question, so that many share a prefix.

    Args:
        rows: training queries, each with the text of its positive passage.
        prompts: the recipe's prompts, with `examples` `fixed` or `nearest`.

    Raises:
        UserError: `examples` is `nearest` and no row has a construct.
    """

    def __init__(self, rows: Iterable[tuple[QueryMetadata, str]], prompts: Prompts) -> None:
        self.prompts = prompts
        rows = list(rows)
        self.queries = [query for query, _ in rows]
        formatted = format_texts(prompts, "query", (query.text for query in self.queries))
        self.examples = [query + positive for query, (_, positive) in zip(formatted, rows, strict=True)]
        self.normalized_texts = [normalize_text(query.text) for query in self.queries]
        self._orders: dict[tuple[str, str], list[int]] = {}
        if prompts.examples == "nearest" and not any(query.construct for query in self.queries):
            raise UserError("prompts.examples nearest: no row says its construct; make the data anew, or use fixed")

    def choose(self, query: QueryMetadata, number: int) -> list[str]:
        """Return up to `number` examples, the nearest first.

        No example is of the query's own question or has its text, and no two are of one question or have one text.
        """
        examples: list[str] = []
        used_questions, used_texts = {query.question} - {""}, {normalize_text(query.text)}
        for row in self._candidates(query):
            if len(examples) == number:
                break
            question, text = self.queries[row].question, self.normalized_texts[row]
            if question in used_questions or text in used_texts:
                continue
            examples.append(self.examples[row])
            used_questions |= {question} - {""}
            used_texts.add(text)
        return examples

    def _candidates(self, query: QueryMetadata) -> Iterable[int]:
        """Return rows in the order in which they are tried; a row may come more than once."""
        if self.prompts.examples == "fixed":
            return self._order("", "")
        tiers = (("construct", query.construct), ("subject", query.subject), ("", query.construct))
        return itertools.chain.from_iterable(self._order(*tier) for tier in tiers)

    def _order(self, key: str, value: str) -> list[int]:
        """Return the rows whose `key` has the value, in an order seeded by it; without a key, all rows."""
        if (key, value) not in self._orders:
            rows = [
                row for row, query in enumerate(self.queries) if not key or (value and getattr(query, key) == value)
            ]
            random.Random(f"{self.prompts.examples_seed}-{key}-{value}").shuffle(rows)
            self._orders[key, value] = rows
        return self._orders[key, value]


def select_examples(bank: ExampleBank, queries: Sequence[QueryMetadata], number: int | None = None) -> list[list[str]]:
    """Return the examples of each query; `number` defaults to the recipe's `examples_number`."""
    count = bank.prompts.examples_number if number is None else number
    return [bank.choose(query, count) for query in queries]
