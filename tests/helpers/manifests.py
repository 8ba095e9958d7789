"""Invented manifests of the kinds that have many keys."""

from typing import Any

from rounds.artifacts.manifests import CheckpointManifest, Epoch, FinetuneManifest, MinedManifest, Parent

PARENT = Parent(name="random:mistral", weights="base", base=True, kind="base")


def checkpoint_manifest(**changes: Any) -> CheckpointManifest:
    """Return the manifest of an adapter, with some values changed or added."""
    values = {"adapter": True, "weights": "w", "precision": "fp32", "recipe": {}, "versions": {}, "lineage": {}}
    return CheckpointManifest(**{**values, **changes})


def finetune_manifest(**changes: Any) -> FinetuneManifest:
    """Return the manifest of a round of two epochs, with some values changed or added."""
    values = {
        "config": {},
        "round": 1,
        "data": "tiny",
        "split": "v1",
        "parent": PARENT,
        "lineage_status": "clean",
        "lineage": {},
        "epochs": [Epoch(folder=f"epoch_{epoch}", metrics={}) for epoch in (1, 2)],
        "last": "epoch_2",
        "best": "epoch_1",
        "continue_with": "epoch_2",
        "rows": 12,
        "trainable_parameters": 7680,
        "device": "cpu",
        "seconds": 61.0,
    }
    return FinetuneManifest(**{**values, **changes})


def mined_manifest(**changes: Any) -> MinedManifest:
    """Return the manifest of mined rows, with some values changed or added."""
    values = {"config": {}, "lineage": {}, "queries": 1, "deepened": 0, "short": 0, "sources": {"dense": 1}}
    return MinedManifest(**{**values, "run": None, "recall": {}, **changes})
