"""Kaggle client: the real one, against a stand-in for Kaggle's HTTP API in a network namespace of its own."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.namespaces import needs_namespaces
from helpers.tiny_task import refused

from rounds.artifacts import store
from rounds.evaluation import ledger
from rounds.kaggle import bundle_file
from rounds.kaggle.bundle_file import BundleFile
from rounds.kaggle.client import Client, read_scores
from rounds.kaggle.status import Unavailable

TESTS = Path(__file__).resolve().parents[1]
SCRIPTS = TESTS.parent / "scripts"
COMPETITION = "eedi-mining-misconceptions-in-mathematics"


pytestmark = [
    needs_namespaces,
    pytest.mark.skipif(not Path(sys.executable).with_name("kaggle").is_file(), reason="the kaggle extra is missing"),
]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Return the folder of the stand-in's state."""
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


def call(state: Path, script: str, *flags: object, key: str = "right") -> subprocess.CompletedProcess:
    """Run a script beside the stand-in."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("KAGGLE")}
    environment = {**inherited, "HOME": str(state), "KAGGLE_USERNAME": "someone", "KAGGLE_KEY": key}
    command = [sys.executable, str(SCRIPTS / script), *map(str, flags)]
    stand_in = ["unshare", "-rn", sys.executable, str(TESTS / "helpers" / "kaggle_stand_in.py"), str(state)]
    return subprocess.run([*stand_in, *command], capture_output=True, text=True, env=environment)


def calls(state: Path) -> list[dict]:
    """Return the requests that the stand-in answered, with its answers."""
    path = state / "calls.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def methods(state: Path) -> list[str]:
    return [request["method"] for request in calls(state)]


def body_of(state: Path, method: str) -> dict:
    return next(request["body"] for request in calls(state) if request["method"] == method)


def make_submissions(folder: Path, name: str = "tiny") -> Path:
    """Write a bundle and a notebook, as small as Kaggle's client takes them, and return their folder."""
    bundle, notebook = folder / "bundle", folder / "notebook"
    (bundle / "wheels").mkdir(parents=True)
    notebook.mkdir()
    (bundle / "wheels" / "x.whl").write_bytes(b"wheel")
    content = {"submission": f"{name}-round1", "competition": COMPETITION, "split": "v1", "seed": 42, "fold": 0}
    bundle_file.write(bundle, BundleFile(**content, wheel="x.whl"))
    ids = {"id": f"someone/rounds-{name}", "title": f"rounds-{name}"}
    store.write_json(bundle / "dataset-metadata.json", {**ids, "licenses": [{"name": "CC0-1.0"}]})
    about = {**ids, "code_file": "n.ipynb", "language": "python", "kernel_type": "notebook"}
    store.write_json(notebook / "kernel-metadata.json", {**about, "dataset_sources": [ids["id"]]})
    store.write_json(notebook / "n.ipynb", {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    return folder


@pytest.fixture
def submissions(tmp_path: Path) -> Path:
    """Return the folder of a bundle and a notebook."""
    return make_submissions(tmp_path / "submissions")


def test_push_creates_then_versions_runs_and_submits(state, submissions):
    """Each step is printed before it runs; a second push makes a new version of the same dataset."""
    first = call(state, "push.py", "--folder", submissions, "--wait", "0")
    assert not first.returncode, first.stderr
    assert [line.split()[:3] for line in first.stdout.splitlines()][:2] == [
        ["kaggle", "datasets", "status"],
        ["kaggle", "datasets", "create"],
    ]
    order = ["CreateDataset", "SaveKernel", "GetKernelSessionStatus", "CreateCodeSubmission"]
    assert [method for method in methods(state) if method in order] == [*order[:3], *order[2:]]  # it ran at first
    sent = body_of(state, "CreateCodeSubmission")
    assert sent["competitionName"] == COMPETITION and sent["submissionDescription"] == "tiny-round1"
    assert sent["kernelSlug"] == "rounds-tiny" and sent["kernelVersion"] == 7 and sent["fileName"] == "submission.csv"
    assert body_of(state, "SaveKernel")["datasetDataSources"] == ["someone/rounds-tiny"]
    second = call(state, "push.py", "--folder", submissions, "--wait", "0")
    assert not second.returncode and "CreateDatasetVersion" in methods(state)
    assert methods(state).count("CreateDataset") == 1


def test_the_pushed_version_of_the_notebook_is_awaited(state, submissions):
    """Every request for the status names the pushed version: without it, Kaggle answers on the last session."""
    assert not call(state, "push.py", "--folder", submissions, "--wait", "0").returncode
    statuses = [request for request in calls(state) if request["method"] == "GetKernelSessionStatus"]
    assert [request["body"].get("versionLabel") for request in statuses] == ["v7", "v7"]
    assert [request["reply"]["status"] for request in statuses] == ["RUNNING", "COMPLETE"]


def test_the_new_version_of_the_dataset_is_awaited(state, submissions):
    """The notebook is pushed after Kaggle counts the new version, although the last one was ready before."""
    (state / "dataset").write_text("3")
    assert not call(state, "push.py", "--folder", submissions, "--wait", "0").returncode
    before_push = calls(state)[: methods(state).index("SaveKernel")]
    numbers = [request["reply"]["currentVersionNumber"] for request in before_push if request["method"] == "GetDataset"]
    assert numbers == [3, 3, 4]


@pytest.mark.parametrize("name", ["error-prone-v5", "cancel-v5", "complete-v5", "401-v5"])
def test_words_of_a_name_are_no_status(name, state, tmp_path):
    """A notebook called after a status is awaited and submitted as any other."""
    result = call(state, "push.py", "--folder", make_submissions(tmp_path / "named", name), "--wait", "0")
    assert not result.returncode, result.stderr
    assert methods(state).count("GetKernelSessionStatus") == 2 and "CreateCodeSubmission" in methods(state)


def test_a_failing_server_does_not_mean_that_there_is_no_dataset(state, submissions):
    """A 503 at the first look is one line that names it, and nothing is created."""
    (state / "dataset").write_text("1")
    (state / "unavailable").write_text("1")
    result = call(state, "push.py", "--folder", submissions, "--wait", "0")
    assert result.returncode == 2 and result.stderr == "error: kaggle answered 503: Service Unavailable\n"
    assert not {"CreateDataset", "CreateDatasetVersion"} & set(methods(state))


def test_a_failing_server_does_not_end_the_waiting():
    """A status that could not be read is asked for again; after five failures in a row the failure is reported."""
    outcomes = [Unavailable("503")] * 4 + [False] + [Unavailable("503")] * 4 + [True]

    def is_done() -> bool:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Unavailable):
            raise outcome
        return outcome

    shown = []
    client = Client(show=shown.append, wait=0)
    client.wait_until(("kaggle", "status"), is_done)
    assert not outcomes and shown == ["kaggle status"] * 10
    outcomes += [Unavailable("503")] * 5
    with refused("503"):
        client.wait_until(("kaggle", "status"), is_done)


def test_the_dataset_of_another_user_is_not_taken_as_absent(state, tmp_path):
    """Kaggle answers 403 to it as to a name that is free; nothing is created under a name of somebody else."""
    folder = make_submissions(tmp_path / "other")
    for path in (folder / "bundle" / "dataset-metadata.json", folder / "notebook" / "kernel-metadata.json"):
        path.write_text(path.read_text().replace("someone/", "Other/"))
    result = call(state, "push.py", "--folder", folder, "--wait", "0")
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and "OWNER=someone" in result.stderr
    assert set(methods(state)) == {"GetDataset", "GetDatasetStatus"}


def test_a_dry_push_prints_and_does_nothing(state, submissions):
    """All commands are shown, `-k`, `-v` and the message among them, and nothing is requested."""
    result = call(state, "push.py", "--folder", submissions, "--dry")
    assert not result.returncode and not methods(state)
    for part in ("datasets create", "datasets version", "kernels push", "-k someone/rounds-tiny", "-m tiny-round1"):
        assert part in result.stdout


def test_a_notebook_that_fails_is_not_submitted(state, submissions):
    """The failure is reported in one line."""
    (state / "kernel_fails").touch()
    result = call(state, "push.py", "--folder", submissions, "--wait", "0")
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and "no GPU" in result.stderr
    assert "CreateCodeSubmission" not in methods(state)


@pytest.mark.parametrize("script", ["push.py", "lb.py"])
def test_a_broken_token_is_named(script, state, submissions, tmp_path):
    """A kaggle.json that is no JSON object is one line; the client and its library end in a traceback."""
    (state / ".kaggle").mkdir()
    (state / ".kaggle" / "kaggle.json").write_text('["a"]')
    flags = {"push.py": ["--folder", submissions], "lb.py": ["--model_output", tmp_path]}
    result = call(state, script, *flags[script])
    assert result.returncode == 2 and result.stderr.count("\n") == 1, result.stderr
    assert "kaggle.json: is not a Kaggle token" in result.stderr


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


@pytest.mark.parametrize("share", [1.0, 0.9, 0.0])
def test_a_download_is_whole_or_refused(share, state, raw, tmp_path):
    """The files are unpacked; an archive that was cut off is one line, and nothing is left behind."""
    archive = Path(shutil.make_archive(str(tmp_path / "archive"), "zip", raw)).read_bytes()
    (state / "archive.zip").write_bytes(archive[: int(share * len(archive))])
    result = call(state, "download.py", "--output_dir", tmp_path / "raw")
    if share == 1:
        assert not result.returncode, result.stderr
        assert (tmp_path / "raw" / "train.csv").read_bytes() == (raw / "train.csv").read_bytes()
    else:
        assert result.returncode == 2 and result.stderr.count("\n") == 1, result.stderr
        assert "no whole zip file" in result.stderr and not (tmp_path / "raw").exists()


def test_scores_reach_the_rows_of_their_submissions(state, tmp_path):
    """The newest score of a name counts, a pending one leaves the cells empty, an unknown name is reported."""
    path = tmp_path / "ledger.csv"
    ledger.record(path, [{"data": "tiny", "split": "v1", "fingerprint": "f", "MAP@25": 0.5, "submission": "tiny-a"}])
    result = call(state, "lb.py", "--model_output", tmp_path)
    assert not result.returncode, result.stderr
    (row,) = ledger.read(path)
    assert (row["LB public"], row["LB private"], row["MAP@25"]) == ("0.41234", "0.39876", "0.5")
    assert "tiny-b: public -, private -  (no row" in result.stdout
    assert body_of(state, "ListSubmissions")["competitionName"] == COMPETITION


def test_words_of_a_description_are_no_failure(state, tmp_path):
    """Submissions that describe errors are scored like any other."""
    result = call(state, "lb.py", "--model_output", tmp_path)
    assert not result.returncode, result.stderr
    for score in ("fixes error: cut queries: public 0.30000", "could not reproduce CV: public 0.20000"):
        assert score in result.stdout


class Listing(Client):
    """A client whose every command prints the same submissions."""

    text: str

    def run(self, *arguments: object) -> str:
        return self.text


def scores_of(*rows: tuple[str, ...], notice: str = "") -> dict[str, tuple[str, str]]:
    """Return the scores that are read from the client's table of submissions."""
    table = io.StringIO()
    header = ("fileName", "description", "publicScore", "status")
    csv.writer(table).writerows([header, *(("s.csv", *row) for row in rows)])
    client = Listing()
    client.text = notice + table.getvalue()
    return read_scores(client, COMPETITION)


@pytest.mark.parametrize("part", ["\u2028", "\n\n", '"quoted",', "publicScore", "\x0c", "\u0085"])
def test_a_description_is_one_cell(part):
    """Line separators of any kind within it neither end the row nor lose its score."""
    rows = [(f"x {part} y", "0.3"), ("next", "0.2")]
    expected = {name: (score, "") for name, score in rows}
    assert scores_of(*rows, notice="Warning: a new version is out\n") == expected


@pytest.mark.parametrize("cell", ["", "None", "n/a", "nan"])
def test_a_score_that_is_no_number_is_not_there_yet(cell):
    """It must not reach the ledger, which would then be refused."""
    assert scores_of(("a", cell)) == {"a": ("", "")}


def test_a_failed_submission_does_not_hide_the_one_before():
    """It will never have a score; one that is still pending will, and is waited for."""
    before = ("a", "0.4", "SubmissionStatus.COMPLETE")
    assert scores_of(("a", "", "SubmissionStatus.ERROR"), before) == {"a": ("0.4", "")}
    assert scores_of(("a", "", "SubmissionStatus.PENDING"), before) == {"a": ("", "")}
