"""Shards: a cluster gives what one machine gives, byte for byte, also where its driver was killed on the way."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
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

# Encodes the passages; kills itself when a worker returns the shard of a number.
DRIVER = """
import os, signal, sys
from pathlib import Path
from rounds.cluster.ray_cluster import RayCluster
from rounds.config import loader
from rounds.encoding import run_store, text_blocks
from rounds.models import checkpoint

def map_and_die(self, function, jobs, map=RayCluster.map):
    for number, answer in enumerate(map(self, function, jobs)):
        if number == last:
            os.kill(os.getpid(), signal.SIGKILL)
        yield answer

last, text_blocks.BLOCK_TEXTS = map(int, sys.argv[3].split(","))
RayCluster.map = map_and_die
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


def start_driver(folder: Path, cluster, url: str = "", last: int = -1, block: int = BLOCK) -> subprocess.Popen:
    """Start a process that encodes the passages, and kills itself when a worker returns the shard `last`."""
    flags = [folder, cluster.address, f"{last},{block}", url, *PASSAGES.values()]
    command = [sys.executable, "-c", DRIVER, *map(str, flags)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run_and_die(folder: Path, cluster, url: str = "") -> None:
    """Encode the passages in a process that kills itself when a worker returns the third shard."""
    ray_nodes.leave()
    driver = start_driver(folder, cluster, url, last=2)
    printed, _ = driver.communicate()
    assert driver.returncode == -signal.SIGKILL, printed


def test_a_cluster_gives_what_one_machine_gives(cluster, tmp_path):
    """Vectors (here several for each text), cuts and the run are the same bytes; no shard is left behind."""
    alone = rank(base("tiny-tokens"), tmp_path / "alone")
    assert len(alone) == 7 and rank(base("tiny-tokens", cluster=cluster.address), tmp_path / "together") == alone
    assert not list(tmp_path.rglob(f"{shards.FOLDER}/*"))


def test_of_two_drivers_at_once_one_encodes(cluster, tmp_path, monkeypatch):
    """In one folder: the other, which waits for it, leaves it the workers that it needs, and finds the vectors."""
    passages = list(PASSAGES.values())
    together = run_store.open_store(base(cluster=cluster.address), tmp_path / "together")
    together.vectors([f"add {number}" for number in range(BLOCK + 1)], "query", "train")  # now it has all cores
    driver = start_driver(tmp_path / "together", cluster, block=len(passages))
    monkeypatch.setattr(text_blocks, "BLOCK_TEXTS", len(passages))
    alone, _ = run_store.open_store(base(), tmp_path / "alone").vectors(passages, "passage", "corpus")
    while not list((tmp_path / "together").rglob(".corpus-*")):  # until the other encodes
        assert driver.poll() is None, driver.communicate()[0]
        time.sleep(0.1)
    monkeypatch.setattr(shards, "encode", None)
    vectors, _ = together.vectors(passages, "passage", "corpus")
    printed, _ = driver.communicate()
    assert driver.returncode == 0, printed
    np.testing.assert_array_equal(vectors, alone)


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
