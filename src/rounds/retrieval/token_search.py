"""Exact search by MaxSim, the similarity of late interaction (ColBERT: Khattab and Zaharia 2020, arXiv:2004.12832).

A passage's score is the sum, over the query's tokens, of the highest inner product with any of the passage's tokens.
Passages with equal scores keep the order of the corpus.
"""

import numpy as np

from rounds.errors import UserError
from rounds.estimate import OnProgress, estimate_search, ignore
from rounds.retrieval.exact_search import EXTRA_CANDIDATES, select_from_proposed
from rounds.retrieval.representation import BLOCK_SIZE, offset_blocks
from rounds.retrieval.run import DECIMALS
from rounds.retrieval.token_vectors import TokenVectors

MAX_BLOCK_TOKENS = 2**14  # tokens of passages that are compared at once


def search(
    queries: TokenVectors, passages: TokenVectors, depth: int, block_size: int = BLOCK_SIZE
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best passages of each query.

    A pass over the corpus in float32 proposes a few more passages than `depth`; they are scored again in float64.
    Queries whose last scores are too close to call are compared with the whole corpus in float64.

    Args:
        depth: passages per query, at most the corpus.
        block_size: numbers held at once; it changes memory, never results.

    Returns:
        (queries, depth) float64 scores rounded to `DECIMALS`, falling along each row, and (queries, depth) rows of
        `passages`.

    Raises:
        UserError: vectors have other dimensions than those of the queries.
    """
    check_dims(queries, passages)
    scores = np.empty((len(queries), depth))
    rows = np.empty((len(queries), depth), np.int64)
    estimate = estimate_search(len(passages), len(queries))
    for start, stop in offset_blocks(queries.offsets, max(1, block_size // MAX_BLOCK_TOKENS)):
        on_passages = estimate.of_part(start, stop - start, len(queries))
        part = queries.part(start, stop)
        scores[start:stop], rows[start:stop] = _search_block(part, passages, depth, block_size, on_passages)
    return scores, rows


def check_dims(queries: TokenVectors, passages: TokenVectors) -> None:
    """Refuse vectors of different dimensions."""
    dims = queries.values.shape[1], passages.values.shape[1]
    if dims[0] != dims[1]:
        raise UserError(f"vectors of queries have {dims[0]} dimensions, those of passages {dims[1]}; encode both anew")


def _search_block(
    queries: TokenVectors, passages: TokenVectors, depth: int, block_size: int, on_passages: OnProgress
) -> tuple[np.ndarray, np.ndarray]:
    width = min(depth + EXTRA_CANDIDATES, len(passages))
    approximate, rows = scan(queries, passages, width, block_size, np.float32, on_passages)
    scores = candidate_scores(queries, passages, rows, block_size)
    best, best_rows, unsure = select_from_proposed(approximate, scores, rows, depth, len(passages))
    if len(unsure):
        exact, best_rows[unsure] = scan(queries.select(unsure), passages, depth, block_size, np.float64)
        best[unsure] = np.round(exact, DECIMALS)
    return best, best_rows


def scan(
    queries: TokenVectors,
    passages: TokenVectors,
    width: int,
    block_size: int,
    dtype: type,
    on_passages: OnProgress = ignore,
) -> tuple[np.ndarray, np.ndarray]:
    """Compare queries with the whole corpus, block by block, and keep the best `width` passages of each.

    Args:
        on_passages: gets the number of passages compared so far and that of all.

    Returns:
        (queries, width) scores, falling along each row and rounded to `DECIMALS` in float64, and (queries, width) rows
        of `passages`, the earlier first among equal scores.
    """
    count, is_final = len(queries), dtype == np.float64
    best, best_rows = np.empty((count, 0), dtype), np.empty((count, 0), np.int64)
    query_values = np.asarray(queries.values, dtype)
    tokens_at_once = max(1, min(MAX_BLOCK_TOKENS, block_size // max(len(query_values), 1)))
    for start, stop in offset_blocks(passages.offsets, tokens_at_once):
        scores = _block_scores(query_values, queries.offsets, passages.part(start, stop), dtype)
        best = np.hstack([best, np.round(scores, DECIMALS) if is_final else scores])
        block_rows = np.broadcast_to(np.arange(start, stop), (count, stop - start))
        best_rows = np.hstack([best_rows, block_rows])
        if best.shape[1] > width:
            # A stable sort keeps the order of the corpus among equal scores.
            order = np.argsort(-best, axis=1, kind="stable")[:, :width]
            best, best_rows = np.take_along_axis(best, order, axis=1), np.take_along_axis(best_rows, order, axis=1)
        on_passages(stop, len(passages))
    order = np.argsort(-best, axis=1, kind="stable")
    return np.take_along_axis(best, order, axis=1), np.take_along_axis(best_rows, order, axis=1)


def _block_scores(query_values: np.ndarray, offsets: np.ndarray, block: TokenVectors, dtype: type) -> np.ndarray:
    """Return the MaxSim of each query with each passage of a block: (queries, passages).

    Args:
        query_values: (query tokens, dim).
        offsets: where each query begins and the last one ends.
    """
    similarity = query_values @ np.asarray(block.values, dtype).T
    best = np.maximum.reduceat(similarity, block.offsets[:-1], axis=1)  # (query tokens, passages)
    return np.add.reduceat(best, offsets[:-1], axis=0)


def candidate_scores(
    queries: TokenVectors, passages: TokenVectors, rows: np.ndarray, block_size: int = BLOCK_SIZE
) -> np.ndarray:
    """Return the float64 MaxSim of each query with its candidates.

    Args:
        rows: (queries, width) rows of `passages`.
        block_size: numbers held at once.

    Returns:
        (queries, width) float64.
    """
    scores = np.empty(rows.shape)
    for number in range(len(queries)):
        scores[number] = score_candidates(queries[number], passages, rows[number], block_size)
    return scores


def score_candidates(
    query: np.ndarray, passages: TokenVectors, rows: np.ndarray, block_size: int = BLOCK_SIZE
) -> np.ndarray:
    """Return the float64 MaxSim of one query's vectors (tokens, dim) with some passages: (rows,)."""
    query = np.asarray(query, np.float64)
    offsets = np.array([0, len(query)])
    most = passages.counts[rows].max(initial=1)
    width = max(1, block_size // 2 // int(most * (len(query) + query.shape[1])))
    parts = [rows[start : start + width] for start in range(0, len(rows), width)]
    scores = [_block_scores(query, offsets, passages.select(part), np.float64)[0] for part in parts]
    return np.concatenate([np.empty(0), *scores])


def pair_scores(queries: TokenVectors, passages: TokenVectors) -> np.ndarray:
    """Return the MaxSim of each query with the passage of the same row, (rows,) float64."""
    pairs = range(len(queries))
    similarities = [np.asarray(queries[row], np.float64) @ np.asarray(passages[row], np.float64).T for row in pairs]
    return np.array([similarity.max(axis=1).sum() for similarity in similarities])


def all_scores(queries: TokenVectors, passages: TokenVectors, block_size: int = BLOCK_SIZE) -> np.ndarray:
    """Return the MaxSim of every query with every passage, (queries, passages) float32."""
    check_dims(queries, passages)
    scores = np.empty((len(queries), len(passages)), np.float32)
    for start, stop in offset_blocks(queries.offsets, max(1, block_size // MAX_BLOCK_TOKENS)):
        part = queries.part(start, stop)
        values = np.asarray(part.values, np.float32)
        tokens_at_once = max(1, min(MAX_BLOCK_TOKENS, block_size // len(values)))
        for first, last in offset_blocks(passages.offsets, tokens_at_once):
            block = passages.part(first, last)
            scores[start:stop, first:last] = _block_scores(values, part.offsets, block, np.float32)
    return scores
