"""Ranked runs: how BM25 and each evaluated checkpoint rank the validation queries, read from the stored run files."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rounds.config.sections import mining
from rounds.data.collection import Collection
from rounds.encoding import run_store
from rounds.evaluation.results import ResultRow
from rounds.retrieval import bm25
from rounds.retrieval.run import Run, read_trec

BM25 = "BM25"

ZERO_SHOT = "zero-shot"

DEPTH = 100  # passages that the report keeps of each query's ranking


@dataclass(frozen=True)
class RankedRun:
    """One ranking of all validation queries.

    Attributes:
        label: `BM25`, `zero-shot`, `round 1`, ...
        run: The ranking, with queries in the collection's order.
        ranks: (queries,) rank of each query's best relevant passage, from 1; 0 if the run holds none.
        vectors: (queries, dim) and (passages, dim) embeddings at full dimension; None if they are not on disk.
    """

    label: str
    run: Run
    ranks: np.ndarray
    vectors: tuple[np.ndarray, np.ndarray] | None = None


def rank_with_bm25(data: Collection, parameters: mining.BM25) -> RankedRun:
    """Rank the validation queries with BM25."""
    run = bm25.rank(data.validation, data.passages, DEPTH, parameters, left_out=data.identical)
    return RankedRun(BM25, run, ranks_of_positives(run, data.qrels))


def read_ranked_runs(rows: list[ResultRow], data: Collection, model_output: Path) -> list[RankedRun]:
    """Read the run files behind an evaluation's rows; rows without a run of these queries on disk are left out."""
    ranked_runs = []
    for row in rows:
        path = model_output / (row.run or "-") / run_store.RUN_FILE
        if not row.in_chain or not path.is_file():
            continue
        run = read_trec(path).top(DEPTH)
        if run.queries == list(data.validation):
            ranks = ranks_of_positives(run, data.qrels)
            ranked_runs.append(RankedRun(row.short_name, run, ranks, run_store.load_run_vectors(path)))
    return ranked_runs


def ranks_of_positives(run: Run, qrels: dict[str, list[str]]) -> np.ndarray:
    """Return the (queries,) rank of each query's best relevant passage, from 1; 0 if the run holds none.

    >>> run = Run(["q", "r"], np.array([["a", "b"], ["a", "b"]]), np.zeros((2, 2)))
    >>> ranks_of_positives(run, {"q": ["b"], "r": ["c"]})
    array([2, 0])
    """
    relevant = np.array(
        [np.isin(passage_ids, qrels[query]) for query, passage_ids in zip(run.queries, run.passages, strict=True)],
        dtype=bool,
    )
    return np.where(relevant.any(axis=1), relevant.argmax(axis=1) + 1, 0)
