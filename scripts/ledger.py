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

LEADERBOARD = (
    *map(Column, ("LB public", "LB private")),
    Column("lineage", is_text=True, wraps=True),
    Column("submission", is_text=True, wraps=True),
)
COLUMNS = (Column("recipe", is_text=True, wraps=True), *map(Column, ("round", "epoch", "MAP@25")), *LEADERBOARD)
PROMPT_COLUMNS = (Column("label", is_text=True, wraps=True), *map(Column, ("SCS", "exact")), *LEADERBOARD)
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
    for data, split, embedder in dict.fromkeys(map(ledger.comparison_group, rows)):
        split_rows = [row for row in rows if ledger.comparison_group(row) == (data, split, embedder)]
        columns, title = (PROMPT_COLUMNS, f", embedder {embedder}") if embedder else (COLUMNS, "")
        body = [[_short(row[column.name]) for column in columns] for row in split_rows]
        polluted = [position for position, row in enumerate(split_rows) if row["lineage"] not in ("clean", "")]
        console.print(Table(columns, body, f"{data}, split {split}{title}").screen(warned=polluted))
        for correlation in ledger.correlations(split_rows):
            print(ledger.describe_correlation(correlation))


def _short(value: str) -> str:
    try:
        return f"{float(value):.4f}" if "." in value else value
    except ValueError:
        return value


if __name__ == "__main__":
    cli.run(main, Flags)
