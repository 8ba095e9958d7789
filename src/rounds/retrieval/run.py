"""Run: a ranking of the corpus for each query, read and written as TREC run files."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from rounds.errors import UserError

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
