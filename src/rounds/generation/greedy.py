"""Greedy predictions that are measured and not kept."""

from collections.abc import Sequence

from rounds.estimate import track
from rounds.generation.generator import Generator
from rounds.generation.rows import PromptRow


def write_greedily(writer: Generator, rows: Sequence[PromptRow], title: str) -> list[str]:
    """Return what a generator writes for each row, on one line; where that is nothing, the recipe's fallback.

    Args:
        title: what the progress bar says.
    """
    size, fallback, texts = writer.recipe.generation.batch_size, writer.recipe.generation.fallback, []
    starts = range(0, len(rows), size)
    for start in track(starts, len(starts), f"write prompts, {title}", "batches"):
        contexts = [writer.tokenization.context(row) for row in rows[start : start + size]]
        texts += [" ".join(drawn[0].split()) or fallback for drawn in writer.write(contexts)]
    return texts
