"""Recipe: the model, prompts, tuning, mining, training and reranking of one specialist, as read from YAML.

Keys, defaults and descriptions are defined in `rounds.config.sections`; `docs/recipes-reference.md` lists them.
"""

import dataclasses

from pydantic import Field
from pydantic.dataclasses import dataclass

from rounds.config.sections.base import SECTION, Text
from rounds.config.sections.mining import BM25, SOURCES, VECTORS_PREFIX, Mining, parse_range
from rounds.config.sections.model import FOUR_BIT_PRECISIONS, LAYER_POOLINGS, TOKEN_POOLINGS, Model, Vision
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
from rounds.config.validation import check_combinations, one_line_errors
from rounds.errors import UserError

__all__ = [
    "BM25",
    "FOUR_BIT_PRECISIONS",
    "IA3",
    "LAYER_POOLINGS",
    "QUERY_FIELDS",
    "SOURCES",
    "TOKEN_POOLINGS",
    "TUNING_METHODS",
    "VECTORS_PREFIX",
    "HoulsbyAdapters",
    "Lora",
    "Mining",
    "Model",
    "Pretraining",
    "Projection",
    "Prompts",
    "Recipe",
    "Reranking",
    "Training",
    "Tuning",
    "VirtualTokens",
    "Vision",
    "parse_range",
]


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

    reranking: Reranking = Field(default_factory=Reranking)

    pretraining: Pretraining = Field(default_factory=Pretraining)

    @property
    def normalizes(self) -> bool:
        """Whether vectors of tuned weights have unit length."""
        return self.tuning.projection.normalize if self.tuning.projection.dim else self.model.normalize

    def require_text_only(self, stage: str) -> None:
        """Raise a `UserError` if the model reads images; `stage` names the stage that cannot."""
        if self.model.vision.reads_images:
            raise UserError(f"{stage}: reads words only, and {self.name} has model.vision; take a recipe without")

    def to_dict(self) -> dict:
        """Return the recipe as plain values, as manifests store it."""
        return dataclasses.asdict(self)

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
