"""Rank a corpus for each query by the inner product of their vectors; needs no torch."""

from collections.abc import Sequence

import faiss
import numpy as np

from rounds.data.passage_pool import take_ids
from rounds.errors import UserError
from rounds.retrieval import ann_index, exact_search
from rounds.retrieval.run import Run


def rank(
    query_ids: list[str],
    queries: np.ndarray,
    passage_ids: Sequence[str],
    passages: np.ndarray,
    depth: int,
    index: faiss.Index | None = None,
    block_size: int = exact_search.BLOCK_SIZE,
) -> Run:
    """Return the top `depth` passages of each query; passages with equal rounded scores keep the corpus's order.

    Queries and passages are read block by block, so either may be a memory-mapped file. Neither the block size nor
    the number of threads nor the other queries change a query's result.

    Args:
        query_ids: ids of the rows of `queries`.
        queries: (queries, dim) floats.
        passage_ids: ids of the rows of `passages`.
        passages: (corpus, dim) floats.
        depth: passages per query; the whole corpus if it is smaller.
        index: an approximate index of `passages` (`ann_index.build`) that proposes candidates; None searches exactly.
        block_size: numbers held at once beside the vectors and the run.

    Raises:
        UserError: vectors hold NaN or infinity; the line names their ids. Or they are so long that products overflow.

    >>> run = rank(["q"], np.eye(2, dtype="f4")[:1], ["a", "b"], np.eye(2, dtype="f4"), depth=2)
    >>> run.passages.tolist(), run.scores.tolist()
    ([['a', 'b']], [[1.0, 0.0]])
    """
    exact_search.check_finite("query", query_ids, queries, block_size)
    exact_search.check_finite("passage", passage_ids, passages, block_size)
    depth = min(depth, len(passages))
    scores = np.empty((len(queries), depth), np.float32)
    rows = np.empty((len(queries), depth), np.int64)
    queries_at_once = max(1, block_size // (depth + exact_search.EXTRA_CANDIDATES + queries.shape[1]))
    for start in range(0, len(queries), queries_at_once):
        part = slice(start, start + queries_at_once)
        block = exact_search.to_float32(queries[part])
        with np.errstate(over="ignore"):  # checked below
            if index is None:
                scores[part], rows[part] = exact_search.search(block, passages, depth, block_size)
            else:
                scores[part], rows[part] = ann_index.search(block, passages, depth, index)
    if not np.isfinite(scores).all():
        raise UserError("inner products of the vectors exceed what fp32 holds; set model.normalize: true")
    return Run(list(query_ids), take_ids(passage_ids, rows), scores)
