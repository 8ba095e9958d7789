"""Print evaluated runs of one split in one table."""

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from rounds import cli, collection, comparison, stages


@dataclass
class Flags:
    """Folders of evaluations, in the table's order."""

    runs: list[str] = field(metadata={"help": "folders that eval_llm_embedder.py wrote (--output_dir)"})
    data_dir: str = field(
        default="", metadata={"help": "their collection: all metrics with superscripts, beside chance and BM25"}
    )
    output: str = field(default="", metadata={"help": "with data_dir: write OUTPUT.md, OUTPUT.tex and OUTPUT.csv"})
    markdown: bool = field(default=False, metadata={"help": "print Markdown"})


def main(flags: Flags) -> None:
    """Print evaluated runs of one split in one table."""
    rows = [row for folder in flags.runs for row in comparison.load(Path(folder))]
    if flags.data_dir:
        _report(rows, collection.read(Path(flags.data_dir)), flags.output)
        return
    if flags.markdown:
        print(comparison.markdown(rows), end="")
        return
    about = rows[-1].about
    Console().print(
        comparison.screen(rows, f"{about['data']}, split {about['split']}: {len(rows[-1].queries)} queries")
    )


def _report(rows: list[comparison.Row], data: collection.Collection, output: str) -> None:
    rows = [stages.chance_row(data), stages.bm25_row(data), *rows]
    found = comparison.report(comparison.distinct(rows))
    console = Console()
    for table in comparison.lettered_screens(found):
        console.print(table)
    console.print(comparison.note(found))
    if output:
        files = comparison.write_report(found, Path(output))
        print(f"{', '.join(map(str, files))}")


if __name__ == "__main__":
    cli.run(main, Flags)
