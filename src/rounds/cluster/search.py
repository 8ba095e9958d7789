"""Exact search on a cluster: each worker ranks a part of the corpus, and the best of all parts are merged."""

import numpy as np

from rounds.cluster import ray_cluster
from rounds.retrieval import exact_search
from rounds.retrieval.representation import BLOCK_SIZE

PART_NUMBERS = 2**26  # of a part's vectors: 256 MB of float32


def search(
    address: str, queries: np.ndarray, passages: np.ndarray, depth: int, block_size: int = BLOCK_SIZE
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best passages of each query, as `exact_search.search` does on one machine.

    Args:
        address: the cluster, as `ray_cluster.join` takes it.
        queries: (queries, dim) floats.
        passages: (corpus, dim) floats; may be memory-mapped.
        depth: passages per query, at most the corpus.
        block_size: numbers that a worker holds at once beside its part.

    Returns:
        (queries, depth) float64 scores, falling along each row, and (queries, depth) rows of `passages`.

    Raises:
        UserError: a worker failed; the line says where and why.
    """
    import ray

    shared, size = ray.put(np.asarray(queries)), max(1, PART_NUMBERS // passages.shape[1])
    jobs = (
        (shared, np.asarray(passages[start : start + size]), start, depth, block_size)
        for start in range(0, len(passages), size)
    )
    scores, rows = np.empty((len(queries), 0)), np.empty((len(queries), 0), np.int64)
    for part_scores, part_rows in ray_cluster.join(address).map(_search_part, jobs):
        merged = np.hstack([scores, part_scores]), np.hstack([rows, part_rows])
        scores, rows = exact_search.select_best(*merged, depth)
    return scores, rows


def _search_part(
    queries: np.ndarray, part: np.ndarray, start: int, depth: int, block_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rank a part of the corpus that begins at the row `start`."""
    depth = min(depth, len(part))
    at_once = max(1, block_size // (depth + exact_search.EXTRA_CANDIDATES + queries.shape[1]))
    blocks = (exact_search.to_float32(queries[row : row + at_once]) for row in range(0, len(queries), at_once))
    with np.errstate(over="ignore"):  # the driver checks the scores
        best = [exact_search.search(block, part, depth, block_size) for block in blocks]
    return np.concatenate([scores for scores, _ in best]), np.concatenate([rows for _, rows in best]) + start
