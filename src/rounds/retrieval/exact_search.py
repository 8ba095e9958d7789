"""Exact top-k search by inner product, in blocks, with ties in corpus order."""

from collections.abc import Iterator
from functools import cache

import faiss
import numpy as np

from rounds.errors import UserError
from rounds.retrieval.run import DECIMALS

SLACK = 16

BLOCK = 2**24  # numbers held at once beside the vectors and the run: 64 MB of float32

COLUMNS = 4096

GPU_WIDTH = 2048  # faiss's limit


def top(queries: np.ndarray, passages: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores and row numbers: faiss proposes a little more than `depth`, and float64 puts it in order."""
    width = min(depth + SLACK, len(passages))
    near, order = _nearest(queries, passages, width)
    if order.size and order.min() < 0:
        raise UserError("vectors hold values that are not numbers; encode with model.precision bf16 or fp32")
    scores = products(queries, passages, order)
    error = np.abs(near - scores).max(initial=0)
    edge = near[:, -1] + 2 * error + 10.0**-DECIMALS
    scores, order = best(scores, order, depth)
    if width < len(passages):
        tied = np.flatnonzero(scores[:, -1] <= edge)  # what faiss left out may be as good
        if len(tied):
            scores[tied], order[tied] = _scan(queries[tied], passages, depth)
    return scores, order


def _nearest(queries: np.ndarray, passages: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """faiss's float32 top `width`, merged over blocks of the corpus."""
    top = faiss.ResultHeap(len(queries), width, keep_max=True)
    for start, block in blocks(passages):
        scores, order = _knn(queries, block, min(width, len(block)))
        top.add_result(scores, np.where(order < 0, -1, order + start))
    top.finalize()
    return top.D, top.I


def _knn(queries: np.ndarray, block: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    if faiss.get_num_gpus() and width <= GPU_WIDTH:
        return faiss.knn_gpu(_gpu(), queries, block, width, metric=faiss.METRIC_INNER_PRODUCT)
    return faiss.knn(queries, block, width, metric=faiss.METRIC_INNER_PRODUCT)


@cache
def _gpu() -> "faiss.StandardGpuResources":
    return faiss.StandardGpuResources()


def products(queries: np.ndarray, passages: np.ndarray, order: np.ndarray) -> np.ndarray:
    """(queries, width) float64 inner products with the passages `order`: alike whatever faiss summed in which order."""
    width = order.shape[1]
    scores, pairs = np.empty(order.size), max(1, BLOCK // 4 // passages.shape[1])
    for start in range(0, order.size, pairs):
        part = slice(start, start + pairs)
        rows = np.arange(start, min(start + pairs, order.size)) // width
        scores[part] = np.einsum("nd,nd->n", queries[rows], passages[order.reshape(-1)[part]], dtype=np.float64)
    return scores.reshape(order.shape)


def best(scores: np.ndarray, order: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """The top of each row; rounding makes passages of one text tie, and the corpus order decides."""
    scores = np.round(scores, DECIMALS)
    best = np.lexsort((order, -scores), axis=1)[:, :depth]
    return np.take_along_axis(scores, best, axis=1), np.take_along_axis(order, best, axis=1)


def _scan(queries: np.ndarray, passages: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """Exact top where any number of passages may tie: every product in float64, a bounded part at a time."""
    columns = max(depth, COLUMNS)
    rows = max(1, BLOCK // 8 // columns)
    found = [_scan_rows(queries[start : start + rows], passages, depth, columns)
             for start in range(0, len(queries), rows)]  # fmt: skip
    return tuple(np.concatenate(each) for each in zip(*found, strict=True))


def _scan_rows(queries: np.ndarray, passages: np.ndarray, depth: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    queries, count = queries.astype(np.float64), len(queries)
    scores, order = np.empty((count, 0)), np.empty((count, 0), np.int64)
    for start in range(0, len(passages), columns):
        block = np.asarray(passages[start : start + columns], np.float64)
        numbers = np.arange(start, start + len(block))
        scores = np.hstack([scores, np.round(queries @ block.T, DECIMALS)])
        order = np.hstack([order, np.broadcast_to(numbers, (count, len(block)))])
        if scores.shape[1] > depth:  # keep what is above the edge, and of its ties the first
            edge = -np.partition(-scores, depth - 1, axis=1)[:, [depth - 1]]
            above, tied = scores > edge, scores == edge
            keep = above | (tied & (tied.cumsum(axis=1) <= depth - above.sum(axis=1, keepdims=True)))
            scores, order = scores[keep].reshape(count, depth), order[keep].reshape(count, depth)
    return best(scores, order, depth)


def blocks(passages: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    rows = max(1, BLOCK // passages.shape[1])
    for start in range(0, len(passages), rows):
        yield start, to_float32(passages[start : start + rows])


def to_float32(vectors: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(vectors, dtype=np.float32)
