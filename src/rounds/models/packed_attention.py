"""Packing: attention for texts that stand one behind the other in one row of tokens, so that no padding is computed.

transformers knows it as `packed`. Given `cu_seq_lens_q` (the flattened inputs of its FlashAttention path, which
sentence-transformers pools) a token sees its own text only, and the prefix where one is given; without, it is SDPA.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from rounds.models import prompt_tuning

NAME = "packed"

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu

_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def attend(
    module, query, key, value, attention_mask, dropout=0.0, scaling=None, cu_seq_lens_q=None, prefix=None, **more
):
    """transformers' attention interface.

    Args:
        query: (1, heads, tokens, dim).
        key, value: (1, key heads, tokens, dim).
        cu_seq_lens_q: (texts + 1,) int, where each text starts, and the end.
        prefix: a `Cache` that stands before every text.

    Returns:
        (1, tokens, heads, dim), None.
    """
    if cu_seq_lens_q is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **more
        )
    own = [each[0].transpose(0, 1).float().contiguous() for each in (query, key, value)]
    before = [None, None]
    if prefix is not None:
        layer = prefix.layers[module.layer_idx]
        before = [_heads(each[0].transpose(0, 1).float(), query.shape[1]) for each in (layer.keys, layer.values)]
    own[1:] = [_heads(each, query.shape[1]) for each in own[1:]]
    causal = getattr(module, "is_causal", False)
    found = PackedAttention.apply(
        *own, *before, equal_length_runs(cu_seq_lens_q.tolist()), causal, scaling or query.shape[-1] ** -0.5
    )
    return found.to(query.dtype)[None], None


def _heads(states: Tensor, heads: int) -> Tensor:
    """(tokens, key heads, dim) -> (tokens, heads, dim): grouped-query attention's keys, once for each query head."""
    times = heads // states.shape[1]
    return states if times == 1 else states.repeat_interleave(times, dim=1)


def equal_length_runs(starts: list[int]) -> list[tuple[int, int, int]]:
    """Neighbours of one length: (first token, texts, their length).

    >>> equal_length_runs([0, 5, 10, 12])
    [(0, 2, 5), (10, 1, 2)]
    """
    found: list[tuple[int, int, int]] = []
    for start, end in pairwise(starts):
        if found and found[-1][2] == end - start:
            found[-1] = (found[-1][0], found[-1][1] + 1, end - start)
        else:
            found.append((start, 1, end - start))
    return found


class PackedAttention(torch.autograd.Function):
    """Softmax attention in fp32 by torch's fused CPU kernels: runs of equal length are batches without padding.

    What stands before all texts is attended to by all tokens at once. Two parts of one softmax are joined by their
    log-sum-exp, and the kernels' backward given the joint one yields each part's gradients (as in Ring Attention:
    Liu et al. 2023, arXiv:2310.01889).
    """

    @staticmethod
    def forward(ctx, query, key, value, before_key, before_value, runs, causal, scale):
        parts = [
            _forward(*(_batch(each, run) for each in (query, key, value)), 0.0, causal, scale=scale) for run in runs
        ]
        out, sums = _stream([part for part, _ in parts]), [total for _, total in parts]
        whole = None
        if before_key is not None:
            part, whole = _forward(*map(_whole, (query, before_key, before_value)), 0.0, False, scale=scale)
            own = _stream([total[..., None] for total in sums])
            before = whole[0].T[..., None]
            out = torch.lerp(out, part[0].transpose(0, 1), torch.sigmoid(before - own))
            joint = torch.logaddexp(before, own)
            sums = [_batch(joint, run)[..., 0].contiguous() for run in runs]
            whole = joint[..., 0].T[None].contiguous()
        ctx.save_for_backward(query, key, value, before_key, before_value, out, whole, *sums)
        ctx.how = runs, causal, scale
        return out

    @staticmethod
    def backward(ctx, gradient):
        query, key, value, before_key, before_value, out, whole, *sums = ctx.saved_tensors
        runs, causal, scale = ctx.how
        streams = (gradient.contiguous(), query, key, value, out)
        parts = [
            _backward(*(_batch(each, run) for each in streams), total, 0.0, causal, scale=scale)
            for run, total in zip(runs, sums, strict=True)
        ]
        by_query, by_key, by_value = map(_stream, zip(*parts, strict=True))
        if before_key is None:
            return by_query, by_key, by_value, None, None, None, None, None
        given = map(_whole, (gradient, query, before_key, before_value, out))
        found = _backward(*given, whole, 0.0, False, scale=scale)
        more, before_key, before_value = (each[0].transpose(0, 1) for each in found)
        return by_query + more, by_key, by_value, before_key, before_value, None, None, None


def _stream(parts: Sequence[Tensor]) -> Tensor:
    """The runs' (texts, heads, length, dim) -> (tokens, heads, dim)."""
    return torch.cat([part.transpose(1, 2).flatten(0, 1) for part in parts])


def _batch(states: Tensor, run: tuple[int, int, int]) -> Tensor:
    """(tokens, heads, dim) -> a view (texts, heads, length, dim) of one run."""
    start, count, length = run
    return states.narrow(0, start, count * length).view(count, length, *states.shape[1:]).transpose(1, 2)


def _whole(states: Tensor) -> Tensor:
    """(tokens, heads, dim) -> (1, heads, tokens, dim)."""
    return states.transpose(0, 1)[None]


def attention_covers(embedder: SentenceTransformer, longest: int) -> bool:
    """Whether a token sees all before it in a text of `longest` tokens: no sliding window, or one that holds it."""
    window = getattr(embedder[0].model.config, "sliding_window", None)
    return not window or longest <= window


def can_pack(embedder: SentenceTransformer, longest: int) -> bool:
    """Whether the model was loaded with this attention (or FlashAttention) and needs nothing that it does not do.

    Args:
        longest: tokens of the longest text.
    """
    transformer = embedder[0].model
    rate = max((getattr(transformer.config, name, None) or 0.0) for name in DROPOUTS)
    able = (NAME,) if prompt_tuning.has_virtual_tokens(transformer) else (NAME, "flash_attention_2")
    return (
        transformer.config._attn_implementation in able
        and attention_covers(embedder, longest)
        and getattr(transformer, "_supports_attention_backend", False)
        and not (embedder.training and rate)
        and prompt_tuning.can_pack(transformer)
    )


DROPOUTS = ("attention_probs_dropout_prob", "attention_dropout")

AttentionInterface.register(NAME, attend)

AttentionMaskInterface.register(NAME, sdpa_mask)
