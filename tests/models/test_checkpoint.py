"""Checkpoints: what is saved is what is loaded, in a fresh process too, or loading is refused."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.fresh_process import embed_in_fresh_process
from helpers.manifests import finetune_manifest
from helpers.tiny_task import refused
from helpers.tuned_models import build_tuned_model, save_checkpoint
from safetensors.torch import load_file, save_file

from rounds.artifacts import store
from rounds.config import loader
from rounds.config.recipe import Recipe
from rounds.encoding.encoder import encode
from rounds.models import backbone, checkpoint, weights_io
from rounds.models.weights import adapter_digest, locate_model, weights_digest

TEXTS = ["two thirds", "angles in a kite"]


def recipe_with(method: str) -> Recipe:
    """Return the tiny recipe with another tuning method."""
    recipe = loader.load("tiny-mistral")
    return dataclasses.replace(recipe, tuning=dataclasses.replace(recipe.tuning, method=method))


def embed(embedder, recipe) -> np.ndarray:
    """Embed `TEXTS` as queries."""
    return encode(embedder, TEXTS, recipe.prompts, "query", "fp32")


def write_checkpoint(method: str, folder: Path) -> np.ndarray:
    """Write a checkpoint with changed weights; return the embeddings that the model gave in memory."""
    recipe = recipe_with(method)
    embedder = build_tuned_model(recipe)
    save_checkpoint(embedder, recipe, folder)
    return embed(embedder, recipe)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_fresh_process_loads_the_trained_vectors(method, tmp_path):
    """Loaded in another process, a checkpoint gives the embeddings that training ended with, not the base model's."""
    expected = write_checkpoint(method, tmp_path / "c")
    np.testing.assert_allclose(embed_in_fresh_process(tmp_path / "c", TEXTS), expected, atol=1e-6)
    base = checkpoint.resolve(None, recipe_with(method), "cpu")
    assert np.abs(embed(base.load(), base.recipe) - expected).max() > 1e-3


def change_tensors(folder: Path, change) -> None:
    """Change a checkpoint's tensors and the digest in its manifest, so that only the keys are wrong."""
    adapter = folder / weights_io.ADAPTER_WEIGHTS
    file = adapter if adapter.is_file() else folder / weights_io.MODEL_WEIGHTS
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})
    manifest = store.read_manifest(folder)
    if manifest.adapter:
        digest = adapter_digest(loader.from_dict(manifest.recipe, "").model, folder)
    else:
        digest = weights_digest(str(folder))
    store.write_manifest(folder / store.MANIFEST, manifest.with_values(weights=digest))


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("kind", ["missing", "unexpected"])
def test_keys_that_do_not_fit_are_refused(method, kind, tmp_path):
    """A missing or an unexpected key stops the loading: the base model's weights never take its place."""
    write_checkpoint(method, tmp_path / "c")

    def change(tensors: dict) -> None:
        name = sorted(tensors)[0]
        value = tensors.pop(name) if kind == "missing" else tensors[name].clone()
        if kind == "unexpected":
            tensors[name.replace("layers.0", "layers.7")] = value
            tensors[f"{name}.other"] = value.clone()

    change_tensors(tmp_path / "c", change)
    with refused("c", "missing", "unexpected"):
        checkpoint.resolve(str(tmp_path / "c"), device="cpu").load()


def test_changed_weights_are_refused(tmp_path):
    """Weights that are not those of the manifest are refused before use."""
    write_checkpoint("lora", tmp_path / "c")
    file = tmp_path / "c" / weights_io.ADAPTER_WEIGHTS
    tensors = {name: value + 1 for name, value in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    with refused(tmp_path / "c", "not those that its manifest describes"):
        checkpoint.resolve(str(tmp_path / "c"), device="cpu")


def test_another_recipe_is_refused(tmp_path):
    """A checkpoint is used only with the prompts that it was trained with; the difference is named."""
    write_checkpoint("lora", tmp_path / "c")
    recipe = recipe_with("lora")
    other = dataclasses.replace(recipe, prompts=dataclasses.replace(recipe.prompts, query_suffix="\n<answer>"))
    with refused("prompts.query_suffix"):
        checkpoint.resolve(str(tmp_path / "c"), other, "cpu")


def test_a_foreign_adapter_loads_by_the_recipe(tmp_path):
    """An adapter folder without a manifest is put on the recipe's base model; its lineage is unknown."""
    expected = write_checkpoint("lora", tmp_path / "c")
    (tmp_path / "c" / store.MANIFEST).unlink()
    source = checkpoint.resolve(str(tmp_path / "c"), recipe_with("lora"), "cpu")
    np.testing.assert_allclose(embed(source.load(), source.recipe), expected, atol=1e-6)
    assert source.manifest is None and source.lineage is None and source.kind == "adapter"


def test_a_foreign_folder_without_recipe_is_refused(tmp_path):
    """Nothing says how to pool a folder without manifest: the recipe has to be named."""
    write_checkpoint("full", tmp_path / "c")
    (tmp_path / "c" / store.MANIFEST).unlink()
    with refused(tmp_path / "c", "--recipe"):
        checkpoint.resolve(str(tmp_path / "c"), None, "cpu", takes_recipe=True)


def test_a_finetune_folder_resolves_to_the_epoch_to_continue(tmp_path):
    """The folder of a whole round resolves to the epoch that its manifest names."""
    write_checkpoint("lora", tmp_path / "round" / "lora_epoch_2")
    store.write_manifest(tmp_path / "round" / store.MANIFEST, finetune_manifest(continue_with="lora_epoch_2"))
    assert checkpoint.resolve(str(tmp_path / "round"), device="cpu").folder.name == "lora_epoch_2"


@pytest.mark.parametrize("named", ["round", "round/lora_epoch_2"])
def test_an_epoch_that_lost_its_manifest_is_refused(named, tmp_path):
    """Neither by the round's folder nor by its own does it pass for a model of another tool."""
    write_checkpoint("lora", tmp_path / "round" / "lora_epoch_2")
    (tmp_path / "round" / "lora_epoch_2" / store.MANIFEST).unlink()
    store.write_manifest(tmp_path / "round" / store.MANIFEST, finetune_manifest(continue_with="lora_epoch_2"))
    with refused(tmp_path / "round" / "lora_epoch_2", "has no manifest.json", "train again"):
        checkpoint.resolve(str(tmp_path / named), recipe_with("lora"), "cpu")


@pytest.mark.parametrize("name", ["lora_epoch_2", ""])
def test_a_finetune_folder_without_the_epoch_to_continue_is_refused(name, tmp_path):
    """The folder itself, or what lies beside it, is not taken for the model."""
    store.write_manifest(tmp_path / store.MANIFEST, finetune_manifest(continue_with=name))
    with refused(tmp_path, name, "is not there"):
        checkpoint.resolve(str(tmp_path), recipe_with("lora"), "cpu")


def test_tuned_parameters_without_a_manifest_are_refused(tmp_path):
    """A copied folder without its manifest would be loaded without its head, as another tool's adapter."""
    for name in ("adapter_config.json", "adapter_model.safetensors", "tuned.safetensors"):
        (tmp_path / name).touch()
    with refused(tmp_path, "no manifest.json", "tuned.safetensors"):
        checkpoint.resolve(str(tmp_path), recipe_with("lora"))


@pytest.mark.parametrize("config", ['{"peft_type": "OF_A_LATER_PEFT"}', "{}", "[1]", "null"])
def test_an_adapter_that_peft_cannot_read_is_refused(config, tmp_path):
    """A configuration of a newer peft, or of none, is named in one line."""
    write_checkpoint("lora", tmp_path / "lora")
    (tmp_path / "lora" / "adapter_config.json").write_text(config, encoding="utf-8")
    with refused(tmp_path / "lora" / "adapter_config.json", "peft cannot read it"):
        checkpoint.resolve(str(tmp_path / "lora"), device="cpu").load()


@pytest.mark.parametrize("takes_recipe", [True, False])
def test_a_model_of_another_tool_without_a_recipe_is_refused(takes_recipe, tmp_path):
    """The way out is a recipe where the caller's flags can name one, and another folder elsewhere."""
    hint = "name the recipe of this model with --recipe" if takes_recipe else "name a checkpoint of ours"
    with refused(tmp_path, "has no checkpoint manifest", hint):
        checkpoint.resolve(str(tmp_path), device="cpu", takes_recipe=takes_recipe)


def test_another_model_has_neither_revision_nor_digest_of_the_recipe_s():
    """It would be looked for in a revision that is not its own, and refused for the digest of other weights."""
    recipe = loader.load("tiny-mistral").replace("model", revision="a-commit", sha256="0" * 64)
    other = checkpoint.resolve("random:qwen2", recipe, "cpu")
    assert (other.recipe.model.name_or_path, other.recipe.model.revision) == ("random:qwen2", None)
    assert other.recipe.model.sha256 is None and other.lineage is None


def test_a_foreign_manifest_in_the_base_model_s_folder_says_nothing(tmp_path):
    """Another tool's manifest.json leaves the base model what it is: untrained on our questions."""
    recipe = loader.load("tiny-mistral")
    shutil.copytree(locate_model(recipe.model), tmp_path / "base")
    store.write_json(tmp_path / "base" / store.MANIFEST, {"version": 1, "files": []})
    recipe = recipe.replace("model", name_or_path=str(tmp_path / "base"))
    assert checkpoint.resolve(None, recipe, "cpu").lineage == {}
    by_folder = checkpoint.resolve(str(tmp_path / "base"), recipe, "cpu")
    assert by_folder.is_base and by_folder.lineage == {}


def test_a_base_model_that_is_our_checkpoint_brings_its_lineage(tmp_path):
    """What a checkpoint was trained on stays known where a recipe names it as its base model."""
    recipe = recipe_with("full")
    save_checkpoint(build_tuned_model(recipe), recipe, tmp_path / "c", lineage={"5": "digest"})
    named = recipe.replace("model", name_or_path=str(tmp_path / "c"))
    assert checkpoint.resolve(None, named, "cpu").lineage == {"5": "digest"}


def test_the_base_model_s_folder_is_the_base_model(tmp_path):
    """A recipe's own model folder resolves to the untrained base model, not to a model of unknown lineage."""
    recipe = loader.load("tiny-mistral")
    folder = tmp_path / "base"
    shutil.copytree(locate_model(recipe.model), folder, ignore=shutil.ignore_patterns(store.MANIFEST))
    recipe = recipe.replace("model", name_or_path=str(folder))
    by_folder, by_recipe = checkpoint.resolve(str(folder), recipe, "cpu"), checkpoint.resolve(None, recipe, "cpu")
    assert by_folder == by_recipe and by_folder.is_base and by_folder.lineage == {}


def test_a_whole_model_of_another_tool_has_unknown_lineage(tmp_path):
    """A model folder that is not the recipe's base is loaded as it is; nobody knows what it was trained on."""
    write_checkpoint("full", tmp_path / "c")
    (tmp_path / "c" / store.MANIFEST).unlink()
    source = checkpoint.resolve(str(tmp_path / "c"), recipe_with("full"), "cpu")
    assert (source.kind, source.lineage, source.folder) == ("full", None, tmp_path / "c")


@pytest.mark.parametrize("name", ["./nowhere", "/no/where", "a/b/c"])
def test_a_folder_that_does_not_exist_is_refused(name):
    """A name that can only be a folder's is not looked up on a hub."""
    with refused(name, "no such folder"):
        checkpoint.resolve(name, loader.load("tiny-mistral"), "cpu")


def test_a_plain_sentence_transformer_can_read_a_full_checkpoint(tmp_path):
    """Checkpoint folders are sentence-transformers folders."""
    from sentence_transformers import SentenceTransformer

    recipe = loader.load("minilm")
    embedder = backbone.load(recipe, "fp32", "cpu")
    weights_io.save_weights(embedder, tmp_path / "c", recipe.tuning)
    plain = SentenceTransformer(str(tmp_path / "c"), device="cpu")
    np.testing.assert_allclose(plain.encode(TEXTS), embed(embedder, recipe), atol=1e-5)


def test_a_broken_manifest_is_named(tmp_path):
    """A manifest that is not JSON is refused in one line, without a traceback."""
    (tmp_path / store.MANIFEST).write_text("{")
    with refused(store.MANIFEST, "not valid JSON"):
        checkpoint.resolve(str(tmp_path), device="cpu")


def test_a_manifest_without_a_key_is_named(tmp_path):
    """A manifest that lacks a key is refused by the key's name."""
    store.write_json(tmp_path / store.MANIFEST, {"kind": "checkpoint"})
    with refused(store.MANIFEST, "'recipe' is missing"):
        checkpoint.resolve(str(tmp_path), device="cpu")


def test_the_manifest_holds_what_rebuilds_the_model(tmp_path):
    """Recipe, versions, precision and weights are in the manifest."""
    write_checkpoint("lora", tmp_path / "c")
    manifest = json.loads((tmp_path / "c" / store.MANIFEST).read_text())
    assert manifest["recipe"] == recipe_with("lora").to_dict()
    assert {"torch", "transformers", "peft"} <= set(manifest["versions"])
    assert manifest["precision"] == "fp32" and len(manifest["weights"]) == 64


def test_encoding_options_change_the_key_but_not_the_model():
    """Truncation, engine and modality name other runs of the same weights; the devices do not."""
    source = checkpoint.resolve(None, loader.load("tiny-mistral"), "cpu")
    changed = source.with_options(truncate_dim=8, engine="flagembedding", modality="only")
    assert changed.key == {**source.key, "dim": 8, "engine": "flagembedding", "pictures": "only"}
    assert source.with_options(devices=("cpu", "cpu")).key == source.key
    with refused("engine 'tpu'", "rounds, flagembedding"):
        source.with_options(engine="tpu")
    with refused("truncate_dim 0", "at least 1"):
        source.with_options(truncate_dim=0)


@pytest.mark.parametrize("kind", ["adapter", "merged"])
def test_a_foreign_folder_takes_its_class_s_recipe(kind, tmp_path, monkeypatch):
    """A peft folder or a whole model of another tool, named with its class, finds its base model and prompts."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    tiny = loader.load("tiny-mistral")
    monkeypatch.delenv("ROUNDS_MODEL", raising=False)
    model = get_peft_model(
        AutoModel.from_pretrained(locate_model(tiny.model)), LoraConfig(r=4, target_modules=["q_proj"])
    )
    base = backbone.load(tiny, "fp32", "cpu")
    folder = tmp_path / "checkpoint-390"
    if kind == "merged":
        model = model.merge_and_unload()
        base.tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    recipe = checkpoint.recipe_for_model(str(folder), "decoder-only-icl", "last_token")
    source = checkpoint.resolve(str(folder), recipe, "cpu", "fp32")
    assert (source.recipe.name, source.is_adapter, source.lineage) == ("bge-en-icl", kind == "adapter", None)
    # The adapter is untrained and changes nothing yet.
    np.testing.assert_allclose(embed(source.load(), source.recipe), embed(base, source.recipe), atol=1e-6)
