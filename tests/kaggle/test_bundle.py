"""Bundle: names that Kaggle accepts, a notebook without internet, and a checkpoint that it can load."""

import ast
import dataclasses
import importlib
import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from helpers.tiny_task import refused

from rounds.kaggle import bundle
from rounds.kaggle.bundle import Upload
from rounds.kaggle.bundle_file import TrainedSplit
from rounds.kaggle.embedder_bundle import EmbedderContents
from rounds.kaggle.wheels import Target
from rounds.models.checkpoint import Checkpoint
from rounds.models.inference_options import InferenceOptions

UPLOAD = Upload("someone", "tiny-v1-round1", "titanic")


def make_contents(source: Checkpoint) -> EmbedderContents:
    """Return the contents of a bundle of an embedder."""
    split = TrainedSplit(split="v1", seed=42, fold=0)
    return EmbedderContents(split=split, target=Target("3.11", (), {}), project=Path(), source=source, texts=[])


@pytest.fixture
def contents(tiny) -> EmbedderContents:
    """Return the contents of a bundle of the tiny base model."""
    return make_contents(Checkpoint(tiny, "0" * 64, InferenceOptions("bf16", ("cpu",))))


@pytest.mark.parametrize(
    "changed",
    [
        {"owner": "Some One"},
        {"owner": "https://www.kaggle.com/someone"},
        {"owner": "someone/x"},
        {"owner": ""},
        {"competition": "https://www.kaggle.com/competitions/titanic"},
        {"competition": "competitions/titanic"},
        {"base": "datasets/a/b/c"},
        {"base": "model"},
        {"hours": 13.0},
        {"hours": 0.0},
    ],
)
def test_names_that_kaggle_refuses_are_refused_here(changed):
    """So are addresses and prefixes in place of a name."""
    with refused(next(iter(changed))):
        bundle.check(dataclasses.replace(UPLOAD, **changed))


@pytest.mark.parametrize("name", ["tiny-v1", "A_b.C 12", "x" * 120, "sample-minilm-v1-0a1b2c3d-round2", "é"])
def test_slugs_pass_the_clients_own_rules(name, tmp_path, monkeypatch):
    """Kaggle's client accepts slug and title, and derives the slug from the title."""
    monkeypatch.setenv("HOME", str(tmp_path))
    api = pytest.importorskip("kaggle.api.kaggle_api_extended")
    client = api.KaggleApi.__new__(api.KaggleApi)
    upload = dataclasses.replace(UPLOAD, name=name)
    bundle.check(upload)
    client._validate_slug_syntax(upload.slug)
    client.validate_dataset_string(upload.id)
    client.validate_kernel_string(upload.id)
    title = bundle.kernel_metadata(upload)["title"]
    assert api.slugify(title) == upload.slug and 6 <= len(title) <= 50
    assert bundle.dataset_metadata(upload)["title"] == title


def test_an_owner_may_have_capitals():
    """Names of Kaggle users keep their case in ids."""
    upload = dataclasses.replace(UPLOAD, owner="SomeOne")
    bundle.check(upload)
    assert bundle.dataset_metadata(upload)["id"] == bundle.kernel_metadata(upload)["id"] == f"SomeOne/{upload.slug}"


def test_long_names_stay_apart():
    """Names that differ only in the part that is cut off get different slugs, by a hash."""
    names = [dataclasses.replace(UPLOAD, name="x" * 80 + end).slug for end in "ab"]
    assert names[0] != names[1] and all(len(name) <= 50 for name in names)


def test_the_metadata_ask_for_a_gpu_and_no_internet():
    """They hold one licence, the bundle and the competition as sources, and the base model if one is named."""
    about = bundle.kernel_metadata(UPLOAD)
    assert about["enable_gpu"] and not about["enable_internet"] and about["is_private"]
    assert about["dataset_sources"] == [UPLOAD.id] and about["competition_sources"] == ["titanic"]
    assert len(bundle.dataset_metadata(UPLOAD)["licenses"]) == 1
    model = bundle.kernel_metadata(dataclasses.replace(UPLOAD, base="baai/bge/pyTorch/icl/1"))
    assert model["model_sources"] == ["baai/bge/pyTorch/icl/1"] and model["dataset_sources"] == [UPLOAD.id]
    files = bundle.kernel_metadata(dataclasses.replace(UPLOAD, base="someone/weights"))
    assert files["dataset_sources"] == [UPLOAD.id, "someone/weights"] and not files["model_sources"]


def test_the_notebook_is_valid_and_reproducible(contents, tmp_path):
    """It is short, imports what exists, installs without an index, and is written again byte for byte."""
    bundle.write_notebook(tmp_path, "rounds-0.1.0-py3-none-any.whl", UPLOAD, contents)
    text = (tmp_path / bundle.NOTEBOOK).read_text()
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    imported = [node for cell in code for node in ast.walk(ast.parse(cell)) if isinstance(node, ast.ImportFrom)]
    for node in imported:
        module = importlib.import_module(node.module)
        assert all(hasattr(module, alias.name) for alias in node.names)
    assert "--no-index" in code[0] and "rounds==0.1.0" in code[0] and "hours=8.5" in code[1]
    assert sum(len(cell.splitlines()) for cell in code) < 20
    assert json.loads((tmp_path / "kernel-metadata.json").read_text())["code_file"] == bundle.NOTEBOOK
    bundle.write_notebook(tmp_path, "rounds-0.1.0-py3-none-any.whl", UPLOAD, contents)
    assert (tmp_path / bundle.NOTEBOOK).read_text() == text


def test_the_notebook_installs_extras_and_replacements(contents, tmp_path):
    """No requirement of the project's wheel asks for them, so that pip must be told their names."""
    four_bits = make_contents(contents.source.with_options(precision="nf4"))
    bundle.write_notebook(tmp_path, "rounds-0.1.0-py3-none-any.whl", UPLOAD, four_bits, ["numba==0.61"])
    install = nbformat.read(tmp_path / bundle.NOTEBOOK, as_version=4).cells[1].source
    assert '["rounds[four_bits]==0.1.0", "numba==0.61"]' in install


def test_an_adapter_whose_base_is_out_of_reach_is_refused(tiny, tmp_path):
    """A base model of the hub needs a Kaggle input or a merged bundle; nothing is written."""
    model = dataclasses.replace(tiny.model, name_or_path="BAAI/bge-en-icl")
    recipe = dataclasses.replace(tiny, model=model)
    source = Checkpoint(recipe, "0" * 64, InferenceOptions("bf16", ("cpu",)), tmp_path, True, {}, {})
    contents = make_contents(source)
    with refused("BAAI/bge-en-icl", "BASE=", "MERGED=1"):
        bundle.write(contents, UPLOAD, tmp_path / "bundle", tmp_path / "notebook")
    assert not list(tmp_path.iterdir())


def test_a_bundle_without_the_explanations_of_its_recipe_is_refused(tiny, tmp_path):
    """The notebook could not make the passages that the checkpoint was trained on; nothing is written."""
    recipe = tiny.replace("prompts", passage="{name} {explanation}")
    source = Checkpoint(recipe, "0" * 64, InferenceOptions("bf16", ("cpu",)), tmp_path, True, {}, {})
    contents = make_contents(source)
    with refused("prompts.passage", "no explanations are given"):
        bundle.write(contents, UPLOAD, tmp_path / "bundle", tmp_path / "notebook")
    assert not list(tmp_path.iterdir())


def test_a_base_model_is_no_checkpoint(tiny_collection, tmp_path):
    """The script names the folder that is missing."""
    from helpers.scripts import SCRIPTS

    common = [sys.executable, str(SCRIPTS / "bundle.py"), "--data_dir", str(tiny_collection), "--name", "x"]
    result = subprocess.run([*common, "--model_path", "./nowhere"], capture_output=True, text=True)
    assert result.returncode == 2 and result.stderr == "error: ./nowhere: no such folder\n"
