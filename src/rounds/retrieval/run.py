"""Run: a ranking of the corpus for each query, read and written as TREC run files."""

import csv
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from rounds.errors import UserError

NOTHING: Mapping[str, list[str]] = MappingProxyType({})  # of passages that rankings leave out

DECIMALS = 6  # of scores, in files and where they are compared

NO_TREC_RUN = "not a TREC run (query Q0 passage rank score tag)"

TREC_COLUMNS = {"query": str, "q0": str, "passage": str, "rank": int, "score": np.float32, "tag": str}


@dataclass(frozen=True)
class Run:
    """A ranking of the corpus for each query.

    Attributes:
        queries: query ids.
        passages: (queries, depth) passage ids, best first.
        scores: (queries, depth) float32, never rising along a row.
    """

    queries: list[str]
    passages: np.ndarray
    scores: np.ndarray

    def top(self, depth: int) -> "Run":
        """Return the run with the first `depth` passages of each query."""
        return Run(self.queries, self.passages[:, :depth], self.scores[:, :depth])


def rank_without(
    rank: Callable[[int], Run], queries: Iterable[str], left_out: Mapping[str, list[str]], depth: int, corpus_size: int
) -> Run:
    """Return a ranking without the passages that are left out of single queries' rankings.

    Where rankings reach the end of the corpus, those of queries with more passages left out than others end in these,
    so that all are equally deep.

    Args:
        rank: ranks the corpus for the queries, to a depth.
        queries: query ids.
        left_out: query id -> passage ids.
        depth: passages per query; fewer if the corpus is smaller.
        corpus_size: number of passages.
    """
    counts = [len(left_out.get(query, ())) for query in queries]
    run = rank(min(depth + max(counts, default=0), corpus_size))
    depth = min(depth, max(corpus_size - min(counts, default=0), 1))
    if not any(counts):
        return run.top(depth)
    passages, scores = run.passages[:, :depth].copy(), run.scores[:, :depth].copy()
    for row in np.flatnonzero(counts):
        is_left_out = np.isin(run.passages[row], left_out[run.queries[row]])
        order = np.argsort(is_left_out, kind="stable")[:depth]
        passages[row], scores[row] = run.passages[row, order], np.minimum.accumulate(run.scores[row, order])
    return Run(run.queries, passages, scores)


def write_trec(run: Run, path: Path, tag: str) -> None:
    """Write a run in trec_eval's format: `query Q0 passage rank score tag` lines, ranks from 1.

    trec_eval sorts by score and breaks ties by id, whatever the rank. So scores that tie are written as falling by the
    last decimal, as Anserini does: it then ranks as this run does.

    Args:
        run: the ranking.
        path: the file to write.
        tag: the name of the run, the last column.
    """
    count, depth = run.scores.shape
    scores = falling_scores(run.scores)
    ranks = [f" {rank} " for rank in range(1, depth + 1)]
    with open(path, "w", encoding="utf-8") as file:
        for row in range(count):
            query = run.queries[row]
            file.writelines(
                f"{query} Q0 {passage}{rank}{score:.{DECIMALS}f} {tag}\n"
                for passage, rank, score in zip(run.passages[row], ranks, scores[row].tolist(), strict=True)
            )


def falling_scores(scores: np.ndarray) -> np.ndarray:
    """Return (queries, depth) float64 scores that fall by at least the last decimal from rank to rank.

    A score is lowered only where it would tie with the one before, at the precision of the file and of float32.
    """
    rounded = np.round(scores.astype(np.float64), DECIMALS)
    unit = 10.0**-DECIMALS
    spacing = float(np.spacing(np.abs(scores, dtype=np.float32).max(initial=0)))
    step = np.ceil(spacing / unit) * unit
    ramp = step * np.arange(scores.shape[1])
    return np.minimum.accumulate(rounded + ramp, axis=1) - ramp


def read_trec(path: Path) -> Run:
    """Read a run in trec_eval's format.

    Raises:
        UserError: the file is missing or has other columns, or its queries do not have equally many passages, each
            once, by rank and score.
    """
    try:
        table = pd.read_csv(
            path,
            sep=" ",
            header=None,
            names=list(TREC_COLUMNS),
            dtype=TREC_COLUMNS,
            keep_default_na=False,
            quoting=csv.QUOTE_NONE,
        )
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (ValueError, OverflowError, pd.errors.EmptyDataError, pd.errors.ParserError):
        raise UserError(f"{path}: {NO_TREC_RUN}") from None
    has_all_columns = isinstance(table.index, pd.RangeIndex) and not (table["tag"].eq("") | table["tag"].isna()).any()
    if table.empty or not has_all_columns or not np.isfinite(table["score"]).all():
        raise UserError(f"{path}: {NO_TREC_RUN}")
    queries = list(dict.fromkeys(table["query"]))
    depth = len(table) // len(queries)
    if len(table) != depth * len(queries) or not _is_in_order(table, np.array(queries, dtype=object), depth):
        raise UserError(
            f"{path}: queries do not have equally many passages, each once, by rank from 1 and falling score; "
            "delete it and rank again"
        )
    shape = (len(queries), depth)
    return Run(
        queries,
        table["passage"].to_numpy(dtype=object).reshape(shape),
        table["score"].to_numpy(dtype=np.float32).reshape(shape),
    )


def _is_in_order(table: pd.DataFrame, queries: np.ndarray, depth: int) -> bool:
    """Return whether a table holds `depth` rows of each query, ranked from 1, no passage twice and no score rising."""
    scores = table["score"].to_numpy().reshape(-1, depth)
    return (
        (table["query"].to_numpy() == np.repeat(queries, depth)).all()
        and (table["rank"].to_numpy() == np.tile(np.arange(1, depth + 1), len(queries))).all()
        and (scores[:, 1:] <= scores[:, :-1]).all()
        and not table.duplicated(["query", "passage"]).any()
    )
