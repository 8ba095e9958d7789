"""Stages of prompt recovery's generators: tuning, and predictions for the tables and the submission."""

import shlex
from pathlib import Path

from rounds.config import generator
from rounds.config.generator import GeneratorRecipe
from rounds.errors import UserError
from rounds.pipeline import keys, prompt_stages
from rounds.pipeline.experiment import RECIPE_SUFFIXES, Experiment, tag
from rounds.pipeline.stages import Stage

TUNE_FLAGS = (
    *("steps", "checkpoint_steps", "learning_rate", "batch_size", "gradient_accumulation_steps", "shuffle"),
    *("method", "tokens", "rank"),
)


def load_recipe(name: str) -> GeneratorRecipe:
    """The generator's recipe that MODEL names.

    Raises:
        UserError: there is no such recipe, or it is an embedder's; the line names the variable.
    """
    if name.endswith(RECIPE_SUFFIXES) and not Path(name).is_file():
        raise UserError(f"MODEL={name}: no recipe {name}")
    try:
        return generator.load(name)
    except UserError as error:
        raise UserError(f"MODEL={name}: {error}") from None


def folder(names: Experiment) -> Path:
    """What is made with the recipe."""
    given = names.settings
    named = {"train_seed": None if given.training_seed == given.seed else given.train_seed, "tune": given.tune_flags}
    differences = [f"{name}={value}" for name, value in named.items() if value not in (None, "")]
    return prompt_stages.home(names) / f"{names.recipe_name}{tag(differences)}"


def check_flags(text: str, recipe: GeneratorRecipe) -> None:
    """Check TUNE_FLAGS before anything runs.

    Raises:
        UserError: scripts/tune.py does not take a flag, or make sets it itself.
    """
    for name, _ in keys.parse(shlex.split(text)):
        if name not in TUNE_FLAGS:
            raise UserError(
                f"TUNE_FLAGS={text}: {f'--{name}' if name else 'a value without a flag'} is not one of "
                f"--{', --'.join(TUNE_FLAGS)}"
            )


def variants(recipe: GeneratorRecipe) -> list[str]:
    """The ways of tuning that make sweep compares, as TUNE_FLAGS: virtual tokens, steps, the order of rows, ranks."""
    steps = recipe.training.steps
    prompt, lora = "--method prompt --learning_rate 0.1", "--method lora --learning_rate 0.001"
    return [
        f"{prompt} --tokens 8 --steps {steps}",
        f"{prompt} --tokens 64 --steps {steps}",
        f"{prompt} --tokens 8 --steps {4 * steps}",
        f"{prompt} --tokens 8 --steps {steps} --shuffle false",
        f"{lora} --rank 1 --steps {steps}",
        f"{lora} --rank 16 --steps {steps}",
    ]


def tuning(names: Experiment) -> Stage:
    """The tuned generator."""
    given, output = names.settings, folder(names) / "train"
    check_flags(given.tune_flags, load_recipe(given.model))
    call = keys.command(
        "tune",
        shlex.split(given.tune_flags),
        recipe=given.model,
        data_dir=prompt_stages.data_folder(names),
        output_dir=output,
        device=given.first_device,
        seed=given.training_seed,
        replace_stale=True,
    )
    title = f"== tune: {output.parent.name}"
    return Stage("tune", output, call, (prompt_stages.data(names),), title, home=prompt_stages.home(names))


def predictions(names: Experiment, side: str = "validation") -> Stage:
    """What the tuned generator, its last checkpoint, writes for the rows of a side."""
    given, output = names.settings, folder(names) / side
    tuned, has_samples = tuning(names), load_recipe(given.model).generation.samples > 1
    call = keys.command(
        "predict",
        model_path=tuned.output,
        data_dir=prompt_stages.data_folder(names),
        side="" if side == "validation" else side,
        embedder=given.embedder if has_samples else "",  # greedy texts are not compared
        output_dir=output,
        device=given.first_device,
        seed=given.training_seed,
        replace_stale=True,
    )
    title = f"== predict: {output.parent.name}"
    return Stage(f"predict: {side}", output, call, (tuned,), title, home=prompt_stages.home(names))
