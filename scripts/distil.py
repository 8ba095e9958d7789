"""Teach an embedder what the ensemble of the second stage says about the training rows' candidates."""

from dataclasses import dataclass, field
from pathlib import Path

from rounds import cli
from rounds.artifacts import store
from rounds.config import loader
from rounds.flags import ModelOutput, OneDevice, RecipeByName, Replacing, Seeded
from rounds.models import checkpoint
from rounds.models.devices import restrict_to_one_gpu
from rounds.training import sharding
from rounds.training.plan import DISTILLED
from rounds.training.stage import FinetuneJob, finetune_round


@dataclass(kw_only=True)
class Flags(ModelOutput, OneDevice, RecipeByName, Replacing, Seeded):
    """The teacher's scores, and the checkpoint that learns from them."""

    train_data: str = field(metadata={"help": "JSONL that teach.py wrote"})
    output_dir: str = field(metadata={"help": "folder for the epochs' checkpoints"})
    model_name_or_path: str = field(
        default="", metadata={"help": "checkpoint to continue; default: the recipe's model"}
    )
    round: int = field(default=1, metadata={"help": "round of that checkpoint, for the manifest"})
    epochs: int | None = None
    track: str = field(default="none", metadata={"help": "none, wandb, trackio or tensorboard"})


def main(flags: Flags) -> None:
    """Teach an embedder what the ensemble of the second stage says about the training rows' candidates."""
    recipe = loader.load(flags.recipe).for_student(flags.epochs)
    if recipe.training.sharding != "none" and not sharding.is_on():
        sharding.restart(recipe.training.sharding)
    device = restrict_to_one_gpu(flags.device)
    store.require_files(Path(flags.train_data))
    restart = recipe.training.start_from == "base"
    job = FinetuneJob(
        start=checkpoint.resolve(None if restart else flags.model_name_or_path or None, recipe, device),
        recipe=recipe,
        train_data=Path(flags.train_data),
        output=Path(flags.output_dir),
        model_output=Path(flags.model_output),
        seed=flags.seed,
        round_number=flags.round,
        processes=sharding.process_count(),
        tracker=flags.track,
        overwrite=flags.overwrite,
        made_from=flags.made_from,
        title=DISTILLED,
    )
    line = finetune_round(job)
    if store.is_main_process():
        print(line)


if __name__ == "__main__":
    cli.run(main, Flags)
