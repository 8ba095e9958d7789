"""Load recipes from YAML files, by name, by path, or for a model named on the command line."""

from dataclasses import fields, is_dataclass
from importlib import resources
from pathlib import Path

import yaml
from pydantic import TypeAdapter

from rounds.config import stand_ins, unique_keys
from rounds.config.recipe import SPLADE, Recipe, check_combinations
from rounds.config.validation import one_line_errors
from rounds.errors import UserError

FOLDER = "recipes"  # in the package

DEFAULT_RECIPE = "bge-en-icl"  # recipe of the scripts; the Makefile names its own

DEFAULT_MODEL = "BAAI/bge-en-icl"

MODEL_CLASSES = {
    "decoder-only-icl": "bge-en-icl",
    "decoder-only-base": "e5-mistral-7b-instruct",
    "encoder-only-base": "bge-small-en-v1.5",
}

RECIPE = TypeAdapter(Recipe)


def load(name_or_path: str) -> Recipe:
    """Read a recipe of the package by its name, or a YAML file by its path.

    With `extends: NAME`, the file inherits all keys of another recipe that it does not set; one level deep.

    Raises:
        UserError: the recipe does not exist, has an unknown key, or a key has a value that it does not take.
    """
    try:
        path, values = read_values(name_or_path)
    except FileNotFoundError as error:
        raise UserError(f"recipe {name_or_path!r}: {error}") from None
    if parent := pop_parent(values, path):
        inherited = load_parent(parent, path)
        becomes_sparse = not inherited.model.is_sparse  # an inherited temperature would be that of cosines
        values = merge(inherited.to_dict(), _with_sparse_defaults(values) if becomes_sparse else values)
    return from_dict(values, str(path))


def pop_parent(values: dict, path: Path) -> str:
    """Take `extends` out of a recipe's keys and return the name of its parent; empty where it has none.

    Raises:
        UserError: the key is there, and names nothing.
    """
    if "extends" in values and not values["extends"]:
        raise UserError(f"{path}: extends names no recipe; name one, or leave the key out")
    return str(values.pop("extends", ""))


def load_parent(name_or_path: str, child: Path) -> Recipe:
    """Read the recipe that `child` extends, which must not extend another one itself."""
    try:
        path, values = read_values(name_or_path)
    except FileNotFoundError as error:
        raise UserError(f"{child}: extends {name_or_path}, {error}") from None
    if "extends" in values:
        raise UserError(f"{path}: extends {values['extends']}, and {child} extends it; one level is the limit")
    return from_dict(values, str(path))


def read_values(name_or_path: str, folder: str = FOLDER) -> tuple[Path, dict]:
    """Return a recipe's file and its keys, as they stand in the file.

    Args:
        folder: where in the package recipes of this kind lie.

    Raises:
        FileNotFoundError: there is no such recipe.
        UserError: the file is no mapping, or names a key twice.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = Path(str(resources.files("rounds") / folder / f"{name_or_path}.yaml"))
    if not path.is_file():
        raise FileNotFoundError(f"no such file; the package carries {', '.join(names(folder))}")
    try:
        values = unique_keys.load(path.read_text(encoding="utf-8"), str(path))
    # All but the first are of values like `2024-13-45`, which PyYAML takes for a date, and of nesting without end.
    except (yaml.YAMLError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: not valid YAML ({' '.join(str(error).split())[:300]})") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: the file is empty or not a mapping")
    return path, {"name": path.stem, **values}


def merge(parent: dict, child: dict) -> dict:
    """Return the parent's values with the child's in their place, key by key; `negatives` is replaced as a whole."""
    merged = dict(parent)
    for key, value in child.items():
        are_sections = isinstance(value, dict) and isinstance(parent.get(key), dict)
        merged[key] = merge(parent[key], value) if are_sections and key != "negatives" else value
    return merged


def names(folder: str = FOLDER) -> list[str]:
    """Return the names of the recipes in a folder of the package, sorted."""
    files = (resources.files("rounds") / folder).iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def section_of(key: str, first: str = "") -> str:
    """Return the section of a recipe that has a key; empty where none has.

    Args:
        first: the section to look into before all others.

    >>> section_of("warmup_ratio"), section_of("max_length"), section_of("batch")
    ('training', 'reranking', '')
    """
    sections = {section.name: section.type for section in fields(Recipe) if is_dataclass(section.type)}
    order = sorted(sections, key=lambda name: name != first)
    return next((name for name in order if key in {each.name for each in fields(sections[name])}), "")


def way_to_set(key: str, section: str, recipe: str) -> str:
    """Return how a person sets a key that no flag sets, in the words that end a refusal."""
    if recipe.endswith((".yaml", ".yml")):
        return f"{section}.{key} is a key of the recipe; set it in {recipe}"
    return (
        f"{section}.{key} is a key of the recipe; set it in a YAML file that says `extends: {recipe}` and "
        f"`{section}: {{{key}: ...}}`, and name that file as the recipe"
    )


def recipe_for_model(name_or_path: str, model_class: str = "", pooling: str = "") -> Recipe | None:
    """Return the recipe for a model named on the command line, as FlagEmbedding's scripts name it.

    A model that a recipe of the package is about takes that recipe, and so does a folder that stands in for it
    (`stand_ins`; a folder that stands in for every model takes the default recipe). Another one takes the recipe of
    its `--embedder_model_class`, whose weights it then replaces (`checkpoint.resolve`).

    Args:
        pooling: `--pooling_method`; must agree with the recipe.

    Returns:
        The recipe, or None if neither name nor class leads to one.

    Raises:
        UserError: an unknown class, or another pooling method than the recipe's.
    """
    if model_class and model_class not in MODEL_CLASSES:
        raise UserError(f"embedder_model_class {model_class!r} is not one of {', '.join(MODEL_CLASSES)}")
    models = [DEFAULT_MODEL] if stand_ins.is_for_all(name_or_path) else stand_ins.models_behind(name_or_path)
    models = models or [name_or_path]
    recipe = next((recipe for recipe in map(load, names()) if recipe.model.name_or_path in models), None)
    if recipe is None and model_class:
        recipe = load(MODEL_CLASSES[model_class])
    if recipe and pooling and pooling != recipe.model.pooling:
        raise UserError(
            f"pooling_method {pooling}: recipe {recipe.name} says {recipe.model.pooling}; leave the flag out"
        )
    return recipe


def from_dict(values: dict, source: str) -> Recipe:
    """Build and check a recipe.

    Args:
        values: keys and values, as `Recipe.to_dict` returns them.
        source: file or manifest that they come from, for messages.

    Raises:
        UserError: an unknown key, a value that its key does not take, or keys that contradict each other.
    """
    with one_line_errors(Recipe, source, values):
        recipe = RECIPE.validate_python(_with_sparse_defaults(values))
    check_combinations(recipe, source)
    return recipe


def _with_sparse_defaults(values: dict) -> dict:
    """Return a sparse model's recipe with the defaults of its kind where it leaves keys out; others as they are."""
    model, training = values.get("model"), values.get("training", {})
    if not isinstance(model, dict) or model.get("pooling") != SPLADE or not isinstance(training, dict):
        return values
    return {**values, "model": {"normalize": False, **model}, "training": {"temperature": 1.0, **training}}
