"""Encoding section: embed queries behind examples with a random 7B decoder, and compare with peer libraries."""

from collections.abc import Callable
from unittest import mock

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from rounds.benchmark.encoding_work import join_query_texts
from rounds.benchmark.gpu import random_decoders
from rounds.benchmark.gpu.harness import (
    Harness,
    TokenCounts,
    neighbour_cosine,
    row_cosines,
    without_shared_prefix,
)
from rounds.benchmark.gpu.results import SectionResults, SectionSkipped
from rounds.benchmark.gpu.sample_texts import SampleTexts
from rounds.config.recipe import Recipe
from rounds.data.prompts import max_input_length
from rounds.encoding import flagembedding
from rounds.encoding.encoder import encode
from rounds.models.checkpoint import Checkpoint
from rounds.models.inference_options import InferenceOptions
from rounds.models.weights import locate_model

PEER_QUERIES = 128
WARM_UP_TEXTS = 64
BATCH_SIZE = 32
MIN_COSINE = 0.99  # between two libraries that both compute in bf16
ERROR_LENGTH = 120  # characters of an error message that the results keep

EmbedFunction = Callable[[SampleTexts], np.ndarray]  # returns (queries, dim) float32


def run(harness: Harness, results: SectionResults) -> None:
    """Embed queries and passages with a random 7B decoder in bf16, then some queries with each peer library."""
    random_decoders.free_memory()
    matrix_rate = harness.matrix_rate(torch.bfloat16)
    results.note("matrix product in bf16", teraflops=matrix_rate)
    recipe = random_decoders.recipe_for("random:mistral", "bf16")
    shape = harness.shape(random_decoders.SEVEN_B)
    seconds, embedder = harness.time(
        lambda: random_decoders.build_embedder(shape, recipe, "bf16", harness.device),
    )
    weights = random_decoders.count_weights(embedder[0].model)
    results.note(f"draw {shape.name} on the device", seconds=seconds, weights=weights, peak_gib=harness.peak_gib())
    texts = harness.texts(recipe)
    _embed(embedder, recipe, texts.first(WARM_UP_TEXTS), "query")
    for kind in ("query", "passage"):
        random_decoders.free_memory()
        tokens = TokenCounts.count(embedder, recipe, *_select_kind(texts, kind))
        seconds, vectors = harness.time(lambda kind=kind: _embed(embedder, recipe, texts, kind))
        label = "queries behind 2 shared examples" if kind == "query" else "passages"
        results.note(
            f"{shape.name}: {len(vectors)} {label}",
            seconds=seconds,
            tokens=tokens.total,
            tokens_per_second=tokens.total / seconds,
            computed_tokens_per_second=tokens.computed / seconds,
            # A forward pass takes 2 operations for each weight and token.
            share_of_matrix_rate=2 * weights * tokens.computed / seconds / 1e12 / matrix_rate,
            peak_gib=harness.peak_gib(),
        )
        finite = np.isfinite(vectors).all(axis=1)
        results.check(f"{kind}: share of finite vectors", float(finite.mean()), bool(finite.all()))
    _compare_with_peers(harness, results, embedder, recipe)


def _select_kind(texts: SampleTexts, kind: str) -> tuple[list[str], str, list[list[str]] | None]:
    """Return the texts of a kind, the kind, and the examples of each text."""
    return (texts.queries, kind, texts.examples) if kind == "query" else (texts.passages, kind, None)


def _embed(embedder: SentenceTransformer, recipe: Recipe, texts: SampleTexts, kind: str) -> np.ndarray:
    selected, kind, examples = _select_kind(texts, kind)
    return encode(embedder, selected, recipe.prompts, kind, "bf16", examples=examples)


def _compare_with_peers(
    harness: Harness, results: SectionResults, embedder: SentenceTransformer, recipe: Recipe
) -> None:
    """Embed queries with each library around the same weights; record seconds and the cosine to Rounds' vectors."""
    texts = harness.texts(recipe, PEER_QUERIES)
    tokens = TokenCounts.count(embedder, without_shared_prefix(recipe), texts.queries, "query", texts.examples).total
    results.content["queries_of_peers"] = len(texts.queries)
    reference = None
    for name, embed in _embed_functions(harness, results, embedder, recipe).items():
        random_decoders.free_memory()
        try:
            embed(texts.first(BATCH_SIZE))
            seconds, vectors = harness.time(lambda embed=embed: embed(texts))
        except Exception as error:
            if name != "FlagEmbedding":
                raise
            # FlagEmbedding may not work with the installed versions, which says nothing about Rounds.
            results.note(name, left_out=f"{type(error).__name__}: {str(error)[:ERROR_LENGTH]}")
            continue
        is_reference = reference is None
        reference = vectors if is_reference else reference
        cosine = float(row_cosines(reference, vectors).min())
        results.note(
            f"{len(texts.queries)} queries behind 2 examples: {name}",
            seconds=seconds,
            tokens_per_second=tokens / seconds,
            peak_gib=harness.peak_gib(),
            least_cosine=cosine,
        )
        if not is_reference:
            results.check(f"cosine of {name} to rounds, at least {MIN_COSINE}", cosine, cosine >= MIN_COSINE)
    results.note("different queries", mean_cosine=neighbour_cosine(reference))


def _embed_functions(
    harness: Harness, results: SectionResults, embedder: SentenceTransformer, recipe: Recipe
) -> dict[str, EmbedFunction]:
    """Return each library's function by name, Rounds' first; note FlagEmbedding if it is not installed."""
    functions: dict[str, EmbedFunction] = {
        "rounds": lambda texts: _embed(embedder, recipe, texts, "query"),
        "rounds, prefix not shared": lambda texts: _embed(embedder, without_shared_prefix(recipe), texts, "query"),
        "sentence-transformers": _sentence_transformers_function(embedder, recipe),
        "transformers": lambda texts: _embed_with_transformers(embedder, recipe, texts),
    }
    try:
        functions["FlagEmbedding"] = _flagembedding_function(harness, embedder, recipe)
    except SectionSkipped as reason:
        results.note("FlagEmbedding", left_out=str(reason))
    return functions


def _join_texts(embedder: SentenceTransformer, recipe: Recipe, texts: SampleTexts) -> list[str]:
    return join_query_texts(embedder.tokenizer, recipe, texts.queries, texts.examples)


def _sentence_transformers_function(embedder: SentenceTransformer, recipe: Recipe) -> EmbedFunction:
    stock = random_decoders.build_stock_embedder(embedder, recipe)
    stock.max_seq_length = max_input_length(recipe.prompts)
    return lambda texts: stock.encode(
        _join_texts(embedder, recipe, texts), batch_size=BATCH_SIZE, show_progress_bar=False
    )


def _embed_with_transformers(embedder: SentenceTransformer, recipe: Recipe, texts: SampleTexts) -> np.ndarray:
    """Embed queries as bge-en-icl's model card does: pad, take the last token's state, normalize."""
    model, embeddings = embedder[0].model, []
    for start in range(0, len(texts.queries), BATCH_SIZE):
        stop = start + BATCH_SIZE
        batch_texts = SampleTexts(texts.queries[start:stop], texts.examples[start:stop], [])
        batch = embedder.tokenizer(_join_texts(embedder, recipe, batch_texts), padding=True, return_tensors="pt")
        batch = {name: batch[name].to(embedder.device) for name in ("input_ids", "attention_mask")}
        with torch.inference_mode():
            states = model(**batch, use_cache=False).last_hidden_state
        last = batch["attention_mask"].sum(1) - 1
        vectors = states[torch.arange(len(states), device=states.device), last].float()
        embeddings.append(torch.nn.functional.normalize(vectors, dim=1).cpu().numpy())
    return np.concatenate(embeddings)


def _flagembedding_function(harness: Harness, embedder: SentenceTransformer, recipe: Recipe) -> EmbedFunction:
    """Build a FlagICLModel around the loaded weights.

    Raises:
        SectionSkipped: FlagEmbedding cannot be imported.
    """
    try:
        from FlagEmbedding.inference.embedder.decoder_only import icl
    except ImportError as error:
        raise SectionSkipped(f"cannot be imported ({str(error)[:ERROR_LENGTH]})") from None
    source = Checkpoint(recipe, "", InferenceOptions("bf16", (harness.device,)), lineage={})
    folder = locate_model(recipe.model)
    with mock.patch.object(icl.AutoModel, "from_pretrained", lambda *_, **__: embedder[0].model):
        model = flagembedding.build(source, folder)
    return lambda texts: flagembedding.encode_queries(model, source, texts.queries, texts.examples)
