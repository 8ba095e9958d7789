"""FlagEmbedding's own model classes in place of ours, to ask the peer: same recipe, same run file."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rounds.config.recipe import FOUR_BIT_PRECISIONS, LAYER_POOLINGS
from rounds.data.prompts import prefix_and_suffix
from rounds.encoding.tokenization import lead_texts
from rounds.errors import UserError
from rounds.models import merging
from rounds.models.checkpoint import Checkpoint
from rounds.models.weights import locate_model


def encode(
    source: Checkpoint, texts: Sequence[str], kind: str, before: Sequence[Sequence[str]] | None = None
) -> np.ndarray:
    """What `encoding.encode` returns, computed by FlagICLModel, FlagLLMModel or FlagModel.

    FlagEmbedding counts and cuts tokens in its own way: texts beyond the maximum length may differ.

    Returns:
        (texts, dim) float32.

    Raises:
        UserError: FlagEmbedding is not installed, or cannot do what the recipe says.
    """
    model = load(source)
    if kind == "query":
        return encode_queries(model, source, texts, before)
    prefix, suffix = prefix_and_suffix(source.recipe.prompts, "passage")
    return np.asarray(model.encode_corpus([f"{prefix}{text}{suffix}" for text in texts]), dtype=np.float32)


def load(source: Checkpoint):
    """FlagEmbedding's model of a checkpoint; adapters are merged for it."""
    source.recipe.require_text_only("engine flagembedding")
    if source.precision in FOUR_BIT_PRECISIONS:
        raise UserError(f"engine flagembedding: loads no 4-bit models; pass another precision than {source.precision}")
    if source.recipe.model.pooling in LAYER_POOLINGS or (source.tuning and source.recipe.tuning.projection.dim):
        raise UserError("engine flagembedding: has no pooling over several layers and no projection head")
    if source.is_dual_encoder:
        raise UserError("engine flagembedding: has one encoder for queries and passages")
    if not source.is_adapter:
        return _model(source, str(source.folder) if source.folder else locate_model(source.recipe.model))
    with tempfile.TemporaryDirectory() as scratch:
        merging.check_mergeable(source)
        merging.write_merged(source.with_options(precision="fp32"), Path(scratch))
        return _model(source, scratch)


def _model(source: Checkpoint, folder: str):
    try:
        from FlagEmbedding import FlagICLModel, FlagLLMModel, FlagModel
    except ImportError as error:
        raise UserError(f"engine flagembedding: {error}; pip install '.[interop]' brings it") from None
    model, prompts = source.recipe.model, source.recipe.prompts
    prefix, suffix = prefix_and_suffix(prompts, "query")
    shared = {
        "query_instruction_for_retrieval": prefix or None, "query_instruction_format": "{}{}",
        "normalize_embeddings": model.normalize, "trust_remote_code": model.trust_remote_code,
        "use_fp16": source.precision == "fp16", "use_bf16": source.precision == "bf16", "devices": source.device,
        "query_max_length": prompts.query_max_length, "passage_max_length": prompts.passage_max_length,
        "batch_size": 32,
    }  # fmt: skip
    if model.pooling == "last_token":
        return FlagICLModel(folder, suffix=suffix, **shared) if suffix else FlagLLMModel(folder, **shared)
    if suffix:
        raise UserError(f"engine flagembedding: its encoder-only model has no query_suffix ({suffix!r})")
    return FlagModel(folder, pooling_method=model.pooling, **shared)


def encode_queries(
    model, source: Checkpoint, texts: Sequence[str], before: Sequence[Sequence[str]] | None
) -> np.ndarray:
    """Queries, with one call for each choice of examples: FlagICLModel has one for all queries."""
    if before is None:
        return np.asarray(model.encode_queries(list(texts)), dtype=np.float32)
    if not hasattr(model, "prefix"):
        raise UserError("engine flagembedding: only its ICL model takes examples; it needs prompts.query_suffix")
    leads = lead_texts(model.tokenizer, before, source.recipe.prompts, "query")
    rows: dict[str, list[int]] = {}
    for number, lead in enumerate(leads):
        rows.setdefault(lead, []).append(number)
    found: list[np.ndarray | None] = [None] * len(texts)
    for lead, numbers in rows.items():
        model.prefix = lead
        for number, vector in zip(numbers, model.encode_queries([texts[n] for n in numbers]), strict=True):
            found[number] = vector
    return np.stack(found).astype(np.float32)
