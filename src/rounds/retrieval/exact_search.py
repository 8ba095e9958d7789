"""Exact top-k search by inner product, in blocks; passages with equal scores keep the order of the corpus."""

from collections.abc import Iterator, Sequence
from functools import cache

import faiss
import numpy as np

from rounds.errors import UserError
from rounds.estimate import OnProgress, ignore
from rounds.retrieval.representation import BLOCK_SIZE
from rounds.retrieval.run import DECIMALS
from rounds.retrieval.vectors import find_not_finite, list_names

EXTRA_CANDIDATES = 16  # faiss proposes this many passages beyond the depth

SCAN_COLUMNS = 4096  # passages that an exhaustive scan compares at once

MAX_GPU_DEPTH = 2048  # faiss's limit


def search(
    queries: np.ndarray,
    passages: np.ndarray,
    depth: int,
    block_size: int = BLOCK_SIZE,
    on_passages: OnProgress = ignore,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best passages of each query.

    faiss proposes a few more passages than `depth` in float32; they are scored again in float64. Queries whose last
    scores are too close to call are compared with the whole corpus.

    Args:
        queries: (queries, dim) float32.
        passages: (corpus, dim) floats.
        depth: passages per query, at most the corpus.
        block_size: numbers held at once; it changes memory, never results.
        on_passages: gets the number of passages compared so far and that of all.

    Returns:
        (queries, depth) float64 scores rounded to `DECIMALS`, falling along each row, and (queries, depth) rows of
        `passages`.

    Raises:
        UserError: vectors hold NaN.
    """
    width = min(depth + EXTRA_CANDIDATES, len(passages))
    approximate, rows = _faiss_candidates(queries, passages, width, block_size, on_passages)
    if rows.size and rows.min() < 0:
        raise UserError("vectors hold values that are not numbers; encode with model.precision bf16 or fp32")
    scores = inner_products(queries, passages, rows, block_size)
    best, best_rows, unsure = select_from_proposed(approximate, scores, rows, depth, len(passages))
    if len(unsure):
        best[unsure], best_rows[unsure] = _exhaustive_search(queries[unsure], passages, depth, block_size)
    return best, best_rows


def select_from_proposed(
    approximate: np.ndarray, scores: np.ndarray, rows: np.ndarray, depth: int, corpus: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the best of the proposed passages, and the queries for which others may belong among them.

    Args:
        approximate: (queries, width) float32 scores that the passages were proposed by, falling along each row.
        scores: (queries, width) float64 scores of the same passages.
        rows: (queries, width) rows of the corpus.
        depth: passages to keep per query.
        corpus: number of passages.

    Returns:
        as `select_best`, and the numbers of the queries whose last scores are too close to call.
    """
    # A passage that was left out scores at most this, given the largest error seen among those that were proposed.
    error = np.abs(approximate - scores).max(initial=0)
    bound = approximate[:, -1] + 2 * error + 10.0**-DECIMALS
    best, best_rows = select_best(scores, rows, depth)
    is_unsure = (best[:, -1] <= bound) & (rows.shape[1] < corpus)
    return best, best_rows, np.flatnonzero(is_unsure)


def _faiss_candidates(
    queries: np.ndarray, passages: np.ndarray, width: int, block_size: int, on_passages: OnProgress
) -> tuple[np.ndarray, np.ndarray]:
    """Return faiss's float32 top `width`, merged over blocks of the corpus; rows are -1 where scores are NaN."""
    heap = faiss.ResultHeap(len(queries), width, keep_max=True)
    for start, block in float32_blocks(passages, block_size):
        scores, rows = _knn(queries, block, min(width, len(block)))
        heap.add_result(scores, np.where(rows < 0, -1, rows + start))
        on_passages(start + len(block), len(passages))
    heap.finalize()
    return heap.D, heap.I


def _knn(queries: np.ndarray, block: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    if faiss.get_num_gpus() and width <= MAX_GPU_DEPTH:
        return faiss.knn_gpu(_gpu_resources(), queries, block, width, metric=faiss.METRIC_INNER_PRODUCT)
    return faiss.knn(queries, block, width, metric=faiss.METRIC_INNER_PRODUCT)


@cache
def _gpu_resources() -> "faiss.StandardGpuResources":
    return faiss.StandardGpuResources()


def inner_products(
    queries: np.ndarray, passages: np.ndarray, rows: np.ndarray, block_size: int = BLOCK_SIZE
) -> np.ndarray:
    """Return float64 inner products of each query with its candidates, independent of faiss's order of summation.

    Args:
        queries: (queries, dim).
        passages: (corpus, dim).
        rows: (queries, width) rows of `passages`.
        block_size: numbers held at once.

    Returns:
        (queries, width) float64.
    """
    width, flat_rows = rows.shape[1], rows.reshape(-1)
    scores = np.empty(rows.size)
    pairs = max(1, block_size // 4 // passages.shape[1])
    for start in range(0, rows.size, pairs):
        stop = min(start + pairs, rows.size)
        query_rows = np.arange(start, stop) // width
        scores[start:stop] = np.einsum(
            "nd,nd->n", queries[query_rows], passages[flat_rows[start:stop]], dtype=np.float64
        )
    return scores.reshape(rows.shape)


def select_best(scores: np.ndarray, rows: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the best candidates of each query, the earlier passage first among equal scores.

    Scores are rounded to `DECIMALS` first, so that passages with the same text tie.

    Args:
        scores: (queries, width).
        rows: (queries, width) rows of the corpus.
        depth: candidates to keep per query.
    """
    scores = np.round(scores, DECIMALS)
    order = np.lexsort((rows, -scores), axis=1)[:, :depth]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)


def _exhaustive_search(
    queries: np.ndarray, passages: np.ndarray, depth: int, block_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the exact top `depth` where any number of passages may tie: all products in float64, block by block."""
    columns = max(depth, min(SCAN_COLUMNS, block_size // 8))
    rows_at_once = max(1, block_size // 8 // columns)
    parts = [
        _scan_corpus(queries[start : start + rows_at_once], passages, depth, columns)
        for start in range(0, len(queries), rows_at_once)
    ]
    scores, rows = zip(*parts, strict=True)
    return np.concatenate(scores), np.concatenate(rows)


def _scan_corpus(queries: np.ndarray, passages: np.ndarray, depth: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Compare queries with `columns` passages at a time and keep the best `depth` of those compared so far."""
    queries, count = queries.astype(np.float64), len(queries)
    scores, rows = np.empty((count, 0)), np.empty((count, 0), np.int64)
    for start in range(0, len(passages), columns):
        block = np.asarray(passages[start : start + columns], np.float64)
        block_rows = np.arange(start, start + len(block))
        scores = np.hstack([scores, np.round(queries @ block.T, DECIMALS)])
        rows = np.hstack([rows, np.broadcast_to(block_rows, (count, len(block)))])
        scores, rows = keep_best(scores, rows, depth)
    return select_best(scores, rows, depth)


def keep_best(scores: np.ndarray, rows: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """Keep the best `depth` candidates of each query in their order; of equal scores the first ones.

    Args:
        scores: (queries, width), rounded.
        rows: (queries, width) rows of the corpus, rising among equal scores.
        depth: candidates to keep per query; all if there are fewer.
    """
    if scores.shape[1] <= depth:
        return scores, rows
    last = -np.partition(-scores, depth - 1, axis=1)[:, [depth - 1]]
    above, tied = scores > last, scores == last
    keep = above | (tied & (tied.cumsum(axis=1) <= depth - above.sum(axis=1, keepdims=True)))
    return scores[keep].reshape(-1, depth), rows[keep].reshape(-1, depth)


def check_finite(kind: str, ids: Sequence[str], vectors: np.ndarray) -> None:
    """Refuse vectors that cannot be ranked: a passage with NaN would vanish from every ranking.

    Args:
        kind: `query` or `passage`.
        ids: ids of the rows of `vectors`.
        vectors: (rows, dim) floats.

    Raises:
        UserError: vectors hold NaN or infinity, or overflow in float32; the line names their ids.
    """
    refuse_not_finite(kind, ids, not_finite_rows(vectors))


def not_finite_rows(vectors: np.ndarray, block_size: int = BLOCK_SIZE) -> list[int]:
    """Return the rows of `vectors` (rows, dim) that hold NaN or infinity, or overflow in float32."""
    with np.errstate(over="ignore"):
        return [start + row for start, block in float32_blocks(vectors, block_size) for row in find_not_finite(block)]


def refuse_not_finite(kind: str, ids: Sequence[str], rows: Sequence[int]) -> None:
    """Raise a `UserError` that names the texts whose vectors are not finite, if there are any.

    Args:
        kind: `query` or `passage`.
        ids: ids of all texts.
        rows: the texts.
    """
    if len(rows):
        raise UserError(
            f"vectors hold values that are not numbers ({kind} {list_names([str(ids[row]) for row in rows])}); "
            "encode with model.precision bf16 or fp32"
        )


def float32_blocks(passages: np.ndarray, block_size: int = BLOCK_SIZE) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the first row and the float32 vectors of consecutive blocks of a (corpus, dim) array."""
    rows = max(1, block_size // passages.shape[1])
    for start in range(0, len(passages), rows):
        yield start, to_float32(passages[start : start + rows])


def to_float32(vectors: np.ndarray) -> np.ndarray:
    """Return vectors as a contiguous float32 array, which faiss needs."""
    return np.ascontiguousarray(vectors, dtype=np.float32)
