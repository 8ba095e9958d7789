"""The server sends the report of what is on disk now, with the progress of the round in training."""

import json
import os
import threading
import urllib.error
import urllib.request

import pytest
from helpers import tiny_experiment
from helpers.tiny_task import refused

from rounds.artifacts import refusals, store
from rounds.report.server import HOST, ReportSite, make_server
from rounds.training.progress import SavedProgress, write_progress

PROGRESS = {"step": 30, "steps": 100, "first": 10, "seconds": 40.0, "losses": [[20, 1.5], [30, 1.25]]}


@pytest.fixture
def served(tiny_collection, tmp_path):
    """An experiment of one round, and the address of the server that serves its report."""
    experiment = tiny_experiment.make(tmp_path, tiny_collection, rounds=1)
    site = ReportSite(experiment.folder, experiment.data_dir, experiment.model_output)
    with make_server(site, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield experiment, f"http://{HOST}:{server.server_port}"
        server.shutdown()


def get(address: str) -> str:
    with urllib.request.urlopen(address) as answer:
        return answer.read().decode()


def test_the_page_is_rendered_again_when_files_change(served):
    """The stamp changes with an evaluation, and a new refusal changes both the stamp and the page."""
    experiment, address = served
    page = get(f"{address}/")
    stamp = json.loads(get(f"{address}/live.json"))
    assert stamp["live"] is None and "live.json" in page and "connect-src 'self'" in page
    assert get(f"{address}/") == page and json.loads(get(f"{address}/live.json")) == stamp
    os.utime(experiment.folder / "round1" / "eval" / store.MANIFEST, (1, 1))
    after_evaluation = json.loads(get(f"{address}/live.json"))["stamp"]
    refusals.record(experiment.model_output, "eval", [f"{experiment.folder}/round1"], "it leaks 3 questions")
    after_refusal = json.loads(get(f"{address}/live.json"))["stamp"]
    assert len({stamp["stamp"], after_evaluation, after_refusal}) == 3
    assert "it leaks 3 questions" in get(f"{address}/") and "it leaks" not in page


def test_live_json_follows_the_training(served):
    """It holds the number and the losses of the round in training."""
    experiment, address = served
    folder = experiment.folder / "round2" / "train.partial"
    folder.mkdir(parents=True)
    write_progress(folder, SavedProgress(**PROGRESS))
    live = json.loads(get(f"{address}/live.json"))["live"]
    assert live["round"] == 2 and live["losses"] == PROGRESS["losses"]


def test_errors_do_not_stop_the_server(served):
    """Unknown paths are 404, a broken file is named with 503, and the repaired page is served again."""
    experiment, address = served
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(f"{address}/../pyproject.toml")
    file = experiment.folder / "round1" / "eval" / "metrics.json"
    content = file.read_text()
    file.write_text("{")
    with pytest.raises(urllib.error.HTTPError, match="503") as caught:
        get(f"{address}/")
    assert "metrics.json: not valid JSON" in caught.value.read().decode()
    file.write_text(content)
    assert "<h1>" in get(f"{address}/")


def test_a_port_in_use_is_refused(served, tmp_path):
    """A port in use and a number that is no port are refused with the variable to set."""
    _, address = served
    port = int(address.rpartition(":")[2])
    for bad in (port, 99_999):
        with refused(f"port {bad}", "PORT="):
            make_server(ReportSite(tmp_path, tmp_path, tmp_path), bad)
