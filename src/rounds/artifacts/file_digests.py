"""Digests of large files, kept by what identifies a file's content without reading it: inode, size and times.

Digests are kept in memory and in small files in the user's cache, one for each file that was read. Each is written
whole and renamed into place, so processes may read and write them at once.
"""

import contextlib
import json
import os
import tempfile
import time
from pathlib import Path

from rounds.artifacts import hashing, store

CLOCK_TICK = 20_000_000  # nanoseconds; a file changed again within one tick of the kernel's clock keeps its times

WHOLE_SECOND = 1_000_000_000  # nanoseconds; some file systems keep times in seconds, FAT in two

kept_in_memory: dict[tuple[int, ...], str] = {}


def cache_folder() -> Path:
    """Return the folder of files that can be made anew: `ROUNDS_CACHE`, or `~/.cache/rounds`.

    A user without a home folder, as in some containers, has it in the folder of temporary files.
    """
    if folder := os.environ.get("ROUNDS_CACHE"):
        return Path(folder)
    try:
        return Path.home() / ".cache" / "rounds"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"rounds-{os.getuid()}"


def sha256_weights(path: Path) -> str:
    """Return the SHA-256 of a file's bytes; a file that has not changed since it was last read is not read again.

    Raises:
        UserError: the file does not exist.
    """
    if not path.is_file():
        return hashing.sha256_file(path)
    identity = identity_of(path)
    digest = kept_in_memory.get(identity) or _read(identity)
    if digest is None:
        _wait_for_next_tick(identity)
        digest = hashing.sha256_file(path)
        if identity_of(path) != identity or _may_change_unseen(identity):
            return digest
        _write(identity, digest, path)
    kept_in_memory[identity] = digest
    return digest


def identity_of(path: Path) -> tuple[int, ...]:
    """Return device, inode, size and times; the time of change notices contents whose modification time was set."""
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _wait_for_next_tick(identity: tuple[int, ...]) -> None:
    """Wait until another change of the file would get another time."""
    age = time.time_ns() - max(identity[3:])
    if 0 <= age < CLOCK_TICK:
        time.sleep((CLOCK_TICK - age) / WHOLE_SECOND)


def _may_change_unseen(identity: tuple[int, ...]) -> bool:
    """Return whether the file is young and its file system keeps whole seconds, or its clock runs ahead."""
    newest = max(identity[3:])
    age = time.time_ns() - newest
    return age < 0 or (newest % WHOLE_SECOND == 0 and age < 2 * WHOLE_SECOND)


def _entry(identity: tuple[int, ...]) -> Path:
    return cache_folder() / "digests" / f"{hashing.sha256_json(identity)[:32]}.json"


def _read(identity: tuple[int, ...]) -> str | None:
    """Return a digest that some process kept; None without one, or if its file is broken."""
    try:
        content = json.loads(_entry(identity).read_text(encoding="utf-8"))
        return content["sha256"] if content["identity"] == list(identity) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(identity: tuple[int, ...], digest: str, path: Path) -> None:
    """Keep a digest for other processes, if the cache can be written to; the path is for people."""
    entry = _entry(identity)
    with contextlib.suppress(OSError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        store.write_json(entry, {"identity": identity, "sha256": digest, "path": str(path.absolute())})
