"""Section `tuning`: which weights are trained, and the sections of the single methods."""

import typing
from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from rounds.config.sections.base import SECTION, Boolean, Integer, Number, Targets, Text

TuningMethod = Literal["full", "lora", "qlora", "ia3", "prompt", "p_tuning", "prefix", "bottleneck"]

TUNING_METHODS: tuple[str, ...] = typing.get_args(TuningMethod)


@dataclass(frozen=True, config=SECTION)
class Lora:
    """Low-rank matrices beside linear layers (Hu et al. 2021, arXiv:2106.09685)."""

    r: Integer = Field(32, ge=1)
    """Rank of the matrices."""

    alpha: Integer = 64
    """Scale: the update is multiplied by `alpha / r`."""

    dropout: Number = 0.1
    """Dropout on the input of the matrices."""

    targets: Targets = Field(default_factory=lambda: ["query", "key", "value", "dense"])
    """Names, or ends of names, of the adapted linear layers; `all-linear`; or a regular expression for whole names."""


@dataclass(frozen=True, config=SECTION)
class IA3:
    """Rescaled activations (Liu et al. 2022, arXiv:2205.05638). Empty lists: peft's defaults for the model."""

    targets: Targets = Field(default_factory=list)
    """Names of the modules whose outputs are rescaled."""

    feedforward: Targets = Field(default_factory=list)
    """Those of `targets` whose inputs are rescaled instead."""


@dataclass(frozen=True, config=SECTION)
class VirtualTokens:
    """Virtual tokens before each text, for the methods `prompt`, `p_tuning` and `prefix`."""

    tokens: Integer = Field(20, ge=1)
    """Number of virtual tokens."""

    init: Literal["random", "text"] = "random"
    """Start at random or, with method `prompt`, from the tokens of `init_text`."""

    init_text: Text = ""
    """Text whose tokens the virtual tokens start from."""

    hidden_size: Integer = Field(800, ge=1)
    """Hidden size of the MLP that makes the tokens, with method `p_tuning`."""

    vision: Literal["none", "own", "shared"] = "none"
    """Virtual tokens before the patches of an image (visual prompts: Jia et al. 2022, arXiv:2203.12119): none, tokens
    of their own, or tokens made from the text's by a linear layer (`shared`; MaPLe: Khattak et al. 2023,
    arXiv:2210.03117)."""


@dataclass(frozen=True, config=SECTION)
class HoulsbyAdapters:
    """Bottleneck layers behind linear layers (Houlsby et al. 2019, arXiv:1902.00751), for the method `bottleneck`."""

    reduction_factor: Integer = Field(8, ge=1)
    """The bottleneck is this many times smaller than the layer's output."""

    targets: Targets = Field(default_factory=lambda: ["output.dense", "o_proj", "down_proj"])
    """Ends of module names: by default the last linear layer of attention and of the feed-forward block."""


@dataclass(frozen=True, config=SECTION)
class Projection:
    """A linear head behind the pooling. It starts orthogonal, so that it keeps what the model knows."""

    dim: Integer = Field(0, ge=0)
    """Dimensions of the head's vectors; 0: no head."""

    normalize: Boolean = True
    """Scale the head's vectors to unit length; replaces `model.normalize`."""


@dataclass(frozen=True, config=SECTION)
class Tuning:
    """Which weights are trained."""

    method: TuningMethod = "full"
    """All weights (`full`); small modules in the layers (`lora`, `qlora`: LoRA over 4-bit weights, `ia3`,
    `bottleneck`); or virtual tokens (`prompt`: Lester et al. 2021, arXiv:2104.08691; `p_tuning`: Liu et al. 2021,
    arXiv:2103.10385; `prefix`: Li and Liang 2021, arXiv:2101.00190). `full` also trains the Dense layers that a base
    model has behind its pooling; all others leave them as they are."""

    lora: Lora = Field(default_factory=Lora)

    ia3: IA3 = Field(default_factory=IA3)

    virtual: VirtualTokens = Field(default_factory=VirtualTokens)

    bottleneck: HoulsbyAdapters = Field(default_factory=HoulsbyAdapters)

    projection: Projection = Field(default_factory=Projection)

    separate: Boolean = False
    """Train separate weights for queries and passages, both started from the base model."""

    vision: Literal["frozen", "tuned"] = "frozen"
    """Whether the vision tower is trained. While nothing in it changes, each image is embedded once."""

    unfreeze: list[Literal["layer_norms", "input_embeddings", "visual_embedding"]] = Field(default_factory=list)
    """Weights of the base model that are trained beside those of the method; `layer_norms` means those of both
    towers."""

    init_from: Text | None = None
    """A checkpoint folder from which round 1 starts instead of the base model; its lineage is inherited."""

    @property
    def has_lora(self) -> bool:
        """Whether the method trains LoRA matrices."""
        return self.method in ("lora", "qlora")

    @property
    def has_virtual_tokens(self) -> bool:
        """Whether the method puts virtual tokens before each text."""
        return self.method in ("prompt", "p_tuning", "prefix")
