"""Ranking: vectors -> run, and runs on disk in TREC's format. Works without torch."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import faiss
import numpy as np
import pandas as pd

from rounds.errors import UserError

SLACK = 16
DECIMALS = 6
BLOCK = 2**24  # numbers held at once beside the vectors and the run: 64 MB of float32
COLUMNS = 4096
GPU_WIDTH = 2048  # faiss's limit
LINKS = 32
WIDER = 2  # an approximate index proposes this many times the depth
LEAST_POINTS, POINTS = 39, 64  # to train a centroid on; faiss warns below 39
LEAST_BITS = 4


@dataclass(frozen=True)
class Run:
    """A ranking of the corpus for each query.

    Attributes:
        queries: query ids.
        passages: (queries, depth) passage ids, best first.
        scores: (queries, depth) float32, falling along each row.
    """

    queries: list[str]
    passages: np.ndarray
    scores: np.ndarray

    def top(self, depth: int) -> "Run":
        """The same run, cut to its first `depth` passages."""
        return Run(self.queries, self.passages[:, :depth], self.scores[:, :depth])


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
    rows = max(1, BLOCK // (depth + SLACK + queries.shape[1]))
    for start in range(0, len(queries), rows):
        part = slice(start, start + rows)
        block = _float32(queries[part])
        found = _exact(block, passages, depth) if index is None else _approximate(block, passages, depth, index)
        scores[part], order[part] = found
    return Run(list(query_ids), np.array(passage_ids, dtype=object)[order], scores)


def _exact(queries: np.ndarray, passages: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores and row numbers: faiss proposes a little more than `depth`, and float64 puts it in order."""
    width = min(depth + SLACK, len(passages))
    near, order = _nearest(queries, passages, width)
    if order.size and order.min() < 0:
        raise UserError("vectors hold values that are not numbers; encode with model.precision bf16 or fp32")
    scores = _products(queries, passages, order)
    error = np.abs(near - scores).max(initial=0)
    edge = near[:, -1] + 2 * error + 10.0**-DECIMALS
    scores, order = _best(scores, order, depth)
    if width < len(passages):
        tied = np.flatnonzero(scores[:, -1] <= edge)  # what faiss left out may be as good
        if len(tied):
            scores[tied], order[tied] = _scan(queries[tied], passages, depth)
    return scores, order


def _nearest(queries: np.ndarray, passages: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """faiss's float32 top `width`, merged over blocks of the corpus."""
    top = faiss.ResultHeap(len(queries), width, keep_max=True)
    for start, block in _blocks(passages):
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


def _products(queries: np.ndarray, passages: np.ndarray, order: np.ndarray) -> np.ndarray:
    """(queries, width) float64 inner products with the passages `order`: alike whatever faiss summed in which order."""
    width = order.shape[1]
    scores, pairs = np.empty(order.size), max(1, BLOCK // 4 // passages.shape[1])
    for start in range(0, order.size, pairs):
        part = slice(start, start + pairs)
        rows = np.arange(start, min(start + pairs, order.size)) // width
        scores[part] = np.einsum("nd,nd->n", queries[rows], passages[order.reshape(-1)[part]], dtype=np.float64)
    return scores.reshape(order.shape)


def _best(scores: np.ndarray, order: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
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
    return _best(scores, order, depth)


def _blocks(passages: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    rows = max(1, BLOCK // passages.shape[1])
    for start in range(0, len(passages), rows):
        yield start, _float32(passages[start : start + rows])


def _float32(vectors: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(vectors, dtype=np.float32)


def check_index(kind: str, corpus: int) -> None:
    """Refuse an index that so small a corpus cannot train."""
    least = LEAST_POINTS << LEAST_BITS
    if kind == "ivfpq" and corpus < least:
        raise UserError(
            f"mining.index ivfpq trains on {least} passages or more, the corpus has {corpus}; set mining.index: exact"
        )


def build(kind: str, passages: np.ndarray) -> faiss.Index:
    """An approximate index of `passages` for inner products.

    Args:
        kind: `hnsw` (Malkov and Yashunin 2016, arXiv:1603.09320; holds the vectors too) or `ivfpq` (Jegou et al. 2011;
            a byte or less for each 8 dimensions).
        passages: (corpus, dim) floats.

    Raises:
        UserError: the corpus is too small to train the index.
    """
    corpus, dim = passages.shape
    check_index(kind, corpus)
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(dim, LINKS, faiss.METRIC_INNER_PRODUCT)
    else:
        index = _trained_ivfpq(passages)
    for _, block in _blocks(passages):
        index.add(block)
    return index


def _trained_ivfpq(passages: np.ndarray) -> faiss.Index:
    corpus, dim = passages.shape
    bits = min(8, int(corpus / LEAST_POINTS).bit_length() - 1)
    lists = min(int(4 * corpus**0.5), corpus // LEAST_POINTS)
    padded = -(-dim // 8) * 8
    description = f"Pad{padded},IVF{lists},PQ{padded // 8}x{bits}"
    index = faiss.index_factory(dim, description, faiss.METRIC_INNER_PRODUCT)
    inverted = faiss.downcast_index(faiss.extract_index_ivf(index))
    for clusters in (inverted.cp, inverted.pq.cp):
        clusters.niter, clusters.max_points_per_centroid = 10, POINTS
    inverted.do_polysemous_training = False  # a minute for codes that this search does not read
    inverted.nprobe = max(16, lists // 16)
    sample = min(corpus, POINTS * max(lists, 2**bits))
    rows = np.random.default_rng(0).choice(corpus, sample, replace=False)
    index.train(_float32(passages[np.sort(rows)]))
    return index


@lru_cache(maxsize=1)
def build_from_file(kind: str, path: Path) -> faiss.Index:
    """`build` of a NumPy file; the last one is kept, for mining that has to go deeper."""
    return build(kind, np.load(path, mmap_mode="r"))


def _approximate(
    queries: np.ndarray, passages: np.ndarray, depth: int, index: faiss.Index
) -> tuple[np.ndarray, np.ndarray]:
    """As `_exact`, from what the index proposes; where it finds fewer than `depth`, exact."""
    width = min(WIDER * depth, len(passages))
    if isinstance(index, faiss.IndexHNSW):
        index.hnsw.efSearch = width
    _, order = index.search(queries, width)
    scores = _products(queries, passages, np.maximum(order, 0))
    scores, order = _best(np.where(order < 0, -np.inf, scores), order, depth)
    lacking = np.flatnonzero((order < 0).any(axis=1))
    if len(lacking):
        scores[lacking], order[lacking] = _exact(queries[lacking], passages, depth)
    return scores, order


def recall(run: Run, exact: Run, depth: int) -> float:
    """Mean share of `exact`'s top `depth` that `run`, of the same queries, has in its own.

    >>> one, other = (Run(["q"], np.array([ids]), np.zeros((1, 2))) for ids in (["a", "b"], ["b", "c"]))
    >>> recall(one, other, 2)
    0.5
    """
    pairs = zip(run.passages[:, :depth].tolist(), exact.passages[:, :depth].tolist(), strict=True)
    return float(np.mean([len(set(one) & set(other)) / len(other) for one, other in pairs]))


def write_trec(run: Run, path: Path, tag: str) -> None:
    """Write `query Q0 passage rank score tag` lines, ranks from 1 (trec_eval's run format)."""
    count, depth = run.scores.shape
    ranks = [f" {rank} " for rank in range(1, depth + 1)]
    with open(path, "w", encoding="utf-8") as file:
        for row in range(count):
            query = run.queries[row]
            file.writelines(
                f"{query} Q0 {passage}{rank}{score:.{DECIMALS}f} {tag}\n"
                for passage, rank, score in zip(run.passages[row], ranks, run.scores[row].tolist(), strict=True)
            )


def read_trec(path: Path) -> Run:
    """Read a run in which every query has equally many passages.

    Raises:
        UserError: no such file, not six columns, or ragged.
    """
    try:
        table = pd.read_csv(
            path, sep=" ", header=None, names=["query", "q0", "passage", "rank", "score", "tag"],
            dtype={"query": str, "q0": str, "passage": str, "rank": int, "score": np.float32, "tag": str},
            keep_default_na=False, quoting=3,
        )  # fmt: skip
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (ValueError, pd.errors.EmptyDataError, pd.errors.ParserError):
        raise UserError(f"{path}: not a TREC run (query Q0 passage rank score tag)") from None
    if table.empty or table["tag"].eq("").any() or table["tag"].isna().any():
        raise UserError(f"{path}: not a TREC run (query Q0 passage rank score tag)")
    queries = list(dict.fromkeys(table["query"]))
    depth = len(table) // len(queries)
    if len(table) != depth * len(queries) or table["rank"].to_numpy().reshape(-1, depth)[:, 0].max() != 1:
        raise UserError(f"{path}: queries do not have equally many passages; delete it and rank again")
    shape = (len(queries), depth)
    return Run(
        queries,
        table["passage"].to_numpy(dtype=object).reshape(shape),
        table["score"].to_numpy(dtype=np.float32).reshape(shape),
    )
