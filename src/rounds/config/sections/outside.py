"""Section `outside`: how outside questions (`EXTRA=`) join the training queries."""

from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from rounds.config.sections.base import SECTION, Integer, Number


@dataclass(frozen=True, config=SECTION)
class Outside:
    """How outside questions (`EXTRA=FILE,...`, [data.md](data.md#outside-questions)) join the training queries.

    Without such files, no key of this section is read.
    """

    ratio: Number | None = Field(None, gt=0)
    """Outside rows per row of the competition in each epoch, other ones in each epoch and round; null: all in every
    epoch."""

    first: Integer = Field(0, ge=0)
    """Epochs at the start of a round that train on outside rows alone, as many as there are rows of the competition,
    other ones in each epoch and round; the epochs behind them train on the competition's alone. 0: each epoch mixes
    both."""

    weight: Number = Field(1.0, gt=0)
    """The loss of an outside row is multiplied by it."""

    max_cosine: Number = Field(0.5, ge=0, le=1)
    """Leave out an outside row whose question has a greater cosine to a validation or test question, over character
    4-grams weighted by tf-idf. 1: leave none out."""

    duplicate_cosine: Number = Field(0.9, ge=0, le=1)
    """Leave out an outside row that has a greater cosine to an earlier training row with the same label, over question,
    correct and wrong answer. 1: leave out exact copies alone."""

    constructs: Literal["auto", "keep", "drop"] = "auto"
    """`drop` leaves out outside rows about the construct of a validation or test question, `keep` does not. `auto`
    drops those whose source looks written from the competition's labelled questions: a row about a held-out question's
    construct may be that question in other words. Pseudo-labels, which are training questions, are kept."""
