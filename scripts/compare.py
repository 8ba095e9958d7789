"""Print evaluated runs of one split in one table, or of several of its folds."""

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from rounds import cli
from rounds.config import loader
from rounds.data import collection
from rounds.evaluation import fold_runs, fold_table, results, tables
from rounds.evaluation.results import ResultRow
from rounds.evaluation.stage import bm25_row, chance_row
from rounds.flags import ModelOutput, RecipeByName, project_root


@dataclass(kw_only=True)
class Flags(ModelOutput, RecipeByName):
    """The evaluations to compare, in the table's order; BM25 has the recipe's parameters."""

    runs: list[str] = field(metadata={"help": "folders that eval_llm_embedder.py wrote (--output_dir)"})
    data_dir: str = field(
        default="", metadata={"help": "their collection: all metrics with superscripts, beside chance and BM25"}
    )
    folds: bool = field(
        default=False, metadata={"help": "the runs are of several folds: one row for those that differ in nothing else"}
    )
    data_root: str = field(
        default_factory=lambda: str(project_root() / "data"), metadata={"help": "with folds: the collections lie below"}
    )
    output: str = field(
        default="", metadata={"help": "with data_dir: write OUTPUT.md, OUTPUT.tex and OUTPUT.csv; with folds: no .tex"}
    )
    markdown: bool = field(default=False, metadata={"help": "print Markdown"})


def main(flags: Flags) -> None:
    """Print evaluated runs of one split in one table, or of several of its folds."""
    if flags.folds:
        _print_folds(flags)
        return
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


def _print_folds(flags: Flags) -> None:
    rows = fold_runs.gather(map(Path, flags.runs), Path(flags.model_output), Path(flags.data_root))
    folds = fold_table.read_folds(rows[0])
    scored = fold_table.score_rows(rows, folds, loader.load(flags.recipe).mining.bm25)
    table = fold_table.fold_table(scored, folds, first=len(scored) - len(rows))
    for screen in table.apart(fold_table.COSTS[0]):
        Console().print(screen.screen())
    if flags.output:
        print(", ".join(map(str, fold_table.write(table, Path(flags.output)))))


def _print_report(rows: list[ResultRow], output: str) -> None:
    comparison = tables.compare(results.distinct(rows))
    console = Console()
    for table in tables.comparison_screens(comparison):
        console.print(table.screen())
    console.print(tables.note(comparison), markup=False)
    if output:
        files = tables.write_comparison(comparison, Path(output))
        print(", ".join(map(str, files)))


if __name__ == "__main__":
    cli.run(main, Flags)
