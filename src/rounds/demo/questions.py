"""Questions: the parts of a query that the page asks for, and validation queries to fill them with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter

from rounds.config.recipe import Prompts
from rounds.config.sections.prompts import QUERY_FIELDS
from rounds.data import latex
from rounds.data.collection import Collection
from rounds.data.dataset import Query
from rounds.data.few_shot import QueryMetadata
from rounds.data.images import find_image
from rounds.data.loaders import eedi
from rounds.data.prompts import query_text
from rounds.errors import UserError

EXAMPLES = 6  # questions to click on

LABEL_LENGTH = 56  # characters on a button; Gradio cuts what is longer

REQUIRED = {"question": "Type a question.", "wrong": "Type a wrong answer."}

TITLES = {
    "construct": "Construct",
    "subject": "Subject",
    "question": "Question",
    "correct": "Correct answer",
    "wrong": "Wrong answer",
}


@dataclass(frozen=True)
class QueryForm:
    """The parts that make up a typed query.

    Attributes:
        prompts: the recipe's prompts, whose `query` joins the parts.
        fields: names of the parts, in the order of the page; `question` alone where the query is one text.
    """

    prompts: Prompts
    fields: tuple[str, ...]

    @property
    def titles(self) -> dict[str, str]:
        """The label of each part, by its name."""
        return {name: TITLES[name] for name in self.fields} if len(self.fields) > 1 else {"question": "Query"}

    def query(self, values: Mapping[str, str]) -> QueryMetadata:
        """Return the query that typed parts make up, in the recipe's format.

        Raises:
            UserError: the question or the wrong answer is empty; the message asks for it.
        """
        for name in self.fields:
            if name in REQUIRED and not values.get(name, "").strip():
                raise UserError(REQUIRED[name] if len(self.fields) > 1 else "Type a query.")
        known = {name: values.get(name, "") for name in self.fields}
        parts = {**dict.fromkeys(QUERY_FIELDS, ""), **known} if len(self.fields) > 1 else known
        text = query_text(Query("typed", "", parts), self.prompts)
        return QueryMetadata(text, "", parts.get("construct", ""), parts.get("subject", ""))


def make_form(prompts: Prompts, data: Collection, rows: Sequence[Mapping]) -> QueryForm:
    """Return the parts that the recipe's query format names, or a single text if no query has parts.

    Args:
        rows: the collection's training rows.

    Raises:
        UserError: queries are about images.
    """
    texts = [*data.validation.values(), *data.test.values(), *(row["query"] for row in rows)]
    if any(find_image(text) for text in texts):
        raise UserError(f"{data.folder}: its queries are about images, and the demo ranks typed text only")
    topics = [(query.construct, query.subject) for query in data.metadata.values()]
    topics += [(row.get("construct"), row.get("subject")) for row in rows]
    if not any(construct or subject for construct, subject in topics):
        return QueryForm(prompts, ("question",))
    named = {name for _, name, _, _ in Formatter().parse(prompts.query) if name}
    if prompts.examples == "nearest":  # chosen by these
        named |= {"construct", "subject"}
    return QueryForm(prompts, tuple(name for name in QUERY_FIELDS if name in named | REQUIRED.keys()))


def example_values(form: QueryForm, data: Collection, raw_dir: Path | None) -> list[dict[str, str]]:
    """Return the parts of some validation queries, evenly spaced; of test queries if there are none.

    Args:
        raw_dir: the competition's CSVs, which hold the parts of queries; without them there are no examples, unless
            a query is a single text.
    """
    queries = data.validation or data.test
    spaced = list(queries)[:: max(1, len(queries) // EXAMPLES)][:EXAMPLES]
    if len(form.fields) == 1:
        return [{"question": queries[query]} for query in spaced]
    if raw_dir is None:
        return []
    dataset = eedi.load(raw_dir)
    parts = {query.id: query.fields for query in (*dataset.queries, *dataset.test_queries)}
    found = [{name: parts[query][name] for name in form.fields} for query in spaced if query in parts]
    return [values for values in found if form.query(values).text in queries.values()]


def example_label(values: Mapping[str, str]) -> str:
    r"""Return a question in one short line, behind it the wrong answer if there is one.

    >>> example_label({"question": "Work out\n\\( 1 + 1 \\)", "wrong": "11"})
    'Work out 1 + 1 → 11'
    """
    question, wrong = (" ".join(latex.words(values.get(name, "")).split()) for name in ("question", "wrong"))
    answer = f" → {_shorten(wrong, LABEL_LENGTH // 2)}" if wrong else ""
    return _shorten(question, LABEL_LENGTH - len(answer)) + answer


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"
