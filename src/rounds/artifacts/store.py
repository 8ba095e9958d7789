"""Artefacts: folders that are complete or absent, each with a `manifest.json` that says what it was made from.

A stage writes into a temporary sibling folder, the manifest last, and renames it into place, so a killed stage
leaves nothing that looks finished. The manifest's `config` holds everything that shapes the content (flags,
recipe, hashes of the inputs); a folder whose config differs is refused, or made anew where the caller says so.
"""

import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rounds.errors import UserError

MANIFEST = "manifest.json"


def require_files(*paths: Path) -> None:
    """Refuse paths that are no files, before anything slow begins."""
    for path in paths:
        if not Path(path).is_file():
            raise UserError(f"{path}: no such file")


def write_json(path: Path, value: object) -> None:
    """Write JSON to a temporary name, flush it to disk, and rename it into place."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file to a temporary name, flush it to disk, and rename it into place."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_jsonl(path: Path, rows: Iterable[dict]) -> None:
    """Write one JSON object a line."""
    with open(path, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_jsonl(path: Path, required: tuple[str, ...] = ()) -> list[dict]:
    """Read one JSON object a line; a missing file, a broken line or a missing key is one clear error."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    rows = []
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
            except (json.JSONDecodeError, UnicodeDecodeError):
                raise UserError(f"{path} line {number}: not a JSON object") from None
            missing = [key for key in required if not isinstance(row, dict) or key not in row]
            if missing:
                raise UserError(f"{path} line {number}: key {missing[0]!r} is missing")
            rows.append(row)
    if not rows:
        raise UserError(f"{path}: the file is empty")
    return rows


def read_json(path: Path) -> dict:
    """Read a JSON file that a stage wrote."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise UserError(f"{path}: not valid JSON; delete its folder and run the stage again") from None


def read_manifest(folder: Path) -> dict | None:
    """The folder's manifest, or None where it has none."""
    path = Path(folder) / MANIFEST
    if not path.is_file():
        return None
    manifest = read_json(path)
    if not isinstance(manifest, dict):
        raise UserError(f"{path}: not a manifest; delete its folder and run the stage again")
    return manifest


def differences(old: object, new: object, prefix: str = "") -> list[str]:
    """What differs between two configs, one `key: old -> new` a difference.

    >>> differences({"seed": 42, "flags": {"epochs": 2}}, {"seed": 42, "flags": {"epochs": 3}})
    ['flags.epochs: 2 -> 3']
    """
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in sorted(old.keys() | new.keys(), key=str):
            found += differences(old.get(key), new.get(key), f"{prefix}{key}.")
        return found
    return [] if old == new else [f"{prefix.rstrip('.')}: {_short(old)} -> {_short(new)}"]


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def is_finished(folder: Path, config: dict, overwrite: bool = False) -> bool:
    """Whether `folder` already holds the artefact of `config`.

    Raises:
        UserError: the folder holds something else (another config, or files without a manifest), and
            `overwrite` does not allow to replace it.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file, a folder is needed; name another one")
    if overwrite or not folder.exists():
        return False
    manifest = read_manifest(folder)
    if manifest is None:
        if not any(folder.iterdir()):
            return False
        raise UserError(f"{folder}: has files but no {MANIFEST}; name another folder or pass --overwrite")
    changed = differences(manifest.get("config"), json.loads(json.dumps(config)))
    if changed:
        raise UserError(
            f"{folder}: made from another configuration ({'; '.join(changed[:3])}); "
            "name another folder or pass --overwrite"
        )
    return True


@contextmanager
def writing(folder: Path, manifest: dict) -> Iterator[Path]:
    """Yield a temporary folder; on success add `manifest.json` and rename it to `folder`, else remove it.

    `manifest` may be filled in further inside the block; seconds spent are added as `seconds`.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(folder)
    temporary = folder.parent / f".{folder.name}.{os.getpid()}.tmp"
    temporary.mkdir()
    start = time.perf_counter()
    try:
        yield temporary
        write_json(temporary / MANIFEST, {**manifest, "seconds": round(time.perf_counter() - start, 2)})
        put_in_place(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process; others wait."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def put_in_place(temporary: Path, folder: Path) -> None:
    """Rename a finished temporary folder to its name, replacing what stands there."""
    if folder.exists():
        retired = folder.parent / f".{folder.name}.{os.getpid()}.old.tmp"
        os.replace(folder, retired)
        os.replace(temporary, folder)
        shutil.rmtree(retired)
    else:
        os.replace(temporary, folder)


def _remove_leftovers(folder: Path) -> None:
    """Remove temporary folders that killed processes left beside `folder`."""
    for leftover in folder.parent.iterdir():
        match = re.fullmatch(rf"\.{re.escape(folder.name)}\.(\d+)(\.old)?\.tmp", leftover.name)
        if match and not _is_alive(int(match[1])):
            shutil.rmtree(leftover, ignore_errors=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def is_main_process() -> bool:
    """Whether this process is the one that writes (rank 0, or the only one)."""
    return int(os.environ.get("RANK", "0")) == 0


def file_manifest(path: Path) -> Path:
    """The manifest of an artefact that is a single file: `NAME.manifest.json` beside `NAME.jsonl`."""
    return path.with_name(f"{path.stem}.manifest.json")


def is_file_finished(path: Path, config: dict, overwrite: bool) -> bool:
    manifest = file_manifest(path)
    if overwrite or not manifest.is_file() or not path.is_file():
        return False
    changed = differences(read_json(manifest).get("config"), config)
    if changed:
        raise UserError(
            f"{path}: made from another configuration ({'; '.join(changed[:3])}); name another file or pass --overwrite"
        )
    return True


def write_file_artifact(path: Path, rows: list[dict], manifest: dict) -> None:
    """Write a JSONL artefact; its manifest, the stamp, comes last."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file_manifest(path).unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write_jsonl(temporary, rows)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    write_json(file_manifest(path), manifest)
