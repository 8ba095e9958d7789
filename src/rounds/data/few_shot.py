"""Examples: few-shot pairs from the training side of a split, to stand before a query. Knows no model."""

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
    """A query, as far as choosing its examples goes.

    Attributes:
        question, construct, subject: empty where nobody knows (JSONL of other tools).
    """

    text: str
    question: str = ""
    construct: str = ""
    subject: str = ""


class ExampleBank:
    """Training queries with their positives, from which examples are chosen.

    The same choice for all queries of a construct (but for a query's own question), so that many share a prefix.
    """

    def __init__(self, rows: Iterable[tuple[QueryMetadata, str]], prompts: Prompts) -> None:
        self.prompts = prompts
        rows = list(rows)
        self.asked = [asked for asked, _ in rows]
        texts = format_texts(prompts, "query", (query.text for query, _ in rows))
        self.texts = [text + response for text, (_, response) in zip(texts, rows, strict=True)]
        self.own = [normalize_text(asked.text) for asked in self.asked]
        self._orders: dict[tuple[str, str], list[int]] = {}
        if prompts.examples == "nearest" and not any(asked.construct for asked in self.asked):
            raise UserError("prompts.examples nearest: no row says its construct; make the data anew, or use fixed")

    def choose(self, asked: QueryMetadata, number: int) -> list[str]:
        """Up to `number` examples, the nearest first, each of another question and none of the query's own."""
        found: list[str] = []
        questions, texts = {asked.question} - {""}, {normalize_text(asked.text)}
        for row in self._candidates(asked):
            if len(found) == number:
                break
            if self.asked[row].question in questions or self.own[row] in texts:
                continue
            found.append(self.texts[row])
            questions |= {self.asked[row].question} - {""}
            texts.add(self.own[row])
        return found

    def _candidates(self, asked: QueryMetadata) -> Iterable[int]:
        if self.prompts.examples == "fixed":
            return self._order("", "")
        tiers = (("construct", asked.construct), ("subject", asked.subject), ("", asked.construct))
        return itertools.chain.from_iterable(self._order(*tier) for tier in tiers)

    def _order(self, key: str, value: str) -> list[int]:
        """Rows whose `key` has the value (no key: all rows), in an order that the seed and the value give."""
        if (key, value) not in self._orders:
            rows = [n for n, asked in enumerate(self.asked) if not key or (value and getattr(asked, key) == value)]
            random.Random(f"{self.prompts.examples_seed}-{key}-{value}").shuffle(rows)
            self._orders[key, value] = rows
        return self._orders[key, value]


def select_examples(bank: ExampleBank, queries: Sequence[QueryMetadata], number: int | None = None) -> list[list[str]]:
    """The examples of each query; `number` defaults to the recipe's."""
    count = bank.prompts.examples_number if number is None else number
    return [bank.choose(query, count) for query in queries]
