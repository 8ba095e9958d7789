"""Recipe: the model, prompts, tuning, mining, training and reranking of one specialist, as read from YAML.

Keys, defaults and descriptions are defined in `rounds.config.sections`; `docs/recipes-reference.md` lists them.
"""

import dataclasses
from collections.abc import Iterator

from pydantic import Field
from pydantic.dataclasses import dataclass

from rounds.config import schema
from rounds.config.sections.base import SECTION, Text
from rounds.config.sections.distillation import Distillation
from rounds.config.sections.ensemble import Ensemble
from rounds.config.sections.mining import BM25, FILE_SOURCES, SOURCES, Mining, parse_range, split_source
from rounds.config.sections.model import FOUR_BIT_PRECISIONS, LAYER_POOLINGS, SPLADE, TOKEN_POOLINGS, Model, Vision
from rounds.config.sections.outside import Outside
from rounds.config.sections.prompts import QUERY_FIELDS, Prompts
from rounds.config.sections.reranking import Reranking
from rounds.config.sections.training import Pretraining, Training
from rounds.config.sections.tuning import (
    IA3,
    TUNING_METHODS,
    HoulsbyAdapters,
    Lora,
    Projection,
    Tuning,
    VirtualTokens,
)
from rounds.config.validation import one_line_errors
from rounds.errors import UserError

__all__ = [
    "BM25",
    "FILE_SOURCES",
    "FOUR_BIT_PRECISIONS",
    "IA3",
    "LAYER_POOLINGS",
    "QUERY_FIELDS",
    "SOURCES",
    "SPLADE",
    "TOKEN_POOLINGS",
    "TUNING_METHODS",
    "Distillation",
    "Ensemble",
    "HoulsbyAdapters",
    "Lora",
    "Mining",
    "Model",
    "Outside",
    "Pretraining",
    "Projection",
    "Prompts",
    "Recipe",
    "Reranking",
    "Training",
    "Tuning",
    "VirtualTokens",
    "Vision",
    "check_combinations",
    "parse_range",
    "split_source",
]


# Sections and keys that only one representation reads.
KEYS_OF_REPRESENTATIONS = {
    "tokens": (("model", "token_dim"),),
    "sparse": (("training", "flops_query"), ("training", "flops_passage")),
}

# Keys that are left out of `to_dict` at their defaults: they came after artefacts whose digests must not change.
OPTIONAL_KEYS = (
    ("model", "stored_precision"),
    ("mining", "unlabelled_share"),
    ("training", "false_negative_margin"),
    ("training", "hardness_mode"),
    ("training", "hardness_strength"),
    ("training", "average"),
    ("training", "average_epochs"),
    ("training", "ema_decay"),
    ("training", "label_weight"),
    *(("outside", key) for key in ("ratio", "first", "weight", "max_cosine", "duplicate_cosine", "constructs")),
    *(("distillation", key) for key in schema.fields(Distillation)),
    *(("ensemble", key) for key in schema.fields(Ensemble)),
)

# Sections that are left out of `to_dict` where all of their keys are.
OPTIONAL_SECTIONS = ("outside", "distillation", "ensemble")


@dataclass(frozen=True, config=SECTION)
class Recipe:
    """One way to train a specialist: `recipes/NAME.yaml`.

    Constructing a recipe checks each key alone. `rounds.config.loader` and `replace` also check that keys do not
    contradict each other, so that stages may switch off a part of a checked recipe with `dataclasses.replace`.
    """

    name: Text
    """Name of the recipe, by default the file's."""

    model: Model = Field(default_factory=Model)

    prompts: Prompts = Field(default_factory=Prompts)

    tuning: Tuning = Field(default_factory=Tuning)

    mining: Mining = Field(default_factory=Mining)

    training: Training = Field(default_factory=Training)

    outside: Outside = Field(default_factory=Outside)

    reranking: Reranking = Field(default_factory=Reranking)

    ensemble: Ensemble = Field(default_factory=Ensemble)

    distillation: Distillation = Field(default_factory=Distillation)

    pretraining: Pretraining = Field(default_factory=Pretraining)

    @property
    def normalizes(self) -> bool:
        """Whether vectors of tuned weights have unit length."""
        return self.tuning.projection.normalize if self.tuning.projection.dim else self.model.normalize

    def require_text_only(self, stage: str) -> None:
        """Raise a `UserError` if the model reads images; `stage` names the stage that cannot."""
        if self.model.vision.reads_images:
            raise UserError(f"{stage}: reads words only, and {self.name} has model.vision; take a recipe without")

    def require_dense(self, what: str) -> None:
        """Raise a `UserError` if a text's embedding is not one dense vector; `what` names the key or stage at fault."""
        if self.model.representation != "dense":
            raise UserError(
                f"{what}: needs one dense vector for each text, and {self.name} has model.pooling "
                f"{self.model.pooling}; take a recipe with another pooling"
            )

    def require_cosines(self, what: str) -> None:
        """Raise a `UserError` if vectors are not dense and of unit length; `what` names the stage at fault."""
        self.require_dense(what)
        if not (self.normalizes and self.model.normalize):
            raise UserError(
                f"{what}: votes are by cosine, and recipe {self.name} does not normalize its vectors; set "
                "model.normalize and tuning.projection.normalize to true, and train the rounds anew"
            )

    def require_epochs(self) -> None:
        """Raise a `UserError` if a round would train for no epoch, which only rerankers may."""
        if not self.training.epochs:
            raise UserError(
                f"recipe {self.name}: training.epochs is 0, which only a reranker may have; make evaluate ROUND=0 "
                "evaluates the base model"
            )

    def to_dict(self) -> dict:
        """Return the recipe as plain values, as manifests store it.

        Keys that only a representation other than the recipe's reads are left out, and `OPTIONAL_KEYS` at their
        defaults: what older manifests and names of folders were made from stays the same.
        """
        values = dataclasses.asdict(self)
        for representation, keys in KEYS_OF_REPRESENTATIONS.items():
            if representation != self.model.representation:
                for section, key in keys:
                    del values[section][key]
        for section, key in OPTIONAL_KEYS:
            default = schema.fields(type(getattr(self, section)))[key].get_default(call_default_factory=True)
            if values[section][key] == default:
                del values[section][key]
        for section in OPTIONAL_SECTIONS:
            if not values[section]:
                del values[section]
        return values

    def for_student(self, epochs: int | None = None) -> "Recipe":
        """Return the recipe that `make distil` trains by: the keys of `distillation` in the place of `training`'s.

        Args:
            epochs: EPOCHS, where `distillation.epochs` is null; None for `training.epochs`.

        Raises:
            UserError: keys that then contradict each other.
        """
        keys = self.distillation
        without_labels = {"false_negative_margin": None, "hardness_mode": None, "hardness_strength": 0.0}
        training = dataclasses.replace(self.training, **({} if keys.label_weight else without_labels))
        return dataclasses.replace(self, training=training).replace(
            "training",
            loss="distillation",
            group_size=keys.candidates,
            teacher_temperature=keys.teacher_temperature,
            label_weight=keys.label_weight,
            epochs=keys.epochs or epochs,
            learning_rate=keys.learning_rate,
            start_from="base" if keys.start_from == "base" else "previous",
        )

    def replace(self, section: str, **values: object) -> "Recipe":
        """Return a copy with some keys of one section changed; a value of None leaves its key as it is.

        >>> Recipe("mine").replace("training", epochs=7, learning_rate=None).training.epochs
        7

        Raises:
            UserError: a value that its key does not take, or keys that contradict each other.
        """
        changes = {key: value for key, value in values.items() if value is not None}
        with one_line_errors(Recipe, "flags", {section: changes}, section):
            changed = dataclasses.replace(getattr(self, section), **changes)
        recipe = dataclasses.replace(self, **{section: changed})
        check_combinations(recipe, "flags")
        return recipe


def check_combinations(recipe: Recipe, source: str) -> None:
    """Raise a `UserError` if two keys contradict each other, or if one makes another idle.

    Args:
        source: file, manifest or flags that the recipe comes from, for the message.
    """
    for contradictions in (
        *(_in_prompts, _in_mining, _in_sharding, _in_reranking, _in_precision, _in_tuning, _in_vision),
        *(_in_loss, _in_average, _in_outside, _in_representation, _in_stored_vectors, _in_sparse),
    ):
        for message in contradictions(recipe):
            raise UserError(f"{source}: {message}")


def _in_prompts(recipe: Recipe) -> Iterator[str]:
    prompts = recipe.prompts
    if (prompts.examples == "none") != (prompts.examples_number == 0):
        yield (
            f"prompts.examples is {prompts.examples} and prompts.examples_number {prompts.examples_number}; "
            "set both, or none and 0"
        )
    if recipe.training.examples_limit and prompts.examples == "none":
        yield "training.examples_limit needs prompts.examples: fixed or nearest"


def _in_mining(recipe: Recipe) -> Iterator[str]:
    mining = recipe.mining
    if mining.unlabelled_share is None:
        return
    if mining.candidates == "labelled":
        yield (
            f"mining.unlabelled_share is {mining.unlabelled_share:g} and mining.candidates labelled, which leaves "
            "unlabelled passages out; set candidates: corpus, or unlabelled_share: null"
        )
    if mining.reranker:
        yield "mining.reranker drops negatives of either kind, so mining.unlabelled_share cannot hold; leave one out"


def _in_sharding(recipe: Recipe) -> Iterator[str]:
    sharding, tuning = recipe.training.sharding, recipe.tuning
    if sharding == "none":
        return
    is_lora_alone = tuning.method == "lora" and not (tuning.unfreeze or tuning.projection.dim or tuning.separate)
    if not (is_lora_alone and recipe.training.micro_batch_tokens):
        yield f"training.sharding {sharding} needs tuning.method lora alone and micro_batch_tokens"
    if recipe.model.precision in FOUR_BIT_PRECISIONS:
        yield f"training.sharding {sharding} does not split 4-bit weights; set precision bf16"


def _in_loss(recipe: Recipe) -> Iterator[str]:
    training = recipe.training
    if (training.hardness_mode is None) != (training.hardness_strength == 0):
        yield (
            f"training.hardness_mode is {training.hardness_mode or 'null'} and training.hardness_strength "
            f"{training.hardness_strength:g}; set both, or null and 0"
        )
    if training.loss == "info_nce" and training.label_weight:
        yield "training.label_weight adds info_nce to another training.loss; leave it out"
    if training.loss != "info_nce" and not training.label_weight:
        for key in ("false_negative_margin", "hardness_mode"):
            if getattr(training, key) is not None:
                yield f"training.{key} is for training.loss info_nce, not {training.loss}; leave one of them out"


def _in_average(recipe: Recipe) -> Iterator[str]:
    training = recipe.training
    for key, method in {"average_epochs": "last", "ema_decay": "ema"}.items():
        if training.average != method and getattr(training, key) != getattr(Training(), key):
            yield f"training.{key} is for training.average {method}, not {training.average}; leave one of them out"
    if training.average == "last" and training.epochs < training.average_epochs:
        yield (
            f"training.average_epochs is {training.average_epochs} and training.epochs {training.epochs}; train as "
            "many epochs, or leave training.average out"
        )
    if training.average != "none" and training.sharding != "none":
        yield f"training.average {training.average} needs whole weights, not training.sharding {training.sharding}"


def _in_outside(recipe: Recipe) -> Iterator[str]:
    outside, epochs = recipe.outside, recipe.training.epochs
    if outside.first and outside.ratio is not None:
        yield "outside.ratio mixes rows in each epoch, and outside.first keeps them apart; leave one of them out"
    if outside.first and outside.first >= epochs:
        yield f"outside.first is {outside.first} and training.epochs {epochs}; leave an epoch to the competition's rows"


def _in_reranking(recipe: Recipe) -> Iterator[str]:
    if recipe.reranking.residual and recipe.reranking.loss != "listwise":
        yield "reranking.residual needs reranking.loss listwise"


def _in_precision(recipe: Recipe) -> Iterator[str]:
    model, method = recipe.model, recipe.tuning.method
    has_four_bits = model.precision in FOUR_BIT_PRECISIONS
    if model.double_quant and not has_four_bits:
        yield "model.double_quant needs model.precision: nf4 or fp4"
    if has_four_bits and method == "full":
        yield f"4-bit weights are frozen: model.precision {model.precision} needs an adapter"
    if method == "qlora" and not has_four_bits:
        yield "tuning.method qlora needs model.precision: nf4 or fp4"


def _in_tuning(recipe: Recipe) -> Iterator[str]:
    tuning, virtual = recipe.tuning, recipe.tuning.virtual
    if tuning.unfreeze and tuning.method == "full":
        yield "tuning.method full trains all weights; leave tuning.unfreeze out"
    if (virtual.init == "text") != bool(virtual.init_text):
        yield "tuning.virtual.init must be random, or text with an init_text"
    if virtual.init == "text" and tuning.method != "prompt":
        yield "tuning.virtual.init text is for tuning.method prompt"
    if tuning.method == "prefix" and recipe.training.gradient_checkpointing:
        yield "tuning.method prefix cannot train with gradient_checkpointing"


def _in_vision(recipe: Recipe) -> Iterator[str]:
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


def _in_representation(recipe: Recipe) -> Iterator[str]:
    model, training = recipe.model, recipe.training
    if model.representation == "dense":
        return
    needs_dense = {
        "training.matryoshka_dims": training.matryoshka_dims,
        "tuning.projection.dim": recipe.tuning.projection.dim,
        "tuning.separate": recipe.tuning.separate,
        "model.vision": model.vision.reads_images,
        f"training.sharding {training.sharding}": training.sharding != "none",
    }
    for key in (key for key, is_set in needs_dense.items() if is_set):
        yield f"{key} needs one dense vector for each text, not model.pooling {model.pooling}; leave one of them out"


def _in_stored_vectors(recipe: Recipe) -> Iterator[str]:
    model = recipe.model
    if model.stored_precision == "fp16" and not (model.representation == "dense" and recipe.normalizes):
        yield "model.stored_precision fp16: rounds dense vectors of unit length; set fp32, or model.normalize: true"


def _in_sparse(recipe: Recipe) -> Iterator[str]:
    model, tuning, training = recipe.model, recipe.tuning, recipe.training
    if not model.is_sparse:
        for key in ("flops_query", "flops_passage"):
            if getattr(training, key):
                yield f"training.{key} keeps sparse vectors sparse; leave it out, or set model.pooling: {SPLADE}"
        return
    if model.normalize:
        yield f"model.normalize: sparse vectors are compared by their inner product; set it to false beside {SPLADE}"
    if model.precision in FOUR_BIT_PRECISIONS:
        yield f"model.precision {model.precision}: has no trainable masked-LM head; set bf16 beside {SPLADE}"
    if tuning.has_virtual_tokens:
        yield f"tuning.method {tuning.method}: virtual tokens have no words; set full, lora, ia3 or bottleneck"
    if recipe.mining.index != "exact":
        yield f"mining.index {recipe.mining.index}: indexes dense vectors; set exact beside model.pooling {SPLADE}"
