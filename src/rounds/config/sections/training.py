"""Sections `training` and `pretraining`: how a round trains, and how a vision tower is pretrained."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from rounds.config.sections.base import SECTION, Boolean, Integer, Number


@dataclass(frozen=True, config=SECTION)
class Training:
    """How a round trains."""

    epochs: Integer = Field(2, ge=0)
    """Passes over the training queries. 0 is for rerankers alone: the model scores as it is."""

    batch_size: Integer = Field(16, ge=1)
    """Queries per step over all processes. All passages of a batch are negatives of its other queries."""

    gradient_accumulation_steps: Integer = Field(1, ge=1)
    """Batches per optimizer step."""

    group_size: Integer = Field(8, ge=2)
    """Passages drawn for each query and epoch, one of them positive."""

    learning_rate: Number = Field(1e-4, gt=0)
    """Peak learning rate."""

    warmup_ratio: Number = Field(0.1, ge=0, le=1)
    """Share of the steps over which the learning rate rises."""

    weight_decay: Number = Field(0.0, ge=0)
    """Weight decay of AdamW."""

    max_grad_norm: Number = Field(1.0, ge=0)
    """Norm to which gradients are clipped."""

    temperature: Number = Field(0.02, gt=0)
    """Similarities are divided by it in the loss. With `model.pooling: splade` the default is 1: the inner products of
    sparse vectors are not bounded."""

    loss: Literal["info_nce", "distillation", "margin_mse"] = "info_nce"
    """`info_nce`; or, from a teacher's scores of each group (`pos_scores` and `neg_scores` in the training data, which
    `mining.reranker` writes), `distillation` (KL divergence) or `margin_mse`."""

    false_negative_margin: Number | None = Field(None, ge=0)
    """Passages of the batch that score above a query's positive by more than this are probably relevant too and are no
    negatives of that query (Qwen3-Embedding takes 0.1: Zhang et al. 2025, arXiv:2506.05176). With `info_nce`; in units
    of the similarity before `temperature`. null: no limit."""

    hardness_mode: Literal["in_batch_negatives", "hard_negatives", "all_negatives"] | None = None
    """Negatives that count for more the nearer they are to the query, as sentence-transformers'
    MultipleNegativesRankingLoss weights them: those that are other queries' (Lan et al. 2025, arXiv:2503.04812), the
    query's own (EmbeddingGemma: Schechter Vera et al. 2025, arXiv:2509.20354), or both. With `info_nce`. null: none."""

    hardness_strength: Number = Field(0.0, ge=0)
    """A negative's logit rises by this many times its similarity, through which no gradient flows. The papers take 9
    for in-batch and 5 for hard negatives."""

    teacher_temperature: Number = Field(1.0, gt=0)
    """The teacher's scores are divided by it."""

    label_weight: Number = Field(0.0, ge=0)
    """`info_nce` with the labels, times this, is added to a teacher's loss."""

    matryoshka_dims: list[Annotated[Integer, Field(ge=1)]] = Field(default_factory=list)
    """Sum the loss over vectors cut to each of these dimensions, so that a cut vector stays useful (Kusupati et al.
    2022, arXiv:2205.13147). Empty: whole vectors only."""

    flops_query: Number = Field(0.0, ge=0)
    """Weight of the FLOPS regularization of queries (Paria et al. 2020, arXiv:2004.05665), with `model.pooling:
    splade`: the sum over the vocabulary of the squared mean weight in a batch, which is what a sparse search costs. The
    weight rises with the square of the steps over the first third of a round."""

    flops_passage: Number = Field(0.0, ge=0)
    """Weight of the FLOPS regularization of passages."""

    micro_batch_tokens: Integer = Field(0, ge=0)
    """Padded tokens per forward pass. Their memory is then enough for any batch size (gradient caching, at the cost of
    a second forward pass). 0: the whole batch in one graph."""

    average: Literal["none", "last", "ema"] = "none"
    """What an epoch's checkpoint holds: the weights that training reached, the mean of those after the `last` epochs
    (Izmailov et al. 2018, arXiv:1803.05407), or the exponential moving average of those after each step (`ema`).
    Training itself goes on from the weights that it reached. `make average` averages finished rounds."""

    average_epochs: Integer = Field(2, ge=2)
    """Epochs that `average: last` takes; before there are as many, all."""

    ema_decay: Number = Field(0.99, ge=0, le=1)
    """Share of the average that a step keeps, with `average: ema`; it rises to this value with
    `(1 + step) / (10 + step)`."""

    pictures: Literal["with", "without", "only"] = "with"
    """Train on texts with their images, without them, or on the images alone."""

    examples_limit: Integer = Field(0, ge=0)
    """Put 0 to this many few-shot examples before the queries of a batch, drawn anew for each batch."""

    gradient_checkpointing: Boolean = False
    """Recompute activations in the backward pass to save memory."""

    compile: Boolean = False
    """Pass the model through `torch.compile` (needs a C++ compiler; on CPUs it was no faster)."""

    sharding: Literal["none", "fsdp", "zero3"] = "none"
    """Split the model over all GPUs with FSDP or DeepSpeed ZeRO-3. Epochs are then not evaluated during training, and a
    killed run starts again from the beginning."""

    start_from: Literal["previous", "base"] = "previous"
    """Continue from the previous round's checkpoint, or start again from the base model with this round's negatives."""

    continue_with: Literal["last", "best"] = "last"
    """Epoch of the previous round that is continued and submitted."""


@dataclass(frozen=True, config=SECTION)
class Pretraining:
    """A small vision tower (CLIP's architecture) and how it learns from captions (`make pretrain`)."""

    image_size: Integer = Field(64, ge=1)
    """Side of an image in pixels."""

    patch_size: Integer = Field(8, ge=1)
    """Side of a patch in pixels."""

    hidden_size: Integer = Field(128, ge=1)
    """Dimensions of the tower's hidden states."""

    layers: Integer = Field(4, ge=1)
    """Transformer layers."""

    heads: Integer = Field(2, ge=1)
    """Attention heads per layer."""

    epochs: Integer = Field(16, ge=1)
    """Passes over the captions."""

    batch_size: Integer = Field(128, ge=1)
    """Pairs of image and caption per step."""

    learning_rate: Number = Field(1e-3, gt=0)
    """Peak learning rate."""

    temperature: Number = Field(0.07, gt=0)
    """Similarities are divided by it in the contrastive loss."""
