"""Stages of prompt recovery's generators: tuning, and predictions for the tables and the submission."""

import shlex
from pathlib import Path

from rounds.config import generator
from rounds.config.generator import GeneratorRecipe
from rounds.errors import UserError
from rounds.pipeline import keys, prompt_stages
from rounds.pipeline.experiment import RECIPE_SUFFIXES, Experiment, tag
from rounds.pipeline.settings import Settings
from rounds.pipeline.stages import Stage

TUNE_FLAGS = (
    *("steps", "checkpoint_steps", "learning_rate", "batch_size", "gradient_accumulation_steps", "order", "prompts"),
    *("max_length", "max_new_tokens", "method", "tokens", "rank"),
)
SWEPT = ("method", "tokens", "rank", "order", "prompts")  # what make sweep sets, beside the number of steps
BASE, REST = "first_half", "second_half"  # training prompts of a base that is tuned first, and of what starts from it
LONGER = 4  # times the steps, in the sweep's row of more steps


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


def check_flags(text: str) -> None:
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


def _values(flags: str) -> dict[str, str]:
    """The last value of each flag."""
    return {name: values[-1] if values else "" for name, values in keys.parse(shlex.split(flags))}


def swept(given: Settings) -> dict[str, Experiment]:
    """The ways of tuning that make sweep compares, by name: the base that they start from, where there is one, first.

    Virtual tokens, steps, the order of the rows and LoRA's ranks vary, each beside a way that differs in it alone;
    TUNE_FLAGS are added to each.

    Raises:
        UserError: TUNE_FLAGS set what varies.
    """
    recipe, flags = load_recipe(given.model), given.tune_flags
    check_flags(flags)
    named = _values(flags)
    if varied := [name for name in SWEPT if name in named]:
        raise UserError(f"TUNE_FLAGS={flags}: --{varied[0]} is what make sweep sets; leave it out")
    start = base(Experiment(given.on(tune_flags="--method prompt")))
    shortest = recipe.training.steps // 2 if start else recipe.training.steps  # a base took the recipe's own steps
    steps = named.pop("steps", str(max(1, shortest)))
    if not (steps.isdecimal() and int(steps)):
        raise UserError(f"TUNE_FLAGS={flags}: --steps {steps} is not a whole number from 1")
    steps, others = int(steps), " ".join(f"--{name} {shlex.quote(value)}" for name, value in named.items())
    prompt, lora = "--method prompt --learning_rate 0.1", "--method lora --learning_rate 0.001"
    variants = {
        "8 tokens": f"{prompt} --tokens 8 --steps {steps}",
        "64 tokens": f"{prompt} --tokens 64 --steps {steps}",
        "longer": f"{prompt} --tokens 8 --steps {LONGER * steps}",
        "grouped": f"{prompt} --tokens 8 --steps {steps} --order grouped",
        "r=1": f"{lora} --rank 1 --steps {steps}",
        "r=16": f"{lora} --rank 16 --steps {steps}",
    }
    ways = {name: Experiment(given.on(tune_flags=f"{way} {others}".strip())) for name, way in variants.items()}
    return {**({"base": _base_experiment(given)} if start else {}), **ways}


def base(names: Experiment) -> Stage | None:
    """The tuned generator that MODEL's other tuning methods start from; None where they start from the model itself.

    A random model knows nothing that an adapter could bring out. So where the recipe tunes all weights of one, any
    other method of TUNE_FLAGS starts from what the recipe leaves when it is tuned on one half of the training prompts,
    and tunes on the other half: a pretrained model has not seen the rows that it is tuned on.
    """
    given = names.settings
    recipe = load_recipe(given.model)
    is_random = recipe.model.name_or_path.startswith("random:") and recipe.tuning.method == "full"
    if not is_random or _values(given.tune_flags).get("method", "full") == "full":
        return None
    return tuning(_base_experiment(given))


def _base_experiment(given: Settings) -> Experiment:
    return Experiment(given.on(tune_flags=f"--prompts {BASE}"))


def tuning(names: Experiment) -> Stage:
    """The tuned generator."""
    given, output = names.settings, folder(names) / "train"
    check_flags(given.tune_flags)
    start = base(names)
    has_rest = start and "prompts" not in _values(given.tune_flags)
    call = keys.command(
        "tune",
        shlex.split(given.tune_flags),
        recipe=given.model,
        model_path=start.output if start else "",
        prompts=REST if has_rest else "",
        data_dir=prompt_stages.data_folder(names),
        output_dir=output,
        device=given.first_device,
        seed=given.training_seed,
        replace_stale=True,
    )
    title = f"== tune: {output.parent.name} {given.tune_flags}".rstrip() + (
        f", from {start.output.parent.name} on the other half of the prompts" if has_rest else ""
    )
    inputs = (prompt_stages.data(names), *([start] if start else []))
    return Stage("tune", output, call, inputs, title, home=prompt_stages.home(names))


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


def brittleness(names: Experiment) -> Stage:
    """How small changes of the texts move what the tuned generator writes."""
    return _measured(names, "prompt_brittle", "brittle")


def checkpoints(names: Experiment) -> Stage:
    """The score of each of the tuned generator's checkpoints."""
    return _measured(names, "prompt_checkpoints", "checkpoints")


def _measured(names: Experiment, script: str, name: str) -> Stage:
    """What a script measures on the tuned generator by the embedder of the metric."""
    given, tuned = names.settings, tuning(names)
    output = folder(names) / f"{name}-{prompt_stages.label(given)}"
    call = keys.command(
        script,
        model_path=tuned.output,
        data_dir=prompt_stages.data_folder(names),
        embedder=given.embedder,
        output_dir=output,
        device=given.first_device,
        replace_stale=True,
    )
    return Stage(name, output, call, (tuned,), home=prompt_stages.home(names))
