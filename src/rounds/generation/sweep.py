"""Sweep: ways of tuning a generator in one table, and what their figures say about four findings of a field note.

The note on LLM Prompt Recovery reports that shuffled rows are better than files one behind another, that more steps
lower the loss and the score, that one added space changes the answers, and that joined predictions beat single ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rounds.artifacts import store
from rounds.artifacts.prompt_manifests import BrittlenessManifest, GeneratorCheckpointManifest, GeneratorManifest
from rounds.errors import UserError
from rounds.evaluation.significance import fisher_p_value
from rounds.evaluation.table import Column, Table
from rounds.generation import generator, predicting
from rounds.generation.tables import Scored

SIGNIFICANT = 0.05  # a difference with a higher p shows nothing
SPACE = "a space added"  # the change of `robustness.CHANGES` that the note is about


@dataclass(frozen=True)
class Tuned:
    """How a generator was tuned.

    Attributes:
        base_model: name of its recipe.
        way: tuning method with its size, the half of the prompts and the order of the rows.
        tokens: virtual tokens; None without any.
        prompts: which training prompts, as `training.prompts` of a recipe names them.
        order: of the rows, as `training.order` of a recipe names it.
        steps: optimizer steps.
        batch_size: rows of a step.
        train_loss, validation_loss: of the last checkpoint, for each token of the prompts; None where not measured.
        weights: number of tuned weights.
        minutes: time of training.
        starts_tuned: whether its base model is a tuned generator.
    """

    base_model: str
    way: str
    tokens: int | None
    prompts: str
    order: str
    steps: int
    batch_size: int
    train_loss: float | None
    validation_loss: float | None
    weights: int
    minutes: float
    starts_tuned: bool

    @property
    def is_shuffled(self) -> bool:
        """Whether the rows were shuffled."""
        return self.order == "shuffled"


@dataclass(frozen=True)
class Entry:
    """A row of the sweep's table: scored predictions, and how their generator was tuned; None for others."""

    scored: Scored
    tuned: Tuned | None = None

    @property
    def mean(self) -> float:
        """The mean score."""
        return float(self.scored.scores.mean())


def read_tuned(train: Path) -> Tuned:
    """Read how a generator was tuned.

    Args:
        train: folder that `tuning.tune` wrote.

    Raises:
        UserError: the folder holds no tuned generator.
    """
    saved, manifest = generator.find_checkpoint(train), store.read_manifest(train)
    if not isinstance(manifest, GeneratorManifest):
        raise UserError(f"{train}: is one checkpoint; name the folder of all checkpoints of a tuning")
    recipe, last = saved.recipe, manifest.checkpoints[-1]
    return Tuned(
        base_model=recipe.name,
        way=predicting.way(recipe),
        tokens=recipe.tuning.virtual.tokens if recipe.tuning.has_virtual_tokens else None,
        prompts=recipe.training.prompts,
        order=recipe.training.order,
        steps=last.step,
        batch_size=recipe.training.batch_size,
        train_loss=last.train_loss,
        validation_loss=last.validation_loss,
        weights=manifest.trainable_parameters,
        minutes=(manifest.seconds or 0) / 60,
        starts_tuned=isinstance(store.read_manifest(Path(recipe.model.name_or_path)), GeneratorCheckpointManifest),
    )


def table(entries: Sequence[Entry], embedder: str) -> Table:
    """Return the table of the ways of tuning, in the order of the entries.

    Args:
        embedder: name of the metric's; it stands in the title and the column.
    """
    names = ("virtual tokens", "train steps", "train loss", "val loss", f"SCS {embedder}", "weights", "minutes")
    columns = [Column("base_model", is_text=True), Column("predictions", is_text=True, wraps=True), *map(Column, names)]
    caption = "losses: per token of the prompts, at the last checkpoint; SCS: mean of the cubed cosine"
    if continued := [entry.tuned for entry in entries if entry.tuned and entry.tuned.starts_tuned]:
        caption += "; full is the base model of the other ways"
        if all(tuned.prompts == "second_half" for tuned in continued):
            caption += ", tuned on the first half of the training prompts and they on the second"
    rows = len(entries[0].scored.scores)
    return Table(columns, [_cells(entry) for entry in entries], f"{rows} rows, embedder {embedder}", caption)


def _cells(entry: Entry) -> list[str]:
    tuned, mean = entry.tuned, f"{entry.mean:.4f}"
    if tuned is None:
        return ["", entry.scored.title, "", "", "", "", mean, "", ""]
    losses = ["" if loss is None else f"{loss:.3f}" for loss in (tuned.train_loss, tuned.validation_loss)]
    tokens = "" if tuned.tokens is None else str(tuned.tokens)
    sizes = [str(tuned.weights), f"{tuned.minutes:.1f}"]
    return [tuned.base_model, tuned.way, tokens, str(tuned.steps), *losses, mean, *sizes]


def findings(
    entries: Sequence[Entry], joined: Entry, parts: Sequence[Entry], brittle: BrittlenessManifest
) -> list[str]:
    """Return a line for each finding of the note: whether it holds here, with the figures that say so.

    A finding about scores holds where they differ in its direction and Fisher's p is below `SIGNIFICANT`.

    Args:
        entries: the table's.
        joined: predictions that are joined from others.
        parts: these others.
        brittle: what an added space changes.
    """
    tuned = [entry for entry in entries if entry.tuned]
    return [
        _shuffling(*_pair(tuned, "is_shuffled")),
        _steps(*_pair(tuned, "steps")),
        _space(brittle),
        _joining(joined, parts),
    ]


def _pair(entries: Sequence[Entry], varied: str) -> tuple[Entry, Entry] | tuple[None, None]:
    """Return two entries that differ in one attribute of their tuning alone, the lower value first; Nones without."""

    def rest(entry: Entry) -> tuple:
        way = entry.tuned.way.removesuffix(predicting.ORDERS[entry.tuned.order])
        shared = {"way": way, "is_shuffled": entry.tuned.is_shuffled, "steps": entry.tuned.steps}
        return tuple(value for name, value in shared.items() if name != varied)

    for first in entries:
        for second in entries:
            values = getattr(first.tuned, varied), getattr(second.tuned, varied)
            if values[0] < values[1] and rest(first) == rest(second):
                return first, second
    return None, None


def _line(finding: str, holds: bool, figures: str) -> str:
    return f"{finding}: {'holds' if holds else 'does not hold'} ({figures})"


def _unsaid(finding: str) -> str:
    return f"{finding}: not measured (no two rows differ in that alone)"


def _compared(before: np.ndarray, after: np.ndarray) -> tuple[float, bool]:
    """Return the p of two rows' scores, and whether it is low enough to show a difference."""
    p_value = fisher_p_value(before, after)
    return p_value, p_value < SIGNIFICANT


def _shuffling(ordered: Entry | None, shuffled: Entry | None) -> str:
    if ordered is None:
        return _unsaid("shuffled rows are better")
    order = predicting.ORDERS[ordered.tuned.order].removeprefix(", ")
    p_value, is_shown = _compared(ordered.scored.scores, shuffled.scored.scores)
    figures = (
        f"{shuffled.tuned.way}, {shuffled.tuned.steps} steps of {shuffled.tuned.batch_size} rows: "
        f"SCS {shuffled.mean:.4f} shuffled, {ordered.mean:.4f} {order}, p = {p_value:.4f}; "
        f"val loss {_loss(shuffled)} and {_loss(ordered)}"
    )
    return _line(f"shuffled rows are better than rows {order}", is_shown and shuffled.mean > ordered.mean, figures)


def _steps(fewer: Entry | None, more: Entry | None) -> str:
    finding = "more steps lower both the loss and the score"
    if fewer is None:
        return _unsaid(finding)
    p_value, is_shown = _compared(fewer.scored.scores, more.scored.scores)
    losses = [entry.tuned.validation_loss for entry in (fewer, more)]
    is_lower = None not in losses and losses[1] < losses[0]
    figures = (
        f"{fewer.tuned.way}, {fewer.tuned.steps} to {more.tuned.steps} steps: "
        f"val loss {_loss(fewer)} to {_loss(more)}, SCS {fewer.mean:.4f} to {more.mean:.4f}, p = {p_value:.4f}"
    )
    return _line(finding, is_lower and is_shown and more.mean < fewer.mean, figures)


def _space(brittle: BrittlenessManifest) -> str:
    effect = next(each for each in brittle.effects if each.change == SPACE)
    figures = (
        f"{brittle.title}: {effect.changed:.1%} of {brittle.rows} answers changed, mean cosine^3 {effect.mean:.4f}"
    )
    return _line("one added space changes answers", effect.changed > 0, figures)


def _joining(joined: Entry, parts: Sequence[Entry]) -> str:
    best = max(parts, key=lambda entry: entry.mean)
    p_value, is_shown = _compared(best.scored.scores, joined.scored.scores)
    figures = (
        f"{len(parts)} joined: SCS {joined.mean:.4f}, the best of them, {best.scored.title}: {best.mean:.4f}, "
        f"p = {p_value:.4f}"
    )
    return _line("joined predictions beat single ones", is_shown and joined.mean > best.mean, figures)


def _loss(entry: Entry) -> str:
    loss = entry.tuned.validation_loss
    return "unknown" if loss is None else f"{loss:.3f}"
