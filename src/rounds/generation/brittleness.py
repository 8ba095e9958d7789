"""Brittleness: how much small changes of a text move what a generator writes."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rounds.estimate import track
from rounds.evaluation.robustness import CHANGES
from rounds.generation.generator import Generator
from rounds.generation.metrics import Embed, sharpened_cosines
from rounds.generation.rows import PromptRow


@dataclass(frozen=True)
class Brittle:
    """The effect of one change of the original texts.

    Attributes:
        change: its name, a key of `robustness.CHANGES`.
        changed: share of the rows for which another prompt is written.
        mean: mean cube of the cosine of the prompts before and after the change.
        least: the lowest of these cubes.
    """

    change: str
    changed: float
    mean: float
    least: float


def brittleness(writer: Generator, rows: Sequence[PromptRow], embed: Embed) -> list[Brittle]:
    """Write prompts before and after each change of the original texts, and compare them.

    Args:
        writer: the generator; it writes greedily.
        rows: at least one.
        embed: the embedder of the metric.
    """
    before = _write(writer, rows, "unchanged texts")
    effects = []
    for name, change in CHANGES.items():
        changed = [dataclasses.replace(row, original_text=change(row.original_text)) for row in rows]
        after = _write(writer, changed, name)
        vectors = np.asarray(embed([*before, *after]))
        cubes = sharpened_cosines(vectors[: len(rows)], vectors[len(rows) :])
        share = float(np.mean([first != second for first, second in zip(before, after, strict=True)]))
        effects.append(Brittle(name, share, float(cubes.mean()), float(cubes.min())))
    return effects


def _write(writer: Generator, rows: Sequence[PromptRow], title: str) -> list[str]:
    """Return what is written for each row, on one line."""
    size, texts = writer.recipe.generation.batch_size, []
    starts = range(0, len(rows), size)
    for start in track(starts, len(starts), f"write prompts, {title}", "batches"):
        contexts = [writer.tokenization.context(row) for row in rows[start : start + size]]
        texts += [" ".join(drawn[0].split()) for drawn in writer.write(contexts)]
    return texts
