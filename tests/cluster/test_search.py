"""Search on a cluster: parts are merged to what one machine finds, for each kind of vectors and index."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pytest
from helpers.tiny_task import refused
from scipy import sparse

from rounds.cluster import ray_cluster
from rounds.cluster import search as cluster_search
from rounds.retrieval import ann_index, exact_search, representations
from rounds.retrieval.token_vectors import TokenVectors, to_offsets
from rounds.retrieval.vectors import unit_vectors

CORPUS, DIM, PART = 2000, 16, 900


class InThisProcess:
    """What a cluster does, without Ray: jobs that are done in another order than they were made."""

    def share(self, value: object) -> object:
        return value

    def map(self, function: Callable, jobs: Iterable[tuple]) -> Iterator:
        return (function(*job) for job in reversed(list(jobs)))


@pytest.fixture(autouse=True)
def cluster(monkeypatch) -> None:
    """A cluster to join, and parts that are small."""
    monkeypatch.setattr(ray_cluster, "join", lambda address: InThisProcess())
    monkeypatch.setattr(cluster_search, "PART_NUMBERS", PART * DIM)


def clustered(seed: int, count: int) -> np.ndarray:
    centres, rng = np.random.default_rng(0).normal(size=(50, DIM)), np.random.default_rng(seed)
    return unit_vectors(centres[rng.integers(0, 50, count)] + 0.5 * rng.normal(size=(count, DIM))).astype(np.float32)


def tokens(seed: int, count: int) -> TokenVectors:
    offsets = to_offsets(np.random.default_rng(seed).integers(1, 5, count))
    return TokenVectors(clustered(seed, int(offsets[-1])), offsets)


def words(seed: int, count: int) -> sparse.csr_array:
    return sparse.csr_array(sparse.random(count, 200, 0.1, "csr", np.float32, np.random.default_rng(seed)))


@pytest.mark.parametrize("make", [clustered, tokens, words])
def test_exact_search_gives_what_one_machine_gives(make):
    """Of dense vectors, those of tokens and sparse ones: the same rows, and the same scores."""
    queries, passages = make(1, 10), make(2, CORPUS)
    kind = representations.of(passages)
    assert len(list(kind.blocks(passages, PART * DIM))) > 1
    scores, rows = kind.search(queries, passages, 30, None, exact_search.BLOCK_SIZE)
    found = cluster_search.search("auto", queries, passages, 30)
    np.testing.assert_array_equal(found[1], rows)
    np.testing.assert_array_equal(found[0], scores)


@pytest.mark.parametrize("kind", ["hnsw", "ivfpq"])
def test_an_index_of_each_part_gives_the_merge_of_all(kind):
    """The last part is too small to train ivfpq on, and is searched exactly; most of the exact ranking is found."""
    queries, passages = clustered(1, 40), clustered(2, CORPUS)
    parts = []
    for start in range(0, CORPUS, PART):
        part = passages[start : start + PART]
        if kind == "ivfpq" and len(part) < ann_index.LEAST_TO_TRAIN:
            scores, rows = exact_search.search(queries, part, 30)
        else:
            scores, rows = ann_index.search(queries, part, 30, ann_index.build(kind, part))
        parts.append((scores, rows + start))
    merged = exact_search.select_best(*map(np.hstack, zip(*parts, strict=True)), 30)
    scores, rows = cluster_search.search("auto", queries, passages, 30, kind)
    np.testing.assert_array_equal(rows, merged[1])
    np.testing.assert_array_equal(scores, merged[0])
    exact = exact_search.search(queries, passages, 30)[1]
    assert np.mean([len(set(one) & set(other)) for one, other in zip(rows, exact, strict=True)]) > 0.9 * 30


def test_an_index_of_tokens_finds_true_scores():
    """Its rows have the scores of exact search, which differ in few."""
    queries, passages = tokens(1, 10), tokens(2, CORPUS)
    exact = cluster_search.search("auto", queries, passages, 30)
    scores, rows = cluster_search.search("auto", queries, passages, 30, "hnsw")
    assert np.mean([len(set(one) & set(other)) for one, other in zip(rows, exact[1], strict=True)]) > 0.8 * 30
    np.testing.assert_array_equal(scores[:, 0], exact[0][:, 0])


def test_an_index_of_sparse_vectors_is_refused():
    """As on one machine."""
    with refused("index hnsw", "these are sparse", "mining.index: exact"):
        cluster_search.search("auto", words(1, 2), words(2, CORPUS), 30, "hnsw")
