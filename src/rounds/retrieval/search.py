"""Ranking: vectors -> run, and runs on disk in TREC's format. Works without torch."""

import faiss
import numpy as np

from rounds.retrieval import ann_index, exact_search
from rounds.retrieval.run import Run


def rank(
    query_ids: list[str],
    queries: np.ndarray,
    passage_ids: list[str],
    passages: np.ndarray,
    depth: int,
    index: faiss.Index | None = None,
) -> Run:
    """Top `depth` by inner product, rounded, ties in corpus order.

    Queries and passages are read block by block, so either may be a memory-mapped file. Neither the blocks nor the
    number of threads nor the other queries change a query's result.

    Args:
        queries: (queries, dim) floats.
        passages: (corpus, dim) floats, rows in the order of `passage_ids`.
        index: an approximate index of `passages` (`build`) proposes what is ranked; None: exact.

    Raises:
        UserError: vectors hold values that are not numbers.

    >>> run = rank(["q"], np.eye(2, dtype="f4")[:1], ["a", "b"], np.eye(2, dtype="f4"), depth=2)
    >>> run.passages.tolist(), run.scores.tolist()
    ([['a', 'b']], [[1.0, 0.0]])
    """
    depth = min(depth, len(passages))
    scores = np.empty((len(queries), depth), np.float32)
    order = np.empty((len(queries), depth), np.int64)
    rows = max(1, exact_search.BLOCK // (depth + exact_search.SLACK + queries.shape[1]))
    for start in range(0, len(queries), rows):
        part = slice(start, start + rows)
        block = exact_search.to_float32(queries[part])
        found = (
            exact_search.top(block, passages, depth) if index is None else ann_index.top(block, passages, depth, index)
        )
        scores[part], order[part] = found
    return Run(list(query_ids), np.array(passage_ids, dtype=object)[order], scores)
