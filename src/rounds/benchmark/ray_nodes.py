"""Ray nodes on this machine: a core each, as machines of one core would have."""

import contextlib
import ctypes
import importlib.util
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rounds.errors import UserError

ADDRESS = "127.0.0.1"

STORE_BYTES = 2**30  # of each node's shared memory for objects

PR_SET_PDEATHSIG = 1  # of linux/prctl.h

STARTED, SECONDS_TO_START, SECONDS_TO_END = "Ray runtime started", 120.0, 30.0


def reason_against(nodes: int) -> str:
    """Return why this machine cannot run so many nodes; an empty text if it can."""
    if importlib.util.find_spec("ray") is None:
        return "Ray is not installed (pip install -e '.[cluster]')"
    if not hasattr(os, "sched_setaffinity"):
        return "this system (not Linux) does not keep a process on a core"
    cores = len(os.sched_getaffinity(0))
    return f"{nodes} nodes need a core each, and there are {cores}" if cores < nodes else ""


def cores() -> list[int]:
    """Return the numbers of the cores that this process may use."""
    return sorted(os.sched_getaffinity(0))


@dataclass
class RayNodes:
    """A cluster's nodes, each on a core of its own.

    Attributes:
        address: of the head, as `CLUSTER` takes it.
        folder: of their logs and sockets.
        processes: one for each node, the head's first.
    """

    address: str
    folder: Path
    processes: list[subprocess.Popen] = field(default_factory=list)

    def add(self) -> None:
        """Start another node, the head if it is the first, on the next core.

        Raises:
            UserError: it does not start; the line ends with what it said last.
        """
        number = len(self.processes)
        folder = self.folder / str(number)
        self.processes.append(_start(cores()[number], self.address, is_head=number == 0, folder=folder))


@contextlib.contextmanager
def started() -> Iterator[RayNodes]:
    """Yield a cluster without nodes, and end those that the block adds.

    Processes that are started in the block may join them: a token in the environment keeps others out.
    """
    with socket.socket() as free:
        free.bind((ADDRESS, 0))
        address = f"{ADDRESS}:{free.getsockname()[1]}"
    with _environment(), tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        nodes = RayNodes(address, Path(folder))
        try:
            yield nodes
        finally:
            for process in reversed(nodes.processes):
                _end(process)


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """Give nodes and their users one thread and a token, no proxy between them, and workers of usual priority.

    Ray's workers would otherwise yield to any other program (`nice`), and to the process that they are compared with.
    """
    before = dict(os.environ)
    for name in [name for name in before if name.lower().endswith("_proxy")]:
        del os.environ[name]
    os.environ.update(_access(), RAY_worker_niceness="0", RAY_USAGE_STATS_ENABLED="0", OMP_NUM_THREADS="1")
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _access() -> dict[str, str]:
    """Return variables that let in who has a token; Ray reads them once in a process, when it is imported."""
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def _start(core: int, address: str, is_head: bool, folder: Path) -> subprocess.Popen:
    """Start a node, wait until it runs, and keep it on a core from then on: Ray allows 30 seconds for the start."""
    place = ["--head", "--port", address.rpartition(":")[2], "--include-dashboard=false"]
    command = [sys.executable, "-m", "ray.scripts.scripts", "start"]
    command += place if is_head else ["--address", address]
    command += ["--node-ip-address", ADDRESS, "--num-cpus", 1, "--object-store-memory", STORE_BYTES]
    command += ["--include-log-monitor=false", "--temp-dir", folder, "--block"]
    log = folder.with_suffix(".log")
    with open(log, "w") as file:
        process = subprocess.Popen(
            list(map(str, command)), stdout=file, stderr=file, start_new_session=True, preexec_fn=_end_with_parent
        )
    deadline = time.monotonic() + SECONDS_TO_START
    while STARTED not in log.read_text():
        if process.poll() is not None or time.monotonic() > deadline:
            _end(process)
            said = " ".join(log.read_text().split())[-200:]
            raise UserError(f"a Ray node does not start: {said}")
        time.sleep(0.2)
    pin_session(process.pid, core)
    return process


def _end_with_parent() -> None:
    """Have Linux end this process, a node, when the process that started it is killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def pin_session(session: int, core: int) -> None:
    """Keep all processes of a session on a core, and those that they start later."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if os.getsid(int(folder.name)) == session:
                for thread in (folder / "task").iterdir():
                    os.sched_setaffinity(int(thread.name), {core})


def _end(process: subprocess.Popen) -> None:
    """End a node, which ends its own processes."""
    process.terminate()
    try:
        process.wait(SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
