"""Sections `mining` and `mining.bm25`: where hard negatives come from."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from rounds.config.sections.base import SECTION, Integer, Number, Text
from rounds.errors import UserError

LANGUAGES = (
    *("danish", "dutch", "french", "german", "italian", "norwegian"),
    *("portuguese", "russian", "spanish", "swedish", "turkish"),
)

SOURCES = ("dense", "bm25", "random", "same_group", "pictures")

FILE_SOURCES = ("vectors",)  # named NAME:PATH; the file's content is part of what mining is made from


def split_source(name: str) -> tuple[str, str]:
    """Return the kind of a source and the path of the file that it reads; the path is empty without one.

    >>> split_source("vectors:images.npz"), split_source("bm25")
    (('vectors', 'images.npz'), ('bm25', ''))
    """
    kind, _, path = name.partition(":")
    return kind, path


def parse_range(text: str) -> tuple[int, int]:
    """Return the first rank and the rank behind the last of a text such as `2-200`, counted from 0.

    >>> parse_range("2-200")
    (2, 200)

    Raises:
        UserError: the text is not FIRST-LAST with FIRST below LAST.
    """
    first, dash, last = text.partition("-")
    if not (dash and first.isdecimal() and last.isdecimal() and int(first) < int(last)):
        raise UserError(f"range_for_sampling {text!r} is not FIRST-LAST, such as 2-200")
    return int(first), int(last)


def _check_range(text: str) -> str:
    try:
        parse_range(text)
    except UserError as error:
        raise ValueError(str(error)) from None
    return text


def _check_sources(ratios: dict[str, float]) -> dict[str, float]:
    if not ratios:
        raise ValueError("mining.negatives is empty; name a source, such as dense: 1")
    for name in ratios:
        kind, path = split_source(name)
        if name not in SOURCES and not (kind in FILE_SOURCES and path):
            known = (*SOURCES, *(f"{source}:PATH" for source in FILE_SOURCES))
            raise ValueError(f"mining.negatives has {name!r}, not one of {', '.join(known)}")
    return ratios


@dataclass(frozen=True, config=SECTION)
class BM25:
    """The parameters of BM25 (Robertson et al. 1995), as a source of negatives and as the baseline in tables.

    `make tune_bm25` searches for better k1 and b.
    """

    k1: Number = Field(1.5, ge=0)
    """Saturation of the term frequency."""

    b: Number = Field(0.75, ge=0, le=1)
    """Strength of the length normalization."""

    stemmer: Literal[("none", "porter", "english", *LANGUAGES)] = "none"
    """Cut words to their stems with this Snowball stemmer: `porter`, as Lucene's English analyzer does, or that of a
    language."""

    stop_words: Literal[("none", "english", "english_plus", *LANGUAGES)] = "english"
    """Words to leave out: the 33 of Lucene's English analyzer (`english`), a longer list, or those of a language."""


@dataclass(frozen=True, config=SECTION)
class Mining:
    """Where hard negatives come from."""

    range_for_sampling: Annotated[Text, AfterValidator(_check_range)] = "2-200"
    """Ranks to sample from, `FIRST-LAST`, counted from 0 as FlagEmbedding does: 2-200 skips the two best."""

    negative_number: Integer = Field(15, ge=1)
    """Negatives per query."""

    relative_margin: Number | None = None
    """Leave out passages that score above `positive - abs(positive) * margin`; null: no limit."""

    candidates: Literal["corpus", "labelled"] = "corpus"
    """Passages that may be negatives: the whole corpus, or only those that are a positive of some training query, be it
    an outside one (`labelled`). Then training never pushes away a passage that it does not label, and the passage stays
    findable."""

    unlabelled_share: Number | None = Field(None, ge=0, le=1)
    """Share of a query's negatives that are passages which no training row, outside ones included, has as a positive;
    the rest are positives of other rows. 0.5 makes half of them unlabelled (with `candidates: corpus`). Each source
    gives its part of both kinds. A query for which the corpus holds too few of one kind takes the other, and mining
    counts these. null: as they rank."""

    index: Literal["exact", "hnsw", "ivfpq"] = "exact"
    """How mining searches the corpus: exactly, or with an approximate index, for corpora of millions. Evaluation and
    submission always search exactly."""

    negatives: Annotated[dict[Text, Annotated[Number, Field(gt=0)]], AfterValidator(_check_sources)] = Field(
        default_factory=lambda: {"dense": 1.0}
    )
    """Ratio of each source: `dense` (the checkpoint's ranking), `bm25`, `random`, `same_group` (passages of the query's
    construct, else of its subject or entity type), `pictures` (nearest images, whatever the words), `vectors:PATH` (a
    second encoder's vectors, .npz). Range and margin apply to the sources that rank."""

    bm25: BM25 = Field(default_factory=BM25)

    reranker: Text | None = None
    """A CrossEncoder (hub name or folder). A passage that it scores above the query's positive is probably a false
    negative and is left out."""
