"""Section `distillation`: how `make distil` teaches one embedder what the second stage says."""

from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from rounds.config.sections.base import SECTION, Integer, Number


@dataclass(frozen=True, config=SECTION)
class Distillation:
    """How an embedder learns from the ensemble of the second stage (`make distil`,
    [second-stage.md](second-stage.md#one-embedder-in-the-ensembles-place)): by the KL divergence from the ensemble's
    distribution over a query's candidates (Hinton et al. 2015, arXiv:1503.02531). The other keys of its training are
    those of `training`.
    """

    rows: Literal["all", "folds"] = "all"
    """Training rows that the student learns from: all, with outside questions; or those of the folds alone, whose
    candidates were ranked by models that never trained on them."""

    candidates: Integer = Field(16, ge=2)
    """Passages of each query: its labels, and the best of the others by the ensemble. They take the place of
    `training.group_size`."""

    teacher_temperature: Number = Field(1.0, gt=0)
    """The logarithms of the ensemble's probabilities are divided by it: above 1, passages behind the first count for
    more."""

    label_weight: Number = Field(0.0, ge=0)
    """InfoNCE with the labels, times this, is added to the loss."""

    epochs: Integer | None = Field(None, ge=1)
    """Passes over the training queries; null: `training.epochs`, or EPOCHS."""

    learning_rate: Number | None = Field(None, gt=0)
    """Peak learning rate; null: `training.learning_rate`."""

    start_from: Literal["round", "base"] = "round"
    """Start from ROUND's checkpoint, or from the base model."""
