"""Cluster work: encode on Ray nodes of one core each and without Ray, and search by one of their workers."""

import hashlib
import os
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from rounds import process
from rounds.benchmark import corpus_work, ray_nodes, round_work
from rounds.benchmark.contenders import OURS, Contender, Outcome
from rounds.cluster import ray_cluster
from rounds.cluster import search as cluster_search
from rounds.config.recipe import Recipe
from rounds.encoding import run_store, text_blocks
from rounds.errors import UserError
from rounds.models import checkpoint
from rounds.retrieval.vectors import unit_vectors

NODES = 2

QUERIES, DIM = 1000, 384  # of the search


def measure_encoding(measure: Callable[..., Outcome], recipe: Recipe, passages: int) -> list[Outcome]:
    """Encode random short passages without Ray, on one node, and on `NODES` of them.

    Args:
        measure: as `BenchmarkInputs.measure`.
        passages: how many.

    Raises:
        UserError: a node does not start, or the vectors are not the same.
    """
    contender = Contender(OURS, "fp32")
    outcomes = [measure(encode_short, contender, recipe, passages, "")]
    for nodes in (1, NODES):
        with ray_nodes.started(nodes) as address:
            outcomes.append(measure(encode_short, contender, recipe, passages, address))
    if len({outcome.result for outcome in outcomes}) > 1:
        raise UserError(f"vectors of {passages:,} passages differ without Ray, with one node and with {NODES}")
    return outcomes


def encode_short(contender: Contender, recipe: Recipe, passages: int, address: str) -> tuple[float, str]:
    """Encode random short passages on one thread and store their vectors, here or on a cluster.

    This process stays on the first core, which the head of the cluster has, too.

    Args:
        passages: how many; half of them are a shard, unless shards are smaller.
        address: of the cluster's head; empty to encode in this process.

    Returns:
        Seconds, from joining the cluster and loading the model to the stored vectors, and a hash of these.
    """
    os.sched_setaffinity(0, ray_nodes.cores()[:1])
    torch.set_num_threads(1)
    text_blocks.BLOCK_TEXTS = min(text_blocks.BLOCK_TEXTS, -(-passages // NODES))
    generator = random.Random(corpus_work.SEED)
    texts = [f"{number} {corpus_work.draw(generator, corpus_work.QUERY_WORDS)}" for number in range(passages)]
    source = checkpoint.resolve(None, recipe, "cpu", contender.precision).with_options(cluster=address)
    with tempfile.TemporaryDirectory() as scratch:
        start = time.perf_counter()
        vectors, _ = run_store.open_store(source, Path(scratch)).vectors(texts, "passage", "corpus")
        return time.perf_counter() - start, hashlib.sha256(vectors).hexdigest()


def search_by_worker(contender: Contender, passages: int, address: str) -> tuple[float, float]:
    """Search random vectors exactly on a cluster that has one worker.

    Returns:
        Seconds, and the worker's peak MiB, with the shared memory and the libraries' files that it has mapped.
    """
    os.sched_setaffinity(0, ray_nodes.cores()[:1])
    generator = np.random.default_rng(corpus_work.SEED)
    with tempfile.TemporaryDirectory() as scratch:
        corpus = round_work.write_random_vectors(Path(scratch), generator, passages, DIM)
        queries = unit_vectors(generator.standard_normal((QUERIES, DIM), dtype=np.float32))
        start = time.perf_counter()
        cluster_search.search(address, queries, corpus, min(run_store.DEPTH, passages))
        seconds = time.perf_counter() - start
    (peak,) = ray_cluster.join(address).map(process.memory_mib, [("VmHWM",)])  # by the same worker, which is free
    return seconds, peak
