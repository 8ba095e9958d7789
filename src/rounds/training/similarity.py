"""Similarity of embedded texts in the losses: inner products of vectors, or MaxSim of token vectors.

A loss sees scores only (`score_all`, `score_groups`), so that it is the same for every kind of embedding.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_NUMBERS = 2**24  # inner products of tokens that are held at once


@dataclass(frozen=True)
class TokenEmbeddings:
    """The token vectors of a batch's texts, padded to the longest.

    Attributes:
        vectors: (texts, tokens, dim).
        mask: (texts, tokens) bool, True for a token, at least one of each text.
    """

    vectors: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def device(self) -> torch.device:
        """The vectors' device."""
        return self.vectors.device


Embeddings = Tensor | TokenEmbeddings  # (texts, dim), or the vectors of their tokens


def select(vectors: Tensor, order: Tensor) -> Embeddings:
    """Return the embeddings of texts from the vectors of a batch.

    Args:
        vectors: (vectors, dim).
        order: (texts,) int64, the row of each text's vector; or (texts, tokens), the rows of its tokens' vectors,
            filled up with -1.
    """
    if order.dim() == 1:
        return vectors[order]
    mask = order >= 0
    return TokenEmbeddings(vectors[order.clamp(min=0)] * mask[:, :, None], mask)


def score_all(queries: Embeddings, passages: Embeddings) -> Tensor:
    """Return the similarity of every query with every passage: (queries, passages) float32.

    Of tokens it is MaxSim, divided by the query's tokens: it then has the range of a cosine, and needs no other
    temperature; each query's ranking is that of MaxSim.
    """
    with torch.autocast(queries.device.type, enabled=False):  # bf16 similarities are off by some 0.2 after division
        if isinstance(queries, Tensor):
            return queries.float() @ passages.float().T
        size = max(1, len(passages) * passages.mask.shape[1] * queries.mask.shape[1])
        at_once = max(1, MAX_NUMBERS // size)
        parts = [
            _max_sim("qid,pjd->qpij", queries, slice(start, start + at_once), passages, passages.mask[None, :, None, :])
            for start in range(0, len(queries), at_once)
        ]
        return torch.cat(parts)


def score_groups(queries: Embeddings, passages: Embeddings, rows: Tensor) -> Tensor:
    """Return the similarity of each query with its own passages: (queries, group) float32.

    Args:
        rows: (queries, group) int64, rows of `passages`.
    """
    with torch.autocast(queries.device.type, enabled=False):
        if isinstance(queries, Tensor):
            return (queries.float()[:, None, :] * passages.float()[rows]).sum(dim=2)
        group = TokenEmbeddings(passages.vectors[rows], passages.mask[rows])
        return _max_sim("qid,qgjd->qgij", queries, slice(None), group, group.mask[:, :, None, :])


def _max_sim(
    equation: str, queries: TokenEmbeddings, part: slice, passages: TokenEmbeddings, passage_mask: Tensor
) -> Tensor:
    """Return the mean, over a query's tokens, of the best match among a passage's tokens.

    Args:
        equation: gives the inner products (queries, passages, query tokens, passage tokens).
        part: the queries to compare.
        passage_mask: `passages.mask`, in a shape that broadcasts to these.
    """
    products = torch.einsum(equation, queries.vectors[part].float(), passages.vectors.float())
    best = products.masked_fill(~passage_mask, -torch.inf).max(dim=3).values
    mask = queries.mask[part][:, None, :]
    return (best * mask).sum(dim=2) / mask.sum(dim=2)


def flatten(passages: Embeddings, tokens: int) -> Tensor:
    """Return embeddings as a matrix with one row for each text, to send to other processes.

    Args:
        tokens: tokens to pad the texts to, where they are compared by tokens.
    """
    if isinstance(passages, Tensor):
        return passages
    with_mask = torch.cat([passages.vectors, passages.mask[:, :, None].to(passages.vectors.dtype)], dim=2)
    return F.pad(with_mask, (0, 0, 0, tokens - with_mask.shape[1])).flatten(1)


def unflatten(rows: Tensor, like: Embeddings, tokens: int) -> Embeddings:
    """Return the embeddings that `flatten` made a matrix of; they are of the same kind as `like`."""
    if isinstance(like, Tensor):
        return rows
    with_mask = rows.unflatten(1, (tokens, like.vectors.shape[2] + 1))
    mask = with_mask[:, :, -1].detach() > 0
    # A row of padding has no token; it is never compared, but a maximum over nothing would spoil the gradients.
    mask = torch.cat([mask[:, :1] | ~mask.any(dim=1, keepdim=True), mask[:, 1:]], dim=1)
    return TokenEmbeddings(with_mask[:, :, :-1], mask)
