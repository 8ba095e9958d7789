"""Tables of evaluated runs: the main metrics with p-values, or all metrics with letters for significant differences."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rounds.artifacts import store
from rounds.errors import UserError
from rounds.evaluation import results, significance
from rounds.evaluation.results import ResultRow
from rounds.evaluation.table import SUPERSCRIPTS, Column, Table, files_of

LETTERS = "".join(SUPERSCRIPTS)  # they name the rows of a comparison

CAPTION = "p: Fisher's randomization test of MAP@25 against the row above"

LABEL_COLUMNS = (Column("#", is_text=True, wraps=True), Column("", is_text=True, wraps=True))


def main_table(rows: list[ResultRow], title: str = "", further: tuple[str, ...] = ()) -> Table:
    """Return the main metrics of each row and its p-value against the row above.

    Args:
        rows: the rows.
        title: the table's title.
        further: names of more metrics to show.

    Raises:
        UserError: the rows were evaluated on different queries.
    """
    metrics = (*results.MAIN_COLUMNS, *further)
    columns = [Column("", is_text=True, wraps=True), *map(Column, (*metrics, "p"))]
    body = []
    for row, p in zip(rows, results.p_values(rows), strict=True):
        values = [row.metrics.get(name) for name in metrics]
        figures = ["-" if value is None else f"{value:.4f}" for value in values]
        body.append([row.label, *figures, "" if p is None else f"{p:.4f}"])
    return Table(columns, body, title, CAPTION)


@dataclass(frozen=True)
class Comparison:
    """Runs on the same queries, compared in pairs on `results.COMPARED_METRICS`.

    Attributes:
        labels: the runs' names, in the order of their letters.
        means: (runs, metrics) mean of each metric.
        p_values: (runs, runs, metrics) p of each pair by Fisher's randomization test; 1 of a run with itself.
        max_p: the largest p of a significant difference.
    """

    labels: list[str]
    means: np.ndarray
    p_values: np.ndarray
    max_p: float

    def worse_rows(self, row: int, metric: int) -> list[int]:
        """Return the rows that are significantly worse than `row` on a metric."""
        worse = self.means[:, metric] < self.means[row, metric]
        return np.flatnonzero(worse & (self.p_values[row, :, metric] <= self.max_p)).tolist()


def compare(rows: list[ResultRow], max_p: float = results.MAX_P) -> Comparison:
    """Compare all pairs of rows on `results.COMPARED_METRICS`.

    Args:
        rows: with `scores`, on the same queries.
        max_p: the largest p of a significant difference. The test is Fisher's randomization test (Smucker et al. 2007),
            not corrected for the number of tests.

    Raises:
        UserError: there are more rows than letters, or a row has only MAP@25.
    """
    if len(rows) > len(LETTERS):
        raise UserError(f"{len(rows)} runs are more than there are letters ({len(LETTERS)}); compare fewer runs")
    incomplete = [row.label for row in rows if not set(results.COMPARED_METRICS) <= row.scores.keys()]
    if incomplete:
        raise UserError(f"{incomplete[0]}: its evaluation saved only MAP@25; evaluate it again with --overwrite")
    scores = np.stack([[row.scores[name] for name in results.COMPARED_METRICS] for row in rows])
    p_values = np.ones((len(rows), len(rows), len(results.COMPARED_METRICS)))
    first, second = np.triu_indices(len(rows), k=1)
    if len(first):
        differences = (scores[first] - scores[second]).reshape(-1, scores.shape[-1])
        pair_values = significance.fisher_p_values(differences).reshape(len(first), -1)
        p_values[first, second] = p_values[second, first] = pair_values
    return Comparison([row.label for row in rows], scores.mean(axis=-1), p_values, max_p)


def comparison_table(comparison: Comparison) -> Table:
    """Return all metrics, each figure followed by the letters of the rows that are significantly worse."""
    body = []
    for row, label in enumerate(comparison.labels):
        figures = [
            f"{mean:.4f}" + "".join(SUPERSCRIPTS[LETTERS[other]] for other in comparison.worse_rows(row, metric))
            for metric, mean in enumerate(comparison.means[row])
        ]
        body.append([LETTERS[row], label, *figures])
    return Table([*LABEL_COLUMNS, *map(Column, results.COMPARED_METRICS)], body)


def comparison_screens(comparison: Comparison) -> list[Table]:
    """Return the comparison as one narrow table per family of metrics, for the terminal."""
    table = comparison_table(comparison)
    families = [
        [name for name in results.COMPARED_METRICS if name.startswith(f"{family}@")]
        for family in results.METRIC_FAMILIES
    ]
    tables = []
    for names in (results.MAIN_COMPARED, *families):
        positions = [0, 1, *(table.header.index(name) for name in names)]
        columns = [table.columns[position] for position in positions]
        tables.append(replace(table, columns=columns, rows=[[row[p] for p in positions] for row in table.rows]))
    return tables


def write_comparison(comparison: Comparison, path: Path) -> list[Path]:
    """Write the comparison as Markdown, LaTeX and CSV side by side and return the three files.

    The LaTeX has the best figures of each metric in bold; the CSV holds the unrounded means without letters.
    """
    markdown, latex, csv = files_of(path, ".md", ".tex", ".csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    table = comparison_table(comparison)
    store.write_text(markdown, f"{table.markdown()}\n{note(comparison)}\n")
    store.write_text(latex, f"% {note(comparison)}\n{table.latex(_best_cells(comparison))}")
    means = [[label, *values] for label, values in zip(comparison.labels, comparison.means.tolist(), strict=True)]
    store.write_text(csv, Table([Column("run"), *map(Column, results.COMPARED_METRICS)], means).csv())
    return [markdown, latex, csv]


def _best_cells(comparison: Comparison) -> set[tuple[int, int]]:
    """Return row and column of the best figures of each metric in the comparison table, as they are rounded there."""
    rounded = comparison.means.round(4)
    rows, metrics = np.nonzero((rounded == rounded.max(axis=0)) & (rounded > 0))
    return set(zip(rows.tolist(), (metrics + len(LABEL_COLUMNS)).tolist(), strict=True))


def note(comparison: Comparison) -> str:
    """Return the sentence that explains the superscripts."""
    return superscript_note(comparison.max_p)


def superscript_note(max_p: float) -> str:
    """Return the sentence that explains superscripts at a significance level."""
    return f"Superscripts: better than that row by Fisher's randomization test, p <= {max_p:g}."
