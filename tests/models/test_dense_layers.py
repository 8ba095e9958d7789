"""Dense layers of a base model: vectors are sentence-transformers', and the layers are trained, saved and checked."""

import dataclasses
import json
import pickle
import random
import shutil

import numpy as np
import pytest
import torch
from helpers import dense_bases
from helpers.dense_bases import PASSAGE_PREFIX, QUERY_PREFIX, recipe_for, stock_vectors
from helpers.tiny_task import refused
from helpers.tuned_models import build_tuned_model, reload, save_checkpoint
from safetensors.torch import load_file, save_file

from rounds.config.recipe import Projection
from rounds.encoding import flagembedding, merged_checkpoint, prefix_cache
from rounds.encoding.batching import Layout
from rounds.encoding.encoder import encode
from rounds.models import checkpoint, peft_methods
from rounds.models.weights import base_model_digest
from rounds.publishing import files
from rounds.training.stock_baseline import load_stock_model

TEXTS = ["two thirds of a number", "x", "the sum of two odd numbers is even because " * 3]

WEIGHTS = "2_Dense/model.safetensors"


@pytest.fixture(scope="module")
def gemma(tmp_path_factory):
    """The folder of a tiny EmbeddingGemma, a token of which sees 32 others on each side."""
    return dense_bases.save_gemma(tmp_path_factory.mktemp("gemma"))


@pytest.fixture
def own(gemma, tmp_path):
    """A copy of the folder, to be changed."""
    return shutil.copytree(gemma, tmp_path / "own")


def load(recipe, precision="fp32"):
    return checkpoint.resolve(None, recipe, "cpu", precision).load()


def embed(embedder, recipe, texts=TEXTS, kind="passage", precision="fp32"):
    return encode(embedder, texts, recipe.prompts, kind, precision)


def layers_of(embedder) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in embedder.state_dict().items() if ".linear." in name}


def texts_of_tokens(tokenizer, prefix: str, *counts: int) -> list[str]:
    """Return texts that have just so many tokens behind the prefix."""
    rng, texts = random.Random(0), []
    for count in counts:
        text = ""
        while len(tokenizer(prefix + text)["input_ids"]) < count:
            text += rng.choice("abcdefghij0123456789")
        texts.append(text)
        assert len(tokenizer(prefix + text)["input_ids"]) == count
    return texts


@pytest.mark.parametrize(("attention", "window"), [("sdpa", 8), ("sdpa", 64), ("eager", 64)])
def test_vectors_are_sentence_transformers_(attention, window, tmp_path):
    """Texts within the sliding window, at its edge and far beyond have the library's vectors, packed and padded."""
    recipe = recipe_for(dense_bases.save_gemma(tmp_path, window), attention=attention)
    embedder = load(recipe)
    for kind, prefix in (("query", QUERY_PREFIX), ("passage", PASSAGE_PREFIX)):
        for counts in ([25, 33, 28, 30], [25, 34, 33], [25, 35, 70, 33, 150, 199]):
            texts = texts_of_tokens(embedder.tokenizer, prefix, *counts)
            vectors = embed(embedder, recipe, texts, kind)
            np.testing.assert_allclose(vectors, stock_vectors(tmp_path, texts, prefix), atol=1e-5)


def test_texts_beyond_the_window_are_not_packed(gemma):
    """A window of 64 on both sides holds texts of 33 tokens: the first sees the last."""
    embedder = load(recipe_for(gemma))
    assert Layout.for_model(embedder, 33).packed and not Layout.for_model(embedder, 34).packed


def test_the_window_changes_vectors(gemma, tmp_path):
    """Texts of two windows differ, so that equal vectors say something about it."""
    texts = texts_of_tokens(load(recipe_for(gemma)).tokenizer, PASSAGE_PREFIX, 34, 150)
    other = dense_bases.save_gemma(tmp_path, 512)
    assert (abs(stock_vectors(gemma, texts) - stock_vectors(other, texts)).max(axis=1) > 1e-4).all()


def test_a_prefix_that_sees_what_follows_is_not_shared(tmp_path):
    """Tokens of a bidirectional decoder attend to those behind them, and vectors are the library's all the same."""
    recipe = recipe_for(dense_bases.save_gemma(tmp_path, pooling="lasttoken"), pooling="last_token")
    embedder = load(recipe)
    texts = [f"{'a long beginning that all texts share ' * 4}{n} and an end" for n in range(6)]
    assert not prefix_cache.can_share(embedder, 30)
    np.testing.assert_allclose(embed(embedder, recipe, texts), stock_vectors(tmp_path, texts), atol=1e-5)


def test_layers_work_behind_a_shared_prefix(tmp_path):
    """A causal decoder computes the common start once, and its layers see the same pooled vectors."""
    dense_bases.copy_random("mistral", tmp_path / "base", pooling="lasttoken")
    recipe = recipe_for(tmp_path / "base", pooling="last_token")
    embedder = load(recipe)
    texts = [f"{'a long beginning that all texts share ' * 4}{n} and an end" for n in range(6)]
    assert prefix_cache.can_share(embedder, 200)
    np.testing.assert_allclose(embed(embedder, recipe, texts), stock_vectors(tmp_path / "base", texts), atol=1e-5)


def test_bf16_stays_near_fp32_and_of_unit_length(gemma):
    """The layers' output is rounded to bf16, and normalized in fp32."""
    recipe = recipe_for(gemma, "lora")
    half = embed(load(recipe, "bf16"), recipe, precision="bf16")
    assert (half * embed(load(recipe), recipe)).sum(axis=1).min() > 0.999
    np.testing.assert_allclose(np.linalg.norm(half, axis=1), 1, atol=1e-6)


def test_half_precision_files_are_read_in_fp32(own):
    """The layers compute with the values of their file, whatever its type."""
    save_file({name: value.bfloat16() for name, value in load_file(own / WEIGHTS).items()}, own / WEIGHTS)
    recipe = recipe_for(own)
    np.testing.assert_allclose(embed(load(recipe), recipe), stock_vectors(own, TEXTS), atol=1e-5)


@pytest.mark.parametrize("method", ["full", "lora", "bottleneck"])
def test_a_checkpoint_comes_back_byte_for_byte(method, gemma, tmp_path):
    """Full fine-tuning trains and saves the layers; under an adapter they stay the base model's."""
    recipe, before = recipe_for(gemma, method), layers_of(load(recipe_for(gemma)))
    embedder = build_tuned_model(recipe)
    assert len(before) == 2
    assert all(torch.equal(value, before[name]) == (method != "full") for name, value in layers_of(embedder).items())
    reloaded = reload(embedder, recipe, tmp_path / "c")
    assert all(torch.equal(value, layers_of(reloaded)[name]) for name, value in layers_of(embedder).items())
    np.testing.assert_allclose(embed(reloaded, recipe), embed(embedder, recipe), atol=2e-6)


def test_a_full_checkpoint_loads_in_sentence_transformers(gemma, tmp_path):
    """Its folder has the library's layout, the trained layers included."""
    recipe = recipe_for(gemma)
    embedder = build_tuned_model(recipe)
    save_checkpoint(embedder, recipe, tmp_path / "c")
    np.testing.assert_allclose(stock_vectors(tmp_path / "c", TEXTS), embed(embedder, recipe), atol=1e-5)


def test_a_merged_checkpoint_keeps_the_layers(gemma, tmp_path):
    """Merged weights have the adapter's vectors here and in sentence-transformers."""
    recipe = recipe_for(gemma, "lora")
    embedder = build_tuned_model(recipe)
    source = checkpoint.resolve(str(save_checkpoint(embedder, recipe, tmp_path / "c")), device="cpu")
    merged_checkpoint.merge(source, tmp_path / "m", TEXTS)
    expected = embed(embedder, recipe)
    merged = checkpoint.resolve(str(tmp_path / "m"), device="cpu")
    np.testing.assert_allclose(embed(merged.load(), recipe), expected, atol=1e-5)
    np.testing.assert_allclose(stock_vectors(tmp_path / "m", TEXTS), expected, atol=1e-5)


@pytest.mark.parametrize(("method", "merge"), [("full", False), ("lora", False), ("lora", True)])
def test_a_published_folder_has_the_layers(method, merge, gemma, tmp_path, monkeypatch):
    """Whole, merged or an adapter of a hub model: sentence-transformers reads the vectors of the checkpoint."""
    recipe = recipe_for("some/gemma", method)
    monkeypatch.setenv("ROUNDS_MODEL", f"some/gemma={gemma}")
    monkeypatch.setattr(files, "hub_name", lambda model: model.name_or_path)
    embedder = build_tuned_model(recipe)
    source = checkpoint.resolve(str(save_checkpoint(embedder, recipe, tmp_path / "c")), device="cpu")
    (tmp_path / "p").mkdir()
    files.write(source, files.choose_form(source, merge), tmp_path / "p")
    np.testing.assert_allclose(stock_vectors(tmp_path / "p", TEXTS), embed(embedder, recipe), atol=1e-5)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_projection_head_stands_behind_the_layers(method, gemma, tmp_path):
    """The recipe's head and the base model's layers are told apart when a checkpoint is loaded."""
    recipe = recipe_for(gemma, method)
    recipe = dataclasses.replace(recipe, tuning=dataclasses.replace(recipe.tuning, projection=Projection(24)))
    embedder = build_tuned_model(recipe)
    reloaded = reload(embedder, recipe, tmp_path / "c")
    names = ["Transformer", "Pooling", "Dense", "Dense", "Dense", "Normalize"]
    assert [type(module).__name__ for module in reloaded] == names
    np.testing.assert_allclose(embed(reloaded, recipe), embed(embedder, recipe), atol=2e-6)


def test_changed_layers_are_another_base_model(own, tmp_path):
    """Their weights are part of the base model's digest, and an adapter is not loaded over others."""
    recipe = recipe_for(own, "lora")
    save_checkpoint(build_tuned_model(recipe), recipe, tmp_path / "c")
    before = base_model_digest(recipe.model)
    save_file({name: value * 1.01 for name, value in load_file(own / WEIGHTS).items()}, own / WEIGHTS)
    assert base_model_digest(recipe.model) != before
    with refused("c", "are not those that its manifest describes"):
        checkpoint.resolve(str(tmp_path / "c"), device="cpu")


def test_an_incomplete_copy_of_a_model_is_refused(own):
    """A model whose layers were not copied is refused by the folder that lacks weights."""
    (own / WEIGHTS).unlink()
    with refused(own / "2_Dense", "holds no weights", "take a complete copy of the model"):
        checkpoint.resolve(None, recipe_for(own), "cpu", "fp32")


def test_a_model_of_another_tool_brings_its_layers(gemma, tmp_path):
    """A folder in the place of the recipe's base model is read as the base model is."""
    recipe = recipe_for(shutil.copytree(gemma, tmp_path / "base"))
    save_file({"linear.weight": load_file(gemma / WEIGHTS)["linear.weight"] + 0.1}, tmp_path / "base" / WEIGHTS)
    np.testing.assert_allclose(
        embed(checkpoint.resolve(str(gemma), recipe, "cpu", "fp32").load(), recipe),
        stock_vectors(gemma, TEXTS),
        atol=1e-5,
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_stock_baseline_has_the_layers(precision, gemma):
    """The library's training starts from the library's model."""
    expected = stock_vectors(gemma, TEXTS)
    vectors = load_stock_model(recipe_for(gemma), precision, "cpu").encode(
        TEXTS, prompt=PASSAGE_PREFIX, convert_to_tensor=True
    )
    np.testing.assert_allclose(vectors.float().numpy(), expected, atol=1e-5 if precision == "fp32" else 0.02)


def test_a_layer_has_its_own_bias_activation_and_residual(tmp_path):
    """The settings in a layer's config are those that it was trained with."""
    dense_bases.copy_random("bert", tmp_path / "b", bias=True, activation_function=torch.nn.Tanh(), use_residual=True)
    recipe = recipe_for(tmp_path / "b")
    np.testing.assert_allclose(embed(load(recipe), recipe), stock_vectors(tmp_path / "b", TEXTS), atol=1e-5)


def test_pickled_weights_are_read_as_tensors_only(tmp_path):
    """A `.bin` file loads; one that holds code is refused without running it."""
    dense_bases.copy_random("bert", tmp_path / "b")
    pickled, recipe = tmp_path / "b" / "2_Dense" / "pytorch_model.bin", recipe_for(tmp_path / "b")
    expected = embed(load(recipe), recipe)
    torch.save(load_file(tmp_path / "b" / WEIGHTS), pickled)
    (tmp_path / "b" / WEIGHTS).unlink()
    np.testing.assert_array_equal(embed(load(recipe), recipe), expected)
    pickled.write_bytes(pickle.dumps({"linear.weight": print}))
    with refused("2_Dense cannot be loaded", "restore the model's files"):
        load(recipe)


def entries(*types: str) -> list[dict]:
    return [{"path": name.rpartition(".")[2] or "", "type": name} for name in types]


ST = "sentence_transformers.models"


@pytest.mark.parametrize(
    ("modules", "listed"),
    [
        (entries("x.Transformer", f"{ST}.Dense", "x.Pooling"), "Dense"),
        (entries("x.Transformer", "x.Pooling", "x.Normalize", f"{ST}.Dense"), "Dense"),
        (entries("x.Transformer", "x.Pooling", "pylate.models.Dense"), "Dense"),
        (entries("x.Transformer", "x.Pooling", "own.Head"), "Head"),
        (entries("x.Transformer", "x.Pooling", f"{ST}.LayerNorm"), "LayerNorm"),
        (entries("x.Transformer", f"{ST}.LSTM", "x.Pooling"), "LSTM"),
        (entries("x.Transformer", f"{ST}.CNN", "x.Pooling"), "CNN"),
    ],
    ids=["before", "behind-normalization", "pylate", "unknown", "norm", "lstm", "cnn"],
)
def test_other_modules_with_weights_are_refused(modules, listed, tmp_path):
    """Without them, the vectors would silently not be the model's."""
    dense_bases.copy_random("bert", tmp_path / "b")
    (tmp_path / "b" / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    with refused("modules.json lists", listed, "take a model without"):
        load(recipe_for(tmp_path / "b"))


@pytest.mark.parametrize("content", ['{"path": ""}', "[", '[{"path": 1, "type": 2}]'], ids=["object", "cut", "numbers"])
def test_a_broken_list_of_modules_is_refused(content, tmp_path):
    """The message names the file."""
    dense_bases.copy_random("bert", tmp_path / "b")
    (tmp_path / "b" / "modules.json").write_text(content, encoding="utf-8")
    with refused("modules.json", "not sentence-transformers' list of modules", "restore the model's files"):
        load(recipe_for(tmp_path / "b"))


def test_modules_without_weights_are_not_refused(tmp_path):
    """Dropout and a normalization that the recipe leaves out change no vector of a loaded model."""
    dense_bases.copy_random("bert", tmp_path / "b")
    modules = entries("own.Transformer", "x.Pooling", f"{ST}.Dropout", f"{ST}.Normalize")
    (tmp_path / "b" / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    assert [type(module).__name__ for module in load(recipe_for(tmp_path / "b"))][1:] == ["Pooling", "Normalize"]


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"activation_function": "own.Swish"}, ["2_Dense", "own.Swish", "model.trust_remote_code"]),
        ({"module_input_name": "token_embeddings"}, ["2_Dense does not read and write the pooled vector"]),
        ({"in_features": 63}, ["2_Dense cannot be loaded"]),
        ({"bias": True}, ["2_Dense cannot be loaded", "linear.bias"]),
    ],
    ids=["activation", "input", "size", "bias"],
)
def test_a_layer_that_is_not_as_its_config_says_is_refused(settings, parts, tmp_path):
    """Each in one line that names the layer."""
    dense_bases.copy_random("bert", tmp_path / "b")
    file = tmp_path / "b" / "2_Dense" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), **settings}), encoding="utf-8")
    with refused(*parts):
        load(recipe_for(tmp_path / "b"))


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"pooling": "tokens"}, ["lists 2_Dense", "model.pooling tokens"]),
        ({"pooling": "splade", "normalize": False}, ["lists 2_Dense", "model.pooling splade"]),
        (
            {"pooling": "concat_last_n", "pooling_layers": 2},
            ["model.pooling concat_last_n", "takes 64 dimensions", "gets 128"],
        ),
    ],
    ids=["tokens", "splade", "layers"],
)
def test_poolings_without_the_layers_input_are_refused(changes, parts, tmp_path):
    """The layers take one pooled vector, of the dimensions that they were trained on."""
    dense_bases.copy_random("bert", tmp_path / "b")
    with refused(*parts):
        load(recipe_for(tmp_path / "b", **changes))


@pytest.mark.parametrize("method", ["full", "lora"])
def test_flagembedding_refuses_the_layers(method, gemma, tmp_path):
    """Its classes pool and normalize only; base models and checkpoints with layers are refused."""
    recipe = recipe_for(gemma, method)
    folder = save_checkpoint(build_tuned_model(recipe), recipe, tmp_path / "c")
    for name in (None, str(folder)):
        with refused("engine flagembedding", "loads no Dense layers"):
            flagembedding.load(checkpoint.resolve(name, recipe, "cpu", "fp32"))


def test_only_the_method_full_trains_the_layers(gemma):
    """LoRA leaves them frozen; its checkpoint does not hold them."""
    for method, trained in (("full", 2), ("lora", 0)):
        embedder = build_tuned_model(recipe_for(gemma, method))
        names = [name for name in peft_methods.trainable_parameters(embedder) if ".linear." in name]
        assert len(names) == trained
