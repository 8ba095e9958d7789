"""Sweep: recipes that trained on one split with one budget, a row each: what was trained, its cost and its worth."""

from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from ranx.data_structures import Report
from rich import box
from rich.table import Table

from rounds.artifacts import store
from rounds.errors import UserError
from rounds.evaluation import ledger, results, tables
from rounds.evaluation.results import ResultRow

HEADER = ("#", "", "trained", "s", "peak MiB", "train loss", "valid. loss", "MAP@25", "LB")


@dataclass(frozen=True)
class Entry:
    """A row of the table.

    Attributes:
        row: the evaluated run, labelled with its recipe.
        trained: parameters that were trained.
        seconds: of training, evaluation of each epoch included.
        peak: MiB of memory that training held at most.
        loss: mean training loss of the last epoch.
        lb: the ledger's public LB score, where there is one.
    """

    row: ResultRow
    trained: int | None = None
    seconds: float | None = None
    peak: float | None = None
    loss: float | None = None
    lb: str = ""


def read(folder: Path, ledger_file: Path) -> list[Entry]:
    """A round's folder: its last epoch, whatever is best on the validation rows.

    Args:
        folder: holds the stages' `train/` and `eval/`.

    Raises:
        UserError: the round was not trained and evaluated to its end.
    """
    manifest = store.read_manifest(folder / "train")
    if manifest is None or store.read_manifest(folder / "eval") is None:
        raise UserError(f"{folder}: has no finished train and eval; run the round first")
    last = next((each["metrics"] for each in manifest["epochs"] if each["folder"] == manifest["last"]), {})
    scores = {row["fingerprint"]: row["LB public"] for row in ledger.read(ledger_file)}
    return [
        Entry(
            replace(row, label=row.about["recipe"]), manifest["trainable_parameters"], manifest["seconds"],
            manifest.get("peak_mib"), last.get("train loss"), scores.get(row.about["fingerprint"], ""),
        )
        for row in results.load(folder / "eval")
        if row.in_chain
    ]  # fmt: skip


def report(entries: list[Entry]) -> Report:
    """The runs' metrics with superscripts (`comparison.report`)."""
    return tables.report([entry.row for entry in entries])


def cells(entries: list[Entry], found: Report) -> list[list[str]]:
    """Table body, in the columns of `HEADER`."""
    place = 2 + results.COMPARED.index("MAP@25")
    return [
        [
            line[0], line[1],
            "" if entry.trained is None else _short(entry.trained),
            *("" if value is None else f"{value:.0f}" for value in (entry.seconds, entry.peak)),
            *("" if value is None else f"{value:.3f}" for value in (entry.loss, metrics.get("validation loss"))),
            line[place], entry.lb,
        ]
        for entry, line in zip(entries, tables.lettered(found)[1:], strict=True)
        for metrics in [entry.row.metrics]
    ]  # fmt: skip


def _short(count: int) -> str:
    """A number of parameters.

    >>> _short(7680), _short(22_565_376)
    ('7.7k', '22.6M')
    """
    return f"{count / 1e6:.1f}M" if count >= 1e6 else f"{count / 1e3:.1f}k"


def screen(entries: list[Entry], found: Report) -> Table:
    """A rich table for the terminal."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in HEADER:
        table.add_column(name.replace(" ", "\n"), justify="left" if name in ("#", "") else "right", no_wrap=True)
    for line in cells(entries, found):
        table.add_row(*line)
    return table


def write(entries: list[Entry], found: Report, path: Path) -> list[Path]:
    """The table as Markdown and CSV, and the report's three files as `PATH-metrics`."""
    lines = cells(entries, found)
    text = [HEADER, ["---", "---", *["---:"] * (len(HEADER) - 2)], *lines]
    path.parent.mkdir(parents=True, exist_ok=True)
    files = [path.with_suffix(".md"), path.with_suffix(".csv")]
    markdown = "".join(f"| {' | '.join(line)} |\n" for line in text)
    files[0].write_text(f"{markdown}\n{tables.note(found)}\n", encoding="utf-8")
    plain = [
        {
            "run": entry.row.label, "trained": entry.trained, "seconds": entry.seconds, "peak_mib": entry.peak,
            "train loss": entry.loss, **entry.row.metrics, "LB public": entry.lb,
        }
        for entry in entries
    ]  # fmt: skip
    pd.DataFrame(plain).to_csv(files[1], index=False)
    return files + tables.write_report(found, path.with_name(f"{path.name}-metrics"))
