"""Encode with FlagEmbedding's own model classes in place of ours, to compare: same recipe, same run file."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from rounds.config.recipe import FOUR_BIT_PRECISIONS, LAYER_POOLINGS, Model
from rounds.data.prompts import format_texts, prefix_and_suffix
from rounds.encoding.tokenization import Cuts, join_examples, select_examples
from rounds.errors import UserError, install_command
from rounds.models import dense_layers, merging, positions
from rounds.models.checkpoint import Checkpoint
from rounds.models.weights import hub_revision, locate_model, model_folder

BATCH_SIZE = 32


def encode(
    source: Checkpoint,
    texts: Sequence[str],
    kind: str,
    examples: Sequence[Sequence[str]] | None = None,
    on_cuts: Callable[[Cuts], None] | None = None,
) -> np.ndarray:
    """Embed texts with FlagICLModel, FlagLLMModel or FlagModel.

    FlagEmbedding counts and truncates tokens in its own way: vectors of texts beyond the maximum length may differ.

    Args:
        kind: `query` or `passage`.
        examples: few-shot examples of each query.
        on_cuts: gets the examples that do not fit; where FlagEmbedding cuts a text, it does not say.

    Returns:
        (texts, dim) float32.

    Raises:
        UserError: FlagEmbedding is not installed, or does not support the recipe.
    """
    model = load(source)
    if on_cuts:
        on_cuts(Cuts({}, select_examples(model.tokenizer, examples or (), source.recipe.prompts)))
    if kind == "query":
        return encode_queries(model, source, texts, examples)
    return np.asarray(model.encode_corpus(format_texts(source.recipe.prompts, kind, list(texts))), dtype=np.float32)


def load(source: Checkpoint):
    """Load a checkpoint as FlagEmbedding's model; an adapter is merged into its base model first.

    Raises:
        UserError: FlagEmbedding is not installed, or does not support the recipe.
    """
    _check_supported(source)
    if not source.is_adapter:
        return build(source, str(source.folder or _base_folder(source.recipe.model)))
    with tempfile.TemporaryDirectory() as scratch:
        merging.check_mergeable(source)
        merging.write_merged(source.with_options(precision="fp32"), Path(scratch))
        return build(source, scratch)


def _base_folder(model: Model) -> str:
    """Return the folder or hub name of a base model; FlagEmbedding takes no revision, so one is named by its folder."""
    name = locate_model(model)
    return str(model_folder(name, model.revision)) if hub_revision(name, model) else name


def _check_supported(source: Checkpoint) -> None:
    source.recipe.require_text_only("engine flagembedding")
    if source.precision in FOUR_BIT_PRECISIONS:
        raise UserError(f"engine flagembedding: loads no 4-bit models; pass another precision than {source.precision}")
    if source.recipe.model.pooling in LAYER_POOLINGS or (source.tuning and source.recipe.tuning.projection.dim):
        raise UserError("engine flagembedding: has no pooling over several layers and no projection head")
    if source.is_dual_encoder:
        raise UserError("engine flagembedding: has one encoder for queries and passages")
    base = source.recipe.model
    has_all_weights = source.folder is not None and not source.is_adapter
    if dense_layers.are_in(source.folder if has_all_weights else model_folder(locate_model(base), base.revision)):
        raise UserError(
            f"engine flagembedding: loads no Dense layers, and {source.name} has them behind its pooling; use rounds"
        )


def build(source: Checkpoint, folder: str):
    """Return FlagEmbedding's model of a folder with whole weights, set up as the checkpoint's recipe says."""
    try:
        from FlagEmbedding import FlagICLModel, FlagLLMModel, FlagModel
    except ImportError as error:
        raise UserError(f"engine flagembedding: {error}; {install_command('interop')} brings it") from None
    model, prompts = source.recipe.model, source.recipe.prompts
    prefix, suffix = prefix_and_suffix(prompts, "query")
    settings = {
        "query_instruction_for_retrieval": prefix or None,
        "query_instruction_format": "{}{}",
        "normalize_embeddings": model.normalize,
        "trust_remote_code": model.trust_remote_code,
        "use_fp16": source.precision == "fp16",
        "use_bf16": source.precision == "bf16",
        "devices": source.device,
        "query_max_length": prompts.query_max_length,
        "passage_max_length": prompts.passage_max_length,
        "batch_size": BATCH_SIZE,
    }
    if model.pooling == "last_token":
        embedder = FlagICLModel(folder, suffix=suffix, **settings) if suffix else FlagLLMModel(folder, **settings)
    elif suffix:
        raise UserError(f"engine flagembedding: its encoder-only model has no query_suffix ({suffix!r})")
    else:
        embedder = FlagModel(folder, pooling_method=model.pooling, **settings)
    positions.check_limits(embedder.model, source.recipe)
    return embedder


def encode_queries(
    model, source: Checkpoint, texts: Sequence[str], examples: Sequence[Sequence[str]] | None
) -> np.ndarray:
    """Embed queries with a model that `load` returned: (queries, dim) float32.

    FlagICLModel takes one list of examples for all queries of a call, so queries are grouped by their examples.

    Raises:
        UserError: the model takes no examples.
    """
    if examples is None:
        return np.asarray(model.encode_queries(list(texts)), dtype=np.float32)
    if not hasattr(model, "prefix"):
        raise UserError("engine flagembedding: only its ICL model takes examples; it needs prompts.query_suffix")
    rows_by_lead: dict[str, list[int]] = {}
    for row, lead in enumerate(join_examples(model.tokenizer, examples, source.recipe.prompts, "query")):
        rows_by_lead.setdefault(lead, []).append(row)
    vectors: list[np.ndarray | None] = [None] * len(texts)
    for lead, rows in rows_by_lead.items():
        model.prefix = lead
        for row, vector in zip(rows, model.encode_queries([texts[row] for row in rows]), strict=True):
            vectors[row] = vector
    return np.stack(vectors).astype(np.float32)
