"""Print CV and LB of all checkpoints side by side, with their correlation."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from rounds import cli
from rounds.errors import UserError
from rounds.evaluation import ledger
from rounds.flags import ModelOutput

SHOWN = ("recipe", "round", "epoch", "MAP@25", "LB public", "LB private", "lineage", "submission")
WIDTH = 120  # where the output is no terminal


@dataclass(kw_only=True)
class Flags(ModelOutput):
    """The ledger to print."""

    scored: bool = field(default=False, metadata={"help": "only rows that a submission names"})


def main(flags: Flags) -> None:
    """Print CV and LB of all checkpoints side by side, with their correlation."""
    path = Path(flags.model_output) / "ledger.csv"
    rows = [row for row in ledger.read(path) if row["submission"] or not flags.scored]
    if not rows:
        raise UserError(f"{path}: has no rows yet; make round1, then make submit")
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    for data, split in dict.fromkeys((row["data"], row["split"]) for row in rows):
        split_rows = [row for row in rows if (row["data"], row["split"]) == (data, split)]
        console.print(_table(f"{data}, split {split}", split_rows))
        for correlation in ledger.correlations(split_rows):
            values = [f"{name} {_number(correlation[name.lower()])}" for name in ("Pearson", "Spearman")]
            console.print(f"CV and {correlation['side']} of {correlation['n']} checkpoints: {', '.join(values)}")


def _table(title: str, rows: list[dict]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in SHOWN:
        table.add_column(name, overflow="fold")
    for row in rows:
        style = None if row["lineage"] in ("clean", "") else "bold red"
        table.add_row(*(_short(row[name]) for name in SHOWN), style=style)
    return table


def _short(value: str) -> str:
    try:
        return f"{float(value):.4f}" if "." in value else value
    except ValueError:
        return value


def _number(value: float | None) -> str:
    return "too few" if value is None else f"{value:+.3f}"


if __name__ == "__main__":
    cli.run(main, Flags)
