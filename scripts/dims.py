"""Evaluate two checkpoints' vectors cut to several dimensions, side by side."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from rounds import cli
from rounds.config import loader
from rounds.data import collection
from rounds.evaluation import truncation
from rounds.models import checkpoint
from rounds.models.devices import resolve_device

ROOT = Path(os.path.relpath(Path(__file__).resolve().parent.parent))


@dataclass
class Flags:
    """Which checkpoint, beside the recipe's base model."""

    model_path: str = field(metadata={"help": "checkpoint or finetune folder"})
    data_dir: str = field(metadata={"help": "collection with validation queries"})
    recipe: str = field(
        default=loader.DEFAULT_RECIPE, metadata={"help": "recipe whose base model stands before training"}
    )
    dims: list[int] = field(
        default_factory=list, metadata={"help": "default: the recipe's matryoshka_dims, or halves down to 32"}
    )
    device: str = field(default="", metadata={"help": "cpu, cuda or cuda:N; default: a GPU where there is one"})
    model_output: str = field(
        default=str(ROOT / "model_output"), metadata={"help": "where base models keep their runs"}
    )


def main(flags: Flags) -> None:
    """Evaluate two checkpoints' vectors cut to several dimensions, side by side."""
    data = collection.read(Path(flags.data_dir))
    device = resolve_device(flags.device)
    before = checkpoint.resolve(None, loader.load(flags.recipe), device)
    after = checkpoint.resolve(flags.model_path, device=device)
    rows = truncation.measure(before, after, data, flags.dims, Path(flags.model_output))
    Console().print(truncation.screen(rows))


if __name__ == "__main__":
    cli.run(main, Flags)
