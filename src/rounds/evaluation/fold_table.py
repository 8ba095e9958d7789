"""Fold table: rows over all folds, with paired p-values over the queries of all folds."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rounds.artifacts import store
from rounds.artifacts.manifests import FinetuneManifest
from rounds.config.sections.mining import BM25
from rounds.data import collection
from rounds.data.collection import Collection
from rounds.errors import UserError
from rounds.evaluation import significance
from rounds.evaluation.fold_runs import FoldRow
from rounds.evaluation.metrics import HEADLINE_METRICS, MAIN_METRIC
from rounds.evaluation.results import ResultRow
from rounds.evaluation.stage import bm25_row, chance_row
from rounds.evaluation.table import Column, Table, files_of

FIGURES = ("MAP@25", "±", "seen", "unseen", "Recall@25")

COSTS = ("min", "peak MiB")

HEADER = ("", *FIGURES, "p (before)", "p (first)", *COSTS)

CAPTION = (
    "mean over folds ± their standard deviation; p: Fisher's paired test of MAP@25 over the queries of all folds, "
    "(before) against the row above, (first) against the first row of RUNS; min: training of all folds with the rounds "
    "before, peak MiB: the most that one of them held"
)

Scores = dict[str, list[np.ndarray]]  # metric -> (queries,) for each fold


@dataclass(frozen=True)
class ScoredRow:
    """Scores of one row on all folds.

    Attributes:
        label: The row's name.
        scores: Each of `HEADLINE_METRICS`.
        minutes: Of training, all folds together; None where nothing was trained.
        peak_mib: The most of any fold; None where it was not measured.
    """

    label: str
    scores: Scores
    minutes: float | None = None
    peak_mib: float | None = None


def fold_figures(scores: Scores, unseen: list[np.ndarray]) -> list[str]:
    """Return the cells of `FIGURES`: means over the folds, and the standard deviation of the folds' MAP@25.

    A figure of seen or of unseen queries is of the folds that have such queries. It is empty where none has, and the
    deviation is for a single fold.

    Args:
        scores: Each of `HEADLINE_METRICS`.
        unseen: (queries,) of each fold, whether training labels none of the query's passages.
    """
    main = scores[MAIN_METRIC]
    means = [values.mean() for values in main]
    figures = [
        np.mean(means),
        np.std(means, ddof=1) if len(means) > 1 else None,
        _mean_within(main, [~mask for mask in unseen]),
        _mean_within(main, unseen),
        np.mean([values.mean() for values in scores["Recall@25"]]),
    ]
    return ["" if figure is None else f"{figure:.4f}" for figure in figures]


def _mean_within(scores: list[np.ndarray], masks: list[np.ndarray]) -> float | None:
    """Return the mean over the folds of the mean over a part of the queries; None if no fold has such queries."""
    means = [values[mask].mean() for values, mask in zip(scores, masks, strict=True) if mask.any()]
    return np.mean(means) if means else None


def title(folds: list[Collection]) -> str:
    """Return a table's title: the data, the folds, and how many the split has, and their queries."""
    first, queries = folds[0], sum(len(fold.validation) for fold in folds)
    return f"{first.data}, {len(folds)} of {first.n_folds} folds of {first.split}, {queries} queries"


def unseen_masks(folds: list[Collection]) -> list[np.ndarray]:
    """Return for each fold (queries,) whether the passages of a validation query are unlabelled in training."""
    return [np.array([query in fold.unseen for query in fold.validation]) for fold in folds]


def cost_cells(minutes: float | None, peak_mib: float | None) -> list[str]:
    """Return the cells of `COSTS`, empty where something was not measured."""
    return ["" if minutes is None else f"{minutes:.1f}", "" if peak_mib is None else f"{peak_mib:.0f}"]


def read_folds(row: FoldRow) -> list[Collection]:
    """Read the collections of a row's folds.

    Raises:
        UserError: A collection holds other queries than the evaluation.
    """
    folds = [collection.read(run.collection) for run in row.runs]
    for fold, run in zip(folds, row.runs, strict=True):
        if list(fold.validation) != run.row.queries:
            raise UserError(f"{run.folder}: has other queries than {fold.folder}; run its round again")
    return folds


def score_rows(rows: list[FoldRow], folds: list[Collection], parameters: BM25) -> list[ScoredRow]:
    """Return chance, BM25 and the rows, each with its scores on all folds."""
    lexical = [bm25_row(fold, parameters) for fold in folds]
    baselines = [("chance", [chance_row(fold) for fold in folds]), ("BM25", lexical)]
    scored = [ScoredRow(label, _scores(each)) for label, each in baselines]
    for row in rows:
        minutes, peak_mib = _training_cost(row)
        scored.append(ScoredRow(row.label, _scores([run.row for run in row.runs]), minutes, peak_mib))
    return scored


def _scores(rows: list[ResultRow]) -> Scores:
    for row in rows:
        if not set(HEADLINE_METRICS) <= row.scores.keys():
            raise UserError(f"{row.label}: its evaluation saved only MAP@25; evaluate it again with --overwrite")
    return {name: [row.scores[name] for row in rows] for name in HEADLINE_METRICS}


def _training_cost(row: FoldRow) -> tuple[float | None, float | None]:
    """Return the minutes that all trainings of a row took, and the most memory that one of them held."""
    manifests = [store.read_manifest(folder) for folder in dict.fromkeys(f for run in row.runs for f in run.trained)]
    trained = [manifest for manifest in manifests if isinstance(manifest, FinetuneManifest)]
    if not trained:
        return None, None
    peaks = [manifest.peak_mib for manifest in trained if manifest.peak_mib is not None]
    return sum(manifest.seconds for manifest in trained) / 60, max(peaks, default=None)


def fold_table(scored: list[ScoredRow], folds: list[Collection], first: int) -> Table:
    """Return the table of rows over folds.

    Args:
        scored: The rows.
        folds: The folds' collections.
        first: Position of the row that later ones are tested against, beside the row above each.
    """
    unseen = unseen_masks(folds)
    pooled = [np.concatenate(row.scores[MAIN_METRIC]) for row in scored]
    lines = []
    for number, row in enumerate(scored):
        p_values = [
            f"{significance.fisher_p_value(pooled[number], pooled[other]):.4f}" if is_tested else ""
            for other, is_tested in ((number - 1, number > 0), (first, number > first))
        ]
        lines.append([row.label, *fold_figures(row.scores, unseen), *p_values, *cost_cells(row.minutes, row.peak_mib)])
    columns = [Column(HEADER[0], is_text=True, wraps=True), *map(Column, HEADER[1:])]
    return Table(columns, lines, title(folds), CAPTION)


def write(table: Table, path: Path) -> list[Path]:
    """Write the table as Markdown and CSV and return the two files."""
    markdown, csv = files_of(path, ".md", ".csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    store.write_text(markdown, f"{table.title}\n\n{table.markdown()}\n{table.caption}\n")
    store.write_text(csv, replace(table, columns=[Column("run"), *table.columns[1:]]).csv())
    return [markdown, csv]
