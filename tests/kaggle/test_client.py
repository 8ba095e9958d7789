"""Kaggle client: the real one, against a stand-in for Kaggle's HTTP API in a network namespace of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.namespaces import may_unshare

from rounds.artifacts import store
from rounds.evaluation import ledger

TESTS = Path(__file__).resolve().parents[1]
SCRIPTS = TESTS.parent / "scripts"
COMPETITION = "eedi-mining-misconceptions-in-mathematics"


pytestmark = [
    pytest.mark.skipif(not may_unshare(), reason="network namespaces (unshare -rn) are not permitted here"),
    pytest.mark.skipif(not Path(sys.executable).with_name("kaggle").is_file(), reason="the kaggle extra is missing"),
]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """What the stand-in keeps."""
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


def call(state: Path, script: str, *flags: object, key: str = "right") -> subprocess.CompletedProcess:
    """Run a script beside the stand-in."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KAGGLE")}
    environment = {**kept, "HOME": str(state), "KAGGLE_USERNAME": "someone", "KAGGLE_KEY": key}
    command = [sys.executable, str(SCRIPTS / script), *map(str, flags)]
    stand_in = ["unshare", "-rn", sys.executable, str(TESTS / "helpers" / "kaggle_stand_in.py"), str(state)]
    return subprocess.run([*stand_in, *command], capture_output=True, text=True, env=environment)


def methods(state: Path) -> list[str]:
    lines = (state / "calls.jsonl").read_text().splitlines() if (state / "calls.jsonl").is_file() else []
    return [json.loads(line)["method"] for line in lines]


def body_of(state: Path, method: str) -> dict:
    lines = map(json.loads, (state / "calls.jsonl").read_text().splitlines())
    return next(each["body"] for each in lines if each["method"] == method)


@pytest.fixture
def submissions(tmp_path: Path) -> Path:
    """A bundle and a notebook, as small as Kaggle's client takes them."""
    bundle, notebook = tmp_path / "submissions" / "bundle", tmp_path / "submissions" / "notebook"
    (bundle / "wheels").mkdir(parents=True)
    notebook.mkdir()
    (bundle / "wheels" / "x.whl").write_bytes(b"wheel")
    store.write_json(bundle / "bundle.json", {"submission": "tiny-round1", "competition": COMPETITION})
    name = {"id": "someone/rounds-tiny", "title": "rounds-tiny"}
    store.write_json(bundle / "dataset-metadata.json", {**name, "licenses": [{"name": "CC0-1.0"}]})
    about = {**name, "code_file": "n.ipynb", "language": "python", "kernel_type": "notebook"}
    store.write_json(notebook / "kernel-metadata.json", {**about, "dataset_sources": ["someone/rounds-tiny"]})
    store.write_json(notebook / "n.ipynb", {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    return bundle.parent


def test_push_creates_then_versions_runs_and_submits(state, submissions):
    """Each step is printed before it runs; a second push makes a new version of the same dataset."""
    first = call(state, "push.py", "--folder", submissions, "--wait", "0")
    assert not first.returncode, first.stderr
    assert [line.split()[:3] for line in first.stdout.splitlines()][:2] == [
        ["kaggle", "datasets", "status"], ["kaggle", "datasets", "create"],
    ]  # fmt: skip
    done = methods(state)
    order = ["CreateDataset", "SaveKernel", "GetKernelSessionStatus", "CreateCodeSubmission"]
    assert [each for each in done if each in order] == [*order[:3], *order[2:]]  # asked again while it ran
    sent = body_of(state, "CreateCodeSubmission")
    assert sent["competitionName"] == COMPETITION and sent["submissionDescription"] == "tiny-round1"
    assert sent["kernelSlug"] == "rounds-tiny" and sent["kernelVersion"] == 7 and sent["fileName"] == "submission.csv"
    assert body_of(state, "SaveKernel")["datasetDataSources"] == ["someone/rounds-tiny"]
    second = call(state, "push.py", "--folder", submissions, "--wait", "0")
    assert not second.returncode and "CreateDatasetVersion" in methods(state)
    assert methods(state).count("CreateDataset") == 1


def test_a_dry_push_prints_and_does_nothing(state, submissions):
    """All commands are shown, `-k`, `-v` and the message among them, and nobody is called."""
    result = call(state, "push.py", "--folder", submissions, "--dry")
    assert not result.returncode and not methods(state)
    for part in ("datasets create", "datasets version", "kernels push", "-k someone/rounds-tiny", "-m tiny-round1"):
        assert part in result.stdout


def test_a_notebook_that_fails_is_not_submitted(state, submissions):
    """Its failure is told in one line."""
    (state / "kernel_fails").touch()
    result = call(state, "push.py", "--folder", submissions, "--wait", "0")
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and "no GPU" in result.stderr
    assert "CreateCodeSubmission" not in methods(state)


@pytest.mark.parametrize("script", ["push.py", "lb.py", "download.py"])
def test_refused_credentials_are_one_line(script, state, submissions, tmp_path):
    """Exit code 2, one line that says where to put the token, nothing left behind."""
    flags = {
        "push.py": ["--folder", submissions],
        "lb.py": ["--model_output", tmp_path],
        "download.py": ["--output_dir", tmp_path / "raw"],
    }
    result = call(state, script, *flags[script], key="wrong")
    assert result.returncode == 2 and result.stderr.count("\n") == 1, result.stderr
    assert "access_token" in result.stderr and "KAGGLE_API_TOKEN" in result.stderr
    assert not (tmp_path / "raw").exists() and not (tmp_path / "ledger.csv").exists()


def test_scores_reach_the_rows_of_their_submissions(state, tmp_path):
    """The newest scored one of a name counts, a pending one leaves the cells empty, an unknown name is said."""
    path = tmp_path / "ledger.csv"
    ledger.record(path, [{"data": "tiny", "split": "v1", "fingerprint": "f", "MAP@25": 0.5, "submission": "tiny-a"}])
    result = call(state, "lb.py", "--model_output", tmp_path)
    assert not result.returncode, result.stderr
    (row,) = ledger.read(path)
    assert (row["LB public"], row["LB private"], row["MAP@25"]) == ("0.41234", "0.39876", "0.5")
    assert "tiny-b: public -, private -  (no row" in result.stdout
    assert body_of(state, "ListSubmissions")["competitionName"] == COMPETITION
