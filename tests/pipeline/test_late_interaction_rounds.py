"""Rounds of a model that embeds tokens: mined, trained, evaluated, continued and submitted by make."""

import csv
import json
from pathlib import Path

import pytest
from helpers.make_project import copy_project, make
from sentence_transformers import MultiVectorEncoder

from rounds.artifacts import store
from rounds.retrieval import representations

FLAGS = ["MODEL=tiny-tokens", "DEVICE=cpu"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, raw: Path) -> Path:
    """A copy of the project after `make round2`, whose second round mines with an approximate index."""
    folder = copy_project(tmp_path_factory.mktemp("project"), "Makefile", "pyproject.toml", "scripts", "src", ".ci")
    make(folder, "round2", f"RAW={raw}", *FLAGS)
    return folder


@pytest.mark.slow
def test_round_two_continues_round_one(project):
    """Both rounds leave an adapter with its projection, and an evaluation with finite metrics."""
    (folder,) = project.glob("model_output/tiny-*-tiny-tokens-v1")
    manifests = [store.read_manifest(folder / f"round{number}" / "train" / "lora_epoch_1") for number in (1, 2)]
    assert manifests[1].parent.weights == manifests[0].weights != manifests[1].weights
    for number in (1, 2):
        epoch = folder / f"round{number}" / "train" / "lora_epoch_1"
        assert (epoch / "tuned.safetensors").is_file()
        metrics = json.loads((epoch / "metrics.json").read_text())
        assert 0 < metrics["MAP@25"] < 1 and metrics["validation loss"] > 0 and abs(metrics["mean cosine"]) <= 1
        (vectors,) = (epoch / "runs").glob("corpus-*/vectors.npy")
        assert representations.find(vectors.parent) is representations.KINDS["tokens"]


@pytest.mark.slow
def test_a_submission_and_a_report_are_made(project, raw):
    """The test queries are ranked by MaxSim, and the report shows what it can without dense vectors."""
    make(project, "submit", "ROUND=2", f"RAW={raw}", *FLAGS)
    (file,) = project.glob("submissions/*.csv")
    with open(file, newline="") as submitted:
        assert all(len(set(row["MisconceptionId"].split(" "))) == 25 for row in csv.DictReader(submitted))
    make(project, "report", "ROUND=2", f"RAW={raw}", *FLAGS)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["dims", "best"])
def test_what_needs_dense_vectors_is_refused_in_one_line(target, project, raw):
    """Truncation and the second stage's features name the key and the way out."""
    result = make(project, target, "ROUND=1", f"RAW={raw}", *FLAGS, check=False)
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert "needs one dense vector for each text, and tiny-tokens has model.pooling tokens" in result.stderr


@pytest.mark.slow
def test_a_whole_model_loads_in_the_library(project, raw):
    """A checkpoint with all weights is a folder of MultiVectorEncoder's, and embeds a text's tokens."""
    recipe = "extends: tiny-tokens\ntuning: {method: full}\n"
    (project / "full.yaml").write_text(recipe, encoding="utf-8")
    make(project, "round1", f"RAW={raw}", "MODEL=full.yaml", "DEVICE=cpu")
    (epoch,) = project.glob("model_output/tiny-*-full-*/round1/train/epoch_1")
    assert MultiVectorEncoder(str(epoch), device="cpu").encode_query(["1 + 1 = 11"])[0].shape[1] == 16
