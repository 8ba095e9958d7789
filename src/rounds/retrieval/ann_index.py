"""Approximate nearest-neighbour indexes (HNSW, IVF-PQ) for corpora that are too large for exact search."""

from functools import lru_cache
from pathlib import Path

import faiss
import numpy as np

from rounds.errors import UserError
from rounds.estimate import Estimate
from rounds.retrieval import exact_search
from rounds.retrieval.run import Run

HNSW_LINKS = 32

CANDIDATES_PER_RESULT = 2  # an index proposes this many times the depth; the candidates are scored exactly

MIN_POINTS_PER_CENTROID = 39  # faiss warns below it

MAX_POINTS_PER_CENTROID = 64

MIN_CODE_BITS = 4

LEAST_TO_TRAIN = MIN_POINTS_PER_CENTROID << MIN_CODE_BITS  # vectors of an IVF-PQ index


def check_index(kind: str, corpus_size: int) -> None:
    """Refuse an index that cannot be trained on so small a corpus.

    Args:
        kind: `exact`, `hnsw` or `ivfpq`.
        corpus_size: the number of passages.

    Raises:
        UserError: the index is IVF-PQ and the corpus has too few passages to train it.
    """
    if kind == "ivfpq" and corpus_size < LEAST_TO_TRAIN:
        raise UserError(
            f"mining.index ivfpq trains on {LEAST_TO_TRAIN} passages or more, the corpus has {corpus_size}; "
            "set mining.index: exact"
        )


def build(kind: str, passages: np.ndarray) -> faiss.Index:
    """Build an approximate index for inner products.

    Args:
        kind: `hnsw` (Malkov and Yashunin 2016, arXiv:1603.09320), which holds the vectors too, or `ivfpq` (Jegou et
            al. 2011), which holds a byte or less for each 8 dimensions.
        passages: (corpus, dim) floats.

    Raises:
        UserError: the corpus is too small to train the index, or vectors hold NaN or infinity.
    """
    check_index(kind, len(passages))
    exact_search.check_finite("row", range(len(passages)), passages)
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(passages.shape[1], HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
    else:
        index = _train_ivfpq(passages)
    estimate = Estimate(f"build the index {kind}", "vectors")
    estimate.update(0, len(passages))
    for start, block in exact_search.float32_blocks(passages):
        index.add(block)
        estimate.update(start + len(block), len(passages))
    return index


def build_part(kind: str, vectors: np.ndarray) -> faiss.Index | None:
    """Build an index of a part of a corpus, or none of a part with too few vectors to train one."""
    return None if kind == "ivfpq" and len(vectors) < LEAST_TO_TRAIN else build(kind, vectors)


def _train_ivfpq(passages: np.ndarray) -> faiss.Index:
    """Train an index of inverted lists with product quantization, sized to the corpus, on a sample of it."""
    corpus_size, dim = passages.shape
    bits = min(8, int(corpus_size / MIN_POINTS_PER_CENTROID).bit_length() - 1)
    lists = min(int(4 * corpus_size**0.5), corpus_size // MIN_POINTS_PER_CENTROID)
    padded_dim = -(-dim // 8) * 8  # the next multiple of 8
    description = f"Pad{padded_dim},IVF{lists},PQ{padded_dim // 8}x{bits}"
    index = faiss.index_factory(dim, description, faiss.METRIC_INNER_PRODUCT)
    inverted = faiss.downcast_index(faiss.extract_index_ivf(index))
    for clustering in (inverted.cp, inverted.pq.cp):
        clustering.niter, clustering.max_points_per_centroid = 10, MAX_POINTS_PER_CENTROID
    inverted.do_polysemous_training = False  # takes a minute, and this search does not use polysemous codes
    inverted.nprobe = max(16, lists // 16)
    sample_size = min(corpus_size, MAX_POINTS_PER_CENTROID * max(lists, 2**bits))
    sample = np.random.default_rng(0).choice(corpus_size, sample_size, replace=False)
    index.train(exact_search.to_float32(passages[np.sort(sample)]))
    return index


@lru_cache(maxsize=1)
def build_from_file(kind: str, path: Path) -> faiss.Index:
    """Build an index of the vectors in a NumPy file; the last one is cached, since mining may search again deeper."""
    return build(kind, np.load(path, mmap_mode="r"))


def search(queries: np.ndarray, passages: np.ndarray, depth: int, index: faiss.Index) -> tuple[np.ndarray, np.ndarray]:
    """Return the best passages among those that an index proposes, with exact scores.

    Queries for which the index proposes fewer than `depth` passages are searched exactly.

    Args:
        queries: (queries, dim) float32.
        passages: (corpus, dim) floats, the vectors of the index.
        depth: passages per query, at most the corpus.
        index: as `build` returns it.

    Returns:
        (queries, depth) scores and (queries, depth) rows of `passages`, as `exact_search.search` returns them.
    """
    width = min(CANDIDATES_PER_RESULT * depth, len(passages))
    if isinstance(index, faiss.IndexHNSW):
        index.hnsw.efSearch = width
    _, rows = index.search(queries, width)
    scores = exact_search.inner_products(queries, passages, np.maximum(rows, 0))
    scores, rows = exact_search.select_best(np.where(rows < 0, -np.inf, scores), rows, depth)
    incomplete = np.flatnonzero((rows < 0).any(axis=1))
    if len(incomplete):
        scores[incomplete], rows[incomplete] = exact_search.search(queries[incomplete], passages, depth)
    return scores, rows


def recall(run: Run, exact: Run, depth: int) -> float:
    """Return the mean share of the exact run's top `depth` that is in the other run's top `depth`.

    Args:
        run: the approximate run.
        exact: the exact run of the same queries in the same order.
        depth: passages per query to compare.

    >>> one, other = (Run(["q"], np.array([ids]), np.zeros((1, 2))) for ids in (["a", "b"], ["b", "c"]))
    >>> recall(one, other, 2)
    0.5
    """
    pairs = zip(run.passages[:, :depth].tolist(), exact.passages[:, :depth].tolist(), strict=True)
    return float(np.mean([len(set(ids) & set(exact_ids)) / len(exact_ids) for ids, exact_ids in pairs]))
