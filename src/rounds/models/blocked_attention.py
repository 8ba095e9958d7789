"""Softmax attention over packed texts by bf16 matrix products on a CPU, for training.

Torch's fused CPU kernels spend several times as long on the gradients of attention as bf16 matrix products take. Here
each block of queries writes out its weights for all keys that it may attend to, in one product over all query heads
that share a key head: large enough to reach the CPU's full rate.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor

BLOCK = 64  # queries, give or take half: smaller blocks waste less on masked keys, larger ones run at a higher rate

LAYOUTS = 4  # cached splits: all layers of a model ask for that of the same batch


@dataclass(frozen=True, eq=False)
class Block:
    """Queries that are computed together, of one text, or of several short ones.

    Attributes:
        queries: their tokens.
        keys: all tokens that any of them may attend to.
        masked: the last of these keys, in columns, that some of the queries may not attend to.
        mask: (queries, 1, masked keys) bool, True where a query may not attend to a key; None without such keys.
    """

    queries: slice
    keys: slice
    masked: int
    mask: Tensor | None

    @property
    def weights(self) -> int:
        """Return how many attention weights a head has."""
        return (self.queries.stop - self.queries.start) * (self.keys.stop - self.keys.start)


@lru_cache(maxsize=LAYOUTS)
def split_into_blocks(starts: tuple[int, ...], causal: bool) -> tuple[Block, ...]:
    """Split packed texts into blocks of about `BLOCK` queries.

    Args:
        starts: each text's first token, and the number of tokens.
        causal: whether a token attends only to the tokens before it in its own text.

    >>> [(block.queries, block.keys) for block in split_into_blocks((0, 20, 50, 150), True)]
    [(slice(0, 50, None), slice(0, 50, None)), (slice(50, 100, None), slice(50, 100, None)), \
(slice(100, 150, None), slice(50, 150, None))]
    """
    blocks = []
    for texts in _join_short_texts(starts):
        first, end = texts[0], texts[-1]
        pieces = max(1, round((end - first) / BLOCK))
        bounds = [first + (end - first) * piece // pieces for piece in range(pieces + 1)]
        for start, stop in pairwise(bounds):
            blocks.append(_make_block(texts, start, stop, causal))
    return tuple(blocks)


def _join_short_texts(starts: tuple[int, ...]) -> Iterator[list[int]]:
    """Yield the starts and the end of neighbouring texts that fit into one block, or of one text."""
    texts = [starts[0]]
    for start, end in pairwise(starts):
        if start > texts[0] and end - texts[0] > BLOCK:
            yield texts
            texts = [start]
        texts.append(end)
    yield texts


def _make_block(texts: list[int], start: int, stop: int, causal: bool) -> Block:
    """Return the block of the queries from `start` to `stop`; `texts` are the starts and the end of their texts."""
    first, end = texts[0], stop if causal else texts[-1]
    joins = len(texts) > 2
    if not joins and not causal:
        return Block(slice(start, stop), slice(first, end), 0, None)
    queries, keys = torch.arange(start, stop)[:, None], torch.arange(first if joins else start, end)
    bounds = torch.tensor(texts)
    mask = torch.bucketize(queries, bounds, right=True) != torch.bucketize(keys, bounds, right=True)
    if causal:
        mask |= keys > queries
    return Block(slice(start, stop), slice(first, end), len(keys), mask[:, None])


class BlockedAttention(torch.autograd.Function):
    """Softmax attention in bf16: scores are in fp32, and so are the sums of keys' and values' gradients.

    The weights are kept for the backward pass if they take no more memory than the fp32 query, key, value and output
    that the fused kernels keep. Those of longer texts are computed again.
    """

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.bfloat16)  # which turns autocast off
    def forward(ctx, query, key, value, blocks, scale):
        """Return (tokens, heads, dim) bfloat16.

        Args:
            query: (tokens, heads, dim) bfloat16.
            key, value: (tokens, key heads, dim) bfloat16; heads are a multiple of key heads.
            blocks: as `split_into_blocks` returns them.
            scale: factor of the query-key products.
        """
        key, value = _by_head(key), _by_head(value)
        output, kept = torch.empty_like(query), []
        # Bytes a head: 2 for a weight, and 4 for each number of the four states.
        keeps = 2 * sum(block.weights for block in blocks) <= 4 * 4 * query.shape[-1] * len(query)
        for block in blocks:
            weights = _attention_weights(_queries(query, block, key), key, block, scale)
            _set(output, block, torch.bmm(weights, value[:, block.keys]))
            if keeps:
                kept.append(weights)
        ctx.save_for_backward(query, key, value, *kept)
        ctx.settings = blocks, scale
        return output

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx, gradient):
        """Return the gradients of query, key and value."""
        query, key, value, *kept = ctx.saved_tensors
        blocks, scale = ctx.settings
        by_query = torch.empty_like(query)
        by_key, by_value = (torch.zeros_like(states, dtype=torch.float32) for states in (key, value))
        for number, block in enumerate(blocks):
            queries, by_output = (_queries(states, block, key) for states in (query, gradient))
            weights = kept[number] if kept else _attention_weights(queries, key, block, scale)
            by_value[:, block.keys] += torch.bmm(weights.mT, by_output)
            by_weights = torch.bmm(by_output, value[:, block.keys].mT)
            by_score = torch._softmax_backward_data(by_weights, weights, -1, weights.dtype)
            _set(by_query, block, torch.bmm(by_score, key[:, block.keys]))
            by_key[:, block.keys] += torch.bmm(by_score.mT, queries)
        by_key, by_value = (states.transpose(0, 1).to(key.dtype) for states in (by_key.mul_(scale), by_value))
        return by_query.mul_(scale), by_key, by_value, None, None


def _by_head(states: Tensor) -> Tensor:
    """(tokens, key heads, dim) -> (key heads, tokens, dim)."""
    return states.transpose(0, 1).contiguous()


def _queries(states: Tensor, block: Block, key: Tensor) -> Tensor:
    """(tokens, heads, dim) -> (key heads, queries * heads of a key head, dim) of a block."""
    return states[block.queries].unflatten(1, (len(key), -1)).transpose(0, 1).flatten(1, 2)


def _set(states: Tensor, block: Block, values: Tensor) -> None:
    """Write (key heads, queries * heads of a key head, dim) to a block of (tokens, heads, dim), in place."""
    part = states[block.queries].unflatten(1, (len(values), -1)).transpose(0, 1)
    part.copy_(values.view(part.shape))


def _attention_weights(queries: Tensor, key: Tensor, block: Block, scale: float) -> Tensor:
    """Return (key heads, queries * heads of a key head, keys) bfloat16.

    Scores are in fp32: the biases of Qwen2's keys lift them into the thousands, where bf16 cannot represent the
    differences that decide the weights.
    """
    scores = torch.bmm(queries.float().mul_(scale), key[:, block.keys].float().mT)
    if block.mask is not None:
        masked = scores.view(len(key), len(block.mask), -1, scores.shape[-1])[..., -block.masked :]
        masked.masked_fill_(block.mask, -torch.inf)
    return torch.softmax(scores, dim=-1, out=scores).to(key.dtype)
