"""Plan of a fine-tuning run: the start checkpoint, data, recipe and output."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sentence_transformers import SentenceTransformer

from rounds.artifacts.manifests import Parent
from rounds.config.recipe import Recipe
from rounds.models.checkpoint import Checkpoint

DISTILLED = "distilled"  # title of a checkpoint that learned an ensemble's scores

STATE = "trainer"  # folder with the Trainer's states, within the unfinished output folder


@dataclass(frozen=True)
class RoundOrigin:
    """Entries of the manifests of a round and of its checkpoints that say where they come from.

    Attributes:
        round: number of the round.
        data, split: of the collection that evaluates the epochs; None without one.
        parent: the checkpoint that it continues from.
        lineage_status: the lineage's status (`lineage.guard`).
        lineage: digests of the training questions of the round and its ancestors; None if unknown.
        title: name in tables of a checkpoint that is no round's; empty for a round's.
    """

    round: int
    data: str | None
    split: str | None
    parent: Parent
    lineage_status: str
    lineage: dict[str, str] | None
    title: str = ""

    def entries(self) -> dict:
        """Return the entries of the round's manifest."""
        return {name: value for name, value in vars(self).items() if name != "title"}

    def checkpoint_entries(self) -> dict:
        """Return the entries of its checkpoints' manifests."""
        return self.entries() | ({"title": self.title} if self.title else {})


@dataclass(frozen=True)
class Plan:
    """Everything that a fine-tuning run needs.

    Attributes:
        start: the checkpoint to continue from (round 1, or restart: the base model).
        recipe: how to train; its model and prompts are those of `start`.
        data: mined JSONL.
        output: folder for the epochs' checkpoints.
        config: everything that shapes the result, for the manifest.
        origin: what the manifests say about where the round comes from.
        seed: of the weights, the order of the rows and the drawn negatives.
        tracker: `none`, `wandb`, `trackio` or `tensorboard`.
        feature_cache: folder that caches image features; None disables the cache.
        made_from: what the pipeline makes the output from, for its manifest; None without a pipeline stage.
    """

    start: Checkpoint
    recipe: Recipe
    data: Path
    output: Path
    config: dict
    origin: RoundOrigin
    seed: int = 42
    tracker: str = "none"
    feature_cache: Path | None = None
    made_from: dict | None = None


# Evaluates a model that was saved to a folder; returns its metrics.
Evaluate = Callable[[SentenceTransformer, Path], dict]
