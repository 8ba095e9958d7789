"""Print evaluated runs of one split in one table."""

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from rounds import cli, comparison


@dataclass
class Flags:
    """Folders of evaluations, in the table's order."""

    runs: list[str] = field(metadata={"help": "folders that eval_llm_embedder.py wrote (--output_dir)"})
    markdown: bool = field(default=False, metadata={"help": "print Markdown"})


def main(flags: Flags) -> None:
    """Print evaluated runs of one split in one table."""
    rows = [row for folder in flags.runs for row in comparison.load(Path(folder))]
    if flags.markdown:
        print(comparison.markdown(rows), end="")
        return
    about = rows[-1].about
    Console().print(
        comparison.screen(rows, f"{about['data']}, split {about['split']}: {len(rows[-1].queries)} queries")
    )


if __name__ == "__main__":
    cli.run(main, Flags)
