"""Packed attention: texts one behind the other in a single row of tokens, so that no padding is computed.

transformers finds it under the name `packed`. Given `cu_seq_lens_q` (the flattened inputs of transformers'
FlashAttention path, which sentence-transformers pools), a token attends to its own text only, and to a shared prefix if
there is one; without `cu_seq_lens_q` it is SDPA. Torch's fused kernels compute it in fp32; decoders that train in bf16
without a prefix take `blocked_attention`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from rounds.models import prompt_tuning
from rounds.models.blocked_attention import BlockedAttention, split_into_blocks
from rounds.models.vision_language import IMAGE_INDEX
from rounds.models.vision_tower import IMAGE_FEATURES, IMAGE_ONLY, IMAGE_PIXELS

NAME = "packed"

WINDOW_KEYS = ("sliding_window", "attention_chunk_size")

# What transformers passes on to each layer that says nothing of how attention is computed, or that is implemented:
# a batch's features among them.
KNOWN_ARGUMENTS = frozenset(
    ("cache_position", "is_causal", "position_ids", "return_dict", "sliding_window", "use_cache")
    + ("cu_seq_lens_k", "max_length_q", "max_length_k", "output_hidden_states")
    + (IMAGE_FEATURES, IMAGE_INDEX, IMAGE_ONLY, IMAGE_PIXELS)
)

_observers: list[list[int]] = []  # see `observe_windows`

_kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu

_kernel_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def attend(
    module, query, key, value, attention_mask, scaling=None, cu_seq_lens_q=None, prefix=None, **kwargs
):  # transformers calls it with these names
    """Compute attention, as an entry of transformers' attention interface.

    Args:
        query: (1, heads, tokens, dim).
        key, value: (1, key heads, tokens, dim).
        cu_seq_lens_q: (texts + 1,) int, each text's first token, and the number of tokens.
        prefix: a `Cache` of the tokens before every text.
        kwargs: further arguments of SDPA; `is_causal` takes the place of `module.is_causal`.

    Returns:
        (1, tokens, heads, dim), None.

    Raises:
        NotImplementedError: `cu_seq_lens_q` comes with an argument that changes how attention is computed, such as
            a softcap, sinks, a position bias or a head mask.
    """
    _observe_window(kwargs.get("sliding_window"))
    if cu_seq_lens_q is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    if unknown := [name for name, value in kwargs.items() if _changes_attention(name, value)]:
        raise NotImplementedError(f"packed attention does not implement {', '.join(unknown)}")
    is_causal = kwargs.get("is_causal")
    if is_causal is None:
        is_causal = getattr(module, "is_causal", False)
    scale, starts = scaling or query.shape[-1] ** -0.5, cu_seq_lens_q.tolist()
    if prefix is None and module.training and _takes_blocks(query, value):
        states = (states[0].transpose(0, 1).to(value.dtype) for states in (query, key, value))
        output = BlockedAttention.apply(*states, split_into_blocks(tuple(starts), is_causal), scale)
        return output.to(query.dtype)[None], None
    heads = query.shape[1]
    queries, keys, values = (states[0].transpose(0, 1).float().contiguous() for states in (query, key, value))
    prefix_keys = prefix_values = None
    if prefix is not None:
        layer = prefix.layers[module.layer_idx]
        prefix_keys, prefix_values = (
            _repeat_heads(states[0].transpose(0, 1).float(), heads) for states in (layer.keys, layer.values)
        )
    output = PackedAttention.apply(
        queries,
        _repeat_heads(keys, heads),
        _repeat_heads(values, heads),
        prefix_keys,
        prefix_values,
        equal_length_runs(starts),
        is_causal,
        scale,
    )
    return output.to(query.dtype)[None], None


def _takes_blocks(query: Tensor, value: Tensor) -> bool:
    """Return whether blocks of bf16 products train faster: on a CPU, where query heads share key heads."""
    if value.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    # A model with fp32 weights rotates query and key in fp32; the values come right out of a product.
    return value.dtype == torch.bfloat16 and query.shape[1] > value.shape[1]


def _changes_attention(name: str, value) -> bool:
    """Return whether an argument of attention asks for something that the packed kernels do not compute."""
    return name not in KNOWN_ARGUMENTS and value is not None and value is not False and not _is_zero(value)


def _is_zero(value) -> bool:
    return isinstance(value, int | float) and value == 0


def build_mask(*args, local_size: int | None = None, **kwargs) -> Tensor | None:
    """Build SDPA's mask, as an entry of transformers' mask interface; `local_size` is a sliding window or a chunk."""
    _observe_window(local_size)
    return sdpa_mask(*args, local_size=local_size, **kwargs)


@contextmanager
def observe_windows() -> Iterator[list[int]]:
    """Collect the sliding windows and chunk sizes that layers ask for, in tokens, within the context."""
    windows: list[int] = []
    _observers.append(windows)
    try:
        yield windows
    finally:
        _observers.remove(windows)


def _observe_window(window: int | None) -> None:
    for windows in _observers if window else ():
        windows.append(window)


def _repeat_heads(states: Tensor, heads: int) -> Tensor:
    """(tokens, key heads, dim) -> (tokens, heads, dim): repeat grouped-query attention's keys for each query head."""
    times = heads // states.shape[1]
    return states if times == 1 else states.repeat_interleave(times, dim=1)


def equal_length_runs(starts: list[int]) -> list[tuple[int, int, int]]:
    """Group neighbouring texts of equal length: (first token, number of texts, their length).

    >>> equal_length_runs([0, 5, 10, 12])
    [(0, 2, 5), (10, 1, 2)]
    """
    runs: list[tuple[int, int, int]] = []
    for start, end in pairwise(starts):
        if runs and runs[-1][2] == end - start:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1, end - start)
        else:
            runs.append((start, 1, end - start))
    return runs


class PackedAttention(torch.autograd.Function):
    """Softmax attention in fp32 by torch's fused CPU kernels: runs of equal length are batches without padding.

    A prefix before all texts is attended to by all tokens at once. The two parts of a softmax are joined by their
    log-sum-exp (LSE), and the kernels' backward passes, given the joint LSE, return the gradients of each part (as in
    Ring Attention: Liu et al. 2023, arXiv:2310.01889).
    """

    @staticmethod
    def forward(ctx, query, key, value, prefix_key, prefix_value, runs, causal, scale):
        """Return (tokens, heads, dim).

        Args:
            query, key, value: (tokens, heads, dim) float32.
            prefix_key, prefix_value: (prefix tokens, heads, dim) float32, or None.
            runs: as `equal_length_runs` returns them.
            causal: whether a token attends only to the tokens before it in its own text.
            scale: factor of the query-key products.
        """
        parts = [
            _kernel(*(_as_batch(states, run) for states in (query, key, value)), 0.0, causal, scale=scale)
            for run in runs
        ]
        output, run_lses = _as_stream([part for part, _ in parts]), [lse for _, lse in parts]
        lse = None
        if prefix_key is not None:
            prefix_part, prefix_lse = _kernel(
                *map(_as_one_text, (query, prefix_key, prefix_value)), 0.0, False, scale=scale
            )
            own_lse = _as_stream([run_lse[..., None] for run_lse in run_lses])
            prefix_lse = prefix_lse[0].T[..., None]
            output = torch.lerp(output, prefix_part[0].transpose(0, 1), torch.sigmoid(prefix_lse - own_lse))
            joint = torch.logaddexp(prefix_lse, own_lse)
            run_lses = [_as_batch(joint, run)[..., 0].contiguous() for run in runs]
            lse = joint[..., 0].T[None].contiguous()
        ctx.save_for_backward(query, key, value, prefix_key, prefix_value, output, lse, *run_lses)
        ctx.settings = runs, causal, scale
        return output

    @staticmethod
    def backward(ctx, gradient):
        """Return the gradients of query, key, value and prefix."""
        query, key, value, prefix_key, prefix_value, output, lse, *run_lses = ctx.saved_tensors
        runs, causal, scale = ctx.settings
        streams = (gradient.contiguous(), query, key, value, output)
        parts = [
            _kernel_backward(*(_as_batch(states, run) for states in streams), run_lse, 0.0, causal, scale=scale)
            for run, run_lse in zip(runs, run_lses, strict=True)
        ]
        by_query, by_key, by_value = map(_as_stream, zip(*parts, strict=True))
        if prefix_key is None:
            return by_query, by_key, by_value, None, None, None, None, None
        whole = map(_as_one_text, (gradient, query, prefix_key, prefix_value, output))
        prefix_parts = _kernel_backward(*whole, lse, 0.0, False, scale=scale)
        by_query_too, by_prefix_key, by_prefix_value = (part[0].transpose(0, 1) for part in prefix_parts)
        return by_query + by_query_too, by_key, by_value, by_prefix_key, by_prefix_value, None, None, None


def _as_stream(parts: Sequence[Tensor]) -> Tensor:
    """Runs of (texts, heads, length, dim) -> (tokens, heads, dim)."""
    return torch.cat([part.transpose(1, 2).flatten(0, 1) for part in parts])


def _as_batch(states: Tensor, run: tuple[int, int, int]) -> Tensor:
    """(tokens, heads, dim) -> a view (texts, heads, length, dim) of one run."""
    start, count, length = run
    return states.narrow(0, start, count * length).view(count, length, *states.shape[1:]).transpose(1, 2)


def _as_one_text(states: Tensor) -> Tensor:
    """(tokens, heads, dim) -> (1, heads, tokens, dim)."""
    return states.transpose(0, 1)[None]


def attention_covers(embedder: SentenceTransformer, longest: int) -> bool:
    """Return whether tokens attend to all of a text of `longest` tokens: no sliding window, or one that holds it."""
    transformer = embedder[0].model
    support = getattr(transformer, "batch_support", None)
    windows = [*map(transformer.config.__dict__.get, WINDOW_KEYS), support and support.window]
    return all(not window or longest <= window for window in windows)


def can_pack(embedder: SentenceTransformer, longest: int) -> bool:
    """Return whether texts of at most `longest` tokens can be packed for this model.

    The model must compute the same for packed texts (`batch_support`), and need nothing that the kernels leave out:
    dropout of attention weights, or a sliding window shorter than the longest text.
    """
    transformer = embedder[0].model
    config, support = transformer.config, getattr(transformer, "batch_support", None)
    packing = (NAME,) if prompt_tuning.has_virtual_tokens(transformer) else (NAME, "flash_attention_2")
    return (
        support is not None
        and support.packs
        and config._attn_implementation in packing
        and attention_covers(embedder, longest)
        and not (embedder.training and _drops_attention(config))
        and prompt_tuning.can_pack(transformer)
    )


def _drops_attention(config) -> bool:
    """Return whether a model in training drops attention weights: each architecture has its own name for the rate."""
    rates = {name: rate for name, rate in vars(config).items() if "att" in name and "drop" in name}
    return any(isinstance(rate, float) and rate > 0 for rate in rates.values())


AttentionInterface.register(NAME, attend)

AttentionMaskInterface.register(NAME, build_mask)
