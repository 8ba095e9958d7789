"""Ranking: vectors -> run, and runs on disk in TREC's format. Works without torch."""

from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
import pandas as pd

from rounds.errors import UserError

SLACK = 16
DECIMALS = 6


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


def rank(query_ids: list[str], queries: np.ndarray, passage_ids: list[str], passages: np.ndarray, depth: int) -> Run:
    """Exact top `depth` by inner product, ties in corpus order.

    Args:
        queries: (queries, dim) float32.
        passages: (corpus, dim) float32, rows in the order of `passage_ids`.

    >>> run = rank(["q"], np.eye(2, dtype="f4")[:1], ["a", "b"], np.eye(2, dtype="f4"), depth=2)
    >>> run.passages.tolist(), run.scores.tolist()
    ([['a', 'b']], [[1.0, 0.0]])
    """
    depth = min(depth, len(passage_ids))
    width = min(depth + SLACK, len(passage_ids))
    while True:
        scores, order = faiss.knn(_rows(queries), _rows(passages), width, metric=faiss.METRIC_INNER_PRODUCT)
        # Rounding makes passages of one text tie, whatever order the product summed in.
        scores = np.round(scores, DECIMALS)
        if width == len(passage_ids) or (scores[:, depth - 1] > scores[:, -1]).all():
            break
        width = min(2 * width, len(passage_ids))  # a tie runs over the edge of what faiss returned
    best = np.lexsort((order, -scores), axis=1)[:, :depth]
    ids = np.array(passage_ids, dtype=object)[np.take_along_axis(order, best, axis=1)]
    return Run(list(query_ids), ids, np.take_along_axis(scores, best, axis=1))


def _rows(vectors: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(vectors, dtype=np.float32)


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
