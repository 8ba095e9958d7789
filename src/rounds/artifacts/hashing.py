"""SHA-256 digests of files, JSON values and lists of texts."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

from rounds.errors import UserError


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal.

    Raises:
        UserError: the file does not exist.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_below(folder: Path, hidden: bool = True) -> Iterator[Path]:
    """Yield the files in a folder and its subfolders, symbolic links followed, in the order of their names.

    Args:
        folder: the folder.
        hidden: also files and folders whose names begin with a dot.
    """
    visited = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in visited:  # a link that leads to a folder above it
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if hidden or not name.startswith("."))
        listed = (Path(place, name) for name in sorted(names) if hidden or not name.startswith("."))
        yield from (path for path in listed if path.is_file())


def sha256_json(value: object) -> str:
    """Return the SHA-256 of a value as JSON; the order of keys does not matter.

    Args:
        value: a JSON value, or a list that may hold `SortedMapping`s too, which are hashed as a dict would be, item by
            item.

    >>> sha256_json({"a": 1, "b": 2}) == sha256_json({"b": 2, "a": 1})
    True
    """
    if not (isinstance(value, list) and any(isinstance(part, SortedMapping) for part in value)):
        return hashlib.sha256(_to_json(value)).hexdigest()
    digest = hashlib.sha256(b"[")
    for number, part in enumerate(value):
        digest.update(b", " if number else b"")
        if not isinstance(part, SortedMapping):
            digest.update(_to_json(part))
            continue
        for place, (key, item) in enumerate(part.sorted_items()):
            digest.update((b", " if place else b"{") + _to_json(key) + b": " + _to_json(item))
        digest.update(b"}" if len(part) else b"{}")
    digest.update(b"]")
    return digest.hexdigest()


def made_from_digest(record: dict) -> str:
    """Return the short name by which an artefact that reads another one records what that was made from."""
    return sha256_json(record)[:16]


def _to_json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False).encode()


@runtime_checkable
class SortedMapping(Protocol):
    """A mapping that is not held in memory, and that yields its items by key."""

    def __len__(self) -> int: ...

    def sorted_items(self) -> Iterator[tuple[str, str]]: ...


def sha256_texts(texts: Iterable[str]) -> str:
    """Return the SHA-256 of texts in their order; lengths are hashed too, so that the cuts between texts matter."""
    digest = hashlib.sha256()
    for text in texts:
        encoded = text.encode()
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return digest.hexdigest()
