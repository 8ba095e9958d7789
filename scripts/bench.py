"""Time encoding and training steps beside sentence-transformers, in one run."""

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from rounds import bench, cli
from rounds import recipe as recipes


@dataclass
class Flags:
    """Which texts, which model."""

    data_dir: str = field(metadata={"help": "collection"})
    train_data: str = field(metadata={"help": "mined JSONL"})
    recipe: str = "minilm"
    device: str = ""


def main(flags: Flags) -> None:
    """Time encoding and training steps beside sentence-transformers, in one run."""
    rows = bench.load_and_run(recipes.load(flags.recipe), Path(flags.train_data), Path(flags.data_dir), flags.device)
    table = Table("work", "rounds", "sentence-transformers (fp32)", "ratio")
    for work, ours, theirs in rows:
        table.add_row(work, f"{ours:.2f} s", f"{theirs:.2f} s", f"{theirs / ours:.1f}x")
    Console().print(table)


if __name__ == "__main__":
    cli.run(main, Flags)
