"""Row r: Ray nodes of one core, and why it has no rows where they cannot be."""

import contextlib
import importlib.util
import itertools
import os
import signal
import subprocess
from collections.abc import Callable
from unittest.mock import Mock

import pytest
import torch
from helpers.ray_nodes import leave
from helpers.tiny_task import refused

from rounds.artifacts import store
from rounds.benchmark import cluster_work, curves, ray_nodes, table
from rounds.benchmark.cluster_work import Encoded, WorkerMemory
from rounds.benchmark.contenders import OURS, Contender, Outcome
from rounds.benchmark.table import BenchmarkInputs
from rounds.cluster import ray_cluster
from rounds.encoding import text_blocks


def inputs(recipe, folder, lines: list[str]) -> BenchmarkInputs:
    return BenchmarkInputs(recipe, folder / "mined", folder, lines.append, encoded=100, searched=(1000, 2000))


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
        with ray_nodes.started() as nodes:
            nodes.add()
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


def test_rows_are_of_mean_seconds(tiny, tmp_path, monkeypatch):
    """Each repeat's ratio stands at the end of a row; the curve has a row for each kind of memory."""
    outcomes = {
        name: [Outcome(seconds, 100, Encoded("digest", 5.0)) for seconds in repeats]
        for name, repeats in (
            (cluster_work.NO_RAY, (100, 100)),
            (cluster_work.ONE_NODE, (102, 106)),
            (cluster_work.ALL_NODES, (51, 53)),
        )
    }
    memory = Outcome(3, 50, WorkerMemory(own=200, shared=300))
    monkeypatch.setattr(ray_nodes, "reason_against", lambda nodes: "")
    monkeypatch.setattr(cluster_work, "measure_encoding", lambda *arguments: outcomes)
    monkeypatch.setattr(ray_nodes, "started", lambda: contextlib.nullcontext(Mock(address="a")))
    monkeypatch.setattr(BenchmarkInputs, "measure", lambda *arguments: memory)
    rows, curves = table.run(inputs(tiny, tmp_path, []), "r")
    against_none, against_all = table.table(rows, curves).splitlines()[2:4]
    assert "1 Ray node / no Ray | rounds itself | 104 / 100 | 1.0x" in against_none
    assert against_none.endswith("same bytes; 1.020x, 1.060x; model loaded in 5 / 5 s before |")
    assert "1 Ray node / 2 Ray nodes | rounds itself | 104 / 52 | 2.0x" in against_all
    assert [[outcome.peak for outcome in part] for part in curves[0].outcomes.values()] == [[200, 200], [500, 500]]


def test_repeats_are_taken_in_turn(tiny, monkeypatch):
    """Without nodes, with one and with two of a new cluster; vectors that differ are refused."""
    nodes, digests = [], itertools.repeat("same")
    monkeypatch.setattr(ray_nodes.RayNodes, "add", lambda self: self.processes.append(Mock()) or nodes.append(self))
    monkeypatch.setattr(ray_nodes, "_end", lambda process: nodes.clear())

    def measure(work, contender, recipe, passages, address) -> Outcome:
        return Outcome(len(nodes), 0, Encoded(next(digests), 0))

    outcomes = cluster_work.measure_encoding(measure, tiny, 100, repeats=2)
    assert [[outcome.seconds for outcome in part] for part in outcomes.values()] == [[0, 0], [1, 1], [2, 2]]
    digests = iter(("same", "same", "other"))
    with refused("vectors of 100 passages differ"):
        cluster_work.measure_encoding(measure, tiny, 100, repeats=1)


@pytest.fixture
def in_this_process(monkeypatch) -> Callable[..., Outcome]:
    """Measures work in this process, whose libraries are there already, and leaves it as it was."""
    if reason := ray_nodes.reason_against(2):
        pytest.skip(reason)
    open_to_all = {"RAY_AUTH_MODE": "disabled"}  # a process of many tests keeps what Ray reads first
    monkeypatch.setattr(ray_nodes, "_access", lambda: open_to_all)
    os.environ.update(open_to_all)
    cores, threads = os.sched_getaffinity(0), torch.get_num_threads()
    monkeypatch.setattr(text_blocks, "BLOCK_TEXTS", text_blocks.BLOCK_TEXTS)

    def measure(work: Callable, *arguments) -> Outcome:
        try:
            seconds, result = work(*arguments)
        finally:
            os.sched_setaffinity(0, cores)
            torch.set_num_threads(threads)
            leave()
        return Outcome(seconds, 0, result)

    return measure


@pytest.mark.slow
def test_each_node_works_on_a_core_of_its_own(in_this_process):
    """Its processes have this one's priority, and end with the block."""
    with ray_nodes.started() as nodes:
        for _ in range(2):
            nodes.add()
        cluster = ray_cluster.join(nodes.address)
        places = list(cluster.map(os.sched_getaffinity, [(0,), (0,)]))
        priorities = list(cluster.map(os.getpriority, [(os.PRIO_PROCESS, 0)] * 2))
        leave()
    assert sorted(map(sorted, places)) == [[core] for core in ray_nodes.cores()[:2]]
    assert priorities == [os.getpriority(os.PRIO_PROCESS, 0)] * 2
    assert all(process.poll() is not None for process in nodes.processes)


@pytest.mark.slow
def test_a_node_encodes_what_is_encoded_without_it(tiny, in_this_process):
    """To the same bytes."""
    alone = in_this_process(cluster_work.encode_short, Contender(OURS, "fp32"), tiny, 100, "")
    with ray_nodes.started() as nodes:
        nodes.add()
        on_node = in_this_process(cluster_work.encode_short, Contender(OURS, "fp32"), tiny, 100, nodes.address)
    assert on_node.result.digest == alone.result.digest
    assert all(outcome.seconds > 0 and outcome.result.loading > 0 for outcome in (alone, on_node))


@pytest.mark.slow
def test_a_worker_searches(in_this_process):
    """Its memory is above that of its libraries; the vectors are in shared memory."""
    curve = curves.measure_worker(in_this_process, (20_000,))
    (own,), (with_shared,) = curve.outcomes.values()
    assert 50 < own.peak < with_shared.peak
