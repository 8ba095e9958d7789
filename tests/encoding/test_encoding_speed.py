"""Encoding speed: tokens that the model computes, those of a shared prefix once."""

import dataclasses

from rounds.config import loader
from rounds.encoding.encoding_speed import measure_speed
from rounds.encoding.tokenization import tokenize
from rounds.models import checkpoint

TEXTS = [f"question {n}" for n in range(6)]


def test_shared_tokens_count_once():
    """With a long instruction before each query, its tokens count once; without sharing, for each query."""
    recipe = loader.load("tiny-mistral").replace("prompts", query_prefix="one two three " * 20)
    embedder = checkpoint.resolve(None, recipe, "cpu").load()
    whole = sum(map(len, tokenize(embedder.tokenizer, TEXTS, recipe.prompts, "query")))
    shared = measure_speed(embedder, TEXTS, recipe.prompts, "query", "fp32")
    assert shared.tokens < 0.5 * whole
    apart = dataclasses.replace(recipe.prompts, share_prefix=False)
    assert measure_speed(embedder, TEXTS, apart, "query", "fp32").tokens == whole
    assert shared.speed > 0 and shared.bound > 0


def test_a_slow_model_encodes_fewer_texts(tiny):
    """With time for nothing, one text is encoded; with any time, all are."""
    embedder = checkpoint.resolve(None, tiny, "cpu").load()
    assert measure_speed(embedder, TEXTS, tiny.prompts, "query", "fp32", 0.0).texts == 1
    assert measure_speed(embedder, TEXTS, tiny.prompts, "query", "fp32", 600.0).texts == len(TEXTS)
