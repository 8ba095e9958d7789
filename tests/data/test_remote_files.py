"""Data at URLs: copied once, copied again when their content changes, and refused in one line that names the URL."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from helpers.tiny_task import refused

from rounds.artifacts import object_storage
from rounds.data import remote_files


class MarkedStorage(MemoryFileSystem):
    """Files in memory with ETags, as object storages have them; remembers which files were read."""

    protocol = "marked"
    store: dict = {}
    pseudo_dirs = [""]
    reads: list[str] = []
    lost_bytes = 0

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("marked://"))

    def info(self, path: str, **kwargs) -> dict:
        return self._marked(super().info(path, **kwargs))

    def find(self, path: str, **kwargs) -> dict:
        return {name: self._marked(info) for name, info in super().find(path, **kwargs).items()}

    def get_file(self, rpath: str, lpath: str, **kwargs) -> None:
        self.reads.append(rpath)
        content = self.cat_file(rpath)
        Path(lpath).write_bytes(content[: len(content) - self.lost_bytes])

    def _marked(self, info: dict) -> dict:
        if info["type"] != "file":
            return info
        return {**info, "ETag": hashlib.md5(self.store[info["name"]].getvalue()).hexdigest()}


@pytest.fixture
def storage(monkeypatch, tmp_path) -> MarkedStorage:
    """An empty storage at `marked://`, and an empty cache."""
    fsspec.register_implementation("marked", MarkedStorage, clobber=True)
    monkeypatch.setenv("ROUNDS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(MarkedStorage, "store", {})
    monkeypatch.setattr(MarkedStorage, "reads", [])
    return fsspec.filesystem("marked")


def path_of(url: str) -> Path:
    """Return the path that another process gets."""
    remote_files._copy.cache_clear()
    return remote_files.local_path(url)


def test_a_local_path_stays_what_it_is_and_imports_no_driver():
    """Without a URL, fsspec is not imported by what reads paths."""
    code = (
        "import sys; from rounds.data import remote_files; "
        "print(remote_files.local_path('data/raw'), 'fsspec' in sys.modules)"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.split() == ["data/raw", "False"]


def test_a_folder_is_copied_with_its_names(storage, capsys):
    """The copy has the URL's last name and its files; another process reads nothing again."""
    storage.pipe({"/b/beir/corpus.jsonl": b"one", "/b/beir/qrels/test.tsv": b"two"})
    folder = path_of("marked://b/beir/")
    assert folder.name == "beir" and (folder / "qrels" / "test.tsv").read_bytes() == b"two"
    assert path_of("marked://b/beir") == folder
    assert sorted(storage.reads) == ["/b/beir/corpus.jsonl", "/b/beir/qrels/test.tsv"]
    assert capsys.readouterr().out.count("copying 2 of 2 files, 0.0 MB") == 1


@pytest.mark.parametrize("side", ["storage", "copy"])
def test_a_file_that_changed_on_either_side_is_copied_again(side, storage):
    """Another content, of the same length, is noticed there and here; other files are not read again."""
    storage.pipe({"/b/f/a.csv": b"old", "/b/f/b.csv": b"same"})
    copy = path_of("marked://b/f") / "a.csv"
    if side == "storage":
        storage.pipe("/b/f/a.csv", b"new")
    else:
        copy.write_bytes(b"bad")
    storage.reads.clear()
    assert path_of("marked://b/f") / "a.csv" == copy
    assert copy.read_bytes() == (b"new" if side == "storage" else b"old")
    assert storage.reads == ["/b/f/a.csv"]


def test_a_file_that_vanished_vanishes_from_the_copy(storage):
    """No loader finds a shard that the storage no longer has."""
    storage.pipe({"/b/f/a.csv": b"a", "/b/f/sub/b.csv": b"b"})
    path_of("marked://b/f")
    storage.rm("/b/f/sub/b.csv")
    folder = path_of("marked://b/f")
    assert [path.relative_to(folder).as_posix() for path in folder.rglob("*")] == ["a.csv"]


def test_a_file_that_became_a_folder_is_a_folder(storage):
    """And the other way round."""
    storage.pipe("/b/f", b"file")
    assert path_of("marked://b/f").read_bytes() == b"file"
    storage.rm("/b/f")
    storage.pipe("/b/f/a.csv", b"a")
    assert (path_of("marked://b/f") / "a.csv").read_bytes() == b"a"
    storage.rm("/b/f/a.csv")
    storage.pipe("/b/f", b"file")
    assert path_of("marked://b/f").read_bytes() == b"file"


def test_storage_without_etags_is_read_anew_by_each_process(storage):
    """What tells nothing of its content is never taken for fresh."""
    memory = fsspec.filesystem("memory")
    memory.pipe("/remote-test/a.csv", b"old")
    assert path_of("memory://remote-test/a.csv").read_bytes() == b"old"
    memory.pipe("/remote-test/a.csv", b"new")
    assert path_of("memory://remote-test/a.csv").read_bytes() == b"new"


def test_files_that_were_copied_before_an_error_are_not_copied_again(storage, monkeypatch):
    """A file that arrives cut is refused; a later call takes up where this one stopped."""
    storage.pipe({"/b/f/a.csv": b"aa", "/b/f/b.csv": b"bb"})
    monkeypatch.setattr(remote_files, "FILES_AT_ONCE", 1)
    monkeypatch.setattr(MarkedStorage, "lost_bytes", property(lambda self: len(self.reads) - 1))
    with refused("marked://b/f: 1 of 2 bytes of /b/f/b.csv arrived; run again"):
        path_of("marked://b/f")
    monkeypatch.setattr(MarkedStorage, "lost_bytes", 0)
    storage.reads.clear()
    assert (path_of("marked://b/f") / "b.csv").read_bytes() == b"bb" and storage.reads == ["/b/f/b.csv"]


@pytest.mark.parametrize(
    "url, says",
    [
        ("marked://b/none.csv", "no such bucket, folder or file"),
        ("marked://b/up", "'../x' is no path of a local file; rename it"),
        ("marked://..", "names no bucket, folder or file"),
        ("nothing://b/f", "Protocol not known: nothing"),
        ("gs://b/f", "needs gcsfs; install it with pip install gcsfs"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_line(url, says, storage, monkeypatch):
    """The line names the URL and what is wrong; nothing is left in the cache that looks like data."""
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    storage.store["/b/up/../x"] = storage._open("/b/tmp", "wb")
    with refused(f"{url}: {says}"):
        path_of(url)


def test_a_copy_larger_than_the_disk_is_refused_before_it_begins(storage, monkeypatch):
    """The line says how much it takes."""
    storage.pipe("/b/a.csv", b"a")
    free = type("Usage", (), {"free": 0})
    monkeypatch.setattr(remote_files.shutil, "disk_usage", lambda path: free)
    with refused("marked://b/a.csv: its copy takes 0.0 GB", "set ROUNDS_CACHE to a folder on a larger disk"):
        path_of("marked://b/a.csv")
    assert not storage.reads


@pytest.mark.parametrize("error", [PermissionError("Access Denied"), type("NoCredentialsError", (Exception,), {})()])
def test_missing_credentials_are_named(error):
    """The line says which variables hold them."""

    with refused("s3://b/f: is not allowed (", "AWS_ACCESS_KEY_ID"), object_storage.explaining("s3://b/f"):
        raise error


def test_the_index_holds_the_content(storage):
    """ETag, size and SHA-256 of the copy stand beside it."""
    storage.pipe("/b/a.csv", b"a")
    index = json.loads((path_of("marked://b/a.csv").with_name(remote_files.INDEX)).read_text())
    assert index == {"": {"mark": hashlib.md5(b"a").hexdigest(), "size": 1, "sha256": hashlib.sha256(b"a").hexdigest()}}
