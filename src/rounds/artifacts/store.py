"""Write files and folders that are either complete or absent, each folder with a manifest of what it was made from.

A stage writes into a temporary sibling folder, the manifest last, and renames it into place, so a killed stage
leaves nothing that looks finished. The manifest's `config` holds everything that shapes the content (flags, recipe,
hashes of the inputs). A folder whose config differs is refused, or replaced where the caller asks for it.
"""

import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from rounds.artifacts import disk_space, hashing, jsonl, manifest_parsing
from rounds.artifacts.manifests import Manifest
from rounds.errors import UserError

MANIFEST = "manifest.json"

MADE_FROM = "made_from"  # in a manifest: the command that made the artefact and what it read


def require_files(*paths: Path) -> None:
    """Raise a `UserError` for the first path that is not a file; call it before anything slow begins."""
    for path in paths:
        if not Path(path).is_file():
            raise UserError(f"{path}: no such file")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush the file to disk and rename it to `path`, else remove it.

    Readers see the old file or the complete new one, never a part. The temporary name ends in `.tmp`: where a library
    picks the format by the ending, hand it an open file instead. What killed processes left of `path` is removed first.
    Where `path` is a symbolic link, the file that it leads to is replaced.
    """
    path = Path(os.path.realpath(path))
    _remove_leftovers(path)
    temporary = path.with_name(f".{path.name}.{_machine()}-{os.getpid()}.tmp")
    try:
        with disk_space.required_for(path):
            yield temporary
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_jsonl(path: Path, rows: Iterable[dict]) -> None:
    """Write one JSON object per line, atomically."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_jsonl(path: Path, required: tuple[str, ...] = ()) -> list[dict]:
    """Read a JSONL file.

    Args:
        required: keys that every row must have.

    Raises:
        UserError: the file is missing or empty, or a line is not a JSON object with the required keys.
    """
    rows = []
    for number, row in jsonl.read_lines(path):
        if missing := [key for key in required if key not in row]:
            raise UserError(f"{path} line {number}: key {missing[0]!r} is missing")
        rows.append(row)
    if not rows:
        raise UserError(f"{path}: the file is empty")
    return rows


def read_json(path: Path) -> dict:
    """Read a JSON file that a stage wrote.

    Raises:
        UserError: the file is missing or not valid JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise UserError(f"{path}: not valid JSON; delete its folder and run the stage again") from None


def file_manifest(path: Path) -> Path:
    """The manifest of an artefact that is a single file: `NAME.manifest.json` beside `NAME.jsonl`."""
    return path.with_name(f"{path.stem}.manifest.json")


def is_made_from(output: Path, made_from: dict) -> bool:
    """Return whether a folder or file is complete, and its manifest has exactly this `made_from`.

    A file's manifest holds its digest as well, and those of files that belong to it (`beside`), so that an edited file
    is not taken for the artefact.
    """
    if read_made_from(output) != made_from:
        return False
    if output.is_dir():
        return True
    manifest = read_json(file_manifest(output))
    digests = {output.name: manifest.get("sha256"), **manifest.get("beside", {})}
    files = {output.with_name(name): digest for name, digest in digests.items()}
    return all(file.is_file() and hashing.sha256_file(file) == digest for file, digest in files.items())


def read_made_from(output: Path) -> dict | None:
    """Return what a folder or file says that it was made from; empty if it does not say, None if it is not finished.

    No other key of the manifest is checked: what another version left is judged by this one, and replaced.
    """
    manifest = output / MANIFEST if output.is_dir() else file_manifest(output)
    if not (output.exists() and manifest.is_file()):
        return None
    content = read_json(manifest)
    return content.get(MADE_FROM) or {} if isinstance(content, dict) else {}


def read_manifest(folder: Path) -> Manifest | None:
    """Return the folder's manifest, of its kind's class; None if it has none.

    Raises:
        UserError: the manifest is broken, of an unknown kind, or lacks a key or has one too many.
    """
    return _read_manifest_file(Path(folder) / MANIFEST)


def read_file_manifest(path: Path) -> Manifest | None:
    """Return the manifest beside an artefact that is a single file, as `read_manifest` does."""
    return _read_manifest_file(file_manifest(path))


def has_foreign_manifest(folder: Path) -> bool:
    """Return whether another tool wrote a `manifest.json` into the folder: it has none of the keys of ours."""
    path = folder / MANIFEST
    if not path.is_file():
        return False
    content = read_json(path)
    return not isinstance(content, dict) or content.keys().isdisjoint(("kind", "config", MADE_FROM))


def _read_manifest_file(path: Path) -> Manifest | None:
    return manifest_parsing.parse(read_json(path), str(path)) if path.is_file() else None


def differences(old: object, new: object, prefix: str = "") -> list[str]:
    """Return the differences between two configs, each as `key: old -> new`.

    >>> differences({"seed": 42, "flags": {"epochs": 2}}, {"seed": 42, "flags": {"epochs": 3}})
    ['flags.epochs: 2 -> 3']
    """
    if isinstance(old, dict) and isinstance(new, dict):
        changes = []
        for key in sorted(old.keys() | new.keys(), key=str):
            changes += differences(old.get(key), new.get(key), f"{prefix}{key}.")
        return changes
    return [] if old == new else [f"{prefix.rstrip('.')}: {_short(old)} -> {_short(new)}"]


def _short(value: object) -> str:
    """Return the value as JSON, cut to 60 characters."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def is_finished(folder: Path, config: dict, overwrite: bool = False, made_from: dict | None = None) -> bool:
    """Return whether `folder` already holds the artefact.

    Args:
        config: what the artefact's manifest holds as `config`.
        overwrite: take no folder for the artefact.
        made_from: what the artefact's manifest holds as `made_from`; it alone decides, in place of `config` and
            `overwrite`. None where no pipeline stage makes the artefact.

    Raises:
        UserError: the path is a file, or the folder holds something else (another config, or files without a
            manifest) and neither `overwrite` nor `made_from` is given.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file, but a folder is needed; name another path")
    if made_from is not None:
        return is_made_from(folder, made_from)
    if overwrite or not folder.exists():
        return False
    manifest = read_manifest(folder)
    if manifest is None:
        if not any(folder.iterdir()):
            return False
        raise UserError(f"{folder}: has files but no {MANIFEST}; name another folder or pass --overwrite")
    changed = differences(manifest.config, json.loads(json.dumps(config)))
    if changed:
        raise UserError(_other_config(folder, changed, "folder"))
    return True


def _other_config(path: Path, changed: list[str], kind: str) -> str:
    return (
        f"{path}: made from another configuration ({'; '.join(changed[:3])}); name another {kind} or pass --overwrite"
    )


@dataclass
class Draft:
    """An artefact in the making.

    Attributes:
        folder: the temporary folder.
        manifest: what is to be written beside the files; must be set when the block ends.
    """

    folder: Path
    manifest: Manifest | None = None


@contextmanager
def writing(folder: Path, manifest: Manifest) -> Iterator[Path]:
    """Yield a temporary folder; on success add `manifest.json` and rename it to `folder`, else remove it.

    The seconds that the block took are added to the manifest.
    """
    with drafting(folder) as draft:
        yield draft.folder
        draft.manifest = manifest


@contextmanager
def drafting(folder: Path) -> Iterator[Draft]:
    """Do as `writing` does, for a manifest that is known only when the files are written: the block sets it."""
    start = time.perf_counter()
    with replacing_folder(folder) as temporary:
        draft = Draft(temporary)
        yield draft
        seconds = round(time.perf_counter() - start, 2)
        write_manifest(temporary / MANIFEST, draft.manifest.with_values(seconds=seconds))


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `folder`; on success rename it to `folder`, else remove it.

    It adds no manifest: this is for folders that other tools read, where every file counts. Where `folder` is a
    symbolic link, the folder that it leads to is replaced.
    """
    folder = Path(os.path.realpath(folder))
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(folder)
    temporary = folder.parent / f".{folder.name}.{_machine()}-{os.getpid()}.tmp"
    temporary.mkdir()
    try:
        with disk_space.required_for(folder):
            yield temporary
            put_in_place(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write a manifest atomically."""
    write_json(path, manifest.to_json())


@contextmanager
def lock(folder: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Lock `folder` against other processes and threads; wait until it is free.

    Args:
        on_wait: called once before waiting, and not where the folder is free.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file_lock = FileLock(folder / ".lock")
    try:
        file_lock.acquire(blocking=False)
    except Timeout:
        on_wait()
        file_lock.acquire()
    try:
        yield
    finally:
        file_lock.release()


def put_in_place(temporary: Path, folder: Path) -> None:
    """Rename a finished temporary folder to `folder`, replacing an older one, or a symbolic link to one."""
    if folder.is_symlink():  # the folder behind it may be on another disk, where nothing can be renamed to
        folder.unlink()
    if folder.exists():
        retired = folder.parent / f".{folder.name}.{_machine()}-{os.getpid()}.old.tmp"
        os.replace(folder, retired)
        os.replace(temporary, folder)
        shutil.rmtree(retired)
    else:
        os.replace(temporary, folder)


def _machine() -> str:
    """Return this machine's name as part of a file's name: processes of others that share the disk may have our id."""
    return re.sub(r"\W+", "-", socket.gethostname())


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files and folders that killed processes left beside the file or folder `path`.

    Those of another machine are left alone: whether its process lives cannot be told from here.
    """
    if not path.parent.is_dir():
        return
    for leftover in path.parent.iterdir():
        match = re.fullmatch(rf"\.{re.escape(path.name)}\.{_machine()}-(\d+)(\.old)?\.tmp", leftover.name)
        if not match or _is_alive(int(match[1])):
            continue
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    """Return whether a process with this id exists."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def is_main_process() -> bool:
    """Return whether this process is the one that writes files: rank 0 of a distributed run, or the only process."""
    return int(os.environ.get("RANK", "0")) == 0


def is_file_finished(path: Path, config: dict, overwrite: bool, made_from: dict | None = None) -> bool:
    """Return whether the file at `path` is already the artefact; arguments are those of `is_finished`.

    Raises:
        UserError: the file was made from another config, or edited since, and neither `overwrite` nor `made_from` is
            given.
    """
    if made_from is not None:
        return is_made_from(path, made_from)
    if overwrite or not path.is_file() or (manifest := read_file_manifest(path)) is None:
        return False
    changed = differences(manifest.config, config)
    if changed:
        raise UserError(_other_config(path, changed, "file"))
    if manifest.sha256 not in (None, hashing.sha256_file(path)):
        raise UserError(f"{path}: was changed after it was made; name another file, or make it anew with --overwrite")
    return True


def write_file_artifact(path: Path, rows: list[dict], manifest: Manifest) -> None:
    """Write a JSONL artefact, then its manifest, which marks it as finished."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file_manifest(path).unlink(missing_ok=True)
    write_jsonl(path, rows)
    write_manifest(file_manifest(path), manifest.with_values(sha256=hashing.sha256_file(path)))
