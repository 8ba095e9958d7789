"""Section `prompts`: the text that the model reads."""

from string import Formatter
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from rounds.config.sections.base import SECTION, Boolean, Integer, Text

QUERY_FIELDS = ("construct", "subject", "question", "correct", "wrong")

PASSAGE_FIELDS = ("title", "text")  # of a corpus in BEIR's layout

EXPLAINED_FIELDS = ("name", "explanation")  # of a misconception

DEFAULT_PASSAGE = "{title} {text}"  # as BEIR joins them


def _check_format(template: str, key: str, fields: tuple[str, ...]) -> str:
    try:
        template.format(**dict.fromkeys(fields, ""))
    except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"prompts.{key} has {error}; its fields are {', '.join(fields)}") from None
    if not template_fields(template):
        raise ValueError(f"prompts.{key} {template!r} has no field, so all texts are one; name {', '.join(fields)}")
    return template


def _check_query_format(template: str) -> str:
    return _check_format(template, "query", QUERY_FIELDS)


def _check_passage_format(template: str) -> str:
    _check_format(template, "passage", PASSAGE_FIELDS + EXPLAINED_FIELDS)
    if template_fields(template) & set(PASSAGE_FIELDS) and template_fields(template) & set(EXPLAINED_FIELDS):
        raise ValueError(
            f"prompts.passage {template!r} mixes two kinds of corpora; it joins {' and '.join(PASSAGE_FIELDS)}, or "
            f"{' and '.join(EXPLAINED_FIELDS)}"
        )
    return template


def template_fields(template: str) -> set[str]:
    r"""Return the names of the fields of a valid template.

    >>> sorted(template_fields("{name}\n{explanation}"))
    ['explanation', 'name']
    """
    return {name for _, name, _, _ in Formatter().parse(template) if name}


@dataclass(frozen=True, config=SECTION)
class Prompts:
    """What the model reads. Lengths are in tokens, with special tokens, prefix and suffix."""

    query: Annotated[Text, AfterValidator(_check_query_format)] = (
        "{construct}\n{subject}\n{question}\n{correct}\n{wrong}"
    )
    """How the parts of a question become the query text."""

    passage: Annotated[Text, AfterValidator(_check_passage_format)] = DEFAULT_PASSAGE
    """How the parts of a passage become its text: `{title}` and `{text}` of a corpus in BEIR's layout, or `{name}` and
    `{explanation}` of a misconception (`EXPLANATIONS`). A misconception without an explanation is its name alone."""

    latex: Literal["keep", "words"] = "keep"
    """Keep the LaTeX markup of queries, or replace it by plain characters (`words`)."""

    task: Text = ""
    """The instruction; `{task}` in `query_prefix` stands for it."""

    query_prefix: Text = ""
    """Fixed text before each query. If a text is too long, the text is cut, never its prefix or suffix."""

    query_suffix: Text = ""
    """Fixed text after each query."""

    passage_prefix: Text = ""
    """Fixed text before each passage."""

    passage_suffix: Text = ""
    """Fixed text after each passage."""

    query_max_length: Integer = Field(256, ge=8)
    """Longest query in tokens, without few-shot examples."""

    passage_max_length: Integer = Field(64, ge=8)
    """Longest passage in tokens."""

    examples: Literal["none", "fixed", "nearest"] = "none"
    """Few-shot examples before each query: the same for all queries (`fixed`), or of the query's construct, else of
    its subject, else any (`nearest`)."""

    examples_number: Integer = Field(0, ge=0)
    """Examples per query. Those that do not fit into `examples_max_length` are left out."""

    examples_max_length: Integer = Field(512, ge=1)
    """Tokens of all examples of a query together, on top of `query_max_length`."""

    examples_seed: Integer = 42
    """Seed of the choice of examples."""

    share_prefix: Boolean = True
    """Let decoders compute a common beginning of several texts (examples, instruction) once."""
