"""Checkpoints to publish, and what their published folders say."""

from pathlib import Path

import yaml
from helpers.tuned_models import build_tuned_model, save_checkpoint

from rounds.artifacts.manifests import Parent
from rounds.config.recipe import Recipe
from rounds.data import collection
from rounds.models import checkpoint
from rounds.publishing.stage import PublishJob

REPO = "you/tiny"


def make_checkpoint(recipe: Recipe, folder: Path, **entries) -> Path:
    """Write a checkpoint of round 1 with files beside it that must not be published."""
    parent = Parent(name=recipe.model.name_or_path, weights="b" * 64, base=True, kind="base")
    entries = {"parent": parent, "lineage": {"1": "aa"}, "seed": 7, **entries}
    save_checkpoint(build_tuned_model(recipe), recipe, folder, **entries)
    for name in ("metrics.json", "runs/corpus-1/vectors.npy", "runs/config.json", "optimizer.pt", "README.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("[]", encoding="utf-8")
    return folder


def make_job(folder: Path, data: Path, output: Path, **changes) -> PublishJob:
    """Return a job that publishes a checkpoint of a collection into `output`."""
    source = checkpoint.resolve(str(folder), device="cpu")
    return PublishJob(source, collection.read(data), None, REPO, output, **changes)


def card(folder: Path) -> str:
    """Return the card of a published folder."""
    return (folder / "README.md").read_text(encoding="utf-8")


def metadata(folder: Path) -> dict:
    """Return the metadata at the head of its card."""
    return yaml.safe_load(card(folder).split("---\n")[1])
