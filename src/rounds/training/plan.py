"""Plan of a fine-tuning run: the start checkpoint, data, recipe and output."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sentence_transformers import SentenceTransformer

from rounds.config.recipe import Recipe
from rounds.models.checkpoint import Checkpoint

COMPLETE = "complete"

STATE = "trainer"


@dataclass(frozen=True)
class Plan:
    """What a fine-tuning run is made from.

    Attributes:
        start: the checkpoint to continue from (round 1, or restart: the base model).
        recipe: how to train; its model and prompts are those of `start`.
        data: mined JSONL.
        output: folder for the epochs' checkpoints.
        config: everything that shapes the result, for the manifest.
        about: what each checkpoint's manifest says beside it (lineage, parent, split, round).
        pictures: folder that holds what vision towers saw.
        tracker: `none`, `wandb`, `trackio` or `tensorboard`.
    """

    start: Checkpoint
    recipe: Recipe
    data: Path
    output: Path
    config: dict
    about: dict
    seed: int = 42
    tracker: str = "none"
    pictures: Path | None = None


Evaluate = Callable[[SentenceTransformer, Path], dict]
