"""Shards at a URL: written by whoever encodes, read back as they were, and encoded again where they are damaged."""

import dataclasses
import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import fsspec
import numpy as np
import pytest
from helpers import s3_stand_in
from helpers.tiny_task import refused

from rounds.artifacts import store
from rounds.artifacts.manifests import Origin, VectorsManifest
from rounds.cluster import ray_cluster
from rounds.config import loader
from rounds.encoding import run_store, shards, text_blocks
from rounds.encoding.run_store import CUTS_FILE
from rounds.encoding.shard_storage import RemoteShards
from rounds.models import checkpoint
from rounds.models.checkpoint import Checkpoint
from rounds.models.inference_options import InferenceOptions
from rounds.retrieval.representation import VECTORS_FILE
from rounds.retrieval.tokens import OFFSETS_FILE

URL = "memory://shard-test"

TEXTS = [f"the sum of {number} and {number + 1} " * (number % 4 + 1) for number in range(20)] * 2  # 20 distinct texts


class OneProcess:
    """Stands in for a cluster: does each job here, and counts them.

    Attributes:
        most: jobs that are done before this process is killed.
        answers: what the jobs returned.
        beside: called when the first job is done.
    """

    has_gpus, cpus = False, 0

    def __init__(self) -> None:
        self.jobs, self.most, self.beside, self.answers = 0, 1000, lambda: None, []

    def map(self, function: Callable, jobs: Iterator[tuple]) -> Iterator:
        for job in jobs:
            if self.jobs == self.most:
                raise KeyboardInterrupt
            self.jobs += 1
            answer = function(*job)
            self.answers.append(answer)
            if self.jobs == 1:
                self.beside()
            yield answer


@pytest.fixture
def cluster(monkeypatch) -> OneProcess:
    """A cluster in this process, shards of 8 texts, and an empty storage."""
    process = OneProcess()
    monkeypatch.setattr(ray_cluster, "join", lambda address: process)
    monkeypatch.setattr(text_blocks, "BLOCK_TEXTS", 8)
    storage = fsspec.filesystem("memory")
    if storage.exists("/shard-test"):
        storage.rm("/shard-test", recursive=True)
    shards._loaded.key, shards._loaded.encoder = "", None
    return process


def base(name: str = "tiny-mistral", stored: str = "fp32", **options) -> Checkpoint:
    recipe = loader.load(name).replace("model", stored_precision=stored)
    return checkpoint.resolve(None, recipe, "cpu", "fp32").with_options(**options)


def encode(
    folder: Path, name: str = "tiny-mistral", stored: str = "fp32", texts: Sequence[str] = TEXTS, **options
) -> dict[str, bytes]:
    """Encode texts and return the files of vectors and cuts."""
    source = base(name, stored, **options)
    _, vectors = run_store.open_store(source, folder).vectors(texts, "passage", "corpus")
    return {path.name: path.read_bytes() for path in vectors.iterdir() if path.suffix in (".npy", ".json")} | {
        "manifest.json": b""  # holds the time
    }


def objects() -> list[str]:
    return sorted(fsspec.filesystem("memory").find("/shard-test"))


@pytest.mark.parametrize("name", ["tiny-mistral", "tiny-tokens"])
def test_vectors_are_those_of_one_machine(name, cluster, tmp_path):
    """With one vector a text or several, files are the same bytes, and no shard is left at the URL."""
    alone = encode(tmp_path / "alone", name)
    assert {VECTORS_FILE, CUTS_FILE} <= alone.keys() and (OFFSETS_FILE in alone) == (name == "tiny-tokens")
    assert encode(tmp_path / "remote", name, cluster="auto", shards=URL) == alone
    assert cluster.jobs == 3 and not objects()


@pytest.mark.parametrize("texts", [TEXTS[:1], TEXTS[:1] * 20])
def test_a_corpus_of_one_text_is_one_shard(texts, cluster, tmp_path):
    """However often it has the text."""
    assert encode(tmp_path / "together", texts=texts, cluster="auto") == encode(tmp_path / "alone", texts=texts)
    assert cluster.jobs == 1


@pytest.mark.parametrize("url", ["", URL])
def test_shards_of_vectors_stored_in_fp16_are_fp16(url, cluster, tmp_path):
    """They take half the bytes on their way and where they are kept; the corpus's vectors are those of one machine."""
    alone = encode(tmp_path / "alone", stored="fp16")
    cluster.most = 2
    with pytest.raises(KeyboardInterrupt):
        encode(tmp_path / "together", stored="fp16", cluster="auto", shards=url)
    if url:
        storage = fsspec.filesystem("memory")
        kept = [zipfile.ZipFile(io.BytesIO(storage.cat(name))).open(VECTORS_FILE) for name in objects()]
    else:
        kept = sorted((tmp_path / "together").rglob(f"{shards.FOLDER}/*/*/{VECTORS_FILE}"))
        assert all(answer.vectors.dtype == np.float16 for answer in cluster.answers)
    assert [np.load(file).dtype for file in kept] == [np.float16] * 2
    cluster.jobs, cluster.most = 0, 1000
    assert encode(tmp_path / "together", stored="fp16", cluster="auto", shards=url) == alone
    assert cluster.jobs == 1


def test_who_waits_for_another_process_leaves_it_the_workers(cluster, tmp_path, monkeypatch):
    """Without them, the one that encodes in this store might wait for this one."""
    source, holder, left = base(cluster="auto"), ExitStack(), []
    holder.enter_context(store.lock(run_store.open_store(source, tmp_path).root))

    def leave(address: str) -> None:
        left.append(address)
        holder.close()

    monkeypatch.setattr(ray_cluster, "leave_workers", leave)
    for _ in range(2):  # the second finds the vectors, and waits for nobody
        run_store.open_store(source, tmp_path).vectors(TEXTS, "passage", "corpus")
    assert left == ["auto"] and cluster.jobs == 3


def test_only_missing_and_damaged_shards_are_encoded_again(cluster, tmp_path, capsys):
    """After a kill, one of two shards is cut and one has a changed byte; both are named, and the result is the same."""
    alone = encode(tmp_path / "alone")
    cluster.most = 2
    with pytest.raises(KeyboardInterrupt):
        encode(tmp_path / "remote", cluster="auto", shards=URL)
    storage, (first, second) = fsspec.filesystem("memory"), objects()
    content = storage.cat(first)
    storage.pipe(first, content[:-10])
    storage.pipe(second, (other := storage.cat(second))[:300] + bytes([other[300] ^ 1]) + other[301:])
    cluster.jobs, cluster.most = 0, 1000
    capsys.readouterr()
    assert encode(tmp_path / "remote", cluster="auto", shards=URL) == alone
    lines = capsys.readouterr().out
    for name in (first, second):
        assert f"memory:/{name}: is damaged; it is encoded again" in lines
    assert cluster.jobs == 3


def test_a_shard_with_a_cut_manifest_is_encoded_again(cluster, tmp_path, capsys):
    """As a machine that loses power may leave it; the line names the shard."""
    cluster.most = 2
    with pytest.raises(KeyboardInterrupt):
        encode(tmp_path, cluster="auto")
    manifest, _ = sorted(tmp_path.rglob(f"{shards.FOLDER}/*/*/{store.MANIFEST}"))
    manifest.write_bytes(manifest.read_bytes()[:-10])
    cluster.jobs, cluster.most = 0, 1000
    capsys.readouterr()
    encode(tmp_path, cluster="auto")
    assert f"{manifest.parent}: is damaged; it is encoded again" in capsys.readouterr().out
    assert cluster.jobs == 2


def test_whole_shards_are_kept_after_a_kill(cluster, tmp_path, capsys):
    """The rerun encodes the missing ones alone."""
    cluster.most = 1
    with pytest.raises(KeyboardInterrupt):
        encode(tmp_path, cluster="auto", shards=URL)
    assert len(objects()) == 1
    cluster.jobs, cluster.most = 0, 1000
    encode(tmp_path, cluster="auto", shards=URL)
    assert cluster.jobs == 2 and "1 of 3 shards were there already" in capsys.readouterr().out


def test_two_stores_at_one_url_leave_each_others_shards(cluster, tmp_path):
    """One encodes the corpus, and removes its shards, while the other one does: both are complete, and alike."""
    alone, others = encode(tmp_path / "alone"), []
    cluster.beside = lambda: others.append(encode(tmp_path / "other", cluster="auto", shards=URL))
    assert encode(tmp_path / "remote", cluster="auto", shards=URL) == alone
    assert others == [alone] and not objects()


def test_storage_that_takes_no_shards_is_refused_before_anything_is_encoded(cluster, tmp_path):
    """The line names the URL; no vectors are left."""
    with refused("nothing://b/corpus-", "Protocol not known"):
        encode(tmp_path, cluster="auto", shards="nothing://b")
    assert not cluster.jobs and not list(tmp_path.rglob(VECTORS_FILE))


def test_shards_need_a_url_and_a_cluster():
    """Without either, the line says what to name."""
    options = InferenceOptions("fp32", ("cpu",), cluster="auto")
    with refused("shards /disk: must be a URL"):
        dataclasses.replace(options, shards="/disk")
    with refused(f"shards {URL}: only a cluster's workers write shards"):
        dataclasses.replace(options, shards=URL, cluster="")


@pytest.mark.slow
def test_s3_keeps_shards():
    """An object is written, read back, noticed where it is cut, and removed; a missing bucket is refused."""
    manifest = VectorsManifest(config={}, made=Origin(versions={}, device="cpu"))
    with s3_stand_in.serving() as storage:
        kept = RemoteShards(f"s3://{s3_stand_in.BUCKET}/shards/corpus-1")
        kept.require_writable()
        assert not kept.has("a") and not storage.find(kept.url)
        for name in ("a", "b"):
            with kept.writing(name, manifest) as folder:
                (folder / "report.json").write_text(name)
        assert kept.has("a")
        with kept.opened("a") as folder:
            assert (folder / "report.json").read_text() == "a"
        storage.pipe(kept.place("a"), storage.cat(kept.place("a"))[:-5])
        with kept.opened("a") as folder:
            assert not folder.exists()
        kept.remove("a")
        assert not kept.has("a") and kept.has("b")
        kept.remove_all()
        assert not storage.find(kept.url)
        with refused("s3://no-such-bucket/x: no such bucket"):
            RemoteShards("s3://no-such-bucket/x").require_writable()
        assert [name.strip("/") for name in storage.ls("")] == [s3_stand_in.BUCKET]
