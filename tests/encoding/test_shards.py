"""Shards: a cluster gives what one machine gives, byte for byte, also where its driver was killed on the way."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers import ray_nodes, s3_stand_in

from rounds.config import loader
from rounds.encoding import run_store, shards, text_blocks
from rounds.models import checkpoint
from rounds.models.checkpoint import Checkpoint
from rounds.retrieval.representation import VECTORS_FILE
from rounds.retrieval.tokens import OFFSETS_FILE

pytestmark = pytest.mark.slow

BLOCK = 16  # texts of a shard: 5 shards

PASSAGES = {
    f"p{number}": f"the sum of {number % 70} and {number % 70 + 1} " * (number % 70 % 4 + 1) for number in range(90)
}  # 70 distinct texts

QUERIES = {f"q{number}": f"add {number} and {number + 1}" for number in range(5)}

# Kills itself when a worker returns the third shard.
DRIVER = """
import os, signal, sys
from pathlib import Path
from rounds.cluster.ray_cluster import RayCluster
from rounds.config import loader
from rounds.encoding import run_store, text_blocks
from rounds.models import checkpoint

def map_and_die(self, function, jobs, map=RayCluster.map):
    for number, answer in enumerate(map(self, function, jobs)):
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        yield answer

RayCluster.map, text_blocks.BLOCK_TEXTS = map_and_die, int(sys.argv[3])
source = checkpoint.resolve(None, loader.load("tiny-mistral"), "cpu", "fp32")
source = source.with_options(cluster=sys.argv[2], shards=sys.argv[4])
run_store.open_store(source, Path(sys.argv[1])).vectors(sys.argv[5:], "passage", "corpus")
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator:
    with ray_nodes.started(2) as nodes:
        yield nodes


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch) -> Iterator[None]:
    """Corpora of several shards; one thread computes here, as on a node of one CPU."""
    monkeypatch.setattr(text_blocks, "BLOCK_TEXTS", BLOCK)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def base(name: str = "tiny-mistral", **options) -> Checkpoint:
    return checkpoint.resolve(None, loader.load(name), "cpu", "fp32").with_options(**options)


def rank(source: Checkpoint, folder: Path) -> dict[str, bytes]:
    """Rank the passages and return the files of vectors, cuts and the run, by path."""
    run_store.open_store(source, folder).run("test", QUERIES, PASSAGES, depth=20)
    names = (VECTORS_FILE, OFFSETS_FILE, run_store.CUTS_FILE, run_store.RUN_FILE)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.name in names}


def run_and_die(folder: Path, cluster, url: str = "") -> None:
    """Encode the passages in a process that kills itself when a worker returns the third shard."""
    flags = [folder, cluster.address, BLOCK, url, *PASSAGES.values()]
    ray_nodes.leave()
    killed = subprocess.run([sys.executable, "-c", DRIVER, *map(str, flags)], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr


def test_a_cluster_gives_what_one_machine_gives(cluster, tmp_path):
    """Vectors (here several for each text), cuts and the run are the same bytes; no shard is left behind."""
    alone = rank(base("tiny-tokens"), tmp_path / "alone")
    assert len(alone) == 7 and rank(base("tiny-tokens", cluster=cluster.address), tmp_path / "together") == alone
    assert not list(tmp_path.rglob(f"{shards.FOLDER}/*"))


def test_a_driver_that_was_killed_goes_on_where_it_was(cluster, tmp_path, capsys):
    """Shards that are there are not encoded again; a truncated one is, and the result is the same bytes."""
    alone, together = rank(base(), tmp_path / "alone"), tmp_path / "together"
    run_and_die(together, cluster)
    files = sorted(together.rglob(f"{shards.FOLDER}/*/*/{VECTORS_FILE}"))
    assert len(files) == 2
    files[0].write_bytes(files[0].read_bytes()[:-64])
    capsys.readouterr()
    assert rank(base(cluster=cluster.address), together) == alone
    lines = capsys.readouterr().out
    assert f"{files[0].parent}: is damaged; it is encoded again" in lines
    assert "encode corpus: 1 of 5 shards were there already" in lines


def test_workers_write_shards_to_s3(cluster, tmp_path, capsys):
    """After a kill the driver finds what its workers wrote; a truncated object is encoded again, the rest is not."""
    alone, url = rank(base(), tmp_path / "alone"), f"s3://{s3_stand_in.BUCKET}/shards"
    with s3_stand_in.serving() as storage:
        run_and_die(tmp_path / "together", cluster, url)
        first, *others = written = sorted(storage.find(url))
        assert len(written) >= 3 and not list((tmp_path / "together").rglob(VECTORS_FILE))
        storage.pipe(first, storage.cat(first)[:-64])
        capsys.readouterr()
        assert rank(base(cluster=cluster.address, shards=url), tmp_path / "together") == alone
        lines = capsys.readouterr().out
        assert f"s3://{first}: is damaged; it is encoded again" in lines
        kept = re.search(r"encode corpus: (\d) of 5 shards were there already", lines)
        assert len(others) <= int(kept[1]) < 5  # a worker may have written another one after the kill
        assert not storage.find(url)
