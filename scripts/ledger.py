"""Print CV and LB of all checkpoints side by side, with their correlation."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from rounds import cli
from rounds.errors import UserError
from rounds.evaluation import ledger
from rounds.evaluation.table import Column, Table
from rounds.flags import ModelOutput

COLUMNS = (
    Column("recipe", is_text=True, wraps=True),
    *map(Column, ("round", "epoch", "MAP@25", "LB public", "LB private")),
    Column("lineage", is_text=True, wraps=True),
    Column("submission", is_text=True, wraps=True),
)
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
        body = [[_short(row[column.name]) for column in COLUMNS] for row in split_rows]
        polluted = [position for position, row in enumerate(split_rows) if row["lineage"] not in ("clean", "")]
        console.print(Table(COLUMNS, body, f"{data}, split {split}").screen(warned=polluted))
        for correlation in ledger.correlations(split_rows):
            values = [f"{name} {_number(correlation[name.lower()])}" for name in ("Pearson", "Spearman")]
            console.print(f"CV and {correlation['side']} of {correlation['n']} checkpoints: {', '.join(values)}")


def _short(value: str) -> str:
    try:
        return f"{float(value):.4f}" if "." in value else value
    except ValueError:
        return value


def _number(value: float | None) -> str:
    return "too few" if value is None else f"{value:+.3f}"


if __name__ == "__main__":
    cli.run(main, Flags)
