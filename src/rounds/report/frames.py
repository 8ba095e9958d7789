"""Data frames behind the report's charts: scores by epoch, recall curves, truncated vectors, leaderboard and cost.

Every function returns a frame with its columns even if it has no rows.
"""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from rounds.artifacts import store
from rounds.artifacts.manifests import Epoch, FinetuneManifest
from rounds.data.collection import Collection
from rounds.data.source import MINED
from rounds.evaluation import truncation
from rounds.evaluation.metrics import per_query
from rounds.evaluation.results import SHORT_NAMES, ResultRow, RowKind
from rounds.mining.statistics import is_mined
from rounds.report.ranked_runs import DEPTH, ZERO_SHOT, RankedRun
from rounds.retrieval import representations, search
from rounds.retrieval.run import rank_without
from rounds.retrieval.vectors import truncate_vectors

EPOCH_METRICS = ("MAP@25", "Recall@25")

PARTS = ("all", "seen", "unseen")


# ---- scores ----------------------------------------------------------------------------------------------------------
def epoch_scores(rounds: dict[int, Path], rows: list[ResultRow]) -> pd.DataFrame:
    """Return each epoch's MAP@25 and Recall@25, with BM25 and zero-shot as constant series beside them.

    Args:
        rounds: Round number -> folder.
        rows: The experiment's results, which hold the two baselines.

    Returns:
        Columns `epoch` (`round 1 · 2`), `order` (from 1, over all rounds), `series` (`rounds`, `BM25` or `zero-shot`),
        `part` (one of `PARTS`), `metric` and `value`.
    """
    epochs = [
        (f"round {number} · {epoch.folder.rpartition('_')[2]}", epoch.metrics)
        for number, folder in rounds.items()
        for epoch in _read_epochs(folder / "train")
    ]
    points = []
    for order, (epoch, metrics) in enumerate(epochs, 1):
        points += _epoch_points(epoch, order, metrics, "rounds")
    kinds = (RowKind.BM25, RowKind.ZERO_SHOT)
    baselines = {row.short_name: row.metrics for row in rows if row.kind in kinds and row.in_chain}
    for label, metrics in baselines.items():
        for order, (epoch, _) in enumerate(epochs, 1):
            points += _epoch_points(epoch, order, metrics, label)
    return pd.DataFrame(points, columns=["epoch", "order", "series", "part", "metric", "value"])


def _read_epochs(folder: Path) -> list[Epoch]:
    manifest = store.read_manifest(folder)
    return manifest.epochs if isinstance(manifest, FinetuneManifest) else []


def _epoch_points(epoch: str, order: int, metrics: dict, series: str) -> list[dict]:
    points = []
    for part in PARTS:
        for metric in EPOCH_METRICS:
            value = metrics.get(metric if part == "all" else f"{metric} {part}")
            if value is not None:
                point = {"epoch": epoch, "order": order, "series": series, "part": part}
                points.append({**point, "metric": metric, "value": value})
    return points


def recall_curves(ranked_runs: list[RankedRun], data: Collection) -> pd.DataFrame:
    """Return Recall@k of each run for k from 1 to 100: the mean share of a query's relevant passages in its top k.

    Returns:
        Columns `run`, `k` and `value`.
    """
    rows = []
    for ranked in ranked_runs:
        total = np.zeros(DEPTH)
        for query, passage_ids in zip(ranked.run.queries, ranked.run.passages[:, :DEPTH], strict=True):
            recall = np.isin(passage_ids, data.qrels[query]).cumsum() / max(len(data.qrels[query]), 1)
            # A corpus of fewer than 100 passages: recall stays what it is at the last rank.
            total += np.pad(recall, (0, DEPTH - len(recall)), mode="edge")
        means = np.round(total / len(ranked.run.queries), 6)
        rows += [{"run": ranked.label, "k": k, "value": value} for k, value in enumerate(means, 1)]
    return pd.DataFrame(rows, columns=["run", "k", "value"])


def truncation_scores(ranked_runs: list[RankedRun], data: Collection) -> pd.DataFrame:
    """Return NDCG@10 and MAP@25 of truncated vectors, for the checkpoint before the rounds and the last one.

    Returns:
        Columns `dimensions`, `when` (`zero-shot` or the last run's label), `metric` and `value`; no rows unless the
        vectors of two checkpoints are on disk.
    """
    rows = []
    before = (ZERO_SHOT, SHORT_NAMES[RowKind.START])
    embedded = [ranked for ranked in ranked_runs if ranked.vectors and representations.is_dense(ranked.vectors[0])]
    if len(embedded) > 1 and embedded[0].label in before:
        for ranked in (embedded[0], embedded[-1]):
            for dim in truncation.halved_dims(ranked.vectors[0].shape[1]):
                rows += [{"dimensions": dim, "when": ranked.label, **score} for score in _truncated(ranked, dim, data)]
    return pd.DataFrame(rows, columns=["dimensions", "when", "metric", "value"])


def _truncated(ranked: RankedRun, dim: int, data: Collection) -> list[dict]:
    """Rank by the vectors' first `dim` numbers, normalized again if the whole vectors have unit length."""
    is_normalized = abs(np.linalg.norm(ranked.vectors[1][0]) - 1) < 0.01
    queries, corpus = (truncate_vectors(vectors, dim, is_normalized) for vectors in ranked.vectors)
    rank = partial(search.rank, list(data.validation), queries, list(data.passages), corpus)
    run = rank_without(rank, data.validation, data.identical, DEPTH, len(corpus))
    scores = per_query(run, data.qrels, truncation.METRICS, data.grades)
    return [{"metric": name, "value": float(values.mean())} for name, values in scores.items()]


# ---- leaderboard and cost --------------------------------------------------------------------------------------------
def leaderboard_scores(ledger_rows: list[dict]) -> pd.DataFrame:
    """Return the ledger's rows that have both a CV and an LB score, one row for each side of the leaderboard.

    Returns:
        Columns `recipe`, `round`, `CV`, `side` (`public` or `private`), `LB` and `lineage`.
    """
    scores = []
    for row in ledger_rows:
        for side in ("public", "private"):
            if row["MAP@25"] and row[f"LB {side}"]:
                cv, lb = float(row["MAP@25"]), float(row[f"LB {side}"])
                checkpoint = {"recipe": row["recipe"], "round": row["round"], "lineage": row["lineage"]}
                scores.append({**checkpoint, "CV": cv, "side": side, "LB": lb})
    return pd.DataFrame(scores, columns=["recipe", "round", "CV", "side", "LB", "lineage"])


def stage_costs(rounds: dict[int, Path]) -> pd.DataFrame:
    """Return the seconds and peak memory of each round's stages, read from their manifests.

    Validation queries are encoded while a round trains, so that time counts as training.

    Returns:
        Columns `stage` (`round 1: mine`), `seconds`, `peak` (MiB; NaN if it was not measured) and `order`.
    """
    rows = []
    for number, folder in rounds.items():
        manifests = {
            "mine": store.read_file_manifest(folder / MINED) if is_mined(folder) else None,
            "train": store.read_manifest(folder / "train"),
            "evaluate": store.read_manifest(folder / "eval"),
        }
        rows += [
            {"stage": f"round {number}: {stage}", "seconds": manifest.seconds, "peak": manifest.peak_mib}
            for stage, manifest in manifests.items()
            if manifest
        ]
    costs = pd.DataFrame(rows, columns=["stage", "seconds", "peak"]).astype({"seconds": float, "peak": float})
    return costs.assign(order=range(len(costs)))
