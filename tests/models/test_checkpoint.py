"""Checkpoints: what is saved is what is loaded, in a fresh process too, or loading is refused."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.fresh_process import FRESH
from helpers.tiny_task import refused
from safetensors.torch import load_file, save_file

from rounds.artifacts import hashing, store
from rounds.config import loader
from rounds.encoding.encoder import encode
from rounds.models import backbone, checkpoint, peft_methods, weights_io
from rounds.models.devices import resolve_device
from rounds.models.precision import resolve_precision
from rounds.models.weights import base_model_digest, locate_model, weights_digest

TEXTS = ["two thirds", "angles in a kite"]


def recipe_of(method: str):
    recipe = loader.load("tiny-mistral")
    return dataclasses.replace(recipe, tuning=dataclasses.replace(recipe.tuning, method=method))


def trained(method: str, folder: Path, step: float = 0.05):
    """A checkpoint whose trainable weights were pushed off their start; with the vectors it had in memory."""
    recipe = recipe_of(method)
    torch.manual_seed(0)
    embedder = checkpoint.resolve(None, recipe, "cpu").load()
    peft_methods.apply(embedder, recipe.tuning)
    with torch.no_grad():
        for parameter in peft_methods.trainable_parameters(embedder).values():
            parameter.add_(step * torch.randn_like(parameter))
    manifest: dict = {}
    with store.writing(folder, manifest) as temporary:
        manifest.update(checkpoint.save(embedder, temporary, recipe, "fp32", {"lineage": {}, "round": 1, "epoch": 1}))
    return encode(embedder, TEXTS, recipe.prompts, "query", "fp32")


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_fresh_process_loads_the_trained_vectors(method, tmp_path):
    """Reloaded elsewhere, a checkpoint gives the vectors that training ended with, and not the base model's."""
    expected = trained(method, tmp_path / "c")
    command = [sys.executable, "-c", FRESH, str(tmp_path / "c"), str(tmp_path / "v.npy"), *TEXTS]
    subprocess.run(command, check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "v.npy"), expected, atol=1e-6)
    base = checkpoint.resolve(None, recipe_of(method), "cpu")
    untrained = encode(base.load(), TEXTS, base.recipe.prompts, "query", "fp32")
    assert np.abs(untrained - expected).max() > 1e-3


def rewrite(folder: Path, change) -> None:
    """Change a checkpoint's tensors and make its manifest agree, so that only the keys are wrong."""
    file = folder / (
        weights_io.ADAPTER_WEIGHTS if (folder / weights_io.ADAPTER_WEIGHTS).is_file() else "model.safetensors"
    )
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})
    manifest = store.read_manifest(folder)
    weights = weights_digest(str(folder))
    if manifest["adapter"]:
        weights = hashing.sha256_json([base_model_digest(loader.from_dict(manifest["recipe"], "").model), weights])
    store.write_json(folder / store.MANIFEST, {**manifest, "weights": weights})


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("kind", ["missing", "unexpected"])
def test_keys_that_do_not_fit_are_refused(method, kind, tmp_path):
    """A missing or an unexpected key stops the loading: it never falls back to the base model's weights."""
    trained(method, tmp_path / "c")

    def change(tensors: dict) -> None:
        name = sorted(tensors)[0]
        value = tensors.pop(name) if kind == "missing" else tensors[name].clone()
        if kind == "unexpected":
            tensors[name.replace("layers.0", "layers.7")] = value
            tensors[f"{name}.other"] = value.clone()

    rewrite(tmp_path / "c", change)
    with refused("c", "missing", "unexpected"):
        checkpoint.resolve(str(tmp_path / "c"), device="cpu").load()


def test_changed_weights_are_refused(tmp_path):
    """Weights that are not those of the manifest are refused before use."""
    trained("lora", tmp_path / "c")
    file = tmp_path / "c" / weights_io.ADAPTER_WEIGHTS
    tensors = {name: value + 1 for name, value in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    with refused(tmp_path / "c", "not those that its manifest describes"):
        checkpoint.resolve(str(tmp_path / "c"), device="cpu")


def test_another_recipe_is_refused(tmp_path):
    """A checkpoint answers only to the prompts that it was trained with; the difference is named."""
    trained("lora", tmp_path / "c")
    recipe = recipe_of("lora")
    other = dataclasses.replace(recipe, prompts=dataclasses.replace(recipe.prompts, query_suffix="\n<answer>"))
    with refused("prompts.query_suffix"):
        checkpoint.resolve(str(tmp_path / "c"), other, "cpu")


def test_a_foreign_adapter_loads_by_the_recipe(tmp_path):
    """An adapter folder without a manifest is put on the recipe's base model; its lineage is unknown."""
    expected = trained("lora", tmp_path / "c")
    (tmp_path / "c" / store.MANIFEST).unlink()
    source = checkpoint.resolve(str(tmp_path / "c"), recipe_of("lora"), "cpu")
    found = encode(source.load(), TEXTS, source.recipe.prompts, "query", "fp32")
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert source.manifest is None and source.is_adapter and not source.is_base


def test_a_foreign_folder_without_recipe_is_refused(tmp_path):
    """Nothing says how to pool a folder without manifest: the recipe has to be named."""
    trained("full", tmp_path / "c")
    (tmp_path / "c" / store.MANIFEST).unlink()
    with refused(tmp_path / "c", "--recipe"):
        checkpoint.resolve(str(tmp_path / "c"), None, "cpu")


def test_a_finetune_folder_stands_for_the_epoch_to_continue(tmp_path):
    """The folder of a whole round resolves to the epoch that its manifest names."""
    trained("lora", tmp_path / "round" / "lora_epoch_2")
    store.write_json(tmp_path / "round" / store.MANIFEST, {"kind": "finetune", "continue_with": "lora_epoch_2"})
    assert checkpoint.resolve(str(tmp_path / "round"), device="cpu").folder.name == "lora_epoch_2"


def test_a_plain_sentence_transformer_can_read_a_full_checkpoint(tmp_path):
    """Our folders are sentence-transformers folders."""
    from sentence_transformers import SentenceTransformer

    recipe = loader.load("minilm")
    embedder = backbone.load(recipe, "fp32", "cpu")
    weights_io.save_weights(embedder, tmp_path / "c", recipe.tuning)
    expected = encode(embedder, TEXTS, recipe.prompts, "query", "fp32")
    np.testing.assert_allclose(
        SentenceTransformer(str(tmp_path / "c"), device="cpu").encode(TEXTS), expected, atol=1e-5
    )


def test_packaged_weights_are_checked(tmp_path):
    """Another file under the packaged model's name is refused by its digest."""
    recipe = loader.load("minilm")
    wrong = dataclasses.replace(recipe.model, sha256="0" * 64)
    with refused("model.safetensors", "SHA-256"):
        locate_model(wrong)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"name_or_path": "package:no_such_package"}, ["no_such_package", "not installed"]),
        ({"name_or_path": "./nowhere"}, ["./nowhere", "no such folder"]),
        ({"name_or_path": "random:gpt"}, ["random:gpt", "random:mistral"]),
    ],
)
def test_a_model_that_is_not_there_is_named(change, parts):
    """A wrong model name is one line that names it."""
    recipe = loader.load("tiny-mistral")
    with refused(*parts):
        locate_model(dataclasses.replace(recipe.model, **change))


@pytest.mark.parametrize(("device", "part"), [("cuda:0", "no CUDA GPU"), ("tpu", "not cpu")])
def test_devices_that_are_not_there_are_refused(device, part):
    """`cuda:0` on a machine without CUDA, or an unknown device, is one clear line."""
    if device == "cuda:0" and torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with refused(device, part):
        resolve_device(device)


@pytest.mark.parametrize("precision", ["fp16", "int3"])
def test_precisions_that_cannot_be_had_are_refused(precision):
    """Precisions that are not there on a CPU are refused by name."""
    with refused(f"precision {precision}" if precision != "int3" else "precision 'int3'"):
        resolve_precision(precision, "cpu")


def test_lora_targets_that_match_nothing_are_refused():
    """Targets that name no module stop at once."""
    recipe = recipe_of("lora")
    lora = dataclasses.replace(recipe.tuning.lora, targets=["no_such_proj"])
    embedder = checkpoint.resolve(None, recipe, "cpu").load()
    with refused("tuning.lora.targets", "no_such_proj"):
        peft_methods.apply(embedder, dataclasses.replace(recipe.tuning, lora=lora))


def test_weights_that_did_not_move_are_found():
    """LoRA whose B matrices stay at zero is dead, even where A moved."""
    recipe = recipe_of("lora")
    embedder = checkpoint.resolve(None, recipe, "cpu").load()
    peft_methods.apply(embedder, recipe.tuning)
    before = peft_methods.snapshot_trainable(embedder)
    with torch.no_grad():
        for name, parameter in peft_methods.trainable_parameters(embedder).items():
            if "lora_A" in name:
                parameter.mul_(0.9)
    with refused("moved none"):
        peft_methods.check_weights_moved(before, peft_methods.trainable_parameters(embedder))


def test_a_broken_manifest_is_named(tmp_path):
    """A manifest that is no JSON is one line, not a traceback."""
    (tmp_path / store.MANIFEST).write_text("{")
    with refused(store.MANIFEST, "not valid JSON"):
        checkpoint.resolve(str(tmp_path), device="cpu")


def test_manifest_says_what_rebuilds_it(tmp_path):
    """Recipe, versions, precision and weights are in the manifest."""
    trained("lora", tmp_path / "c")
    manifest = json.loads((tmp_path / "c" / store.MANIFEST).read_text())
    assert manifest["recipe"] == recipe_of("lora").to_dict()
    assert {"torch", "transformers", "peft"} <= set(manifest["versions"])
    assert manifest["precision"] == "fp32" and len(manifest["weights"]) == 64


@pytest.mark.parametrize("kind", ["adapter", "merged"])
def test_a_foreign_folder_takes_its_class_s_recipe(kind, tmp_path, monkeypatch):
    """A peft folder or a whole model of another tool, named with its class, finds its base model and prompts."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    base = locate_model(loader.load("tiny-mistral").model)
    monkeypatch.delenv("ROUNDS_MODEL", raising=False)
    model = get_peft_model(AutoModel.from_pretrained(base), LoraConfig(r=4, target_modules=["q_proj"]))
    folder = tmp_path / "checkpoint-390"
    if kind == "merged":
        model = model.merge_and_unload()
        backbone.load(loader.load("tiny-mistral"), "fp32", "cpu").tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    recipe = checkpoint.recipe_for_model(str(folder), "decoder-only-icl", "last_token")
    source = checkpoint.resolve(str(folder), recipe, "cpu", "fp32")
    assert (source.recipe.name, source.is_adapter, source.lineage) == ("bge-en-icl", kind == "adapter", None)
    found = encode(source.load(), ["a text"], source.recipe.prompts, "passage", "fp32")
    plain = encode(
        backbone.load(loader.load("tiny-mistral"), "fp32", "cpu"), ["a text"], source.recipe.prompts, "passage", "fp32"
    )
    np.testing.assert_allclose(found, plain, atol=1e-6)  # the adapter is fresh, and changes nothing yet
