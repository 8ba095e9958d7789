"""Merging: an adapter into its base model's weights, in 16 or 32 bits, checked by the vectors it gives."""

import json
from pathlib import Path

from sentence_transformers import SentenceTransformer

from rounds.errors import UserError
from rounds.models import weights_io
from rounds.models.checkpoint import Checkpoint

MERGEABLE = ("lora", "qlora", "ia3")


def check_mergeable(source: Checkpoint) -> None:
    """Refuse what is no adapter, and what no weight matrix can take in: virtual tokens, bottlenecks."""
    method = source.recipe.tuning.method
    if source.is_dual_encoder:
        raise UserError(f"{source.name}: has two encoders, which cannot be merged into one model")
    if not source.is_adapter:
        raise UserError(f"{source.name}: is not an adapter; there is nothing to merge")
    if source.tuning and method not in MERGEABLE:
        raise UserError(
            f"{source.name}: weights of tuning.method {method} cannot be merged; {', '.join(MERGEABLE)} can"
        )


def write_merged(source: Checkpoint, folder: Path) -> SentenceTransformer:
    """Merge and write the whole model's files."""
    embedder = source.load()
    embedder[0].model = embedder[0].model.merge_and_unload()
    weights_io.save_weights(embedder, folder, source.recipe.tuning)
    return embedder


def check_not_quantized(base: str) -> None:
    """A base model whose own files are quantized cannot take an adapter in."""
    file = Path(base) / "config.json"
    if file.is_file() and "quantization_config" in json.loads(file.read_text(encoding="utf-8")):
        raise UserError(f"{base}: its weights are quantized; merge into the model that they were made from")
