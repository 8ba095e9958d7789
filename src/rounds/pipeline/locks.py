"""Locks: one make, or one script, at a time writes into a folder; others wait and say so."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from rounds.pipeline.experiment import short_hash

LOCKS = Path("model_output/.locks")  # apart from the folders, which stages replace as a whole


@contextmanager
def experiment(home: Path) -> Iterator[None]:
    """Held by make while it brings the stages of a folder up to date."""
    with _held(home, "make", f"{home}: another make is at work there; waiting until it ends"):
        yield


@contextmanager
def output(path: Path) -> Iterator[None]:
    """Held by a script that makes a stage's artefact: it may outlive the make that was killed, or be run by hand."""
    with _held(path, "stage", f"{path}: another process is making it; waiting until it ends"):
        yield


@contextmanager
def _held(path: Path, kind: str, notice: str) -> Iterator[None]:
    LOCKS.mkdir(parents=True, exist_ok=True)
    lock = FileLock(LOCKS / f"{path.name}-{short_hash(path.as_posix())}.{kind}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(notice, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
