"""Data at URLs (`RAW=s3://bucket/folder`): copied into the user's cache, so that whatever reads data sees local paths.

A process asks the storage once what is at a URL. A copy counts as long as the storage names the ETag (or MD5) and size
that the file had when it was copied, and the copy its own SHA-256; anything else is copied again, and so is by every
process what the storage has neither ETag nor MD5 of. Manifests record the URL beside the SHA-256 of the files.

```
CACHE/remote/NAME-HASH/NAME            the file, or the folder with its files
CACHE/remote/NAME-HASH/.copied.json    ETag, size and SHA-256 of each file that was copied
```
"""

import functools
import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from rounds.artifacts import disk_space, file_digests, hashing, object_storage, store
from rounds.errors import UserError

INDEX = ".copied.json"

CONTENT_MARKS = ("ETag", "etag", "md5Hash")  # what drivers call the marks that change with a file's content

FILES_AT_ONCE = 64

Listing = dict[str, dict[str, Any]]  # by path within the URL, which is empty for a single file


def local_path(name: str) -> Path:
    """Return a local path as it is, and for a URL the path of its copy, which is brought up to date first.

    Raises:
        UserError: nothing is at the URL, it cannot be read, or the disk has no space for it.
    """
    return _copy(name.rstrip("/")) if object_storage.is_url(name) else Path(name)


@functools.cache
def _copy(url: str) -> Path:
    storage, path = object_storage.open_url(url)
    name = PurePosixPath(path).name
    slug = re.sub(r"[^\w.-]", "_", name)
    if not slug.strip("."):
        raise UserError(f"{url}: names no bucket, folder or file")
    folder = file_digests.cache_folder() / "remote" / f"{slug}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"
    with store.lock(folder), object_storage.explaining(url):
        listing = _list(storage, path, url)
        _update(storage, listing, folder / slug, url)
    return folder / slug


def _list(storage: Any, path: str, url: str) -> Listing:
    """Return what the storage says of each file at a URL.

    Raises:
        UserError: there is none, or one whose name is no path of a file system.
    """
    top = storage.info(path)
    if top["type"] == "file":
        return {"": top}
    listing = {
        place.removeprefix(path).removeprefix("/"): info
        for place, info in storage.find(path, detail=True).items()
        if info["type"] == "file" and not place.endswith("/")  # consoles mark folders by such empty files
    }
    if not listing:
        raise UserError(f"{url}: holds no files")
    for name in listing:
        if not {"", ".", ".."}.isdisjoint(name.split("/")):
            raise UserError(f"{url}: {name!r} is no path of a local file; rename it")
    return listing


def _update(storage: Any, listing: Listing, target: Path, url: str) -> None:
    """Copy the files that are missing, or that changed on either side."""
    index = target.with_name(INDEX)
    copied = store.read_json(index) if index.is_file() else {}
    if _present(target) - listing.keys() or target.is_dir() == ("" in listing):
        shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
    copied = {name: copied[name] for name in listing if _is_copied(copied.get(name), listing[name], target / name)}
    missing = [name for name in listing if name not in copied]
    if not missing:
        return
    size = sum(listing[name].get("size") or 0 for name in missing)
    _require_space(target, size, url)
    tqdm.write(f"{url}: copying {len(missing)} of {len(listing)} files, {size / 1e6:.1f} MB, to {target}")
    try:
        for start in range(0, len(missing), FILES_AT_ONCE):
            batch = {name: listing[name] for name in missing[start : start + FILES_AT_ONCE]}
            copied |= _copy_files(storage, batch, target, url)
    finally:  # what was copied before an error is not copied again
        store.write_json(index, copied)


def _present(target: Path) -> set[str]:
    """Return the names of the copies, as a listing has them."""
    if not target.is_dir():
        return {""} if target.exists() else set()
    return {path.relative_to(target).as_posix() for path in target.rglob("*") if not path.is_dir()}


def _is_copied(entry: dict | None, info: dict, path: Path) -> bool:
    """Return whether a copy is what the storage has, as far as content tells."""
    if entry is None or not path.is_file() or entry["mark"] is None:
        return False
    is_same = entry["mark"] == _mark(info) and entry["size"] == info.get("size")
    return is_same and file_digests.sha256_weights(path) == entry["sha256"]


def _mark(info: dict) -> str | None:
    return next((str(info[key]) for key in CONTENT_MARKS if info.get(key)), None)


def _require_space(target: Path, size: int, url: str) -> None:
    free = shutil.disk_usage(target.parent).free
    if size > free:
        raise UserError(
            f"{url}: its copy takes {size / 1e9:.1f} GB, and {target.parent} has {free / 1e9:.1f} GB; set ROUNDS_CACHE "
            "to a folder on a larger disk"
        )


def _copy_files(storage: Any, listing: Listing, target: Path, url: str) -> dict[str, dict]:
    """Copy some files, all at once where the driver can, and return their entries in the index."""
    copied = {}
    with disk_space.required_for(target), tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        arrived = [Path(temporary, str(number)) for number in range(len(listing))]
        storage.get([info["name"] for info in listing.values()], list(map(str, arrived)))
        for path, (name, info) in zip(arrived, listing.items(), strict=True):
            size = info.get("size")
            if size is not None and path.stat().st_size != size:
                raise UserError(f"{url}: {path.stat().st_size} of {size} bytes of {info['name']} arrived; run again")
            entry = {"mark": _mark(info), "size": size, "sha256": hashing.sha256_file(path)}
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target / name)
            copied[name] = entry
    return copied
