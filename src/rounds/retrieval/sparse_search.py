"""Exact search of sparse vectors by inner product, with an inverted index of a block of the corpus at a time."""

import numpy as np
from scipy import sparse

from rounds.errors import UserError
from rounds.estimate import estimate_search
from rounds.retrieval.exact_search import BLOCK_SIZE, keep_best, select_best
from rounds.retrieval.run import DECIMALS

BLOCK_PASSAGES = 2**14  # passages of an inverted index


def search(
    queries: sparse.csr_array, passages: sparse.csr_array, depth: int, block_size: int = BLOCK_SIZE
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best passages of each query.

    Passages that share no word with a query have score 0; where others are fewer than `depth`, the first of them in the
    corpus's order fill the ranking up. Each score is summed in float64 in the vocabulary's order, so that neither
    blocks nor the other queries change it.

    Args:
        queries: (queries, vocabulary) float32.
        passages: (corpus, vocabulary) float32; may be memory-mapped.
        depth: passages per query, at most the corpus.
        block_size: numbers held at once beside the vectors and the result; it changes memory, never results.

    Returns:
        (queries, depth) float64 scores rounded to `DECIMALS`, falling along each row, and (queries, depth) rows of
        `passages`.

    Raises:
        UserError: the vocabularies differ.
    """
    check_vocabularies(queries, passages)
    count, corpus = queries.shape[0], passages.shape[0]
    best, best_rows = np.empty((count, 0)), np.empty((count, 0), np.int64)
    columns = max(1, min(BLOCK_PASSAGES, block_size // 8))
    queries_at_once = max(1, block_size // 8 // (columns + depth))
    estimate = estimate_search(corpus, count)
    for start in range(0, corpus, columns):
        stop = min(start + columns, corpus)
        index = passages[start:stop].astype(np.float64).T.tocsr()  # word -> passages that have it
        parts = []
        for first in range(0, count, queries_at_once):
            part = slice(first, first + queries_at_once)
            products = (queries[part].astype(np.float64) @ index).toarray()
            scores = np.hstack([best[part], np.round(products, DECIMALS)])
            rows = np.broadcast_to(np.arange(start, stop), products.shape)
            parts.append(keep_best(scores, np.hstack([best_rows[part], rows]), depth))
            compared = start * count + (stop - start) * min(first + queries_at_once, count)
            estimate.update(compared / corpus, count)
        if parts:
            best, best_rows = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return select_best(best, best_rows, depth)


def check_vocabularies(queries: sparse.csr_array, passages: sparse.csr_array) -> None:
    """Refuse vectors over different vocabularies.

    Raises:
        UserError: they have different numbers of dimensions.
    """
    if queries.shape[1] != passages.shape[1]:
        raise UserError(
            f"vectors of queries are over {queries.shape[1]} words, those of passages over {passages.shape[1]}; "
            "encode both with one checkpoint"
        )


def pair_scores(queries: sparse.csr_array, passages: sparse.csr_array) -> np.ndarray:
    """Return the inner product of each query with the passage of the same row, (rows,) float64."""
    check_vocabularies(queries, passages)
    return queries.astype(np.float64).multiply(passages).sum(axis=1)


def all_scores(queries: sparse.csr_array, passages: sparse.csr_array) -> np.ndarray:
    """Return the inner product of every query with every passage, (queries, passages) float64."""
    check_vocabularies(queries, passages)
    return (queries.astype(np.float64) @ passages.T).toarray()
