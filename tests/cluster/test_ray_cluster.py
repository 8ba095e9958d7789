"""A Ray cluster: jobs are done whatever dies, and refusals are one line."""

import importlib.util
import os
import sys
import threading
import time
from collections.abc import Iterator
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from unittest.mock import Mock

import pytest
from helpers import ray_nodes
from helpers.tiny_task import refused

from rounds.artifacts import store
from rounds.cluster import ray_cluster
from rounds.cluster.ray_cluster import Failure, Node, RayCluster, Worker
from rounds.errors import UserError

needs_ray = pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="needs Ray (pip install -e '.[cluster]')")


def test_ray_that_is_not_installed_is_named(monkeypatch):
    """The line says how to install it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with refused("CLUSTER=10.0.0.1:6379", "needs Ray", ".[cluster]"):
        ray_cluster.join("10.0.0.1:6379")


@needs_ray
def test_an_address_without_an_answer_is_refused(unused_port):
    """At once; Ray itself would try for minutes."""
    with refused(f"CLUSTER=127.0.0.1:{unused_port}", "nobody answers"):
        ray_cluster.join(f"127.0.0.1:{unused_port}")


@needs_ray
def test_the_port_of_another_program_is_refused():
    """Such as that of a web server, or of Ray's dashboard."""
    with HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.handle_request).start()
        address = f"127.0.0.1:{server.server_port}"
        with refused(f"CLUSTER={address}: is another program's port", "127.0.0.1:6379"):
            ray_cluster.join(address)


@needs_ray
def test_a_node_with_another_version_is_refused_by_name():
    """The line names the library, the version there and the version here."""
    here = Node.here()
    with refused("node ", "torch ", "(0.1 here)"):
        Node(here.project, {**here.versions, "torch": "0.1"}).enter()


@needs_ray
def test_a_node_without_the_projects_folder_is_refused(tmp_path):
    """Relative paths of checkpoints would lead elsewhere."""
    with refused("node ", f"no folder {tmp_path}/absent"):
        Node(str(tmp_path / "absent"), {}).enter()


@needs_ray
def test_a_node_like_this_one_works_in_the_projects_folder(tmp_path, monkeypatch):
    """Whatever folder its Ray was started in."""
    monkeypatch.chdir(tmp_path)
    node = Node.here()
    monkeypatch.chdir("/")
    node.enter()
    assert os.getcwd() == str(tmp_path)


@needs_ray
@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("out of memory with a single text of 9 tokens"), "out of memory with a single text of 9 tokens"),
        (MemoryError(), "node 10.0.0.1: MemoryError: "),
        (RuntimeError("several\n  lines"), "node 10.0.0.1: RuntimeError: several lines"),
    ],
)
def test_a_worker_answers_with_a_line_where_it_cannot_do_a_job(error, line, monkeypatch):
    """It names the node, unless the function itself says what is wrong."""

    def fail() -> None:
        raise error

    monkeypatch.setattr(ray_cluster, "node_name", lambda: "10.0.0.1")
    worker = object.__new__(Worker)
    worker.node = Node.here()
    assert worker.call(fail) == Failure(line)


@needs_ray
def test_what_ray_says_becomes_one_line(monkeypatch):
    """Of an object store without room, and of an error that no worker foresees."""
    from ray import exceptions

    for error, line in (
        (exceptions.ObjectStoreFullError("1\n2"), "the cluster has no room for what workers exchange"),
        (exceptions.OutOfDiskError("1\n2"), "the cluster has no room for what workers exchange"),
        (
            exceptions.RayTaskError("call", "1\nKeyError: 'x'", KeyError("x")),
            "a worker of the cluster failed: KeyError",
        ),
    ):
        monkeypatch.setattr("ray.put", Mock(side_effect=error))
        with refused(line):
            object.__new__(RayCluster).share(0)


def square(number: int, folder: Path) -> int:
    """Leave a line with this node's name for each time that the job begins; all but the first wait for a file `lost`.

    A job on the node that the file names waits on.
    """
    import ray

    node, lost = ray.get_runtime_context().get_node_id(), folder / "lost"
    with open(folder / str(number), "a") as file:
        file.write(f"{node}\n")
    while number and (not lost.exists() or lost.read_text() == node):
        time.sleep(0.05)
    return number**2


def die() -> None:
    """End the worker, as the system does with a process that takes all memory."""
    os._exit(1)


@pytest.fixture(scope="module")
def nodes() -> Iterator:
    """Two nodes of one CPU, which may call the functions of this file."""
    with ray_nodes.started(2) as cluster:
        import ray

        ray.cloudpickle.register_pickle_by_value(sys.modules[square.__module__])
        yield cluster


@pytest.mark.slow
def test_a_job_that_ends_its_workers_is_given_up(nodes, tmp_path):
    """The line gives the likely cause; other jobs go on with new workers."""
    cluster = ray_cluster.join(nodes.address)
    with refused("a worker of the cluster died again and again (out of memory?)"):
        list(cluster.map(die, [()]))
    (tmp_path / "lost").touch()
    assert list(cluster.map(square, [(3, tmp_path)])) == [9]


@pytest.mark.slow
def test_a_node_that_dies_has_its_jobs_done_again(nodes, tmp_path, capfd):
    """By the other node, once it has no jobs of its own; each job has one answer, and one line tells of the node."""
    answers = ray_cluster.join(nodes.address).map(square, [(number, tmp_path) for number in range(6)])
    first, lost = next(answers), nodes.list_all_nodes()[1]
    while not any(lost.node_id in path.read_text() for path in tmp_path.glob("[1-5]")):
        time.sleep(0.05)
    store.write_text(tmp_path / "lost", lost.node_id)
    nodes.remove_node(lost, allow_graceful=False)
    assert sorted([first, *answers]) == [0, 1, 4, 9, 16, 25]
    printed = capfd.readouterr()
    assert printed.out.count("\n") == 1 and "was lost; its work is done again" in printed.out and not printed.err
    starts = [len(path.read_text().splitlines()) for path in tmp_path.glob("[0-5]")]
    assert max(starts) == 2
