"""Merging: an adapter into its base model's weights, in 16 or 32 bits, checked by the vectors it gives."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

from rounds import artefact, encoding
from rounds.errors import UserError
from rounds.model import backbone, checkpoint
from rounds.model.checkpoint import Checkpoint
from rounds.recipe import FOUR_BITS

LEAST_COSINE = 0.999
MERGEABLE = ("lora", "qlora", "ia3")


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
    check_mergeable(source)
    if source.precision in FOUR_BITS:
        raise UserError(f"precision {source.precision}: merging into 4-bit weights ruins the adapter; use bf16 or fp16")
    _refuse_quantized(backbone.locate(source.recipe.model))
    config = {"adapter": source.weights, "precision": source.precision}
    if artefact.is_finished(output, config, overwrite):
        return artefact.read_manifest(output)["least_cosine"]
    manifest: dict = {}
    with artefact.writing(output, manifest) as temporary:
        before = _vectors(source.load(), source, texts)
        embedder = write_merged(source, temporary)
        inherited = {key: value for key, value in (source.manifest or {}).items() if key in INHERITED}
        about = {
            "config": config, "merged": source.weights, "lineage": source.trained, **inherited,
            "parent": {"name": source.name, "weights": source.weights, "base": False, "kind": "adapter"},
        }  # fmt: skip
        manifest.update(checkpoint.describe(embedder, temporary, source.recipe, source.precision, about))
        merged = dataclasses.replace(source, folder=temporary, adapter=False)
        after = _vectors(merged.load(), source, texts)
        cosine = float((_unit(before) * _unit(after)).sum(axis=1).min())
        if not cosine >= LEAST_COSINE:
            raise UserError(
                f"{output}: merged vectors differ from the adapter's (least cosine {cosine:.4f}); nothing was written"
            )
        manifest["least_cosine"] = cosine
    return cosine


INHERITED = ("round", "epoch", "seed", "split", "data", "lineage_status")


def check_mergeable(source: Checkpoint) -> None:
    """Refuse what is no adapter, and what no weight matrix can take in: virtual tokens, bottlenecks."""
    method = source.recipe.tuning.method
    if source.has_sides:
        raise UserError(f"{source.name}: has two encoders, which cannot be merged into one model")
    if not source.adapter:
        raise UserError(f"{source.name}: is not an adapter; there is nothing to merge")
    if source.own_tuning and method not in MERGEABLE:
        raise UserError(
            f"{source.name}: weights of tuning.method {method} cannot be merged; {', '.join(MERGEABLE)} can"
        )


def write_merged(source: Checkpoint, folder: Path) -> SentenceTransformer:
    """Merge and write the whole model's files."""
    embedder = source.load()
    embedder[0].model = embedder[0].model.merge_and_unload()
    checkpoint.save_weights(embedder, folder, source.recipe.tuning)
    return embedder


def _vectors(embedder: SentenceTransformer, source: Checkpoint, texts: Sequence[str]) -> np.ndarray:
    return encoding.encode(embedder, texts, source.recipe.prompts, "passage", source.precision)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _refuse_quantized(base: str) -> None:
    """A base model whose own files are quantized cannot take an adapter in."""
    file = Path(base) / "config.json"
    if file.is_file() and "quantization_config" in json.loads(file.read_text(encoding="utf-8")):
        raise UserError(f"{base}: its weights are quantized; merge into the model that they were made from")
