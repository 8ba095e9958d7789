"""Row r: Ray nodes of one core, and why it has no rows where they cannot be."""

import importlib.util
import os
import signal
import subprocess

import pytest
from helpers.tiny_task import refused

from rounds.artifacts import store
from rounds.benchmark import ray_nodes, table
from rounds.benchmark.table import BenchmarkInputs


def inputs(recipe, folder, lines: list[str]) -> BenchmarkInputs:
    return BenchmarkInputs(recipe, folder / "mined", folder, lines.append, encoded=2000, searched=(1000, 2000))


@pytest.mark.parametrize(
    ("ray", "cores", "reason"),
    [(None, {3, 4}, "Ray is not installed"), ("ray", {3}, "2 nodes need a core each, and there are 1")],
)
def test_a_machine_without_what_the_row_needs_has_no_row(tiny, tmp_path, monkeypatch, ray, cores, reason):
    """The log says what is missing."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: ray)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: cores)
    lines = []
    assert table.run(inputs(tiny, tmp_path, lines), "r") == ([], [])
    assert reason in lines[-1]


def test_a_node_that_does_not_start_is_named(tmp_path, monkeypatch):
    """One line with what it said; the environment is as it was."""
    program = tmp_path / "python"
    store.write_text(program, "#!/bin/sh\necho no room here\n")
    program.chmod(0o700)
    monkeypatch.setattr("sys.executable", str(program))
    before = dict(os.environ)
    with refused("a Ray node does not start", "no room here"):
        ray_nodes.started(1).__enter__()
    assert dict(os.environ) == before


def test_a_session_stays_on_its_core():
    """All of its processes do, and no other process."""
    core, cores = ray_nodes.cores()[-1], ray_nodes.cores()
    shell = subprocess.Popen(
        ["sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE, start_new_session=True, text=True
    )
    try:
        child = int(shell.stdout.readline())
        ray_nodes.pin_session(shell.pid, core)
        assert os.sched_getaffinity(shell.pid) == os.sched_getaffinity(child) == {core}
        assert ray_nodes.cores() == cores
    finally:
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()


@pytest.mark.slow
def test_a_short_corpus_gives_each_row(tiny, tmp_path):
    """One node, two nodes and no Ray give the same bytes, and the worker's memory is above that of its libraries."""
    if reason := ray_nodes.reason_against(2):
        pytest.skip(reason)
    rows, curves = table.run(inputs(tiny, tmp_path, []), "r")
    assert [row.work for row in rows] == [
        f"(r) {tiny.name}: encode 2,000 short passages, 1 Ray node / no Ray",
        f"(r) {tiny.name}: encode 2,000 short passages, 1 Ray node / 2 nodes",
    ]
    assert all(row.agreement == "same bytes" and row.ratio("fp32", "fp32") > 0 for row in rows)
    (outcomes,) = curves[0].outcomes.values()
    assert curves[0].sizes == (1000, 2000) and all(outcome.peak > 50 for outcome in outcomes)
