"""Approximate nearest-neighbour indexes (HNSW, IVF-PQ) for corpora too large for exact search."""

from functools import lru_cache
from pathlib import Path

import faiss
import numpy as np

from rounds.errors import UserError
from rounds.retrieval import exact_search
from rounds.retrieval.run import Run

LINKS = 32

WIDER = 2  # an approximate index proposes this many times the depth

LEAST_POINTS, POINTS = 39, 64  # to train a centroid on; faiss warns below 39

LEAST_BITS = 4


def check_index(kind: str, corpus: int) -> None:
    """Refuse an index that so small a corpus cannot train."""
    least = LEAST_POINTS << LEAST_BITS
    if kind == "ivfpq" and corpus < least:
        raise UserError(
            f"mining.index ivfpq trains on {least} passages or more, the corpus has {corpus}; set mining.index: exact"
        )


def build(kind: str, passages: np.ndarray) -> faiss.Index:
    """An approximate index of `passages` for inner products.

    Args:
        kind: `hnsw` (Malkov and Yashunin 2016, arXiv:1603.09320; holds the vectors too) or `ivfpq` (Jegou et al. 2011;
            a byte or less for each 8 dimensions).
        passages: (corpus, dim) floats.

    Raises:
        UserError: the corpus is too small to train the index.
    """
    corpus, dim = passages.shape
    check_index(kind, corpus)
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(dim, LINKS, faiss.METRIC_INNER_PRODUCT)
    else:
        index = _trained_ivfpq(passages)
    for _, block in exact_search.blocks(passages):
        index.add(block)
    return index


def _trained_ivfpq(passages: np.ndarray) -> faiss.Index:
    corpus, dim = passages.shape
    bits = min(8, int(corpus / LEAST_POINTS).bit_length() - 1)
    lists = min(int(4 * corpus**0.5), corpus // LEAST_POINTS)
    padded = -(-dim // 8) * 8
    description = f"Pad{padded},IVF{lists},PQ{padded // 8}x{bits}"
    index = faiss.index_factory(dim, description, faiss.METRIC_INNER_PRODUCT)
    inverted = faiss.downcast_index(faiss.extract_index_ivf(index))
    for clusters in (inverted.cp, inverted.pq.cp):
        clusters.niter, clusters.max_points_per_centroid = 10, POINTS
    inverted.do_polysemous_training = False  # a minute for codes that this search does not read
    inverted.nprobe = max(16, lists // 16)
    sample = min(corpus, POINTS * max(lists, 2**bits))
    rows = np.random.default_rng(0).choice(corpus, sample, replace=False)
    index.train(exact_search.to_float32(passages[np.sort(rows)]))
    return index


@lru_cache(maxsize=1)
def build_from_file(kind: str, path: Path) -> faiss.Index:
    """`build` of a NumPy file; the last one is kept, for mining that has to go deeper."""
    return build(kind, np.load(path, mmap_mode="r"))


def top(queries: np.ndarray, passages: np.ndarray, depth: int, index: faiss.Index) -> tuple[np.ndarray, np.ndarray]:
    """As `_exact`, from what the index proposes; where it finds fewer than `depth`, exact."""
    width = min(WIDER * depth, len(passages))
    if isinstance(index, faiss.IndexHNSW):
        index.hnsw.efSearch = width
    _, order = index.search(queries, width)
    scores = exact_search.products(queries, passages, np.maximum(order, 0))
    scores, order = exact_search.best(np.where(order < 0, -np.inf, scores), order, depth)
    lacking = np.flatnonzero((order < 0).any(axis=1))
    if len(lacking):
        scores[lacking], order[lacking] = exact_search.top(queries[lacking], passages, depth)
    return scores, order


def recall(run: Run, exact: Run, depth: int) -> float:
    """Mean share of `exact`'s top `depth` that `run`, of the same queries, has in its own.

    >>> one, other = (Run(["q"], np.array([ids]), np.zeros((1, 2))) for ids in (["a", "b"], ["b", "c"]))
    >>> recall(one, other, 2)
    0.5
    """
    pairs = zip(run.passages[:, :depth].tolist(), exact.passages[:, :depth].tolist(), strict=True)
    return float(np.mean([len(set(one) & set(other)) / len(other) for one, other in pairs]))
