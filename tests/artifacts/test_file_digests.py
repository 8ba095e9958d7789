"""Digests of large files: a file is read once for each content that it has."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from helpers.tiny_task import refused

from rounds.artifacts import file_digests, hashing
from rounds.artifacts.file_digests import sha256_weights


@pytest.fixture(autouse=True)
def empty_cache(tmp_path_factory, monkeypatch):
    """Nothing is kept in memory or on disk."""
    folder = tmp_path_factory.mktemp("digest-cache")
    monkeypatch.setenv("ROUNDS_CACHE", str(folder))
    monkeypatch.setattr(file_digests, "kept_in_memory", {})
    return folder


@pytest.fixture
def readings(monkeypatch) -> list:
    """Paths of the files that are read from now on."""
    paths, read = [], hashing.sha256_file
    monkeypatch.setattr(hashing, "sha256_file", lambda path: paths.append(path) or read(path))
    return paths


def weights(folder, content: bytes = b"weights"):
    path = folder / "model.safetensors"
    path.write_bytes(content)
    return path


def test_an_unchanged_file_is_read_once(tmp_path, readings):
    """The second digest of a file comes without reading it, also from a cache that another process left on disk."""
    path = weights(tmp_path)
    digest = sha256_weights(path)
    file_digests.kept_in_memory.clear()
    assert [sha256_weights(path), sha256_weights(path)] == [digest] * 2 == [hashing.sha256_file(path)] * 2
    assert len(readings) == 3 - 1  # one by each function


def change_content(path):
    path.write_bytes(b"WEIGHTS")


def change_content_and_restore_its_time(path):
    status = path.stat()
    path.write_bytes(b"WEIGHTS")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def replace_by_another_file(path):
    status, other = path.stat(), path.with_name("other")
    other.write_bytes(b"WEIGHTS")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(other, path)


def append(path):
    path.write_bytes(b"weights and more")


@pytest.mark.parametrize(
    "change", [change_content, change_content_and_restore_its_time, replace_by_another_file, append]
)
def test_a_changed_file_is_read_again(tmp_path, change):
    """However a file changed, its digest is that of its content, also right after it was read."""
    path = weights(tmp_path)
    before = sha256_weights(path)
    change(path)
    assert sha256_weights(path) == hashing.sha256_file(path) != before


def test_a_file_that_may_change_unseen_is_not_kept(tmp_path, readings, monkeypatch):
    """On a file system that keeps whole seconds, a young file is read each time."""
    path = weights(tmp_path)
    second = time.time_ns() // file_digests.WHOLE_SECOND * file_digests.WHOLE_SECOND
    monkeypatch.setattr(file_digests, "identity_of", lambda path: (1, 2, path.stat().st_size, second, second))
    assert len({sha256_weights(path), sha256_weights(path)}) == 1
    assert len(readings) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", '{"sha256": "0"}'])
def test_a_broken_entry_of_the_cache_is_made_anew(tmp_path, empty_cache, content):
    """What a full disk left of an entry does not pass for a digest."""
    path = weights(tmp_path)
    digest = sha256_weights(path)
    file_digests.kept_in_memory.clear()
    (entry,) = (empty_cache / "digests").iterdir()
    entry.write_text(content)
    assert sha256_weights(path) == digest


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    """A read-only home only costs the reading."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("ROUNDS_CACHE", str(tmp_path / "file"))
    path = weights(tmp_path)
    assert sha256_weights(path) == hashing.sha256_file(path)


def test_many_processes_may_keepkept_in_memory_at_once(tmp_path, empty_cache):
    """Processes that read the same new files get the right digests, and leave whole entries."""
    paths = []
    for number in range(4):
        (tmp_path / str(number)).mkdir()
        paths.append(weights(tmp_path / str(number), bytes([number]) * 1000))
    program = "import sys, pathlib; from rounds.artifacts.file_digests import sha256_weights as f\n"
    program += "print([f(pathlib.Path(path)) for path in sys.argv[1:] * 20])"
    command = [sys.executable, "-c", program, *map(str, paths)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = {process.communicate()[0].strip() for process in processes}
    assert answers == {str([hashing.sha256_file(path) for path in paths] * 20)}
    assert len(list((empty_cache / "digests").iterdir())) == 4


def test_a_missing_file_is_named(tmp_path):
    """A file that is not there is refused."""
    with refused(tmp_path / "model.safetensors", "no such file"):
        sha256_weights(tmp_path / "model.safetensors")


def test_the_cache_has_a_place_without_a_home_folder(monkeypatch):
    """An empty variable counts as none, and a user without a home folder keeps digests among temporary files."""

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setenv("ROUNDS_CACHE", "")
    assert file_digests.cache_folder() == Path.home() / ".cache" / "rounds"
    monkeypatch.setattr(Path, "home", no_home)
    assert file_digests.cache_folder().parent == Path(tempfile.gettempdir())
