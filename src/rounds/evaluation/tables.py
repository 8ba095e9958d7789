"""Comparison: rows of evaluated runs side by side, with Fisher's p against the row before, as tables."""

from pathlib import Path

import numpy as np
import pandas as pd
from ranx.data_structures import FrozensetDict, Report
from rich import box
from rich.table import Table

from rounds.errors import UserError
from rounds.evaluation import results, significance
from rounds.evaluation.metrics import METRICS
from rounds.evaluation.results import ResultRow
from rounds.evaluation.score_table import ScoreTable

LETTERS = "abcdefghijklmnopqrstuvwxyz"

CAPTION = "p: Fisher's randomization test of MAP@25 against the row above"


def cells(rows: list[ResultRow]) -> list[list[str]]:
    """Table body: label, `SHOWN` metrics, p."""
    body = []
    for row, p in zip(rows, results.p_values(rows), strict=True):
        values = [row.metrics.get(name) for name in results.SHOWN]
        numbers = ["-" if value is None else f"{value:.4f}" for value in values]
        body.append([row.label, *numbers, "" if p is None else f"{p:.4f}"])
    return body


def header() -> list[str]:
    """Column names of `cells`."""
    return ["", *results.SHOWN, "p"]


def score_table(rows: list[ResultRow], title: str) -> ScoreTable:
    """The rows as text, with p."""
    return ScoreTable(title, header(), cells(rows), CAPTION)


def screen(rows: list[ResultRow], title: str) -> Table:
    """A rich table for the terminal."""
    return score_table(rows, title).screen()


def markdown(rows: list[ResultRow]) -> str:
    """The same table in Markdown."""
    lines = [header(), ["---"] + ["---:"] * (len(results.SHOWN) + 1), *cells(rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def report(rows: list[ResultRow], max_p: float = results.MAX_P) -> Report:
    """ranx's report on `COMPARED`: a row's letter behind a figure that is better than that row's at `max_p`.

    Args:
        rows: with `scores`, on the same queries.
        max_p: of Fisher's randomization test (Smucker et al. 2007), not corrected for the number of tests.
    """
    if len(rows) > len(LETTERS):
        raise UserError(f"{len(rows)} runs are more than there are letters ({len(LETTERS)}); compare fewer")
    if bare := [row.label for row in rows if not set(results.COMPARED) <= row.scores.keys()]:
        raise UserError(f"{bare[0]}: its evaluation kept MAP@25 alone; evaluate it again with --overwrite")
    names = [row.label for row in rows]
    scores = {
        row.label: {METRICS[name]: row.scores[name] for name in results.COMPARED} for row in rows
    }  # fmt: skip
    pairs = [(one, other) for number, one in enumerate(names) for other in names[number + 1 :]]
    metrics = [METRICS[name] for name in results.COMPARED]
    differences = [scores[one][metric] - scores[other][metric] for one, other in pairs for metric in metrics]
    found = iter(significance.fisher_of(np.stack(differences)) if pairs else ())
    tests = FrozensetDict()
    for pair in pairs:
        tests[frozenset(pair)] = {
            metric: {"p_value": p, "significant": p <= max_p} for metric, p in zip(metrics, found, strict=False)
        }
    means = {name: {metric: float(values.mean()) for metric, values in own.items()} for name, own in scores.items()}
    return Report(names, means, tests, metrics, max_p, {}, rounding_digits=4, stat_test="fisher")


def lettered(found: Report) -> list[list[str]]:
    """A report's table: its letter, label and figures with superscripts, header first."""
    lines = [["#", "", *results.COMPARED]]
    for number, name in enumerate(found.model_names):
        figures = [
            f"{found.format_score(found.results[name][metric])}{found.get_superscript_for_table(name, metric)}"
            for metric in found.metrics
        ]
        lines.append([LETTERS[number], name, *figures])
    return lines


def write_report(found: Report, path: Path) -> list[Path]:
    """The report as Markdown, LaTeX and CSV (plain figures), side by side; returns the three files."""
    lines = lettered(found)
    text = [lines[0], ["---", "---", *["---:"] * len(results.COMPARED)], *lines[1:]]
    files = [path.with_suffix(end) for end in (".md", ".tex", ".csv")]
    path.parent.mkdir(parents=True, exist_ok=True)
    markdown = "".join(f"| {' | '.join(line)} |\n" for line in text)
    files[0].write_text(f"{markdown}\n{note(found)}\n", encoding="utf-8")
    files[1].write_text(found.to_latex(), encoding="utf-8")
    table = pd.DataFrame([found.results[name] for name in found.model_names], index=found.model_names)
    table.set_axis(list(results.COMPARED), axis=1).to_csv(files[2], index_label="run")
    return files


def note(found: Report) -> str:
    """What the superscripts mean."""
    return f"Superscripts: better than that row by Fisher's randomization test, p <= {found.max_p:g}."


def lettered_screens(found: Report) -> list[Table]:
    """The report for the terminal, a few metrics to a table."""
    lines = lettered(found)
    tables = []
    for names in (
        (*results.SHORT,),
        *([name for name in results.COMPARED if name.startswith(f"{kind}@")] for kind in results.FAMILIES),
    ):
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for name in ("#", "", *names):
            table.add_column(
                name, justify="right" if name in results.COMPARED else "left", no_wrap=name in results.COMPARED
            )
        columns = [0, 1, *(2 + results.COMPARED.index(name) for name in names)]
        for line in lines[1:]:
            table.add_row(*(line[column] for column in columns))
        tables.append(table)
    return tables
