"""Time encoding, mining and training steps beside the peers', in one run."""

from dataclasses import dataclass, field
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from rounds import bench, cli
from rounds import recipe as recipes
from rounds.model import checkpoint


@dataclass
class Flags:
    """Which texts, which model."""

    data_dir: str = field(metadata={"help": "collection"})
    train_data: str = field(metadata={"help": "mined JSONL"})
    recipe: str = "minilm"
    device: str = ""


def main(flags: Flags) -> None:
    """Time encoding, mining and training steps beside the peers', in one run."""
    source = checkpoint.resolve(None, recipes.load(flags.recipe), flags.device)
    table = Table("work", "rounds", "peer", "its time", "ratio", box=box.SIMPLE_HEAD)
    for row in bench.run(source, Path(flags.train_data), Path(flags.data_dir)):
        table.add_row(row.work, f"{row.ours:.2f} s", row.peer, f"{row.theirs:.2f} s", f"{row.theirs / row.ours:.1f}x")
    Console().print(table)


if __name__ == "__main__":
    cli.run(main, Flags)
