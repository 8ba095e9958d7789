"""Train sentence-transformers' stock pipeline, to compare rounds with."""

from dataclasses import dataclass, field
from pathlib import Path

from rounds import cli
from rounds.config import loader
from rounds.flags import OneDevice, Replacing, Seeded
from rounds.training import stock_baseline


@dataclass(kw_only=True)
class Flags(OneDevice, Replacing, Seeded):
    """The split, query text and epochs of a round."""

    data_dir: str = field(metadata={"help": "collection to train on"})
    output_dir: str = field(metadata={"help": "checkpoint folder to write"})
    recipe: str = "minilm"
    epochs: int | None = None


def main(flags: Flags) -> None:
    """Train sentence-transformers' stock pipeline, to compare rounds with."""
    recipe = loader.load(flags.recipe)
    epochs = flags.epochs or recipe.training.epochs
    folder, output = Path(flags.data_dir), Path(flags.output_dir)
    print(
        stock_baseline.train(recipe, folder, output, epochs, flags.seed, flags.device, flags.overwrite, flags.made_from)
    )


if __name__ == "__main__":
    cli.run(main, Flags)
