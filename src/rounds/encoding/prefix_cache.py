"""Prefix: what token sequences share at their start is computed once, for models whose tokens see only those before."""

from collections.abc import Sequence

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicLayer

from rounds.encoding.batching import Layout, tensors
from rounds.models import packed_attention, pooling, prompt_tuning

STEP = 32  # shorter prefixes are not shared; for padded rows, prefixes are cut to multiples of it: fewer shapes

LEAST_ROWS = 4  # below, batches get too small to pay


def can_share(embedder: SentenceTransformer, longest: int) -> bool:
    """Whether a prefix's states depend on nothing behind it: a causal model, pooled at the last token.

    Args:
        longest: tokens of the longest sequence; a sliding window must hold it.
    """
    config = embedder[0].model.config
    causal = hasattr(config, "num_key_value_heads") and getattr(config, "is_causal", True)
    last = pooling.find_pooling(embedder).pooling_mode == "lasttoken"
    return (
        causal
        and last
        and packed_attention.attention_covers(embedder, longest)
        and not prompt_tuning.has_virtual_tokens(embedder[0].model)
    )


def group_by_prefix(ids: Sequence[list[int]], layout: Layout) -> list[tuple[int, list[int]]]:
    """Rows that share a prefix worth computing once: (its length, row numbers), and one group of length 0 for the rest.

    Of all ways to group, the one that computes the fewest tokens, with at least `LEAST_ROWS` rows a group.

    >>> shared = list(range(40))
    >>> group_by_prefix([shared + [n, 7] for n in range(50, 55)] + [[1, 2], [3]], Layout(packed=True, pad_id=0))
    [(40, [0, 1, 2, 3, 4]), (0, [5, 6])]
    """
    order = sorted(range(len(ids)), key=lambda row: ids[row])
    common = [_common(ids[one], ids[other]) for one, other in zip(order, order[1:], strict=False)]
    step = 1 if layout.behind(STEP).packed else STEP
    found = _best(order, [length // step * step for length in common], 0, len(order))[1]
    taken = {row for _, rows in found for row in rows}
    rest = [row for row in range(len(ids)) if row not in taken]
    return [(length, sorted(rows)) for length, rows in found] + ([(0, rest)] if rest else [])


def _common(one: list[int], other: list[int]) -> int:
    """Length of the common prefix; at least one token is left to each."""
    found, limit = 0, min(len(one), len(other)) - 1
    while found < limit:  # by halves, since comparing slices is much faster than comparing tokens
        middle = (found + limit + 1) // 2
        if one[found:middle] == other[found:middle]:
            found = middle
        else:
            limit = middle - 1
    return found


def _best(order: list[int], common: list[int], start: int, end: int) -> tuple[int, list[tuple[int, list[int]]]]:
    """Tokens saved by, and groups of, the sorted rows from `start` up to `end`: as one group, or as its parts' best."""
    if end - start < LEAST_ROWS:
        return 0, []
    least = min(common[start : end - 1])
    length = least if least >= STEP else 0
    borders = [n + 1 for n in range(start, end - 1) if common[n] == least]
    saved, parts = 0, []
    for first, last in zip([start, *borders], [*borders, end], strict=True):
        part_saved, part = _best(order, common, first, last)
        saved, parts = saved + part_saved, parts + part
    whole = (end - start - 1) * length
    return (whole, [(length, order[start:end])]) if whole > saved else (saved, parts)


class _ReadOnly(DynamicLayer):
    """A layer's keys and values of the prefix, (1, heads, prefix, dim); each pass adds its own, then drops it."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values

    def update(self, keys: Tensor, values: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        size = (keys.shape[0], -1, -1, -1)
        return torch.cat([self.keys.expand(size), keys], -2), torch.cat([self.values.expand(size), values], -2)


class _Recorder(DynamicLayer):
    """Notes a layer's keys and values; a second pass of the same tokens (gradient checkpointing) changes nothing."""

    def update(self, keys: Tensor, values: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        self.keys, self.values = keys, values
        return keys, values


def compute_prefix(embedder: SentenceTransformer, prefix: list[int]) -> Cache:
    """Keys and values of the prefix in every layer; gradients flow through them where they are enabled."""
    transformer = embedder[0].model
    layers = transformer.get_decoder().layers
    for layer in layers:
        layer._can_checkpoint_with_cache = True  # else gradient checkpointing drops the cache
    found = Cache(layers=[_Recorder() for _ in layers])
    layout = Layout.of(embedder, len(prefix))
    features = tensors([prefix], layout) if layout.packed else {"input_ids": torch.tensor([prefix])}
    features = {name: value.to(embedder.device) for name, value in features.items()}
    transformer(**features, past_key_values=found, use_cache=False)
    length = len(prefix)
    return Cache(layers=[_ReadOnly(layer.keys[:, :, :length], layer.values[:, :, :length]) for layer in found.layers])


def embed(embedder: nn.Module, features: dict[str, Tensor], cache: Cache) -> Tensor:
    """Vectors of a batch behind a prefix.

    Args:
        embedder: the SentenceTransformer, or what DistributedDataParallel made of it.
        features: as `batches.tensors` makes them of sequences without the prefix.
        cache: as `compute` returns it.

    Returns:
        (rows, dim).
    """
    if "cu_seq_lens_q" in features:
        return embedder({**features, "prefix": cache})["sentence_embedding"]
    modules = list(getattr(embedder, "module", embedder))
    # Padding stands behind every token, so no token sees it and the model needs no mask.
    output = modules[0].model(input_ids=features["input_ids"], past_key_values=cache, use_cache=False)
    layers = {"all_layer_embeddings": output.hidden_states} if output.hidden_states else {}
    own = {name: value for name, value in features.items() if name != "input_ids"}
    own["token_embeddings"] = output.last_hidden_state.float()
    features = own | layers
    for module in modules[1:]:
        features = module(features)
    return features["sentence_embedding"]
