"""Recipes of generators: language models that are tuned to write a text, here the prompt behind a rewriting.

They lie in `recipes/generators`, apart from those of embedders, with whom they share the sections `model` and `tuning`.
"""

import dataclasses
import re
from collections.abc import Iterator
from typing import Literal

from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from rounds.config import loader, schema
from rounds.config.recipe import Model, Recipe, Tuning, check_combinations
from rounds.config.recipe import Training as EmbedderTraining
from rounds.config.sections.base import SECTION, Boolean, Integer, Number, Text
from rounds.config.validation import one_line_errors
from rounds.errors import UserError

FOLDER = "recipes/generators"

METHODS = ("full", "lora", "qlora", "prompt", "prefix")

PLACEHOLDERS = ("original_text", "rewritten_text")

PROMPT_HALVES = ("first_half", "second_half")

# Keys of the shared sections that a generator heeds; any other must keep its default.
MODEL_KEYS = (
    *("name_or_path", "revision", "sha256", "precision", "double_quant", "attention", "dropout"),
    "trust_remote_code",
)
TUNING_KEYS = ("method", "lora", "virtual")


@dataclass(frozen=True, config=SECTION)
class Prompt:
    """What the model reads before it writes."""

    template: Text
    """Text with `{original_text}` and `{rewritten_text}`, each once and in this order."""

    chat: Boolean = False
    """Put the template into the chat template of the model's tokenizer, as the user's message."""


@dataclass(frozen=True, config=SECTION)
class Training:
    """How a generator is trained. Only the tokens of the target, and the EOS token behind it, count in the loss."""

    steps: Integer = Field(250, ge=1)
    """Optimizer steps."""

    checkpoint_steps: Integer = Field(250, ge=1)
    """A checkpoint is written, and its validation loss measured, after each so many steps and after the last one."""

    learning_rate: Number = Field(1e-4, gt=0)
    """Highest learning rate."""

    scheduler: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate goes on behind the warm-up: to zero, or constant."""

    warmup_steps: Integer = Field(0, ge=0)
    """Steps over which the learning rate rises."""

    batch_size: Integer = Field(16, ge=1)
    """Rows of an optimizer step."""

    gradient_accumulation_steps: Integer = Field(1, ge=1)
    """Parts that a batch is computed in, to save memory; the gradients are those of the whole batch."""

    max_length: Integer = Field(640, ge=64)
    """Longest sequence in tokens, without virtual tokens. Of it, `generation.max_new_tokens` are kept for the target;
    where the texts do not fit into the rest, they are cut in the middle."""

    order: Literal["shuffled", "file", "grouped"] = "shuffled"
    """Order of the rows: `shuffled` anew for each epoch; that of the `file`; or `grouped`: all rows of a family
    together and, in it, those of a prompt, as in files put one behind another."""

    prompts: Literal["all", "first_half", "second_half"] = "all"
    """Train on all rows, or on those of one half of the prompts, drawn by a fixed seed: so a base model can be tuned on
    one half, and what starts from it on the other."""

    weight_decay: Number = Field(0.0, ge=0)
    """Weight decay of AdamW."""

    max_grad_norm: Number = Field(1.0, gt=0)
    """Gradients are scaled down to this norm."""

    gradient_checkpointing: Boolean = False
    """Compute activations again in the backward pass instead of keeping them."""


@dataclass(frozen=True, config=SECTION)
class Generation:
    """How a prediction is written."""

    max_new_tokens: Integer = Field(96, ge=1)
    """Longest prediction in tokens, EOS included."""

    samples: Integer = Field(1, ge=1)
    """1: the greedy text. More: so many texts are drawn, and the one most similar to the others is taken (minimum Bayes
    risk: Kumar and Byrne 2004)."""

    temperature: Number = Field(0.7, gt=0)
    """Temperature of the draws."""

    top_p: Number = Field(0.95, gt=0, le=1)
    """Share of the probability that draws are taken from."""

    batch_size: Integer = Field(8, ge=1)
    """Rows that are generated together."""

    fallback: Text = "Rewrite the text in another style."
    """Prediction in the place of an empty one, which no embedder can compare."""


@dataclass(frozen=True, config=SECTION)
class GeneratorRecipe:
    """One way to tune a generator: `recipes/generators/NAME.yaml`."""

    name: Text
    """Name of the recipe, by default the file's."""

    prompt: Prompt

    model: Model = Field(default_factory=Model)

    tuning: Tuning = Field(default_factory=Tuning)

    training: Training = Field(default_factory=Training)

    generation: Generation = Field(default_factory=Generation)

    @property
    def shared(self) -> Recipe:
        """The sections that generators share with embedders, for what reads these."""
        training = EmbedderTraining(gradient_checkpointing=self.training.gradient_checkpointing)
        return Recipe(self.name, model=self.model, tuning=self.tuning, training=training)

    def to_dict(self) -> dict:
        """Return the recipe as plain values; of the shared sections, the keys that a generator heeds."""
        values = dataclasses.asdict(self)
        values["model"] = {key: values["model"][key] for key in MODEL_KEYS}
        values["tuning"] = {key: values["tuning"][key] for key in TUNING_KEYS}
        return values

    def replace(self, section: str, **values: object) -> "GeneratorRecipe":
        """Return a copy with some keys of one section changed; a value of None leaves its key as it is.

        Raises:
            UserError: a value that its key does not take, or keys that contradict each other.
        """
        changes = {key: value for key, value in values.items() if value is not None}
        with one_line_errors(GeneratorRecipe, "flags", {section: changes}, section):
            changed = dataclasses.replace(getattr(self, section), **changes)
        recipe = dataclasses.replace(self, **{section: changed})
        _check(recipe, "flags")
        return recipe

    def with_method(self, method: str | None, tokens: int | None = None, rank: int | None = None) -> "GeneratorRecipe":
        """Return a copy that is tuned in another way; None leaves a value as it is.

        Args:
            method: the tuning method.
            tokens: number of virtual tokens.
            rank: LoRA's r; its alpha becomes twice that.

        Raises:
            UserError: a method that generators do not take, a size that its key does not take, or keys that contradict
                each other.
        """
        changes = {
            **({} if method is None else {"method": method}),
            **({} if rank is None else {"lora": {"r": rank, "alpha": 2 * rank}}),
            **({} if tokens is None else {"virtual": {"tokens": tokens}}),
        }
        return from_dict(loader.merge(self.to_dict(), {"tuning": changes}), "flags")


RECIPE = TypeAdapter(GeneratorRecipe)


def names() -> list[str]:
    """Return the names of the generators' recipes in the package, sorted."""
    return loader.names(FOLDER)


def load(name_or_path: str) -> GeneratorRecipe:
    """Read a generator's recipe of the package by its name, or a YAML file by its path.

    With `extends: NAME`, the file inherits all keys of another generator's recipe that it does not set.

    Raises:
        UserError: the recipe does not exist or is an embedder's, has an unknown key, or a key has a value that it does
            not take.
    """
    path, values = _read(name_or_path, f"recipe {name_or_path!r}")
    child, files = path, [path]
    while parent := loader.pop_parent(values, child):
        child, inherited = _read(parent, f"{child}: extends {parent}")
        if child in files:
            raise UserError(f"{path}: extends itself, by way of {files[-1]}; leave one extends out")
        files.append(child)
        values = loader.merge(inherited, values)
    return from_dict(values, str(path))


def _read(name_or_path: str, source: str) -> tuple:
    try:
        path, values = loader.read_values(name_or_path, FOLDER)
    except FileNotFoundError as error:
        if name_or_path in loader.names():
            raise UserError(f"{source}: is an embedder's; recipes of generators are {', '.join(names())}") from None
        raise UserError(f"{source}: {error}") from None
    if "prompt" not in values and "extends" not in values:
        raise UserError(f"{path}: has no section prompt, so it is no generator's recipe (docs/prompt-recovery.md)")
    return path, values


def from_dict(values: dict, source: str) -> GeneratorRecipe:
    """Build and check a recipe.

    Args:
        values: keys and values, as `GeneratorRecipe.to_dict` returns them.
        source: file or manifest that they come from, for messages.

    Raises:
        UserError: an unknown key, a value that its key does not take, or keys that contradict each other.
    """
    with one_line_errors(GeneratorRecipe, source, values):
        recipe = RECIPE.validate_python(values)
    _check(recipe, source)
    return recipe


def _check(recipe: GeneratorRecipe, source: str) -> None:
    for message in (*_in_prompt(recipe), *_idle(recipe), *_in_lengths(recipe)):
        raise UserError(f"{source}: {message}")
    check_combinations(recipe.shared, source)


def _in_prompt(recipe: GeneratorRecipe) -> Iterator[str]:
    found = re.findall(r"\{(\w+)\}", recipe.prompt.template)
    if [name for name in found if name in PLACEHOLDERS] != list(PLACEHOLDERS):
        yield "prompt.template must hold {original_text} and {rewritten_text}, each once and in this order"


def _idle(recipe: GeneratorRecipe) -> Iterator[str]:
    """Yield what is set in the shared sections and would have no effect on a generator."""
    for section, keys in (("model", MODEL_KEYS), ("tuning", TUNING_KEYS)):
        for key, field in schema.fields(type(getattr(recipe, section))).items():
            value = getattr(getattr(recipe, section), key)
            if key not in keys and value != field.get_default(call_default_factory=True):
                yield f"{section}.{key} is for embedders and has no effect on a generator; leave it out"
    if recipe.tuning.virtual.vision != "none":
        yield "tuning.virtual.vision is for embedders and has no effect on a generator; leave it out"
    if recipe.tuning.method not in METHODS:
        yield f"tuning.method {recipe.tuning.method} is for embedders; a generator takes {', '.join(METHODS)}"


def _in_lengths(recipe: GeneratorRecipe) -> Iterator[str]:
    training, new = recipe.training, recipe.generation.max_new_tokens
    if new >= training.max_length:
        yield f"generation.max_new_tokens is {new} and training.max_length {training.max_length}; it must be smaller"
    if training.batch_size % training.gradient_accumulation_steps:
        yield (
            f"training.batch_size {training.batch_size} cannot be divided into "
            f"{training.gradient_accumulation_steps} parts (gradient_accumulation_steps)"
        )
