"""Section `outside`: how outside questions (`EXTRA=`) join the training queries."""

from pydantic import Field
from pydantic.dataclasses import dataclass

from rounds.config.sections.base import SECTION, Number


@dataclass(frozen=True, config=SECTION)
class Outside:
    """How outside questions (`EXTRA=FILE,...`, [data.md](data.md#outside-questions)) join the training queries.

    Without such files, no key of this section is read.
    """

    max_cosine: Number = Field(0.5, ge=0, le=1)
    """Leave out an outside row whose question has a greater cosine to a validation or test question, over character
    4-grams weighted by tf-idf. 1: leave none out."""

    duplicate_cosine: Number = Field(0.9, ge=0, le=1)
    """Leave out an outside row that has a greater cosine to an earlier training row with the same label, over question,
    correct and wrong answer. 1: leave out exact copies alone."""
