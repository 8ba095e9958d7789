"""Half: fp16, which T4s compute in, at lengths as real ones; and what happens where it overflows."""

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from rounds.benchmark import models
from rounds.benchmark.bench import Bench, cosines
from rounds.benchmark.report import Section
from rounds.benchmark.texts import Texts
from rounds.config.recipe import Recipe
from rounds.encoding.encoder import encode, encode_ids
from rounds.encoding.tokenization import tokenize

COMPARED = 256
LEAST_COSINE, LEAST_RESCUED = 0.999, 0.99
TOO_LARGE = 1e3  # times both matrices of a feed-forward part: its output is then beyond fp16's 65,504


def run(bench: Bench, section: Section) -> None:
    """embed in fp16 as on a T4: finite vectors, cosine to fp32, and an overflow that is caught"""
    recipe = models.recipe_for("random:mistral", "fp16")
    models.free()
    _all(bench, section, recipe)
    models.free()
    _beside_fp32(bench, section, recipe)


def _all(bench: Bench, section: Section, recipe: Recipe) -> None:
    """All queries with the large model."""
    shape, given = bench.shape(models.SEVEN_B), bench.texts(recipe)
    embedder = models.embedder(shape, recipe, "fp16", bench.device)
    seconds, vectors = bench.time(lambda: _raw(embedder, recipe, given, "fp16"))
    section.note(f"{shape.name} in fp16: {len(vectors)} queries", seconds=seconds, peak_gib=bench.peak_gib())
    finite = np.isfinite(vectors).all(1)
    section.check("queries with a finite vector in fp16, of all", float(finite.mean()), bool(finite.all()))


def _beside_fp32(bench: Bench, section: Section, recipe: Recipe) -> None:
    """Some queries with a smaller model, in both precisions, before and after a layer overflows."""
    shape, given = bench.shape(models.HALF_B), bench.texts(recipe, COMPARED)
    half = models.embedder(shape, recipe, "fp16", bench.device)
    exact = models.embedder(shape, recipe, "fp32", bench.device)
    exact[0].model.load_state_dict(half[0].model.state_dict())  # fp16's own weights: rounding them is not the question
    found, wanted = _raw(half, recipe, given, "fp16"), _raw(exact, recipe, given, "fp32")
    least = float(cosines(found, wanted).min())
    what = f"{shape.name}: cosine of fp16 to fp32 on {len(found)} queries, at least {LEAST_COSINE}"
    section.check(what, least, least >= LEAST_COSINE)
    _overflow(section, (half, exact), recipe, given)


def _raw(embedder: SentenceTransformer, recipe: Recipe, given: Texts, precision: str) -> np.ndarray:
    """Vectors as they come, without the second look that `encoding.encode` takes at fp16's."""
    ids = tokenize(embedder.tokenizer, given.queries, recipe.prompts, "query", given.before)
    return encode_ids(embedder, ids, precision)


def _overflow(
    section: Section, pair: tuple[SentenceTransformer, SentenceTransformer], recipe: Recipe, given: Texts
) -> None:
    """Enlarge the last layer's weights: fp16 overflows, and the vectors are computed in bf16 instead."""
    for embedder in pair:
        with torch.no_grad():
            last = embedder[0].model.layers[-1].mlp
            for matrix in (last.up_proj, last.down_proj):
                matrix.weight.mul_(TOO_LARGE)
    half, exact = pair
    lost = ~np.isfinite(_raw(half, recipe, given, "fp16")).all(1)
    section.check("queries lost where a layer overflows, of all", float(lost.mean()), bool(lost.any()))
    found = encode(half, given.queries, recipe.prompts, "query", "fp16", examples=given.before)
    least = float(cosines(found, _raw(exact, recipe, given, "fp32")).min())
    section.check(f"cosine to fp32 after an overflow, at least {LEAST_RESCUED}", least, least >= LEAST_RESCUED)
