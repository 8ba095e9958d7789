"""Brittleness: how much small changes of a text move what a generator writes."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from rounds.artifacts.prompt_manifests import PromptChange
from rounds.evaluation.robustness import CHANGES
from rounds.generation.generator import Generator
from rounds.generation.greedy import write_greedily
from rounds.generation.metrics import Embed, sharpened_cosines
from rounds.generation.rows import PromptRow


def brittleness(writer: Generator, rows: Sequence[PromptRow], embed: Embed) -> list[PromptChange]:
    """Write prompts before and after each change of the original texts, and compare them.

    Args:
        writer: the generator; it writes greedily.
        rows: at least one.
        embed: the embedder of the metric.

    Returns:
        One effect for each of `robustness.CHANGES`.
    """
    before = write_greedily(writer, rows, "unchanged texts")
    effects = []
    for name, change in CHANGES.items():
        changed = [dataclasses.replace(row, original_text=change(row.original_text)) for row in rows]
        after = write_greedily(writer, changed, name)
        vectors = np.asarray(embed([*before, *after]))
        cubes = sharpened_cosines(vectors[: len(rows)], vectors[len(rows) :])
        share = float(np.mean([first != second for first, second in zip(before, after, strict=True)]))
        mean, least = float(cubes.mean()), float(cubes.min())
        effects.append(PromptChange(change=name, changed=share, mean=mean, least=least))
    return effects
