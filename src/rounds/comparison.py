"""Comparison: rows of evaluated runs side by side, with Fisher's p against the row before, as tables."""

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from ranx.data_structures import FrozensetDict, Report
from rich import box
from rich.table import Table

from rounds import artefact, evaluation
from rounds.errors import UserError

SHOWN = ("MAP@25", "Recall@25", "MAP@25 seen", "MAP@25 unseen")
SHORT, FAMILIES = ("MAP@25", "NDCG@10"), ("MRR", "P", "HitRate")
COMPARED = (*SHORT, *(f"{kind}@{k}" for kind in FAMILIES for k in (1, 5, 10, 20, 100)))
LETTERS = "abcdefghijklmnopqrstuvwxyz"
MAX_P = 0.01
SCORES = "scores.npz"
CAPTION = "p: Fisher's randomization test of MAP@25 against the row above"


@dataclass(frozen=True)
class Row:
    """An evaluated run.

    Attributes:
        label: how the table calls it; `(best)` rows stand beside the chain of rounds, not in it.
        metrics: as `evaluation.summarize` returns them.
        per_query: (queries,) MAP@25, in the order of `queries`.
        queries: the query ids.
        about: what the ledger keeps of it (round, epoch, weights, lineage, ...).
        scores: each metric of `evaluation.METRICS`, (queries,), in the order of `queries`.
    """

    label: str
    metrics: dict
    per_query: np.ndarray
    queries: list[str]
    about: dict = field(default_factory=dict)
    scores: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def in_chain(self) -> bool:
        """Whether later rows are tested against this one."""
        return not self.about.get("beside", False)


def p_values(rows: list[Row]) -> list[float | None]:
    """Fisher's p of each row against the nearest earlier row of the chain; None for the first.

    Raises:
        UserError: the rows were not evaluated on the same queries.
    """
    found: list[float | None] = []
    previous: Row | None = None
    for row in rows:
        if row.queries != rows[0].queries:
            raise UserError(f"{row.label} and {rows[0].label} were evaluated on different queries")
        found.append(None if previous is None else evaluation.fisher(row.per_query, previous.per_query))
        if row.in_chain:
            previous = row
    return found


def difference(own: Row, other: Row) -> str:
    """One line: how far `other` is from `own`.

    >>> rows = [Row(name, {"MAP@25": value}, np.zeros(1), ["1"]) for name, value in (("bf16", 0.4718), ("nf4", 0.4674))]
    >>> difference(*rows)
    'nf4 against bf16: MAP@25 -0.0044'
    """
    shown = [name for name in SHOWN if None not in (own.metrics.get(name), other.metrics.get(name))]
    changes = [f"{name} {other.metrics[name] - own.metrics[name]:+.4f}" for name in shown]
    return f"{other.label} against {own.label}: {', '.join(changes)}"


def cells(rows: list[Row]) -> list[list[str]]:
    """Table body: label, `SHOWN` metrics, p."""
    body = []
    for row, p in zip(rows, p_values(rows), strict=True):
        values = [row.metrics.get(name) for name in SHOWN]
        numbers = ["-" if value is None else f"{value:.4f}" for value in values]
        body.append([row.label, *numbers, "" if p is None else f"{p:.4f}"])
    return body


def header() -> list[str]:
    """Column names of `cells`."""
    return ["", *SHOWN, "p"]


def screen(rows: list[Row], title: str) -> Table:
    """A rich table for the terminal."""
    shape = {"box": box.SIMPLE_HEAD, "padding": (0, 1, 0, 0)}
    table = Table(title=title, title_justify="left", caption=CAPTION, caption_justify="left", **shape)
    for number, name in enumerate(header()):
        table.add_column(name.replace(" ", "\n"), justify="left" if number == 0 else "right", no_wrap=number > 0)
    for line in cells(rows):
        table.add_row(*line)
    return table


def markdown(rows: list[Row]) -> str:
    """The same table in Markdown."""
    lines = [header(), ["---"] + ["---:"] * (len(SHOWN) + 1), *cells(rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def save(rows: list[Row], folder: Path) -> None:
    """Write `metrics.json` (labels, metrics), `per_query.csv` (MAP@25 of each query and row) and `scores.npz`.

    The last has every metric of each query, (queries,) under `ROW METRIC`.
    """
    artefact.write_json(
        folder / "metrics.json", [{"label": r.label, "metrics": r.metrics, "about": r.about} for r in rows]
    )
    table = pd.DataFrame({r.label: r.per_query for r in rows}, index=pd.Index(rows[0].queries, name="query"))
    table.to_csv(folder / "per_query.csv")
    scores = {f"{number} {name}": values for number, row in enumerate(rows) for name, values in row.scores.items()}
    np.savez_compressed(folder / SCORES, **scores)


def load(folder: Path) -> list[Row]:
    """Rows that `save` wrote."""
    stored = artefact.read_json(folder / "metrics.json")
    scores: list[dict[str, np.ndarray]] = [{} for _ in stored]
    if (folder / SCORES).is_file():
        with np.load(folder / SCORES) as arrays:
            for key, values in arrays.items():
                number, _, name = key.partition(" ")
                scores[int(number)][name] = values
    table = pd.read_csv(folder / "per_query.csv", dtype={"query": str}, keep_default_na=False).set_index("query")
    return [
        Row(each["label"], each["metrics"], table[each["label"]].to_numpy(), table.index.tolist(), each["about"], own)
        for each, own in zip(stored, scores, strict=True)
    ]


def distinct(rows: list[Row]) -> list[Row]:
    """Rows of several folders in one table: what stands in all (BM25, zero-shot) once, and labels that tell apart.

    Raises:
        UserError: the rows were not evaluated on the same queries.
    """
    found: dict[tuple, Row] = {}
    for row in rows:
        if row.queries != rows[0].queries:
            raise UserError(f"{row.label} and {rows[0].label} were evaluated on different queries")
        found.setdefault((row.about.get("fingerprint"), row.label), row)
    kept = list(found.values())
    counts = Counter(row.label for row in kept)
    return [replace(row, label=f"{row.about['recipe']}: {row.label}") if counts[row.label] > 1 else row for row in kept]


def report(rows: list[Row], max_p: float = MAX_P) -> Report:
    """ranx's report on `COMPARED`: a row's letter behind a figure that is better than that row's at `max_p`.

    Args:
        rows: with `scores`, on the same queries.
        max_p: of Fisher's randomization test (Smucker et al. 2007), not corrected for the number of tests.
    """
    if len(rows) > len(LETTERS):
        raise UserError(f"{len(rows)} runs are more than there are letters ({len(LETTERS)}); compare fewer")
    if bare := [row.label for row in rows if not set(COMPARED) <= row.scores.keys()]:
        raise UserError(f"{bare[0]}: its evaluation kept MAP@25 alone; evaluate it again with --overwrite")
    names = [row.label for row in rows]
    scores = {
        row.label: {evaluation.METRICS[name]: row.scores[name] for name in COMPARED} for row in rows
    }  # fmt: skip
    pairs = [(one, other) for number, one in enumerate(names) for other in names[number + 1 :]]
    metrics = [evaluation.METRICS[name] for name in COMPARED]
    differences = [scores[one][metric] - scores[other][metric] for one, other in pairs for metric in metrics]
    found = iter(evaluation.fisher_of(np.stack(differences)) if pairs else ())
    tests = FrozensetDict()
    for pair in pairs:
        tests[frozenset(pair)] = {
            metric: {"p_value": p, "significant": p <= max_p} for metric, p in zip(metrics, found, strict=False)
        }
    means = {name: {metric: float(values.mean()) for metric, values in own.items()} for name, own in scores.items()}
    return Report(names, means, tests, metrics, max_p, {}, rounding_digits=4, stat_test="fisher")


def lettered(found: Report) -> list[list[str]]:
    """A report's table: its letter, label and figures with superscripts, header first."""
    lines = [["#", "", *COMPARED]]
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
    text = [lines[0], ["---", "---", *["---:"] * len(COMPARED)], *lines[1:]]
    files = [path.with_suffix(end) for end in (".md", ".tex", ".csv")]
    path.parent.mkdir(parents=True, exist_ok=True)
    markdown = "".join(f"| {' | '.join(line)} |\n" for line in text)
    files[0].write_text(f"{markdown}\n{note(found)}\n", encoding="utf-8")
    files[1].write_text(found.to_latex(), encoding="utf-8")
    table = pd.DataFrame([found.results[name] for name in found.model_names], index=found.model_names)
    table.set_axis(list(COMPARED), axis=1).to_csv(files[2], index_label="run")
    return files


def note(found: Report) -> str:
    """What the superscripts mean."""
    return f"Superscripts: better than that row by Fisher's randomization test, p <= {found.max_p:g}."


def lettered_screens(found: Report) -> list[Table]:
    """The report for the terminal, a few metrics to a table."""
    lines = lettered(found)
    tables = []
    for names in ((*SHORT,), *([name for name in COMPARED if name.startswith(f"{kind}@")] for kind in FAMILIES)):
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for name in ("#", "", *names):
            table.add_column(name, justify="right" if name in COMPARED else "left", no_wrap=name in COMPARED)
        columns = [0, 1, *(2 + COMPARED.index(name) for name in names)]
        for line in lines[1:]:
            table.add_row(*(line[column] for column in columns))
        tables.append(table)
    return tables
