"""Ray: join a Ray cluster, share out its GPUs or cores, and check that its nodes run what this process runs.

Ray is imported when a cluster is named, and not before.
"""

import functools
import hashlib
import importlib.util
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

import rounds
from rounds import process
from rounds.artifacts.object_storage import STORAGE_VARIABLES
from rounds.errors import UserError
from rounds.models.library_versions import library_versions

Answer = TypeVar("Answer")

AUTO = "auto"  # the cluster that runs on this machine; a local one if there is none

MOST_CPUS = 4  # cores of a worker without a GPU

RESTARTS = 4  # of a worker whose node or process dies, and of its job

PATIENCE = 10.0  # seconds that a worker without a job waits for another one

SECONDS_TO_ANSWER = 10.0  # of a cluster's head

HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # of HTTP/2, which Ray's gRPC speaks

HEADER_BYTES = 9  # of a frame in HTTP/2, whose fourth byte is the type

SETTINGS = b"\4"  # type of the first frame with which a server of HTTP/2 answers

KEPT_VARIABLES = (  # workers get these of this process
    *("ROUNDS_", "HF_", "TRANSFORMERS_", "OMP_", "TOKENIZERS_"),
    *STORAGE_VARIABLES,
)


@dataclass(frozen=True)
class Node:
    """What a machine runs the project with.

    Attributes:
        project: the folder in which commands run.
        versions: version of each library, and a hash of the project's own code.
    """

    project: str
    versions: dict[str, str]

    @classmethod
    def here(cls) -> "Node":
        """Return what this machine has."""
        return cls(os.getcwd(), {**library_versions(), "rounds": _code_digest()})

    def enter(self) -> None:
        """Make this process, on whichever node it is, work in the project's folder.

        Raises:
            UserError: the node lacks the folder, or has other versions; the line names the node.
        """
        try:
            os.chdir(self.project)
        except OSError:
            raise UserError(
                f"node {node_name()}: has no folder {self.project}; mount the project there on every node"
            ) from None
        versions = Node.here().versions
        if other := [name for name, version in self.versions.items() if versions.get(name) != version]:
            listed = ", ".join(f"{name} {versions.get(name, 'absent')} ({self.versions[name]} here)" for name in other)
            raise UserError(f"node {node_name()}: has {listed}; install the same on every node")


@dataclass(frozen=True)
class Failure:
    """What a worker returns where it cannot do a job: a line for the user."""

    line: str


class Worker:
    """An actor with a GPU or a few cores of some node, which calls functions for one process.

    Args:
        node: what its node must have.
    """

    def __init__(self, node: Node) -> None:
        process.quiet_libraries()
        process.keep_freed_memory()
        self.node = node

    def call(self, function: Callable[..., Answer], *arguments: object) -> Answer | Failure:
        """Call a function in the project's folder."""
        try:
            self.node.enter()
            return function(*arguments)
        except UserError as error:
            return Failure(str(error))
        except (RuntimeError, OSError, ValueError, MemoryError) as error:
            return Failure(f"node {node_name()}: {type(error).__name__}: {' '.join(str(error).split())[:200]}")


class RayCluster:
    """A cluster that this process has joined.

    Attributes:
        workers: how many fit on the cluster at once.
        has_gpus: whether each of them has a GPU.
        cpus: cores of each, where they have no GPU.
    """

    def __init__(self, workers: int, has_gpus: bool, cpus: int) -> None:
        self.workers, self.has_gpus, self.cpus = workers, has_gpus, cpus
        self._node, self._alive = Node.here(), _alive_nodes()
        self.drop_workers()

    def share(self, value: object) -> object:
        """Put a value where all workers read it; it takes the value's place among a job's arguments.

        Raises:
            UserError: there is no room for it.
        """
        import ray

        with _explaining():
            return ray.put(value)

    def map(self, function: Callable[..., Answer], jobs: Iterable[tuple]) -> Iterator[Answer]:
        """Yield what a function returns for each job, in the order in which they finish.

        A job is made when a worker is free to take it. Ray starts a worker that died again, on another node if need be,
        and does its job again.

        Args:
            function: a function of a module; it must return the same whenever it is called.
            jobs: the arguments of each call.

        Raises:
            UserError: a job failed, its worker died again and again, or there is no room for a job's arguments.
        """
        try:
            for job in jobs:
                if not self._pool.has_free() and self._started < self.workers:
                    self._pool.push(self._start())
                elif not self._pool.has_free():
                    yield self._next()
                with _explaining():
                    self._pool.submit(lambda worker, job: worker.call.remote(function, *job), job)
            while self._pool.has_next():
                yield self._next()
        finally:
            if self._pool.has_next():  # answers that nobody wants any more
                self.drop_workers()

    def drop_workers(self) -> None:
        """Forget all workers, which end with the last reference to them and leave their share of the cluster."""
        from ray.util import ActorPool

        self._pool, self._started = ActorPool([]), 0

    def _start(self) -> Any:
        import ray

        self._started += 1
        share = {"num_gpus": 1, "num_cpus": 0} if self.has_gpus else {"num_cpus": self.cpus}
        return ray.remote(Worker).options(**share, max_restarts=RESTARTS, max_task_retries=-1).remote(self._node)

    def _tell_lost_nodes(self) -> None:
        alive = _alive_nodes()
        for node in self._alive.keys() - alive.keys():
            tqdm.write(f"node {self._alive[node]} of the cluster was lost; its work is done again elsewhere")
        self._alive = alive

    def _next(self) -> Any:
        """Return the next answer.

        Workers that wait for a job leave their share of the cluster when the others take long: these may have lost
        their nodes, and need another place to start again.
        """
        while True:
            try:
                with _explaining():
                    answer = self._pool.get_next_unordered(timeout=PATIENCE)
            except TimeoutError:
                self._tell_lost_nodes()
                while self._pool.has_free():
                    self._pool.pop_idle()
                    self._started -= 1
            except UserError:
                self.drop_workers()
                raise
            else:
                self._tell_lost_nodes()
                break
        if isinstance(answer, Failure):
            raise UserError(answer.line)
        return answer


@contextmanager
def _explaining() -> Iterator[None]:
    """Say in one line why Ray cannot go on.

    Raises:
        UserError: the block raised an error of Ray, whose message has many lines.
    """
    import ray

    try:
        yield
    except ray.exceptions.RayError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[-1][:200] if lines else type(error).__name__
        if isinstance(error, (ray.exceptions.ObjectStoreFullError, ray.exceptions.OutOfDiskError)):
            raise UserError(
                "the cluster has no room for what workers exchange, neither in memory nor on disk; start Ray with more "
                "--object-store-memory, or with --temp-dir on a larger disk"
            ) from None
        if isinstance(error, ray.exceptions.RayTaskError):
            raise UserError(f"a worker of the cluster failed: {reason}") from None
        raise UserError(f"a worker of the cluster died again and again (out of memory?): {reason}") from None


def node_name() -> str:
    """Return the address of this process's node."""
    import ray.util

    return ray.util.get_node_ip_address()


@functools.cache
def _code_digest() -> str:
    folder, digest = Path(rounds.__file__).parent, hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _leave_out(data: dict, ignore_prefix: bool) -> None:
    """Take the place of Ray's function that prints the messages of daemons, which no option switches off."""


def _require_answer(address: str) -> None:
    """Refuse an address at which nobody answers, or another program; Ray would try for minutes."""
    if address == AUTO:
        return
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=SECONDS_TO_ANSWER) as connection:
            if os.environ.get("RAY_USE_TLS", "0") != "0":  # then it speaks after a handshake alone
                return
            connection.sendall(HELLO)
            header = connection.makefile("rb").read(HEADER_BYTES)
    except (OSError, ValueError) as error:
        raise UserError(f"CLUSTER={address}: nobody answers there ({error}); is Ray's head running?") from None
    if header[3:4] != SETTINGS:
        raise UserError(f"CLUSTER={address}: is another program's port; name that of Ray's head, such as {host}:6379")


@functools.cache
def join(address: str) -> RayCluster:
    """Join a cluster for the rest of this process.

    Args:
        address: `auto`, or HOST:PORT of the cluster's head.

    Raises:
        UserError: Ray is not installed, nobody answers at the address, or Ray's or Python's version differs there.
    """
    if importlib.util.find_spec("ray") is None:
        raise UserError(f"CLUSTER={address}: needs Ray; install it with pip install -e '.[cluster]'")
    _require_answer(address)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what Ray would otherwise warn about
    import ray

    ray._private.worker.print_to_stdstream = _leave_out  # what the nodes' daemons say; we say it in a line
    kept = {name: value for name, value in os.environ.items() if name.startswith(KEPT_VARIABLES)}
    try:
        ray.init(
            address=None if address == AUTO else address,
            log_to_driver=False,
            logging_level="critical",
            include_dashboard=None if address != AUTO else False,
            runtime_env={"env_vars": kept},
        )
    except ray.exceptions.AuthenticationError:
        raise UserError(
            f"CLUSTER={address}: asks for a token; copy ~/.ray/auth_token of its head here and set RAY_AUTH_MODE=token"
        ) from None
    except (ConnectionError, RuntimeError, ValueError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"CLUSTER={address}: cannot join ({reason}); start Ray on this machine as well") from None
    return RayCluster(*_shares())


def leave_workers(address: str) -> None:
    """Leave a cluster's GPUs or cores to others, if this process has joined it; its next job starts workers anew."""
    if join.cache_info().currsize:
        join(address).drop_workers()


def _alive_nodes() -> dict[str, str]:
    """Return the names of the nodes, by their ids."""
    import ray

    return {node["NodeID"]: node["NodeName"] for node in ray.nodes() if node["Alive"]}


def _shares() -> tuple[int, bool, int]:
    """Return how many workers the nodes hold, whether each has a GPU, and the cores of each where there are none."""
    import ray

    resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = sum(int(node.get("GPU", 0)) for node in resources)
    if gpus:
        return gpus, True, 0
    cpus = [int(node.get("CPU", 0)) for node in resources if node.get("CPU")]
    if not cpus:
        raise UserError("the cluster has neither GPUs nor CPUs; start a node with --num-cpus")
    share = min(MOST_CPUS, *cpus)
    return sum(count // share for count in cpus), False, share
