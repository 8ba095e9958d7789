"""Locating a model's weights: packaged weights are checked, and a model that does not exist is named."""

import dataclasses

import pytest
from helpers.tiny_task import refused

from rounds.config import loader
from rounds.models.weights import locate_model, weights_digest


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
