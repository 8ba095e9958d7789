"""Losses: pure functions of embeddings; the forward pass is elsewhere."""

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as distributed
import torch.nn.functional as F
from torch import Tensor


def info_nce(queries: Tensor, passages: Tensor, positive: Tensor, excluded: Tensor, temperature: float) -> Tensor:
    """InfoNCE over every passage of the batch (van den Oord et al. 2018, arXiv:1807.03748).

    Args:
        queries: (queries, dim).
        passages: (passages, dim), each distinct passage once.
        positive: (queries,) int64, the row of each query's positive in `passages`.
        excluded: (queries, passages) bool, True where a passage may not serve as that query's negative.
        temperature: similarities are divided by it.

    Returns:
        Mean loss over the queries, a scalar.
    """
    with torch.autocast(queries.device.type, enabled=False):  # bf16 similarities are off by some 0.2 after division
        scores = (queries.float() @ passages.float().T) / temperature
    keep = F.one_hot(positive, len(passages)).bool()
    scores = scores.masked_fill(excluded & ~keep, -torch.inf)
    return F.cross_entropy(scores, positive)


def distillation(scores: Tensor, teacher: Tensor, present: Tensor) -> Tensor:
    """KL divergence of the student's distribution over each group from the teacher's (Hinton et al. 2015).

    Args:
        scores: (queries, group) the student's, divided by its temperature.
        teacher: (queries, group) a reranker's, divided by its own.
        present: (queries, group) bool, False for places of a group that is not full.

    Returns:
        Mean over the queries, a scalar.
    """
    student = F.log_softmax(scores.masked_fill(~present, -torch.inf), dim=1).masked_fill(~present, 0)
    target = F.softmax(teacher.masked_fill(~present, -torch.inf), dim=1)
    return F.kl_div(student, target, reduction="batchmean")


def margin_mse(scores: Tensor, teacher: Tensor, present: Tensor) -> Tensor:
    """Mean squared error of the margins between each positive and its negatives (Hofstaetter et al. 2020,
    arXiv:2010.02666).

    Args:
        scores: (queries, group) similarities, the positive's first.
        teacher, present: as `distillation` takes them.
    """
    errors = (scores[:, :1] - scores[:, 1:]) - (teacher[:, :1] - teacher[:, 1:])
    return errors[present[:, 1:]].square().mean()


def cut(vectors: Tensor, dim: int, normalize: bool) -> Tensor:
    """The first `dim` numbers of each vector, of unit length again where the whole ones are.

    >>> cut(torch.tensor([[3.0, 4.0, 12.0]]), 2, True)
    tensor([[0.6000, 0.8000]])
    """
    cut_off = vectors[:, :dim].float()
    return F.normalize(cut_off, dim=1) if normalize else cut_off


def gather_passages(passages: Tensor, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All processes' passages, with gradients to the process that encoded each.

    Args:
        passages: (passages, dim) of this process; the number may differ between processes.
        keys: (passages,) int64, equal for equal passages.

    Returns:
        (all, dim) embeddings, (all,) keys, and (all,) bool, True for the padding and for every copy of a passage
        but the first, so that the loss over the rest is one process's on the whole batch. Alone, a process gets
        its own back.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return passages, keys, torch.zeros_like(keys, dtype=torch.bool)
    most = torch.tensor(len(passages), device=passages.device)
    dist.all_reduce(most, op=dist.ReduceOp.MAX)
    missing = int(most) - len(passages)
    gathered = torch.cat(distributed.all_gather(F.pad(passages, (0, 0, 0, missing))))
    padded = F.pad(keys, (0, missing), value=-1)
    all_keys = [torch.empty_like(padded) for _ in range(dist.get_world_size())]
    dist.all_gather(all_keys, padded)
    keys = torch.cat(all_keys)
    # A passage is a copy when an equal key stands before it.
    copies = torch.triu(keys[:, None] == keys[None, :], diagonal=1).any(dim=0)
    return gathered, keys, copies | (keys == -1)
