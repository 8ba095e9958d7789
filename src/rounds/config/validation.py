"""Turn pydantic's errors into one line each, and refuse recipes whose keys contradict each other."""

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pydantic import ValidationError

from rounds.config import schema
from rounds.config.sections.model import FOUR_BIT_PRECISIONS
from rounds.errors import UserError

if TYPE_CHECKING:
    from rounds.config.recipe import Recipe


@contextmanager
def one_line_errors(root: type, source: str, values: dict, section: str = "") -> Iterator[None]:
    """Turn a `ValidationError` raised in the block into a `UserError` of one line.

    Args:
        root: the class whose keys the message names.
        source: file, manifest or flags that the values come from.
        values: what is validated, for the message.
        section: the section that is validated, if it is not `root` itself.
    """
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ((section,) if section else ()) + first["loc"]
        raise UserError(f"{source}: {_describe(root, first, path, values)}") from None


def _describe(root: type, error: dict, path: tuple, values: dict) -> str:
    """Return the message for one of pydantic's errors, raised at `path`."""
    kind, value = error["type"], error["input"]
    if kind == "value_error":
        return str(error["ctx"]["error"])
    if kind in ("unexpected_keyword_argument", "invalid_key"):
        prefix = "".join(f"{key}." for key in path[:-1])
        keys = schema.fields(schema.find_section(root, path[:-1]))
        nearest = difflib.get_close_matches(str(path[-1]), keys, n=1, cutoff=0.0)[0]
        return f"unknown key {prefix}{path[-1]}; did you mean {prefix}{nearest}?"
    if kind == "missing":
        return f"{'.'.join(path)} is missing"
    path, inside = schema.split_path(root, path)
    key = ".".join(path)
    field = schema.fields(schema.find_section(root, path[:-1]))[path[-1]]
    if kind == "dataclass_type":
        return f"{key} must be a mapping, not {value!r}"
    if kind == "literal_error":
        options = schema.choices(schema.value_field(field) if inside else field)
        return f"{key} {'has' if inside else 'is'} {value!r}, not one of {', '.join(options)}"
    limits = schema.bounds(schema.value_field(field) if inside else field)
    if limits and kind in ("greater_than", "greater_than_equal", "less_than_equal", "finite_number"):
        place = f".{inside[0]}" if inside and isinstance(inside[0], str) else ""
        return f"{key}{place} is {value}, must be {limits}"
    if kind == "finite_number":
        return f"{key} is {value}, must be a finite number"
    for name in path:
        values = values[name]
    return f"{key} must be of type {schema.type_name(field)}, not {values!r}"


def check_combinations(recipe: "Recipe", source: str) -> None:
    """Raise a `UserError` if two keys contradict each other, or if one makes another idle.

    Args:
        source: file, manifest or flags that the recipe comes from, for the message.
    """
    for contradictions in (_in_prompts, _in_sharding, _in_reranking, _in_precision, _in_tuning, _in_vision):
        for message in contradictions(recipe):
            raise UserError(f"{source}: {message}")


def _in_prompts(recipe: "Recipe") -> Iterator[str]:
    prompts = recipe.prompts
    if (prompts.examples == "none") != (prompts.examples_number == 0):
        yield (
            f"prompts.examples is {prompts.examples} and prompts.examples_number {prompts.examples_number}; "
            "set both, or none and 0"
        )
    if recipe.training.examples_limit and prompts.examples == "none":
        yield "training.examples_limit needs prompts.examples: fixed or nearest"


def _in_sharding(recipe: "Recipe") -> Iterator[str]:
    sharding, tuning = recipe.training.sharding, recipe.tuning
    if sharding == "none":
        return
    is_lora_alone = tuning.method == "lora" and not (tuning.unfreeze or tuning.projection.dim or tuning.separate)
    if not (is_lora_alone and recipe.training.micro_batch_tokens):
        yield f"training.sharding {sharding} needs tuning.method lora alone and micro_batch_tokens"
    if recipe.model.precision in FOUR_BIT_PRECISIONS:
        yield f"training.sharding {sharding} does not split 4-bit weights; set precision bf16"


def _in_reranking(recipe: "Recipe") -> Iterator[str]:
    if recipe.reranking.residual and recipe.reranking.loss != "listwise":
        yield "reranking.residual needs reranking.loss listwise"


def _in_precision(recipe: "Recipe") -> Iterator[str]:
    model, method = recipe.model, recipe.tuning.method
    has_four_bits = model.precision in FOUR_BIT_PRECISIONS
    if model.double_quant and not has_four_bits:
        yield "model.double_quant needs model.precision: nf4 or fp4"
    if has_four_bits and method == "full":
        yield f"4-bit weights are frozen: model.precision {model.precision} needs an adapter"
    if method == "qlora" and not has_four_bits:
        yield "tuning.method qlora needs model.precision: nf4 or fp4"


def _in_tuning(recipe: "Recipe") -> Iterator[str]:
    tuning, virtual = recipe.tuning, recipe.tuning.virtual
    if tuning.unfreeze and tuning.method == "full":
        yield "tuning.method full trains all weights; leave tuning.unfreeze out"
    if (virtual.init == "text") != bool(virtual.init_text):
        yield "tuning.virtual.init must be random, or text with an init_text"
    if virtual.init == "text" and tuning.method != "prompt":
        yield "tuning.virtual.init text is for tuning.method prompt"
    if tuning.method == "prefix" and recipe.training.gradient_checkpointing:
        yield "tuning.method prefix cannot train with gradient_checkpointing"


def _in_vision(recipe: "Recipe") -> Iterator[str]:
    vision, tuning = recipe.model.vision, recipe.tuning
    has_visual_tokens = tuning.virtual.vision != "none"
    unfreezes_visual_embedding = "visual_embedding" in tuning.unfreeze
    needs_images = tuning.vision == "tuned" or unfreezes_visual_embedding or has_visual_tokens
    if has_visual_tokens and tuning.method not in ("prompt", "p_tuning"):
        yield "tuning.virtual.vision needs tuning.method prompt or p_tuning"
    if vision.is_joint and vision.name_or_path:
        yield "model.vision.join joint takes no model.vision.name_or_path: the text model reads the images"
    if not vision.reads_images and (needs_images or recipe.training.pictures != "with"):
        yield "tunes or trains on pictures, and model.vision.name_or_path is empty"
    if vision.is_joint and (unfreezes_visual_embedding or has_visual_tokens):
        yield "visual_embedding and virtual.vision are for a vision model beside the text's"
    if vision.reads_images and recipe.prompts.examples != "none":
        yield "prompts.examples are texts without pictures; leave them out beside model.vision"
