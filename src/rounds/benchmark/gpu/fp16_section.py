"""fp16 section: embed in fp16, the precision of T4 GPUs, and check that overflows are caught."""

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from rounds.benchmark.gpu import random_decoders
from rounds.benchmark.gpu.harness import Harness, row_cosines
from rounds.benchmark.gpu.results import SectionResults
from rounds.benchmark.gpu.sample_texts import SampleTexts
from rounds.config.recipe import Recipe
from rounds.encoding.encoder import EncodingOptions, encode, encode_ids
from rounds.encoding.tokenization import tokenize

COMPARED_QUERIES = 256
MIN_COSINE, MIN_COSINE_AFTER_OVERFLOW = 0.999, 0.99
# Factor on both matrices of a feed-forward block that lifts its output above fp16's maximum of 65,504.
OVERFLOW_FACTOR = 1e3


def run(harness: Harness, results: SectionResults) -> None:
    """Embed in fp16: check for finite vectors, the cosine to fp32, and that an overflow is caught."""
    recipe = random_decoders.recipe_for("random:mistral", "fp16")
    random_decoders.free_memory()
    _embed_all_queries(harness, results, recipe)
    random_decoders.free_memory()
    _compare_with_fp32(harness, results, recipe)


def _embed_all_queries(harness: Harness, results: SectionResults, recipe: Recipe) -> None:
    """Embed all queries with the 7B decoder and check that every vector is finite."""
    shape, texts = harness.shape(random_decoders.SEVEN_B), harness.texts(recipe)
    embedder = random_decoders.build_embedder(shape, recipe, "fp16", harness.device)
    seconds, vectors = harness.time(lambda: _embed_once(embedder, recipe, texts, "fp16"))
    results.note(f"{shape.name} in fp16: {len(vectors)} queries", seconds=seconds, peak_gib=harness.peak_gib())
    finite = np.isfinite(vectors).all(axis=1)
    results.check("queries with a finite vector in fp16, of all", float(finite.mean()), bool(finite.all()))


def _compare_with_fp32(harness: Harness, results: SectionResults, recipe: Recipe) -> None:
    """Embed queries with the 0.4B decoder in fp16 and fp32, before and after one layer overflows."""
    shape, texts = harness.shape(random_decoders.HALF_B), harness.texts(recipe, COMPARED_QUERIES)
    fp16_embedder = random_decoders.build_embedder(shape, recipe, "fp16", harness.device)
    fp32_embedder = random_decoders.build_embedder(shape, recipe, "fp32", harness.device)
    # Both models take the weights rounded to fp16, so that only the computation differs.
    fp32_embedder[0].model.load_state_dict(fp16_embedder[0].model.state_dict())
    vectors = _embed_once(fp16_embedder, recipe, texts, "fp16")
    references = _embed_once(fp32_embedder, recipe, texts, "fp32")
    cosine = float(row_cosines(vectors, references).min())
    label = f"{shape.name}: cosine of fp16 to fp32 on {len(vectors)} queries, at least {MIN_COSINE}"
    results.check(label, cosine, cosine >= MIN_COSINE)
    _check_overflow(results, fp16_embedder, fp32_embedder, recipe, texts)


def _embed_once(embedder: SentenceTransformer, recipe: Recipe, texts: SampleTexts, precision: str) -> np.ndarray:
    """Embed queries without recomputing vectors that overflow, as `encode` would."""
    ids = tokenize(embedder.tokenizer, texts.queries, recipe.prompts, "query", texts.examples)
    return encode_ids(embedder, ids, precision, EncodingOptions(checks_numbers=False))


def _check_overflow(
    results: SectionResults,
    fp16_embedder: SentenceTransformer,
    fp32_embedder: SentenceTransformer,
    recipe: Recipe,
    texts: SampleTexts,
) -> None:
    """Enlarge the last layer's weights until fp16 overflows, and check that `encode` computes these vectors in bf16."""
    for embedder in (fp16_embedder, fp32_embedder):
        enlarge_last_layer(embedder)
    lost = ~np.isfinite(_embed_once(fp16_embedder, recipe, texts, "fp16")).all(axis=1)
    results.check("queries lost where a layer overflows, of all", float(lost.mean()), bool(lost.any()))
    vectors = encode(fp16_embedder, texts.queries, recipe.prompts, "query", "fp16", examples=texts.examples)
    cosine = float(row_cosines(vectors, _embed_once(fp32_embedder, recipe, texts, "fp32")).min())
    label = f"cosine to fp32 after an overflow, at least {MIN_COSINE_AFTER_OVERFLOW}"
    results.check(label, cosine, cosine >= MIN_COSINE_AFTER_OVERFLOW)


def enlarge_last_layer(embedder: SentenceTransformer) -> None:
    """Multiply the last feed-forward block's weights so that its output overflows in fp16."""
    block = embedder[0].model.layers[-1].mlp
    with torch.no_grad():
        for matrix in (block.up_proj, block.down_proj):
            matrix.weight.mul_(OVERFLOW_FACTOR)
