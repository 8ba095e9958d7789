"""Where shards are kept: a folder of this machine, or a URL of object storage, to which workers write them themselves.

At a URL, a shard is one object, the zip file of its folder without compression. Object storages (S3, Google's, Azure's)
put an object whole or not at all, so a killed worker leaves none; the zip file's checksums tell a damaged one.
"""

import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from rounds.artifacts import disk_space, object_storage, store
from rounds.artifacts.manifests import Manifest
from rounds.errors import UserError

NOT_A_ZIP = (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError)  # of a damaged zip file


@dataclass(frozen=True)
class LocalShards:
    """Shards of one corpus in a folder of this machine, each a folder by its name."""

    folder: Path

    def place(self, name: str) -> str:
        """Return where a shard is, for messages."""
        return str(self.folder / name)

    def require_writable(self) -> None:
        """Do nothing: the corpus's vectors are being written beside the folder."""

    def has(self, name: str) -> bool:
        """Return whether a shard is there, whole or damaged."""
        return (self.folder / name).is_dir()

    @contextmanager
    def opened(self, name: str) -> Iterator[Path]:
        """Yield a shard's folder."""
        yield self.folder / name

    def writing(self, name: str, manifest: Manifest) -> AbstractContextManager[Path]:
        """Yield a temporary folder, which becomes a shard's on success."""
        return store.writing(self.folder / name, manifest)

    def remove(self, name: str) -> None:
        """Remove a shard."""
        shutil.rmtree(self.folder / name)

    def remove_all(self) -> None:
        """Remove all shards, whose corpus is complete."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True)
class RemoteShards:
    """Shards of one corpus at a URL, each an object; methods are those of `LocalShards`.

    Files are unpacked in the folder of temporary files (`TMPDIR`), one shard at a time.

    Raises:
        UserError: from each method, with one line, where the storage does not do what it is asked for.
    """

    url: str

    def place(self, name: str) -> str:
        """Return where a shard is, for messages and for fsspec."""
        return f"{self.url}/{name}.zip"

    def require_writable(self) -> None:
        """Refuse storage to which nothing can be written, before workers encode for it."""
        storage, path = object_storage.open_url(f"{self.url}/writable")
        with object_storage.explaining(self.url):
            storage.pipe_file(path, b"")
            storage.rm_file(path)

    def has(self, name: str) -> bool:
        """Return whether a shard is there, whole or damaged."""
        storage, path = object_storage.open_url(self.place(name))
        with object_storage.explaining(self.place(name)):
            try:
                return storage.info(path)["type"] == "file"
            except FileNotFoundError:
                return False

    @contextmanager
    def opened(self, name: str) -> Iterator[Path]:
        """Yield a folder with the shard's files, which is empty where the object is damaged."""
        storage, path = object_storage.open_url(self.place(name))
        with tempfile.TemporaryDirectory() as temporary:
            packed, folder = Path(temporary, "shard.zip"), Path(temporary, "shard")
            with object_storage.explaining(self.place(name)):
                storage.get_file(path, str(packed))
            try:
                with disk_space.required_for(folder), zipfile.ZipFile(packed) as archive:
                    archive.extractall(folder)
            except NOT_A_ZIP:
                shutil.rmtree(folder, ignore_errors=True)
            packed.unlink()
            yield folder

    @contextmanager
    def writing(self, name: str, manifest: Manifest) -> Iterator[Path]:
        """Yield a temporary folder, which is packed and put on success."""
        storage, path = object_storage.open_url(self.place(name))
        with tempfile.TemporaryDirectory() as temporary:
            packed, folder = Path(temporary, "shard.zip"), Path(temporary, "shard")
            with store.writing(folder, manifest) as files:
                yield files
            with zipfile.ZipFile(packed, "w") as archive:
                for file in sorted(folder.iterdir()):
                    archive.write(file, file.name)
            with object_storage.explaining(self.place(name)):
                storage.put_file(str(packed), path)

    def remove(self, name: str) -> None:
        """Remove a shard."""
        storage, path = object_storage.open_url(self.place(name))
        with object_storage.explaining(self.place(name)):
            storage.rm_file(path)

    def remove_all(self) -> None:
        """Remove all shards, whose corpus is complete; where that fails, a line says so."""
        try:
            storage, path = object_storage.open_url(self.url)
            with object_storage.explaining(self.url):
                storage.rm(path, recursive=True)
        except UserError as error:
            tqdm.write(f"{error}; the corpus is complete, and its shards stay there")


Shards = LocalShards | RemoteShards


def shards_of(url: str, folder: Path) -> Shards:
    """Return the shards of a corpus.

    Args:
        url: of the shards of all corpora; empty to keep them in `folder`.
        folder: of the corpus's shards on this machine; its name is the corpus's at the URL, too.
    """
    return RemoteShards(f"{url.rstrip('/')}/{folder.name}") if url else LocalShards(folder)
