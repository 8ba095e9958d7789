"""Scores of checkpoints: what each of them writes, so that its score stands beside its losses."""

from collections.abc import Sequence
from pathlib import Path

from rounds.artifacts.prompt_manifests import CheckpointScore, GeneratorManifest
from rounds.data import lineage
from rounds.generation import generator
from rounds.generation.greedy import write_greedily
from rounds.generation.metrics import Embed, sharpened_cosines
from rounds.generation.rows import PromptRow, row_digests


def score(
    train: Path, tuned: GeneratorManifest, rows: Sequence[PromptRow], embed: Embed, device: str
) -> list[CheckpointScore]:
    """Let each checkpoint of a tuning write prompts greedily, and score them.

    Args:
        train: the folder of the checkpoints.
        tuned: its manifest.
        rows: rows with prompts.
        embed: the embedder of the metric.
        device: a resolved device.

    Returns:
        One entry for each checkpoint, oldest first.

    Raises:
        Refused: a checkpoint was trained on some of the rows.
    """
    truths, scored = embed([row.rewrite_prompt for row in rows]), []
    for step in tuned.checkpoints:
        saved = generator.find_checkpoint(train / step.folder)
        lineage.guard(str(saved.folder), saved.manifest.lineage, row_digests(rows), None, "rows")
        texts = write_greedily(saved.load(device), rows, f"checkpoint of step {step.step}")
        cosines = sharpened_cosines(truths, embed(texts))
        scored.append(CheckpointScore(**step.model_dump(), score=round(float(cosines.mean()), 6)))
    return scored
