"""Loss module of the trainer: embed the collator's chunks, then apply the recipe's loss to the embeddings."""

import sys
from contextlib import nullcontext

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses.gradcache import CachedLossMixin, RandContext
from torch import Tensor, nn

from rounds.config.recipe import Training
from rounds.encoding import prefix_cache
from rounds.errors import UserError
from rounds.models import dual_encoder
from rounds.models.embedder_classes import representation_name
from rounds.models.precision import autocast, training_advice
from rounds.training.losses import LOSSES, EmbeddedBatch, flops, truncate
from rounds.training.similarity import select


class EmbeddingLoss(CachedLossMixin, nn.Module):
    """Embed the collator's chunks and compute the recipe's loss (`losses.LOSSES`).

    With `micro_batch_tokens`, the memory of one chunk is enough for any batch: gradients of the embeddings are kept,
    and each chunk is embedded a second time to propagate them (GradCache: Gao et al. 2021, arXiv:2101.06983).

    Args:
        model: the model to train.
        settings: the recipe's section `training`.
        precision: `fp32`, `bf16` or `fp16`.
        normalize: the model's embeddings have unit length, and truncated ones get it.

    Attributes:
        flops_ramp: share of the weights of the FLOPS regularization; `callbacks.FlopsRamp` lets it rise.
    """

    mini_batch_size = sys.maxsize  # each chunk of the collator is one mini-batch

    def __init__(self, model: SentenceTransformer, settings: Training, precision: str, normalize: bool = True) -> None:
        super().__init__()
        self.model, self.settings, self.precision, self.normalize = model, settings, precision, normalize
        self.flops_ramp = 1.0
        self.embeds_tokens = representation_name(model) == "tokens"
        self.uses_gradient_cache = bool(settings.micro_batch_tokens)  # read by the library

    def forward(self, features: list[dict[str, Tensor]], labels: dict[str, Tensor]) -> Tensor:
        """Return the loss of a batch: `features` are its chunks, `labels` as the collator returns them."""
        if self.uses_gradient_cache:
            return self.forward_cached(features, labels)
        # One autocast region for all chunks casts each weight once; the Trainer's, one for each forward pass, would
        # cast them for every chunk.
        with self._autocast():
            return self.calculate_loss([[self._embed(chunk)] for chunk in features], labels)

    def embed_minibatch(self, sentence_feature, begin, end, with_grad, copy_random_state, random_state=None):
        """Embed one chunk in its fixed shape; the library's method would cut it to its longest row."""
        with self._autocast(), random_state or nullcontext(), torch.set_grad_enabled(with_grad):
            state = RandContext(*sentence_feature.values()) if copy_random_state else None
            return self._embed(sentence_feature), state

    def calculate_loss(self, reps: list[list[Tensor]], labels: dict[str, Tensor], *, with_backward=False) -> Tensor:
        """Return the loss of the chunks' embeddings, summed over the Matryoshka dimensions, with the regularization.

        Raises:
            UserError: a dimension that the embeddings do not have, or a loss that is not a finite number.
        """
        embeddings = torch.cat([chunk for (chunk,) in reps])
        dims = self.settings.matryoshka_dims
        if (largest := max(dims, default=0)) > embeddings.shape[1]:
            message = f"training.matryoshka_dims has {largest}: the vectors have {embeddings.shape[1]} dimensions"
            raise UserError(message)
        compute = LOSSES[self.settings.loss].compute
        loss = sum(compute(self._batch(embeddings, labels, dim), self.settings) for dim in dims or [None])
        loss = loss + self._flops(embeddings, labels)
        if not torch.isfinite(loss):
            advice = f"{training_advice(self.model, self.precision)}lower learning_rate or raise temperature"
            raise UserError(f"the loss is not a finite number: {advice} and train again")
        if with_backward:
            loss.backward()
        return loss

    def _flops(self, embeddings: Tensor, labels: dict[str, Tensor]) -> Tensor | float:
        """Return the weighted FLOPS of queries and passages; 0 where the recipe has no weights for them."""
        weights = {"query_order": self.settings.flops_query, "passage_order": self.settings.flops_passage}
        terms = [weight * flops(embeddings[labels[order]]) for order, weight in weights.items() if weight]
        return self.flops_ramp * sum(terms)

    def _batch(self, embeddings: Tensor, labels: dict[str, Tensor], dim: int | None) -> EmbeddedBatch:
        """Return the embeddings by query and passage, truncated to `dim`; None keeps all dimensions."""
        queries, passages = (select(embeddings, labels[name]) for name in ("query_order", "passage_order"))
        if dim is not None:
            queries, passages = (truncate(vectors, dim, self.normalize) for vectors in (queries, passages))
        return EmbeddedBatch(
            queries=queries,
            passages=passages,
            passage_keys=labels["passages"],
            positive_keys=labels["positive"],
            false_negative_keys=labels["false_negatives"],
            group_rows=labels.get("group_rows"),
            teacher_scores=labels.get("teacher_scores"),
            weights=labels.get("weights"),
        )

    def _embed(self, chunk: dict[str, Tensor]) -> Tensor:
        """Return the embeddings (rows, dim) of a chunk, by the encoder of its side and after its shared prefix.

        Of a model that embeds tokens they are those of all tokens of the chunk, padding included.
        """
        features = {name: value for name, value in chunk.items() if name != "side"}
        model = self.model
        if "side" in chunk:
            model = dual_encoder.encoder_for(model, dual_encoder.KINDS[int(chunk["side"])])
        if self.embeds_tokens:
            return model(features)["token_embeddings"].flatten(0, 1)
        return prefix_cache.embed_chunk(model, features)

    def _autocast(self):
        """Compute in mixed precision.

        Gradient checkpointing computes again outside of this region, and cannot find casts that are kept within.
        """
        device = next(self.model.parameters()).device.type
        return autocast(self.precision, device, keep_casts=not self.settings.gradient_checkpointing)
