"""Pooling: the embedding of a text equals that of a slow loop over layers and tokens."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from helpers.tiny_task import refused
from helpers.tuned_models import reload

from rounds.config import loader
from rounds.config.recipe import LAYER_POOLINGS, TOKEN_POOLINGS
from rounds.encoding.encoder import encode
from rounds.encoding.tokenization import tokenize
from rounds.models import checkpoint, peft_methods

TEXTS = ["two thirds of a number", "x", "the sum of two odd numbers is even because " * 3]


def recipe_of(pooling: str, tokens: str = "mean", normalize: bool = True, model: str = "bert", attention: str = "sdpa"):
    recipe = loader.load("tiny-mistral")
    changed = dataclasses.replace(
        recipe.model,
        name_or_path=f"random:{model}",
        pooling=pooling,
        pooling_tokens=tokens,
        pooling_layers=2,
        normalize=normalize,
        bos=None,
        eos=None,
        dropout=0.0,
        attention=attention,
    )
    full = dataclasses.replace(recipe.tuning, method="full")
    return dataclasses.replace(recipe, model=changed, tuning=full)


def loaded(recipe):
    return checkpoint.resolve(None, recipe, "cpu").load()


def embed_slowly(embedder, recipe, text: str) -> np.ndarray:
    """Embed one text without padding, layer by layer and token by token."""
    model = recipe.model
    (ids,) = tokenize(embedder.tokenizer, [text], recipe.prompts, "query")
    with torch.no_grad():
        states = embedder[0].model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
    last = [layer[0].numpy().astype(np.float64) for layer in states]
    tokens = model.pooling_tokens if model.pooling in LAYER_POOLINGS else model.pooling
    rows = []
    for position in range(len(ids)):
        one, other = (layer[position] for layer in last[-2:])
        combined = {
            "concat_last_n": np.concatenate([one, other]),
            "sum_last_n": one + other,
            "weighted_layers": (one + other) / 2,
        }
        rows.append(combined.get(model.pooling, last[-1][position]))
    vector = {"cls": rows[0], "last_token": rows[-1]}.get(tokens, sum(rows) / len(rows))
    return vector / np.linalg.norm(vector) if model.normalize else vector


@pytest.mark.parametrize(("attention", "normalize"), [("sdpa", True), ("eager", False)])
@pytest.mark.parametrize(
    ("pooling", "tokens"),
    [*((pooling, "mean") for pooling in TOKEN_POOLINGS), *itertools.product(LAYER_POOLINGS, TOKEN_POOLINGS)],
)
def test_pooling_is_that_of_a_slow_loop(pooling, tokens, attention, normalize):
    """Each pooling equals the slow loop, packed (sdpa) and padded (eager), normalized or raw."""
    recipe = recipe_of(pooling, tokens, normalize, attention=attention)
    embedder = loaded(recipe)
    for text, vector in zip(TEXTS, encode(embedder, TEXTS, recipe.prompts, "query", "fp32"), strict=True):
        np.testing.assert_allclose(vector, embed_slowly(embedder, recipe, text), atol=2e-6)


def test_several_layers_behind_a_shared_prefix_are_pooled_alike():
    """With the texts' common prefix computed once, packed or padded, the states of all layers are the same."""
    texts = [f"{'a long beginning that all texts share ' * 6}{n} and an end" for n in range(6)]
    vectors = []
    for attention, share in (("sdpa", True), ("eager", True), ("eager", False)):
        recipe = recipe_of("concat_last_n", "last_token", model="mistral", attention=attention)
        recipe = recipe.replace("prompts", share_prefix=share)
        vectors.append(encode(loaded(recipe), texts, recipe.prompts, "query", "fp32"))
    for other in vectors[1:]:
        np.testing.assert_allclose(vectors[0], other, atol=2e-6)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_weights_of_layers_are_saved_and_loaded(method, tmp_path):
    """The layers' weights are trained and saved, beside an adapter too."""
    recipe = recipe_of("weighted_layers", model="mistral")
    recipe = dataclasses.replace(recipe, tuning=dataclasses.replace(recipe.tuning, method=method))
    torch.manual_seed(0)
    embedder = loaded(recipe)
    peft_methods.apply(embedder, recipe.tuning)
    weights = [value for name, value in peft_methods.trainable_parameters(embedder).items() if "layer_weights" in name]
    assert len(weights) == 1
    with torch.no_grad():
        weights[0].copy_(torch.tensor([0.2, 1.7]))
    expected = encode(embedder, TEXTS, recipe.prompts, "query", "fp32")
    reloaded = reload(embedder, recipe, tmp_path / "c")
    np.testing.assert_allclose(encode(reloaded, TEXTS, recipe.prompts, "query", "fp32"), expected, atol=2e-6)


def test_more_layers_than_there_are_is_refused():
    """The message names the recipe's number of layers."""
    recipe = recipe_of("sum_last_n").replace("model", pooling_layers=9)
    with refused("model.pooling_layers 9", "layers"):
        loaded(recipe)


def test_poolings_have_vectors_of_their_own():
    """Every setting of the pooling is part of the key that names cached runs."""
    keys = [
        checkpoint.resolve(None, recipe.replace("model", pooling_layers=layers), "cpu").key
        for recipe in (recipe_of("sum_last_n"), recipe_of("sum_last_n", "cls"), recipe_of("concat_last_n"))
        for layers in (1, 2)
    ]
    assert all(one != other for n, one in enumerate(keys) for other in keys[n + 1 :])
