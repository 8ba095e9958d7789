"""Print the rounds of several recipes on one split in one table, beside chance, BM25 and zero-shot."""

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from rounds import cli
from rounds.config import loader
from rounds.data import collection
from rounds.evaluation import results, sweep, tables
from rounds.evaluation.results import RowKind
from rounds.evaluation.stage import bm25_row, chance_row
from rounds.evaluation.sweep import SweepEntry
from rounds.flags import ModelOutput, RecipeByName


@dataclass(kw_only=True)
class Flags(ModelOutput, RecipeByName):
    """The rounds to compare; BM25 has the recipe's parameters."""

    rounds: list[str] = field(metadata={"help": "folders of rounds, each with train/ and eval/"})
    data_dir: str = field(metadata={"help": "the split's collection"})
    output: str = field(default="", metadata={"help": "write OUTPUT.md, .csv, .json and all metrics beside them"})


def main(flags: Flags) -> None:
    """Print the rounds of several recipes on one split in one table, beside chance, BM25 and zero-shot."""
    data = collection.read(Path(flags.data_dir))
    rows = [chance_row(data), bm25_row(data, loader.load(flags.recipe).mining.bm25)]
    for folder in map(Path, flags.rounds):
        rows += [row for row in results.load(folder.parent / "round0" / "eval") if row.kind != RowKind.BM25]
    entries = [SweepEntry(row) for row in results.distinct(rows)]
    for folder in flags.rounds:
        entries += sweep.read(Path(folder), Path(flags.model_output) / "ledger.csv")
    comparison = sweep.compare(entries)
    console = Console()
    console.print(sweep.sweep_table(entries, comparison).screen())
    console.print(tables.note(comparison), markup=False)
    if flags.output:
        print(", ".join(map(str, sweep.write(entries, comparison, Path(flags.output)))))


if __name__ == "__main__":
    cli.run(main, Flags)
