"""Fine-tune one round and evaluate each epoch."""

from dataclasses import dataclass, field
from pathlib import Path

from rounds import cli
from rounds.artifacts import store
from rounds.config import loader
from rounds.data import collection
from rounds.data.collection import Collection
from rounds.flags import AllowingLeaks, ModelOutput, OneDevice, RecipeByName, Replacing, Seeded
from rounds.models import checkpoint
from rounds.models.devices import restrict_to_one_gpu
from rounds.training import sharding
from rounds.training.stage import FinetuneJob, finetune_round

OVERRIDES = ("epochs", "batch_size", "gradient_accumulation_steps", "learning_rate", "group_size", "temperature")


@dataclass(kw_only=True)
class Flags(AllowingLeaks, ModelOutput, OneDevice, RecipeByName, Replacing, Seeded):
    """The start, the training data, and overrides of the recipe."""

    train_data: str = field(metadata={"help": "mined JSONL (query, pos, neg)"})
    output_dir: str = field(metadata={"help": "folder for the epochs' checkpoints"})
    data_dir: str = field(
        default="",
        metadata={"help": "collection whose validation queries evaluate each epoch; default: train_data's folder"},
    )
    model_name_or_path: str = field(
        default="", metadata={"help": "checkpoint to continue; default: the recipe's model"}
    )
    round: int = 1
    epochs: int | None = None
    batch_size: int | None = field(default=None, metadata={"help": "queries a step, over all processes"})
    gradient_accumulation_steps: int | None = None
    learning_rate: float | None = None
    group_size: int | None = None
    temperature: float | None = None
    track: str = field(default="none", metadata={"help": "none, wandb, trackio or tensorboard"})


def main(flags: Flags) -> None:
    """Fine-tune one round and evaluate each epoch."""
    overrides = {name: getattr(flags, name) for name in OVERRIDES}
    recipe = loader.load(flags.recipe).replace("training", **overrides)
    recipe.require_epochs()  # before data are read
    if recipe.training.sharding != "none" and not sharding.is_on():
        sharding.restart(recipe.training.sharding)
    device = restrict_to_one_gpu(flags.device)
    store.require_files(Path(flags.train_data))
    restart = recipe.training.start_from == "base"
    start = checkpoint.resolve(None if restart else flags.model_name_or_path or None, recipe, device)
    job = FinetuneJob(
        start=start,
        recipe=recipe,
        train_data=Path(flags.train_data),
        output=Path(flags.output_dir),
        model_output=Path(flags.model_output),
        seed=flags.seed,
        round_number=flags.round,
        validation=_validation(flags),
        processes=sharding.process_count(),
        tracker=flags.track,
        allow_leak=flags.allow_leak,
        overwrite=flags.overwrite,
        made_from=flags.made_from,
    )
    line = finetune_round(job)
    if store.is_main_process():
        print(line)


def _validation(flags: Flags) -> Collection | None:
    """Return the collection whose validation queries evaluate each epoch; None if the data are no collection."""
    folder = Path(flags.data_dir) if flags.data_dir else Path(flags.train_data).parent
    return collection.read(folder) if flags.data_dir or collection.is_collection(folder) else None


if __name__ == "__main__":
    cli.run(main, Flags)
