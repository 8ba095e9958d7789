"""Script flags: what MINE_FLAGS and TUNE_FLAGS may pass on to their scripts, checked before any stage runs."""

import shlex
from dataclasses import dataclass

import yaml

from rounds.config import loader
from rounds.errors import UserError
from rounds.pipeline import keys
from rounds.pipeline.settings import Settings


@dataclass(frozen=True)
class ScriptFlags:
    """The flags of a script.

    Attributes:
        section: the recipe's section whose keys `overrides` replace.
        overrides: flags that replace a key of the recipe.
        others: further flags that a variable may pass on.
        variables: flags that the pipeline sets itself, each with its variable, or empty where none names it.
    """

    section: str
    overrides: tuple[str, ...]
    others: tuple[str, ...]
    variables: dict[str, str]


SHARED = {"recipe": "MODEL", "seed": "SEED", "replace_stale": ""}
FLAGS = {
    "hn_mine": ScriptFlags(
        section="mining",
        overrides=("range_for_sampling", "negative_number", "relative_margin"),
        others=("candidate_pool", "embedder_model_class", "pooling_method", "model_output", "overwrite"),
        variables={
            **SHARED,
            "input_file": "",
            "output_file": "",
            "embedder_name_or_path": "",
            "devices": "DEVICE",
            "cluster": "CLUSTER",
            "shards": "SHARDS",
            "engine": "ENGINE",
        },
    ),
    "finetune": ScriptFlags(
        section="training",
        overrides=("batch_size", "gradient_accumulation_steps", "learning_rate", "group_size", "temperature"),
        others=("allow_leak", "model_output", "overwrite"),
        variables={
            **SHARED,
            "seed": "TRAIN_SEED",
            "train_data": "",
            "data_dir": "",
            "output_dir": "",
            "model_name_or_path": "",
            "round": "ROUND",
            "epochs": "EPOCHS",
            "device": "DEVICE",
            "track": "TRACK",
        },
    ),
}


def check(settings: Settings) -> None:
    """Check MINE_FLAGS and TUNE_FLAGS.

    Raises:
        UserError: a script does not take a flag, the pipeline sets it itself, or the recipe's key does not take the
            value.
    """
    _check("MINE_FLAGS", settings.mine_flags, "hn_mine", settings.model)
    _check("TUNE_FLAGS", settings.tune_flags, "finetune", settings.model)


def _check(variable: str, text: str, script: str, recipe: str) -> None:
    flags, overrides = FLAGS[script], {}
    for name, values in keys.parse(shlex.split(text)):
        name = name.replace("-", "_")  # the scripts take both spellings
        if not name or name not in (*flags.overrides, *flags.others):
            raise UserError(f"{variable}={text}: {_refusal(name, values, script, recipe)}")
        if name in flags.overrides:
            if len(values) != 1:
                raise UserError(f"{variable}={text}: --{name} takes one value, not {len(values)}")
            overrides[name] = _value(values[0])
    try:
        loader.load(recipe).replace(flags.section, **overrides)
    except UserError as error:
        raise UserError(f"{variable}={text}: {str(error).removeprefix('flags: ')}") from None


def _refusal(name: str, values: tuple[str, ...], script: str, recipe: str) -> str:
    """Return why a flag is not passed on."""
    flags = FLAGS[script]
    if not name:
        return f"{' '.join(values)!r} is no flag; flags begin with --"
    if variable := flags.variables.get(name):
        return f"--{name} is set by make; say {variable}= instead"
    if name in flags.variables:
        return f"--{name} is set by make; leave it out"
    if section := loader.section_of(name, flags.section):
        return f"scripts/{script}.py takes no --{name}; {loader.way_to_set(name, section, recipe)} (MODEL=FILE)"
    return f"scripts/{script}.py takes no --{name}; it takes --{', --'.join((*flags.overrides, *flags.others))}"


def _value(text: str) -> object:
    """Return a value as a recipe's file would hold it."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text
