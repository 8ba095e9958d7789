"""Tables of evaluated runs: the main metrics with p-values, or all metrics with letters for significant differences."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from ranx.data_structures import FrozensetDict, Report

from rounds.artifacts import store
from rounds.errors import UserError
from rounds.evaluation import results, significance
from rounds.evaluation.results import ResultRow
from rounds.evaluation.table import SUPERSCRIPTS, Column, Table

LETTERS = "".join(SUPERSCRIPTS)  # they name the rows of a comparison

CAPTION = "p: Fisher's randomization test of MAP@25 against the row above"

LABEL_COLUMNS = (Column("#", is_text=True, wraps=True), Column("", is_text=True, wraps=True))


def main_table(rows: list[ResultRow], title: str = "") -> Table:
    """Return the main metrics of each row and its p-value against the row above.

    Raises:
        UserError: the rows were evaluated on different queries.
    """
    columns = [Column("", is_text=True, wraps=True), *map(Column, (*results.MAIN_COLUMNS, "p"))]
    body = []
    for row, p in zip(rows, results.p_values(rows), strict=True):
        values = [row.metrics.get(name) for name in results.MAIN_COLUMNS]
        figures = ["-" if value is None else f"{value:.4f}" for value in values]
        body.append([row.label, *figures, "" if p is None else f"{p:.4f}"])
    return Table(columns, body, title, CAPTION)


def compare(rows: list[ResultRow], max_p: float = results.MAX_P) -> Report:
    """Compare all pairs of rows on `results.COMPARED_METRICS` and return ranx's report.

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
    names = [row.label for row in rows]
    scores = {row.label: {name: row.scores[name] for name in results.COMPARED_METRICS} for row in rows}
    means = {
        name: {metric: float(values.mean()) for metric, values in row_scores.items()}
        for name, row_scores in scores.items()
    }
    metrics = list(results.COMPARED_METRICS)
    tests = _pairwise_tests(scores, metrics, max_p)
    return Report(names, means, tests, metrics, max_p, {}, rounding_digits=4, stat_test="fisher")


def _pairwise_tests(scores: dict[str, dict[str, np.ndarray]], metrics: list[str], max_p: float) -> FrozensetDict:
    """Test each pair of runs on each metric, in ranx's format."""
    names = list(scores)
    pairs = [(one, other) for number, one in enumerate(names) for other in names[number + 1 :]]
    tests = FrozensetDict()
    if not pairs:
        return tests
    differences = [scores[one][metric] - scores[other][metric] for one, other in pairs for metric in metrics]
    p_values = significance.fisher_p_values(np.stack(differences)).reshape(len(pairs), len(metrics))
    for pair, pair_p_values in zip(pairs, p_values, strict=True):
        tests[frozenset(pair)] = {
            metric: {"p_value": p, "significant": p <= max_p} for metric, p in zip(metrics, pair_p_values, strict=True)
        }
    return tests


def comparison_table(report: Report) -> Table:
    """Return all metrics, each figure followed by the letters of the rows that are significantly worse."""
    body = []
    for number, name in enumerate(report.model_names):
        figures = [
            report.format_score(report.results[name][metric]) + _superscripts(report, name, metric)
            for metric in report.metrics
        ]
        body.append([LETTERS[number], name, *figures])
    return Table([*LABEL_COLUMNS, *map(Column, results.COMPARED_METRICS)], body)


def _superscripts(report: Report, name: str, metric: str) -> str:
    """Return the superscript letters of the rows that are significantly worse than a row on a metric.

    They are not taken from ranx, whose superscript of row `q` is an Arabic digit nine.
    """
    return "".join(
        SUPERSCRIPTS[letter]
        for letter, other in zip(LETTERS, report.model_names, strict=False)
        if other != name
        and report.comparisons[name, other][metric]["significant"]
        and report.results[name][metric] > report.results[other][metric]
    )


def comparison_screens(report: Report) -> list[Table]:
    """Return the comparison as one narrow table per family of metrics, for the terminal."""
    table = comparison_table(report)
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


def write_comparison(report: Report, path: Path) -> list[Path]:
    """Write the comparison as Markdown, LaTeX and CSV side by side and return the three files.

    The LaTeX has the best figures of each metric in bold; the CSV holds the unrounded means without letters.
    """
    markdown, latex, csv = (path.with_suffix(suffix) for suffix in (".md", ".tex", ".csv"))
    path.parent.mkdir(parents=True, exist_ok=True)
    table = comparison_table(report)
    store.write_text(markdown, f"{table.markdown()}\n{note(report)}\n")
    store.write_text(latex, f"% {note(report)}\n{table.latex(_best_cells(report))}")
    means = [[name, *report.results[name].values()] for name in report.model_names]
    store.write_text(csv, Table([Column("run"), *map(Column, results.COMPARED_METRICS)], means).csv())
    return [markdown, latex, csv]


def _best_cells(report: Report) -> set[tuple[int, int]]:
    """Return row and column of the best figures of each metric in the comparison table, as they are rounded there."""
    cells = set()
    for column, metric in enumerate(report.metrics, len(LABEL_COLUMNS)):
        figures = [round(report.results[name][metric], report.rounding_digits) for name in report.model_names]
        cells |= {(row, column) for row, figure in enumerate(figures) if figure == max(figures) > 0}
    return cells


def note(report: Report) -> str:
    """Return the sentence that explains the superscripts."""
    return superscript_note(report.max_p)


def superscript_note(max_p: float) -> str:
    """Return the sentence that explains superscripts at a significance level."""
    return f"Superscripts: better than that row by Fisher's randomization test, p <= {max_p:g}."
