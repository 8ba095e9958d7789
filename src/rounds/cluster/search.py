"""Search on a cluster: each worker ranks a part of the corpus, and the best of all parts are merged."""

import numpy as np

from rounds.cluster import ray_cluster
from rounds.retrieval import exact_search, representations
from rounds.retrieval.representation import BLOCK_SIZE, Vectors

PART_NUMBERS = 2**26  # of a part's vectors: 256 MB of float32


def search(
    address: str,
    queries: Vectors,
    passages: Vectors,
    depth: int,
    index: str = "exact",
    block_size: int = BLOCK_SIZE,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best passages of each query.

    Exact search returns what `Representation.search` does on one machine. An approximate index is built of each part.

    Args:
        address: the cluster, as `ray_cluster.join` takes it.
        queries: (queries, dim) floats, or vectors of another kind.
        passages: (corpus, dim) floats, or vectors of the queries' kind; may be memory-mapped.
        depth: passages per query, at most the corpus.
        index: `exact`, or the index of each part, as `ann_index.build` takes it; parts too small for it are searched
            exactly.
        block_size: numbers that a worker holds at once beside its part.

    Returns:
        (queries, depth) float64 scores, falling along each row, and (queries, depth) rows of `passages`.

    Raises:
        UserError: a worker failed; the line says where and why. Or there is no such index for such vectors.
    """
    cluster, kind = ray_cluster.join(address), representations.of(passages)
    shared, count = cluster.share(kind.plain(queries)), kind.count(queries)
    jobs = (
        (shared, kind.plain(kind.part(passages, start, stop)), start, depth, index, block_size)
        for start, stop in kind.blocks(passages, PART_NUMBERS)
    )
    scores, rows = np.empty((count, 0)), np.empty((count, 0), np.int64)
    for part_scores, part_rows in cluster.map(search_part, jobs):
        merged = np.hstack([scores, part_scores]), np.hstack([rows, part_rows])
        scores, rows = exact_search.select_best(*merged, depth)
    return scores, rows


def search_part(
    queries: Vectors, part: Vectors, start: int, depth: int, index: str, block_size: int = BLOCK_SIZE
) -> tuple[np.ndarray, np.ndarray]:
    """Rank a part of the corpus that begins at the row `start`; arguments are those of `search`."""
    kind = representations.of(part)
    built = None if index == "exact" else kind.build_part_index(index, part)
    scores, rows = kind.search(queries, part, min(depth, kind.count(part)), built, block_size)
    return scores, rows + start
