"""Content key: what vectors depend on, by whose hash their folder is named."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rounds.artifacts import hashing
from rounds.models.checkpoint import Checkpoint
from rounds.models.weights import locate_model, locate_vision_model, model_folder, settings_digest


def content_key(
    checkpoint: Checkpoint, texts: Sequence[str], kind: str, examples: list[list[str]] | None = None
) -> dict:
    """Return everything that the vectors of `texts` depend on; vectors are stored before truncation."""
    key = {**checkpoint.with_options(truncate_dim=None).key, "kind": kind, "texts": hashing.sha256_texts(texts)}
    is_passage = kind == "passage"  # the settings of queries and their examples leave the corpus's vectors alone
    key["settings"] = [settings_digest(folder) for folder in _model_folders(checkpoint, kind)]
    key["prompts"] = {
        name: value for name, value in key["prompts"].items() if name.startswith("passage_") == is_passage
    }
    if is_passage and checkpoint.recipe.model.stored_precision != "fp32":
        key["stored"] = checkpoint.recipe.model.stored_precision
    return key if examples is None else {**key, "examples": hashing.sha256_json(examples)}


def _model_folders(checkpoint: Checkpoint, kind: str) -> list[Path]:
    """Return the folders whose configuration and tokenizer a checkpoint loads to encode texts of a kind."""
    model, folders = checkpoint.recipe.model, []
    if checkpoint.folder is not None:
        folders.append(checkpoint.folder / kind if checkpoint.is_dual_encoder else checkpoint.folder)
    if checkpoint.folder is None or checkpoint.is_adapter:
        folders.append(model_folder(locate_model(model), model.revision))
    if model.vision.name_or_path:
        folders.append(model_folder(locate_vision_model(model), model.vision.revision))
    return folders


def stored_dtype(key: dict) -> type:
    """Return the type in which vectors with this content key are kept on disk: float32, or float16."""
    return np.float16 if key.get("stored") == "fp16" else np.float32
