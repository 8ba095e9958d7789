"""Locating a model's weights: packaged weights are checked, and a model that does not exist is named."""

import dataclasses
import json

import pytest
from helpers.tiny_task import refused

from rounds.config import loader
from rounds.models.weights import have_digest, hub_revision, locate_model, weights_digest


def test_packaged_weights_are_checked():
    """Another file under the packaged model's name is refused by its digest."""
    recipe = loader.load("minilm")
    wrong = dataclasses.replace(recipe.model, sha256="0" * 64)
    with refused("model.safetensors", "SHA-256"):
        locate_model(wrong)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("package:no_such_package", ["no_such_package", "not installed"]),
        ("./nowhere", ["./nowhere", "no such folder"]),
        ("random:gpt", ["random:gpt", "random:mistral"]),
    ],
)
def test_a_model_that_does_not_exist_is_named(name, parts):
    """A wrong model name is refused in one line that names it."""
    recipe = loader.load("tiny-mistral")
    with refused(*parts):
        locate_model(dataclasses.replace(recipe.model, name_or_path=name))


def test_a_folder_without_weights_is_refused(tmp_path):
    """A digest over no files would equal that of every other empty folder."""
    with refused(tmp_path, "holds no weights"):
        weights_digest(str(tmp_path))


def test_the_digest_depends_on_names_and_contents(tmp_path):
    """Renamed or changed weight files are other weights; other files do not count."""
    (tmp_path / "a.safetensors").write_bytes(b"1")
    first = weights_digest(str(tmp_path))
    (tmp_path / "notes.txt").write_text("about")
    assert weights_digest(str(tmp_path)) == first
    (tmp_path / "a.safetensors").rename(tmp_path / "b.safetensors")
    renamed = weights_digest(str(tmp_path))
    (tmp_path / "b.safetensors").write_bytes(b"2")
    assert len({first, renamed, weights_digest(str(tmp_path))}) == 3


def test_the_digest_covers_the_files_that_are_loaded(tmp_path):
    """transformers takes safetensors before pickles, one file before shards; other files do not count."""
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    pickled = weights_digest(str(tmp_path))
    (tmp_path / "training_args.bin").write_bytes(b"arguments")
    assert weights_digest(str(tmp_path)) == pickled
    for name in ("model-00001-of-00001.safetensors", "consolidated.safetensors"):
        (tmp_path / name).write_bytes(b"shard")
    index = {"weight_map": {"layer.weight": "model-00001-of-00001.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    sharded = weights_digest(str(tmp_path))
    (tmp_path / "consolidated.safetensors").unlink()
    assert weights_digest(str(tmp_path)) == sharded != pickled
    (tmp_path / "model.safetensors").write_bytes(b"whole")
    assert weights_digest(str(tmp_path)) not in (sharded, pickled)


def test_manifests_that_count_files_beside_the_weights_still_fit(tmp_path):
    """A digest over every weight file is accepted; that of other weights is not."""
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "training_args.bin").write_bytes(b"arguments")
    assert have_digest(weights_digest(str(tmp_path)), tmp_path)
    assert have_digest(weights_digest(str(tmp_path), every_file=True), tmp_path)
    assert not have_digest("0" * 64, tmp_path)


def test_a_missing_shard_is_named(tmp_path):
    """A digest over the shards that are left would be that of another model."""
    (tmp_path / "model-1.safetensors").write_bytes(b"shard")
    shards = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    with refused("model-2.safetensors", "no such file"):
        weights_digest(str(tmp_path))


@pytest.mark.parametrize("index", ["[]", "{}", '{"weight_map": ["a"]}', '{"weight_map": {"a": null}}'])
def test_an_index_that_lists_no_files_is_refused(index, tmp_path):
    """It is named in one line."""
    (tmp_path / "model-1.safetensors").write_bytes(b"shard")
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with refused("model.safetensors.index.json", "weight_map"):
        weights_digest(str(tmp_path))


def test_only_a_hub_model_has_a_revision(tmp_path):
    """A folder in the place of a recipe's hub model, such as a checkpoint, is loaded as it lies."""
    model = dataclasses.replace(loader.load("minilm").model, revision="a-commit")
    assert hub_revision("someone/model", model) == "a-commit"
    assert hub_revision(str(tmp_path), model) is None
