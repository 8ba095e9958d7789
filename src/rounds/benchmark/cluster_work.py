"""Cluster work: encode on Ray nodes of one core each and without Ray, and search by one of their workers."""

import functools
import hashlib
import os
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from rounds import process
from rounds.benchmark import contenders, corpus_work, ray_nodes, round_work
from rounds.benchmark.contenders import OURS, Contender, Outcome
from rounds.cluster import ray_cluster
from rounds.cluster import search as cluster_search
from rounds.config.recipe import Recipe
from rounds.encoding import run_store, text_blocks
from rounds.errors import UserError
from rounds.models import checkpoint
from rounds.retrieval.vectors import unit_vectors

NODES = 2

NO_RAY, ONE_NODE, ALL_NODES = "no Ray", "1 Ray node", f"{NODES} Ray nodes"

SHARDS = 20  # of the encoded corpus: enough to share out when a node is slower than another

QUERIES, DIM = 1000, 384  # of the search


@dataclass(frozen=True)
class Encoded:
    """What encoding results in.

    Attributes:
        digest: a hash of the vectors.
        loading: seconds until the model was loaded, on each node.
    """

    digest: str
    loading: float


@dataclass(frozen=True)
class WorkerMemory:
    """Memory of a process in MiB.

    Attributes:
        own: what no file backs.
        shared: pages of the node's shared memory for objects that the process has mapped.
    """

    own: float
    shared: float

    @classmethod
    def of(cls, pid: int) -> "WorkerMemory":
        """Return the memory of a process of this machine."""
        return cls(process.memory_mib("RssAnon", pid), process.memory_mib("RssShmem", pid))


def measure_encoding(
    measure: Callable[..., Outcome], recipe: Recipe, passages: int, repeats: int
) -> dict[str, list[Outcome]]:
    """Encode random short passages without Ray, on one node, and on `NODES` of them, several times in turn.

    Args:
        measure: as `BenchmarkInputs.measure`.
        passages: how many.
        repeats: how many times.

    Returns:
        outcomes of each repeat by `NO_RAY`, `ONE_NODE` and `ALL_NODES`, with `Encoded` as their results.

    Raises:
        UserError: a node does not start, or the vectors are not the same.
    """
    contender = Contender(OURS, "fp32")
    outcomes: dict[str, list[Outcome]] = {NO_RAY: [], ONE_NODE: [], ALL_NODES: []}
    for _ in range(repeats):
        outcomes[NO_RAY].append(measure(encode_short, contender, recipe, passages, ""))
        with ray_nodes.started() as nodes:
            for name, count in ((ONE_NODE, 1), (ALL_NODES, NODES)):
                while len(nodes.processes) < count:
                    nodes.add()
                outcomes[name].append(measure(encode_short, contender, recipe, passages, nodes.address))
    if len({outcome.result.digest for part in outcomes.values() for outcome in part}) > 1:
        raise UserError(f"vectors of {passages:,} passages differ without Ray, with one node and with {NODES}")
    return outcomes


def encode_short(contender: Contender, recipe: Recipe, passages: int, address: str) -> tuple[float, Encoded]:
    """Encode random short passages on one thread and store their vectors, here or on a cluster.

    This process stays on the first core, which the head of the cluster has, too.

    Args:
        passages: how many, in `SHARDS` shards.
        address: of the cluster's head; empty to encode in this process.

    Returns:
        Seconds from the texts to their stored vectors, with the model loaded, and what they resulted in.
    """
    os.sched_setaffinity(0, ray_nodes.cores()[:1])
    torch.set_num_threads(1)
    generator = random.Random(corpus_work.SEED)
    texts = [f"{number} {corpus_work.draw(generator, corpus_work.QUERY_WORDS)}" for number in range(passages)]
    source = checkpoint.resolve(None, recipe, "cpu", contender.precision).with_options(cluster=address)
    with tempfile.TemporaryDirectory() as scratch:
        store = run_store.open_store(source, Path(scratch))
        start = time.perf_counter()
        text_blocks.BLOCK_TEXTS = 1  # one for each node, whose worker loads the model
        store.vectors([f"load {number}" for number in range(NODES)], "passage", "first")
        loaded = time.perf_counter()
        text_blocks.BLOCK_TEXTS = -(-passages // SHARDS)
        vectors, _ = store.vectors(texts, "passage", "corpus")
        seconds = time.perf_counter() - loaded
        return seconds, Encoded(hashlib.sha256(vectors).hexdigest(), loaded - start)


def search_by_worker(contender: Contender, passages: int, address: str) -> tuple[float, WorkerMemory]:
    """Search random vectors exactly on a cluster of this machine that has one worker.

    Returns:
        Seconds, and the worker's peak memory.
    """
    os.sched_setaffinity(0, ray_nodes.cores()[:1])
    generator = np.random.default_rng(corpus_work.SEED)
    (worker,) = ray_cluster.join(address).map(os.getpid, [()])
    with tempfile.TemporaryDirectory() as scratch:
        corpus = round_work.write_random_vectors(Path(scratch), generator, passages, DIM)
        queries = unit_vectors(generator.standard_normal((QUERIES, DIM), dtype=np.float32))
        start = time.perf_counter()
        with contenders.sampled(functools.partial(WorkerMemory.of, worker)) as samples:
            cluster_search.search(address, queries, corpus, min(run_store.DEPTH, passages))
        seconds = time.perf_counter() - start
    return seconds, WorkerMemory(max(sample.own for sample in samples), max(sample.shared for sample in samples))
