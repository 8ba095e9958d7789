"""Dashboard and live panel: what is on disk now, served to this machine alone."""

import json
import os
import threading
import urllib.error
import urllib.request
from types import SimpleNamespace

import pytest
from helpers import tiny_experiment
from helpers.tiny_task import refused

from rounds.artifacts import store
from rounds.report.server import HOST, Site, make_server
from rounds.training.callbacks import EpochCheckpointCallback
from rounds.training.progress import PROGRESS_FILE, QUIET, read_progress, write_progress

PROGRESS = {"step": 30, "steps": 100, "first": 10, "seconds": 40.0, "losses": [[20, 1.5], [30, 1.25]]}


@pytest.fixture
def partial(tmp_path):
    """A round that trains."""
    folder = tmp_path / "tiny-v1" / "round3" / "train.partial"
    (folder / "epoch_1").mkdir(parents=True)
    write_progress(folder, PROGRESS)
    store.write_json(folder / "epoch_1" / "metrics.json", {"MAP@25": 0.5})
    return folder


def test_time_left_is_at_this_process_speed(partial):
    """20 steps took 40 s, 70 are left; a resumed training does not count the steps before."""
    written = (partial / PROGRESS_FILE).stat().st_mtime
    found = read_progress(partial.parent.parent, now=written)
    assert (found.round, found.step, found.steps, found.seconds_left) == (3, 30, 100, 140.0)
    assert found.scores == [(1, 0.5)] and found.losses[-1] == (30, 1.25) and not found.stopped
    assert read_progress(partial.parent.parent, now=written + 10).seconds_left == pytest.approx(130)
    assert read_progress(partial.parent.parent, now=written + QUIET + 1).stopped


def test_no_training_is_none(tmp_path, partial):
    """No folder, no file yet, or one that is being written."""
    assert read_progress(tmp_path / "none") is None
    (partial / PROGRESS_FILE).write_text("{")
    assert read_progress(partial.parent.parent) is None


@pytest.fixture
def served(tiny_collection, tmp_path):
    """A dashboard that runs, and its address."""
    made = tiny_experiment.make(tmp_path, tiny_collection, rounds=1)
    site = Site(made.folder, made.data_dir, made.model_output)
    with make_server(site, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield made, f"http://{HOST}:{server.server_port}"
        server.shutdown()


def get(address: str) -> str:
    with urllib.request.urlopen(address) as answer:
        return answer.read().decode()


def test_the_page_is_made_anew_when_files_change(served):
    """The same page until an evaluation is written; then another stamp and another page."""
    made, address = served
    first = get(f"{address}/")
    stamp = json.loads(get(f"{address}/live.json"))
    assert stamp["live"] is None and "live.json" in first and "connect-src 'self'" in first
    assert get(f"{address}/") is not None and json.loads(get(f"{address}/live.json")) == stamp
    manifest = made.folder / "round1" / "eval" / store.MANIFEST
    os.utime(manifest, (1, 1))
    assert json.loads(get(f"{address}/live.json"))["stamp"] != stamp["stamp"]


def test_the_panel_follows_the_training(served):
    """Progress and scores of a round that trains."""
    made, address = served
    folder = made.folder / "round2" / "train.partial"
    folder.mkdir(parents=True)
    write_progress(folder, PROGRESS)
    found = json.loads(get(f"{address}/live.json"))["live"]
    assert found["round"] == 2 and found["losses"] == PROGRESS["losses"]


def test_errors_are_answers(served):
    """Another path is 404; a broken file is named, and the server goes on."""
    made, address = served
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(f"{address}/../pyproject.toml")
    file = made.folder / "round1" / "eval" / "metrics.json"
    kept = file.read_text()
    file.write_text("{")
    with pytest.raises(urllib.error.HTTPError, match="503") as caught:
        get(f"{address}/")
    assert "metrics.json: not valid JSON" in caught.value.read().decode()
    file.write_text(kept)
    assert "<h1>" in get(f"{address}/")


def test_a_taken_port_is_refused(served, tmp_path):
    """With the way out."""
    _, address = served
    port = int(address.rpartition(":")[2])
    for bad in (port, 99_999):
        with refused(f"port {bad}", "PORT="):
            make_server(Site(tmp_path, tmp_path, tmp_path), bad)


def test_training_writes_its_progress(tmp_path):
    """Step, all steps and the losses so far, from its first step on."""
    keeper = object.__new__(EpochCheckpointCallback)
    keeper.partial, keeper.losses, keeper.curve = tmp_path, [], []
    state = SimpleNamespace(global_step=4, max_steps=20)
    keeper.on_train_begin(None, state, None)
    assert store.read_json(tmp_path / PROGRESS_FILE)["losses"] == []
    state.global_step = 6
    keeper.on_log(None, state, None, {"loss": 0.5})
    keeper.bar.close()
    found = store.read_json(tmp_path / PROGRESS_FILE)
    assert (found["first"], found["step"], found["steps"], found["losses"]) == (4, 6, 20, [[6, 0.5]])
