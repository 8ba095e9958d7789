"""Print evaluated runs of one split in one table."""

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from rounds import cli
from rounds.config import loader
from rounds.data import collection
from rounds.evaluation import results, tables
from rounds.evaluation.results import ResultRow
from rounds.evaluation.stage import bm25_row, chance_row
from rounds.flags import RecipeByName


@dataclass(kw_only=True)
class Flags(RecipeByName):
    """The evaluations to compare, in the table's order; BM25 has the recipe's parameters."""

    runs: list[str] = field(metadata={"help": "folders that eval_llm_embedder.py wrote (--output_dir)"})
    data_dir: str = field(
        default="", metadata={"help": "their collection: all metrics with superscripts, beside chance and BM25"}
    )
    output: str = field(default="", metadata={"help": "with data_dir: write OUTPUT.md, OUTPUT.tex and OUTPUT.csv"})
    markdown: bool = field(default=False, metadata={"help": "print Markdown"})


def main(flags: Flags) -> None:
    """Print evaluated runs of one split in one table."""
    rows = [row for folder in flags.runs for row in results.load(Path(folder))]
    if flags.data_dir:
        data = collection.read(Path(flags.data_dir))
        lexical = bm25_row(data, loader.load(flags.recipe).mining.bm25)
        _print_report([chance_row(data), lexical, *rows], flags.output)
        return
    if flags.markdown:
        print(tables.main_table(rows).markdown(), end="")
        return
    last = rows[-1]
    title = f"{last.data}, split {last.split}: {len(last.queries)} queries"
    Console().print(tables.main_table(rows, title).screen())


def _print_report(rows: list[ResultRow], output: str) -> None:
    comparison = tables.compare(results.distinct(rows))
    console = Console()
    for table in tables.comparison_screens(comparison):
        console.print(table.screen())
    console.print(tables.note(comparison))
    if output:
        files = tables.write_comparison(comparison, Path(output))
        print(", ".join(map(str, files)))


if __name__ == "__main__":
    cli.run(main, Flags)
