"""Let a generator write the prompt behind each rewriting."""

from dataclasses import dataclass, field
from pathlib import Path

from rounds import cli
from rounds.config import generator as recipes
from rounds.errors import UserError
from rounds.flags import OneDevice, Replacing, Seeded
from rounds.generation import generator, rows
from rounds.generation.embedder import DEFAULT, PromptEmbedder
from rounds.generation.predicting import PredictionJob, describe, predict, title
from rounds.models.devices import resolve_device

OVERRIDES = ("batch_size", "max_new_tokens", "samples")

SIDES = ("validation", "test")


@dataclass(kw_only=True)
class Flags(OneDevice, Replacing, Seeded):
    """The generator, the rows, and overrides of its generation settings."""

    data_dir: str = field(metadata={"help": "split of make data TASK=prompt_recovery"})
    output_dir: str = field(metadata={"help": "folder for predictions.jsonl"})
    model_path: str = field(default="", metadata={"help": "tuned generator; default: the recipe's untuned model"})
    recipe: str = field(default="", metadata={"help": "a generator's recipe; default: the tuned generator's own"})
    side: str = field(default="validation", metadata={"help": "rows: validation or test"})
    title: str = field(default="", metadata={"help": "name in tables; default: recipe, method and steps"})
    batch_size: int | None = field(default=None, metadata={"help": "rows that are generated together"})
    max_new_tokens: int | None = None
    samples: int | None = field(default=None, metadata={"help": "texts to draw, of which the most typical is taken"})
    embedder: str = field(
        default=DEFAULT,
        metadata={"help": "minilm, sentence-t5-base, or a model's name or folder: compares the drawn texts"},
    )


def main(flags: Flags) -> None:
    """Let a generator write the prompt behind each rewriting."""
    if flags.side not in SIDES:
        raise UserError(f"side {flags.side!r} is not one of {', '.join(SIDES)}")
    if bool(flags.model_path) == bool(flags.recipe):
        raise UserError("name either --model_path, a tuned generator, or --recipe, whose untuned model is to write")
    split = rows.read_split(Path(flags.data_dir))
    source = generator.find_checkpoint(Path(flags.model_path)) if flags.model_path else recipes.load(flags.recipe)
    recipe = source if flags.recipe else source.recipe
    recipe = recipe.replace("generation", **{name: getattr(flags, name) for name in OVERRIDES})
    device, has_samples = resolve_device(flags.device), recipe.generation.samples > 1
    job = PredictionJob(
        source=source,
        rows=getattr(split, flags.side),
        output=Path(flags.output_dir),
        device=device,
        recipe=recipe,
        title=flags.title or title(recipe, 0 if flags.recipe else source.manifest.step),
        embedder=flags.embedder if has_samples else "",
        seed=flags.seed,
        overwrite=flags.overwrite,
        made_from=flags.made_from,
    )
    print(describe(job.output, predict(job, PromptEmbedder(flags.embedder, device) if has_samples else None)))


if __name__ == "__main__":
    cli.run(main, Flags)
