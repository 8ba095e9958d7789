"""Merge an adapter into its base model's weights, and refuse models for which that is impossible."""

import json
from pathlib import Path

from sentence_transformers import SentenceTransformer

from rounds.errors import UserError
from rounds.models import weights_io
from rounds.models.checkpoint import Checkpoint

MERGEABLE_METHODS = ("lora", "qlora", "ia3")


def check_mergeable(source: Checkpoint) -> None:
    """Refuse checkpoints that are not adapters, and methods that no weight matrix can hold.

    Raises:
        UserError: two encoders, no adapter, or an adapter of virtual tokens or bottlenecks.
    """
    method = source.recipe.tuning.method
    if source.is_dual_encoder:
        raise UserError(f"{source.name}: has two encoders, which cannot be merged into one model")
    if not source.is_adapter:
        raise UserError(f"{source.name}: is not an adapter; there is nothing to merge")
    if source.tuning and method not in MERGEABLE_METHODS:
        raise UserError(
            f"{source.name}: weights of tuning.method {method} cannot be merged; {', '.join(MERGEABLE_METHODS)} can"
        )


def write_merged(source: Checkpoint, folder: Path) -> SentenceTransformer:
    """Merge an adapter, write the files of the whole model and return it."""
    embedder = source.load()
    embedder[0].model = embedder[0].model.merge_and_unload()
    weights_io.save_weights(embedder, folder, source.recipe.tuning)
    return embedder


def check_not_quantized(base: str) -> None:
    """Refuse a base model whose files are quantized.

    Args:
        base: folder of the model; a hub name passes.

    Raises:
        UserError: its configuration names a quantization.
    """
    file = Path(base) / "config.json"
    if file.is_file() and "quantization_config" in json.loads(file.read_text(encoding="utf-8")):
        raise UserError(f"{base}: its weights are quantized; merge into the model that they were made from")
