"""Comparison: rows of evaluated runs side by side, with Fisher's p against the row before, as tables."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from rich import box
from rich.table import Table

from rounds import artefact, evaluation
from rounds.errors import UserError

SHOWN = ("MAP@25", "Recall@25", "MAP@25 seen", "MAP@25 unseen")
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
    """

    label: str
    metrics: dict
    per_query: np.ndarray
    queries: list[str]
    about: dict = field(default_factory=dict)

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
    shown = [name for name in SHOWN if name in own.metrics and name in other.metrics]
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
    """Write `metrics.json` (labels, metrics) and `per_query.csv` (MAP@25 of each query and row)."""
    artefact.write_json(
        folder / "metrics.json", [{"label": r.label, "metrics": r.metrics, "about": r.about} for r in rows]
    )
    table = pd.DataFrame({r.label: r.per_query for r in rows}, index=pd.Index(rows[0].queries, name="query"))
    table.to_csv(folder / "per_query.csv")


def load(folder: Path) -> list[Row]:
    """Rows that `save` wrote."""
    stored = artefact.read_json(folder / "metrics.json")
    table = pd.read_csv(folder / "per_query.csv", dtype={"query": str}, keep_default_na=False).set_index("query")
    return [
        Row(each["label"], each["metrics"], table[each["label"]].to_numpy(), table.index.tolist(), each["about"])
        for each in stored
    ]
