"""Losses: pure functions of embeddings; the forward pass is elsewhere.

To add a loss:

1. Write a function `(EmbeddedBatch, Training) -> scalar Tensor` here and register it in `LOSSES`.
2. Allow its name in the recipe (`loss` in `rounds.config.sections.training`) and describe it there;
   `python -m rounds.config.reference docs/recipes-reference.md` writes the page anew.
3. Test it against a slow loop in `tests/training/test_losses.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as distributed
import torch.nn.functional as F
from torch import Tensor

from rounds.config.recipe import Training
from rounds.training.similarity import Embeddings, flatten, score_all, score_groups, unflatten


@dataclass(frozen=True)
class EmbeddedBatch:
    """Embeddings of one process's batch, and which passages belong to which query.

    Attributes:
        queries: (queries, dim), or the vectors of their tokens.
        passages: (passages, dim), or the vectors of their tokens; each distinct passage once.
        passage_keys: (passages,) int64, passage numbers; equal for equal passages, in all processes.
        positive_keys: (queries,) int64, passage number of each query's positive.
        false_negative_keys: (queries, n) int64, numbers of passages that must not serve as a query's negatives;
            filled up with -2.
        group_rows: (queries, group) int64, rows in `passages` of each query's own group, the positive first; filled
            up with -1. None where neither a teacher nor the hardness of negatives counts.
        teacher_scores: (queries, group), a teacher's scores of `group_rows`, NaN where it gave none; None without a
            teacher.
        weights: (queries,), by which each query's loss is multiplied; None multiplies none.
    """

    queries: Embeddings
    passages: Embeddings
    passage_keys: Tensor
    positive_keys: Tensor
    false_negative_keys: Tensor
    group_rows: Tensor | None = None
    teacher_scores: Tensor | None = None
    weights: Tensor | None = None

    def group_scores(self) -> Tensor:
        """Return the similarities (queries, group) of each query with its own group."""
        return score_groups(self.queries, self.passages, self.group_rows.clamp(min=0))


@dataclass(frozen=True)
class Loss:
    """A loss that a recipe can name.

    Attributes:
        compute: returns the batch's loss, a scalar.
        needs_teacher: uses `group_rows` and `teacher_scores`.
    """

    compute: Callable[[EmbeddedBatch, Training], Tensor]
    needs_teacher: bool = False


def info_nce_loss(batch: EmbeddedBatch, settings: Training) -> Tensor:
    """Compute InfoNCE over the passages of all processes."""
    passages, keys, duplicates = gather_passages(batch.passages, batch.passage_keys)
    positive = (keys[None, :] == batch.positive_keys[:, None]).int().argmax(dim=1)
    excluded = _is_among(keys, batch.false_negative_keys) | duplicates[None, :]
    hardness = _hardness(batch, keys, settings) if settings.hardness_mode else None
    margin = settings.false_negative_margin
    return info_nce(batch.queries, passages, positive, excluded, settings.temperature, margin, hardness, batch.weights)


def _hardness(batch: EmbeddedBatch, keys: Tensor, settings: Training) -> Tensor:
    """Return the hardness strength (queries, passages) of the passages with these keys: 0 where none applies.

    A hard negative of the query is its own although it is another query's passage too.
    """
    group_keys = batch.passage_keys[batch.group_rows.clamp(min=0)].masked_fill(batch.group_rows < 0, -2)
    is_own = _is_among(keys, group_keys)
    applies = {
        "in_batch_negatives": ~is_own,
        "hard_negatives": is_own,
        "all_negatives": torch.ones_like(is_own),
    }[settings.hardness_mode]
    return settings.hardness_strength * applies


def _is_among(keys: Tensor, members: Tensor) -> Tensor:
    """Return whether each key (passages,) is among each query's `members` (queries, n): (queries, passages) bool."""
    return (members[:, :, None] == keys[None, None, :]).any(dim=1)


def distillation_loss(batch: EmbeddedBatch, settings: Training) -> Tensor:
    """Compute the KL divergence from the teacher's distribution over what it scored of each group."""
    teacher = batch.teacher_scores / settings.teacher_temperature
    scores = batch.group_scores() / settings.temperature
    present = (batch.group_rows >= 0) & ~teacher.isnan()
    return distillation(scores, teacher, present, batch.weights) + _label_loss(batch, settings)


def margin_mse_loss(batch: EmbeddedBatch, settings: Training) -> Tensor:
    """Compute the squared error of each group's margins against the teacher's, where it scored both sides."""
    teacher = batch.teacher_scores / settings.teacher_temperature
    present = (batch.group_rows >= 0) & ~teacher.isnan() & ~teacher[:, :1].isnan()
    mse = margin_mse(batch.group_scores(), teacher.nan_to_num(), present, batch.weights)
    return mse + _label_loss(batch, settings)


def _label_loss(batch: EmbeddedBatch, settings: Training) -> Tensor | float:
    """Return what the labels add to a teacher's loss."""
    return settings.label_weight * info_nce_loss(batch, settings) if settings.label_weight else 0.0


LOSSES = {
    "info_nce": Loss(info_nce_loss),
    "distillation": Loss(distillation_loss, needs_teacher=True),
    "margin_mse": Loss(margin_mse_loss, needs_teacher=True),
}


def info_nce(
    queries: Embeddings,
    passages: Embeddings,
    positive: Tensor,
    excluded: Tensor,
    temperature: float,
    margin: float | None = None,
    hardness: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Compute InfoNCE over every passage of the batch (van den Oord et al. 2018, arXiv:1807.03748).

    Args:
        queries: (queries, dim), or the vectors of their tokens.
        passages: (passages, dim), or the vectors of their tokens; each distinct passage once.
        positive: (queries,) int64, the row of each query's positive in `passages`.
        excluded: (queries, passages) bool, True where a passage must not serve as that query's negative.
        temperature: similarities are divided by it.
        margin: passages that are more similar than the positive by more than this are excluded too; None excludes none.
        hardness: (queries, passages), by which a negative's similarity is multiplied and added to its logit, without a
            gradient; None adds nothing.
        weights: (queries,), by which each query's loss is multiplied; None multiplies none.

    Returns:
        Mean loss over the queries, a scalar.
    """
    similarity = score_all(queries, passages)
    fixed = similarity.detach()
    is_positive = F.one_hot(positive, len(passages)).bool()
    if margin is not None:
        excluded = excluded | (fixed > fixed.gather(1, positive[:, None]) + margin)
    scores = similarity / temperature
    if hardness is not None:
        scores = scores + (hardness * fixed).masked_fill(is_positive, 0)
    scores = scores.masked_fill(excluded & ~is_positive, -torch.inf)
    if weights is None:
        return F.cross_entropy(scores, positive)
    return (weights * F.cross_entropy(scores, positive, reduction="none")).mean()


def distillation(scores: Tensor, teacher: Tensor, present: Tensor, weights: Tensor | None = None) -> Tensor:
    """Compute the KL divergence of the student's distribution over each group from the teacher's (Hinton et al. 2015).

    Args:
        scores: (queries, group) similarities, divided by the temperature.
        teacher: (queries, group) a reranker's or an ensemble's scores, divided by its temperature.
        present: (queries, group) bool, False where a group has no passage or the teacher gave no score. A query
            without any has no loss.
        weights: (queries,), by which each query's loss is multiplied; None multiplies none.

    Returns:
        Mean over the queries, a scalar.
    """
    if not (is_scored := present.any(dim=1)).all():  # a softmax over nothing would have no gradient that is a number
        teacher = teacher.masked_fill(~is_scored[:, None], 0)
        weights = is_scored * (1.0 if weights is None else weights)
        present = present | ~is_scored[:, None]
    student = F.log_softmax(scores.masked_fill(~present, -torch.inf), dim=1).masked_fill(~present, 0)
    target = F.softmax(teacher.masked_fill(~present, -torch.inf), dim=1)
    if weights is None:
        return F.kl_div(student, target, reduction="batchmean")
    return (weights * F.kl_div(student, target, reduction="none").sum(dim=1)).mean()


def margin_mse(scores: Tensor, teacher: Tensor, present: Tensor, weights: Tensor | None = None) -> Tensor:
    """Compute the mean squared error of the margins between each positive and its negatives.

    Hofstaetter et al. 2020, arXiv:2010.02666.

    Args:
        scores: (queries, group) similarities, the positive's first.
        teacher, present, weights: as for `distillation`.

    Returns:
        Mean over the negatives, a scalar; 0 where there are none.
    """
    errors = (scores[:, :1] - scores[:, 1:]) - (teacher[:, :1] - teacher[:, 1:])
    squares = errors.square() if weights is None else weights[:, None] * errors.square()
    kept = squares[present[:, 1:]]
    return kept.mean() if len(kept) else scores.sum() * 0  # which has gradients, and no 0 / 0


def flops(vectors: Tensor) -> Tensor:
    """Compute the FLOPS regularizer of sparse vectors (Paria et al. 2020, arXiv:2004.05665).

    Where the words' weights are spread evenly, it falls with the multiplications that an inverted index needs.

    Args:
        vectors: (rows, vocabulary), none negative.

    Returns:
        The sum over the vocabulary of the squared mean weight, a scalar.

    >>> flops(torch.tensor([[1.0, 0.0], [3.0, 2.0]]))
    tensor(5.)
    """
    return vectors.float().mean(dim=0).square().sum()


def truncate(vectors: Tensor, dim: int, normalize: bool) -> Tensor:
    """Keep the first `dim` dimensions of `vectors` (rows, all dimensions), scaled to unit length if `normalize`.

    >>> truncate(torch.tensor([[3.0, 4.0, 12.0]]), 2, True)
    tensor([[0.6000, 0.8000]])
    """
    truncated = vectors[:, :dim].float()
    return F.normalize(truncated, dim=1) if normalize else truncated


def gather_passages(passages: Embeddings, keys: Tensor) -> tuple[Embeddings, Tensor, Tensor]:
    """Gather the passages of all processes; gradients flow to the process that embedded each.

    Args:
        passages: (passages, dim) of this process, or the vectors of their tokens; the number may differ between
            processes.
        keys: (passages,) int64, equal for equal passages.

    Returns:
        Embeddings (all, dim), keys (all,), and a mask of duplicates (all,) bool: True for padding and for every copy
        of a passage but the first, so that the loss over the rest is one process's loss on the whole batch. A single
        process gets its own passages back.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return passages, keys, torch.zeros_like(keys, dtype=torch.bool)
    tokens = 1 if isinstance(passages, Tensor) else passages.mask.shape[1]
    most = torch.tensor([len(passages), tokens], device=passages.device)
    dist.all_reduce(most, op=dist.ReduceOp.MAX)
    count, tokens = most.tolist()
    missing = count - len(passages)
    rows = distributed.all_gather(F.pad(flatten(passages, tokens), (0, 0, 0, missing)))
    gathered = unflatten(torch.cat(rows), passages, tokens)
    padded = F.pad(keys, (0, missing), value=-1)
    all_keys = [torch.empty_like(padded) for _ in range(dist.get_world_size())]
    dist.all_gather(all_keys, padded)
    keys = torch.cat(all_keys)
    # A passage is a duplicate if an equal key comes before it.
    duplicates = torch.triu(keys[:, None] == keys[None, :], diagonal=1).any(dim=0)
    return gathered, keys, duplicates | (keys == -1)
