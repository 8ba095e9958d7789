"""Merge an adapter into its base model and verify that the embeddings stay the same."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

from rounds.artifacts import store
from rounds.config.recipe import FOUR_BIT_PRECISIONS
from rounds.encoding.encoder import encode
from rounds.errors import UserError
from rounds.models import checkpoint, merging
from rounds.models.checkpoint import Checkpoint
from rounds.models.weights import locate_model

LEAST_COSINE = 0.999


def merge(source: Checkpoint, output: Path, texts: Sequence[str], overwrite: bool = False) -> float:
    """Write a checkpoint whose weights contain the adapter; it needs peft no more.

    A checkpoint that was trained on 4-bit weights is merged into the 16-bit weights that they came from: inside the
    4-bit weights, rounding would eat the adapter.

    Args:
        source: an adapter, in the precision to merge in.
        texts: passages that both are compared on.

    Returns:
        The least cosine between a text's vectors before and after.

    Raises:
        UserError: no adapter, a 4-bit base model or precision, or vectors that differ (cosine below 0.999).
    """
    merging.check_mergeable(source)
    if source.precision in FOUR_BIT_PRECISIONS:
        raise UserError(f"precision {source.precision}: merging into 4-bit weights ruins the adapter; use bf16 or fp16")
    merging.check_not_quantized(locate_model(source.recipe.model))
    config = {"adapter": source.weights_digest, "precision": source.precision}
    if store.is_finished(output, config, overwrite):
        return store.read_manifest(output)["least_cosine"]
    manifest: dict = {}
    with store.writing(output, manifest) as temporary:
        before = _vectors(source.load(), source, texts)
        embedder = merging.write_merged(source, temporary)
        inherited = {key: value for key, value in (source.manifest or {}).items() if key in INHERITED}
        about = {
            "config": config, "merged": source.weights_digest, "lineage": source.lineage, **inherited,
            "parent": {"name": source.name, "weights": source.weights_digest, "base": False, "kind": "adapter"},
        }  # fmt: skip
        manifest.update(checkpoint.build_manifest(embedder, temporary, source.recipe, source.precision, about))
        merged = dataclasses.replace(source, folder=temporary, is_adapter=False)
        after = _vectors(merged.load(), source, texts)
        cosine = float((_unit(before) * _unit(after)).sum(axis=1).min())
        if not cosine >= LEAST_COSINE:
            raise UserError(
                f"{output}: merged vectors differ from the adapter's (least cosine {cosine:.4f}); nothing was written"
            )
        manifest["least_cosine"] = cosine
    return cosine


INHERITED = ("round", "epoch", "seed", "split", "data", "lineage_status")


def _vectors(embedder: SentenceTransformer, source: Checkpoint, texts: Sequence[str]) -> np.ndarray:
    return encode(embedder, texts, source.recipe.prompts, "passage", source.precision)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
