"""Contenders: run one piece of work with Rounds or with a peer library, in a process of its own, and measure it."""

import contextlib
import functools
import importlib.util
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TypeVar

from rounds import process

Figure = TypeVar("Figure")

OURS, UNSHARED = "rounds", "rounds, prefix not shared"

STOCK, FLAG = "sentence-transformers", "FlagEmbedding"

QUICK = 8.0  # seconds; faster work is repeated, and the best of three counts


@dataclass(frozen=True)
class Contender:
    """A library that does the work, in one precision.

    Attributes:
        name: One of `OURS`, `UNSHARED`, `STOCK` and `FLAG`.
        precision: `fp32` or `bf16`, as that library implements it.
    """

    name: str
    precision: str

    @property
    def is_ours(self) -> bool:
        """Return whether this is Rounds, with or without shared prefixes."""
        return self.name in (OURS, UNSHARED)


@dataclass(frozen=True)
class Outcome:
    """The cost and the result of one piece of work.

    Attributes:
        seconds: Time of the work, without imports, warming up and any loading that is not part of it.
        peak: Peak MiB of memory of the process, without mapped files.
        result: What all contenders must agree on.
    """

    seconds: float
    peak: float
    result: object


def is_installed(name: str) -> bool:
    """Return whether a contender is installed."""
    return name != FLAG or importlib.util.find_spec("FlagEmbedding") is not None


def precisions(name: str) -> tuple[str, ...]:
    """Return the precisions that a contender supports on a CPU; FlagEmbedding always computes in fp32 there."""
    return ("fp32",) if name == FLAG else ("fp32", "bf16")


def run_alone(work: Callable[..., tuple[float, object]], contender: Contender, *arguments) -> Outcome:
    """Run `work(contender, *arguments)` in a fresh process, so that none profits from another's memory or threads."""
    with _waiting_of(contender), ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_run_measured, work, contender, arguments).result()


@contextlib.contextmanager
def _waiting_of(contender: Contender) -> Iterator[None]:
    """Let the threads of a peer's process wait for each other as its libraries do by themselves."""
    before = {name: os.environ.get(name) for name in process.LIBRARY_WAITING}
    if not contender.is_ours:
        os.environ.update(process.LIBRARY_WAITING)
    try:
        yield
    finally:
        os.environ.update({name: value for name, value in before.items() if value is not None})


@contextlib.contextmanager
def busy_core() -> Iterator[subprocess.Popen]:
    """Keep one core busy with another program, as in another terminal, until the block ends."""
    command = [sys.executable, "-S", "-c", "while True: pass"]
    with subprocess.Popen(command, start_new_session=True) as program:
        try:
            yield program
        finally:
            program.kill()


def _run_measured(work: Callable[..., tuple[float, object]], contender: Contender, arguments: tuple) -> Outcome:
    process.quiet_libraries()
    if contender.is_ours:
        process.keep_freed_memory()
    with open(os.devnull, "w") as devnull, contextlib.redirect_stdout(devnull), contextlib.redirect_stderr(devnull):
        with sampled(functools.partial(process.memory_mib, "RssAnon")) as samples:
            seconds, result = work(contender, *arguments)
    return Outcome(seconds, max(samples), result)


@contextlib.contextmanager
def sampled(figure: Callable[[], Figure]) -> Iterator[list[Figure]]:
    """Sample a figure, such as the memory of a process, until the block ends."""
    samples, finished = [figure()], threading.Event()

    def watch() -> None:
        while not finished.wait(0.05):
            samples.append(figure())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        finished.set()
        thread.join()
        samples.append(figure())


def timed(work: Callable[[], object]) -> tuple[float, object]:
    """Return the seconds and the result of some work; if it is quick, the best of three runs."""
    seconds: list[float] = []
    while len(seconds) < (3 if not seconds or seconds[0] < QUICK else 1):
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
    return min(seconds), result
