"""Loss module of the trainer: embed the collator's chunks, then apply a loss to the vectors."""

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
from rounds.models.precision import autocast
from rounds.training import losses


class ContrastiveLoss(CachedLossMixin, nn.Module):
    """Forward passes over the collator's chunks, then InfoNCE over all processes' passages.

    With `micro_batch_tokens`, the memory of one chunk is enough for any batch: gradients of the vectors are kept, and
    each chunk is embedded a second time to send them on (GradCache: Gao et al. 2021, arXiv:2101.06983).
    """

    mini_batch_size = sys.maxsize  # each chunk of the collator is one mini-batch

    def __init__(self, model: SentenceTransformer, how: Training, precision: str, normalize: bool = True) -> None:
        super().__init__()
        self.how, self.dims, self.normalize = how, how.matryoshka_dims, normalize
        self.model, self.precision = model, precision
        self.temperature, self.checkpointing = how.temperature, how.gradient_checkpointing
        self.uses_gradient_cache = bool(how.micro_batch_tokens)

    def forward(self, features: list[dict[str, Tensor]], labels: dict[str, Tensor]) -> Tensor:
        """`features` are the batch's chunks; `labels` as `groups.Collator` makes them."""
        if self.uses_gradient_cache:
            return self.forward_cached(features, labels)
        # One autocast region for all chunks casts each weight once; the Trainer's, one for each forward pass, would
        # cast them for every chunk.
        with self._computing():
            return self.calculate_loss([[self._embed(chunk)] for chunk in features], labels)

    def _embed(self, chunk: dict[str, Tensor]) -> Tensor:
        own = {name: value for name, value in chunk.items() if name not in ("prefix", "side")}
        model = (
            dual_encoder.encoder_for(self.model, dual_encoder.KINDS[int(chunk["side"])])
            if "side" in chunk
            else self.model
        )
        if "prefix" not in chunk:
            return model(own)["sentence_embedding"]
        cache = prefix_cache.compute_prefix(getattr(model, "module", model), chunk["prefix"][0].tolist())
        return prefix_cache.embed(model, own, cache)

    def embed_minibatch(self, sentence_feature, begin, end, with_grad, copy_random_state, random_state=None):
        """One chunk in its fixed shape, where the library's own would cut it to its longest row."""
        with self._computing(), random_state or nullcontext(), torch.set_grad_enabled(with_grad):
            state = RandContext(*sentence_feature.values()) if copy_random_state else None
            return self._embed(sentence_feature), state

    def calculate_loss(self, reps: list[list[Tensor]], labels: dict[str, Tensor], *, with_backward=False) -> Tensor:
        """`reps` are the chunks' vectors."""
        vectors = torch.cat([chunk for (chunk,) in reps])
        queries, passages = vectors[labels["query_order"]], vectors[labels["passage_order"]]
        if (most := max(self.dims, default=0)) > passages.shape[1]:
            raise UserError(f"training.matryoshka_dims has {most}: the vectors have {passages.shape[1]} dimensions")
        measured = self._info_nce if self.how.loss == "info_nce" else self._distil
        sizes = self.dims or [None]
        pairs = [
            [each if dim is None else losses.cut(each, dim, self.normalize) for each in (queries, passages)]
            for dim in sizes
        ]
        loss = sum(measured(*pair, labels) for pair in pairs)
        if not torch.isfinite(loss):
            raise UserError("the loss is not a finite number: lower learning_rate or raise temperature and train again")
        if with_backward:
            loss.backward()
        return loss

    def _info_nce(self, queries: Tensor, passages: Tensor, labels: dict[str, Tensor]) -> Tensor:
        passages, keys, copies = losses.gather_passages(passages, labels["passages"])
        positive = (keys[None, :] == labels["positive"][:, None]).int().argmax(dim=1)
        known = (labels["known"][:, :, None] == keys[None, None, :]).any(dim=1)
        return losses.info_nce(queries, passages, positive, known | copies[None, :], self.temperature)

    def _distil(self, queries: Tensor, passages: Tensor, labels: dict[str, Tensor]) -> Tensor:
        group, teacher = labels["group"], labels["teacher"] / self.how.teacher_temperature
        scores = (queries.float()[:, None, :] * passages.float()[group.clamp(min=0)]).sum(dim=2)
        if self.how.loss == "margin_mse":
            return losses.margin_mse(scores, teacher, group >= 0)
        return losses.distillation(scores / self.temperature, teacher, group >= 0)

    def _computing(self):
        """Mixed precision. Gradient checkpointing computes again outside of it, and cannot find casts kept within."""
        device = next(self.model.parameters()).device.type
        return autocast(self.precision, device, keep_casts=not self.checkpointing)
