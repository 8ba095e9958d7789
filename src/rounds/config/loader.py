"""Load recipes from YAML files, by name, by path, or for a model named on the command line."""

import dataclasses
import difflib
import os
import typing
from importlib import resources
from pathlib import Path

import yaml

from rounds.config.recipe import Recipe, check
from rounds.errors import UserError

DEFAULT_RECIPE = "bge-en-icl"  # recipe of the scripts; the Makefile names its own

DEFAULT_MODEL = "BAAI/bge-en-icl"

MODEL_VARIABLE = "ROUNDS_MODEL"

MODEL_CLASSES = {
    "decoder-only-icl": "bge-en-icl",
    "decoder-only-base": "e5-mistral-7b-instruct",
    "encoder-only-base": "bge-small-en-v1.5",
}  # fmt: skip


def load(name_or_path: str, extended: bool = False) -> Recipe:
    """Read a recipe by its name (one that the package carries) or by the path of a YAML file.

    `extends: NAME` takes over all keys of another recipe that the file does not set.

    Args:
        extended: another recipe extends this one.

    Raises:
        UserError: no such recipe, a key that does not exist, or a value of the wrong kind.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = Path(str(resources.files("rounds") / "recipes" / f"{name_or_path}.yaml"))
    if not path.is_file():
        raise UserError(f"recipe {name_or_path!r}: no such file; the package carries {', '.join(names())}")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: the file is empty or not a mapping")
    values = {"name": path.stem, **values}
    if parent := values.pop("extends", None):
        if extended:
            raise UserError(f"{path}: extends {parent}, and is itself extended; one level is the limit")
        values = _over(load(str(parent), extended=True).to_dict(), values)
    return from_dict(values, str(path))


def _over(below: dict, above: dict) -> dict:
    """`above`'s values in the place of `below`'s, key by key."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(below.get(key), dict)
        merged[key] = _over(below[key], value) if both and key != "negatives" else value
    return merged


def names() -> list[str]:
    """Recipes that the package carries."""
    return sorted(entry.name.removesuffix(".yaml") for entry in (resources.files("rounds") / "recipes").iterdir()
                  if entry.name.endswith(".yaml"))  # fmt: skip


def recipe_for_model(name_or_path: str, model_class: str = "", pooling: str = "") -> Recipe | None:
    """The recipe for a model named on the command line, as FlagEmbedding's scripts name it.

    A model that a packaged recipe is about takes that recipe; another one takes the recipe of its
    `--embedder_model_class`, whose weights it then replaces (`checkpoint.resolve`).

    Args:
        pooling: `--pooling_method`; must be the recipe's.

    Returns:
        None where neither name nor class leads to a recipe.

    Raises:
        UserError: an unknown class, or another pooling method than the recipe's.
    """
    if model_class and model_class not in MODEL_CLASSES:
        raise UserError(f"embedder_model_class {model_class!r} is not one of {', '.join(MODEL_CLASSES)}")
    if name_or_path in (DEFAULT_MODEL, os.environ.get(MODEL_VARIABLE)):
        found = load(DEFAULT_RECIPE)
    else:
        found = next((recipe for recipe in map(load, names()) if recipe.model.name_or_path == name_or_path), None)
    if found is None and model_class:
        found = load(MODEL_CLASSES[model_class])
    if found and pooling and pooling != found.model.pooling:
        raise UserError(f"pooling_method {pooling}: recipe {found.name} says {found.model.pooling}; leave the flag out")
    return found


def from_dict(values: dict, source: str) -> Recipe:
    """Build and check a recipe; `source` (file or manifest) is named in errors."""
    recipe = _build(Recipe, values, source, "")
    check(recipe, source)
    return recipe


def _build(cls: type, values: dict, source: str, prefix: str):
    hints = typing.get_type_hints(cls)
    built = {}
    for key, value in values.items():
        if key not in hints:
            nearest = difflib.get_close_matches(str(key), hints, n=1, cutoff=0.0)[0]
            raise UserError(f"{source}: unknown key {prefix}{key}; did you mean {prefix}{nearest}?")
        if dataclasses.is_dataclass(hints[key]):
            if not isinstance(value, dict):
                raise UserError(f"{source}: {prefix}{key} must be a mapping, not {value!r}")
            built[key] = _build(hints[key], value, source, f"{prefix}{key}.")
        else:
            built[key] = _typed(value, hints[key], source, f"{prefix}{key}")
    return cls(**built)


def _typed(value: object, hint: object, source: str, key: str) -> object:
    """`value` as the type that the dataclass names; 1e-4 is a string to YAML, so floats take strings."""
    allowed = typing.get_args(hint) if type(None) in typing.get_args(hint) else (hint,)
    if value is None and type(None) in allowed:
        return None
    kind = next(each for each in allowed if each is not type(None))
    if kind is float and not isinstance(value, bool):
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
    elif typing.get_origin(kind) is list:
        (inner,) = typing.get_args(kind)
        if isinstance(value, list) and all(type(each) is inner for each in value):
            return value
    elif typing.get_origin(kind) is dict:
        if isinstance(value, dict) and all(type(each) in (int, float) for each in value.values()):
            return {str(name): float(each) for name, each in value.items()}
    elif type(value) is kind:
        return value
    name = getattr(kind, "__name__", str(kind))
    raise UserError(f"{source}: {key} must be of type {name}, not {value!r}")
