"""Train a reranker on other folds' candidates, and score a table of candidates with it."""

from dataclasses import dataclass, field
from pathlib import Path

from rounds import cli
from rounds.config import loader
from rounds.flags import OneDevice, Replacing, Seeded
from rounds.models import checkpoint
from rounds.models.devices import resolve_device
from rounds.reranking import stage
from rounds.reranking.stage import RerankingInputs


@dataclass(kw_only=True)
class Flags(OneDevice, Replacing, Seeded):
    """The reranker, the folds that it learns from, and the table that it scores."""

    recipe: str = field(metadata={"help": "recipe of the reranker: a name or a YAML file"})
    folds: list[str] = field(metadata={"help": "folders of candidates with labels, none of the table's questions"})
    table: str = field(metadata={"help": "folder of the candidates to score"})
    output_dir: str = field(metadata={"help": "folder of the reranker and its scores"})
    refined: str = field(
        default="", metadata={"help": "the checkpoint that ranked the table, for recipes with start_from: refined"}
    )


def main(flags: Flags) -> None:
    """Train a reranker on other folds' candidates, and score a table of candidates with it."""
    recipe, device = loader.load(flags.recipe), resolve_device(flags.device)
    refined = checkpoint.resolve(flags.refined, None, device) if flags.refined else None
    inputs = RerankingInputs(recipe, [Path(fold) for fold in flags.folds], Path(flags.table), refined)
    print(stage.rerank(inputs, Path(flags.output_dir), flags.seed, device, flags.overwrite, flags.made_from))


if __name__ == "__main__":
    cli.run(main, Flags)
