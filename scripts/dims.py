"""Evaluate two checkpoints' vectors cut to several dimensions, side by side."""

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from rounds import cli
from rounds.config import loader
from rounds.data import collection
from rounds.evaluation import truncation
from rounds.flags import ModelOutput, OneDevice, RecipeByName
from rounds.models import checkpoint
from rounds.models.devices import resolve_device


@dataclass(kw_only=True)
class Flags(ModelOutput, OneDevice, RecipeByName):
    """The checkpoint to compare with its recipe's base model."""

    model_path: str = field(metadata={"help": "checkpoint or finetune folder"})
    data_dir: str = field(metadata={"help": "collection with validation queries"})
    dims: list[int] = field(
        default_factory=list, metadata={"help": "default: the recipe's matryoshka_dims, or halves down to 32"}
    )


def main(flags: Flags) -> None:
    """Evaluate two checkpoints' vectors cut to several dimensions, side by side."""
    data = collection.read(Path(flags.data_dir))
    device = resolve_device(flags.device)
    before = checkpoint.resolve(None, loader.load(flags.recipe), device)
    after = checkpoint.resolve(flags.model_path, device=device)
    measured = truncation.measure(before, after, data, flags.dims, Path(flags.model_output))
    Console().print(truncation.truncation_table(measured).screen())


if __name__ == "__main__":
    cli.run(main, Flags)
