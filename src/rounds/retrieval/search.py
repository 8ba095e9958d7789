"""Rank a corpus for each query by the similarity of their vectors; needs no torch."""

from collections.abc import Callable, Sequence

import numpy as np

from rounds.data.passage_pool import take_ids
from rounds.errors import UserError
from rounds.retrieval import exact_search, representations
from rounds.retrieval.representation import Vectors
from rounds.retrieval.run import Run

Search = Callable[[Vectors, Vectors, int], tuple[np.ndarray, np.ndarray]]  # as `Representation.search`, to a depth


def rank(
    query_ids: list[str],
    queries: Vectors,
    passage_ids: Sequence[str],
    passages: Vectors,
    depth: int,
    index: object | None = None,
    block_size: int = exact_search.BLOCK_SIZE,
    search: Search | None = None,
) -> Run:
    """Return the top `depth` passages of each query; passages with equal rounded scores keep the corpus's order.

    Queries and passages are read block by block, so either may be a memory-mapped file. Neither the block size nor
    the number of threads nor the other queries change a query's result.

    Args:
        query_ids: ids of the rows of `queries`.
        queries: (queries, dim) floats, compared by inner product; or vectors of another kind (`representations`), such
            as those of tokens, which are compared by MaxSim.
        passage_ids: ids of the rows of `passages`.
        passages: (corpus, dim) floats, or vectors of the queries' kind.
        depth: passages per query; the whole corpus if it is smaller.
        index: an approximate index of `passages` (`Representation.build_index`) that proposes candidates; None
            searches exactly.
        block_size: numbers held at once beside the vectors and the run.
        search: searches in place of this process, such as a cluster, given queries, passages and depth.

    Raises:
        UserError: vectors hold NaN or infinity; the line names their ids. Or they are so long that products overflow,
            or queries and passages are of different kinds.

    >>> run = rank(["q"], np.eye(2, dtype="f4")[:1], ["a", "b"], np.eye(2, dtype="f4"), depth=2)
    >>> run.passages.tolist(), run.scores.tolist()
    ([['a', 'b']], [[1.0, 0.0]])
    """
    kind, query_kind = representations.of(passages), representations.of(queries)
    if kind is not query_kind:
        raise UserError(f"queries have {query_kind.what} each, passages {kind.what}; encode both with one checkpoint")
    exact_search.refuse_not_finite("query", query_ids, kind.find_not_finite(queries, block_size))
    exact_search.refuse_not_finite("passage", passage_ids, kind.find_not_finite(passages, block_size))
    depth = min(depth, kind.count(passages))
    if search is None:
        scores, rows = kind.search(queries, passages, depth, index, block_size)
    else:
        scores, rows = search(queries, passages, depth)
    scores = np.asarray(scores, np.float32)
    if not np.isfinite(scores).all():
        raise UserError("inner products of the vectors exceed what fp32 holds; set model.normalize: true")
    return Run(list(query_ids), take_ids(passage_ids, rows), scores)
