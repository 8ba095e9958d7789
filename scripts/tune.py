"""Tune a generator to write the prompt behind a rewriting."""

from dataclasses import dataclass, field
from pathlib import Path

from rounds import cli
from rounds.config import generator as recipes
from rounds.flags import OneDevice, Replacing, Seeded
from rounds.generation import generator, rows
from rounds.generation.tuning import TuningJob, describe, tune
from rounds.models.devices import resolve_device, restrict_to_one_gpu

OVERRIDES = (
    *("steps", "checkpoint_steps", "learning_rate", "batch_size", "gradient_accumulation_steps", "max_length"),
    *("order", "prompts"),
)


@dataclass(kw_only=True)
class Flags(OneDevice, Replacing, Seeded):
    """The recipe, the split, and overrides of the recipe."""

    recipe: str = field(metadata={"help": "a generator's recipe, by name or YAML file"})
    data_dir: str = field(metadata={"help": "split of make data TASK=prompt_recovery"})
    output_dir: str = field(metadata={"help": "folder for the checkpoints"})
    model_path: str = field(
        default="", metadata={"help": "fully tuned generator to start from; default: the recipe's model"}
    )
    steps: int | None = None
    checkpoint_steps: int | None = None
    learning_rate: float | None = None
    batch_size: int | None = field(default=None, metadata={"help": "rows of a step"})
    gradient_accumulation_steps: int | None = None
    method: str | None = field(default=None, metadata={"help": "tuning method: full, lora, qlora, prompt or prefix"})
    tokens: int | None = field(default=None, metadata={"help": "number of virtual tokens"})
    rank: int | None = field(default=None, metadata={"help": "LoRA's r; alpha becomes twice that"})
    order: str | None = field(default=None, metadata={"help": "of the rows: shuffled, file or grouped (by prompt)"})
    prompts: str | None = field(default=None, metadata={"help": "train on the rows of all, first_half or second_half"})
    max_length: int | None = field(default=None, metadata={"help": "longest sequence in tokens"})
    max_new_tokens: int | None = field(default=None, metadata={"help": "longest prompt in tokens, of these"})


def main(flags: Flags) -> None:
    """Tune a generator to write the prompt behind a rewriting."""
    recipe = recipes.load(flags.recipe).with_method(flags.method, flags.tokens, flags.rank)
    recipe = recipe.replace("generation", max_new_tokens=flags.max_new_tokens)
    recipe = recipe.replace("training", **{name: getattr(flags, name) for name in OVERRIDES})
    start = generator.find_checkpoint(Path(flags.model_path)) if flags.model_path else None
    recipe = generator.continuing(recipe, start) if start else recipe
    device = resolve_device(restrict_to_one_gpu(flags.device))
    split = rows.read_split(Path(flags.data_dir))
    job = TuningJob(
        recipe=recipe,
        train=split.train,
        validation=split.validation,
        output=Path(flags.output_dir),
        device=device,
        seed=flags.seed,
        overwrite=flags.overwrite,
        made_from=flags.made_from,
        start=start.manifest.lineage if start else {},
    )
    print(describe(job.output, tune(job)))


if __name__ == "__main__":
    cli.run(main, Flags)
