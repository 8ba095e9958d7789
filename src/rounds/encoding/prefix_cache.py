"""Compute the start that token sequences share once, for models whose tokens attend only to those before them."""

from collections.abc import Sequence

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicLayer

from rounds.encoding.batching import Layout, to_tensors
from rounds.models import batch_support, packed_attention, pooling, prompt_tuning
from rounds.models.embedder_classes import representation_name

STEP = 32  # shortest prefix that is shared; before padded rows, prefixes are multiples of it, for fewer shapes

MIN_ROWS = 4  # with fewer rows a group's batches are too small to pay


def can_share(embedder: SentenceTransformer, longest: int) -> bool:
    """Return whether a prefix's states do not depend on what follows: a causal model with last-token pooling.

    Args:
        longest: tokens of the longest sequence; a sliding window must hold it.
    """
    if representation_name(embedder) != "dense":
        return False
    config = embedder[0].model.config
    is_encoder = getattr(config, "use_bidirectional_attention", False) or not getattr(config, "is_causal", True)
    causal = hasattr(config, "num_key_value_heads") and not is_encoder
    last = pooling.find_pooling(embedder).pooling_mode == "lasttoken"
    if not causal or not last or prompt_tuning.has_virtual_tokens(embedder[0].model):
        return False
    return packed_attention.attention_covers(embedder, longest) and _keeps_vectors(embedder)


def _keeps_vectors(embedder: SentenceTransformer) -> bool:
    """Return whether a short text's vector stays the same behind a shared prefix; each model is tried once.

    A model with recurrent layers, or layers that share keys and values, has states that `compute_prefix` does not keep.
    """
    transformer = embedder[0].model
    if not hasattr(transformer, "shares_prefix"):
        with batch_support.evaluating(embedder), batch_support.in_full_precision(transformer):
            transformer.shares_prefix = _try_prefix(embedder)
    return transformer.shares_prefix


def _try_prefix(embedder: SentenceTransformer) -> bool:
    texts = batch_support.example_texts(embedder[0].model, embedder.tokenizer)
    prefix, suffix = (text[0].tolist() for text in texts)
    layout = Layout.for_model(embedder, len(prefix + suffix))
    try:
        whole = _to_device(embedder, to_tensors([prefix + suffix], layout))
        rest = _to_device(embedder, to_tensors([suffix], layout.after_prefix(len(prefix)), None, len(prefix)))
        expected = embedder(whole)["sentence_embedding"][:1]
        vectors = embed(embedder, rest, compute_prefix(embedder, prefix))[:1]
    except Exception:  # the model's own code: its layers are built in another way
        return False
    return batch_support.agree(embedder[0].model, vectors, expected)


def _to_device(embedder: SentenceTransformer, features: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.to(embedder.device) for name, value in features.items()}


def group_by_prefix(ids: Sequence[list[int]], layout: Layout) -> list[tuple[int, list[int]]]:
    """Group rows by a prefix that is worth computing once.

    Of all groupings with at least `MIN_ROWS` rows in a group, return the one that computes the fewest tokens.

    Returns:
        (prefix length, row numbers) of each group; the rest is a last group of length 0.

    >>> shared = list(range(40))
    >>> group_by_prefix([shared + [n, 7] for n in range(50, 55)] + [[1, 2], [3]], Layout(packed=True, pad_id=0))
    [(40, [0, 1, 2, 3, 4]), (0, [5, 6])]
    """
    order = sorted(range(len(ids)), key=lambda row: ids[row])
    common = [_common_length(ids[one], ids[other]) for one, other in zip(order, order[1:], strict=False)]
    step = 1 if layout.after_prefix(STEP).packed else STEP
    groups = _best_groups(order, [length // step * step for length in common], 0, len(order))[1]
    grouped = {row for _, rows in groups for row in rows}
    rest = [row for row in range(len(ids)) if row not in grouped]
    return [(length, sorted(rows)) for length, rows in groups] + ([(0, rest)] if rest else [])


def count_tokens(ids: Sequence[list[int]], groups: list[tuple[int, list[int]]]) -> int:
    """Return how many tokens are computed for rows that are grouped as `group_by_prefix` does.

    >>> count_tokens([[1, 2, 3], [1, 2, 4], [5]], [(2, [0, 1]), (0, [2])])
    5
    """
    return sum(map(len, ids)) - sum(length * (len(rows) - 1) for length, rows in groups)


def _common_length(one: list[int], other: list[int]) -> int:
    """Return the length of the common prefix that leaves at least one token to each."""
    length, limit = 0, min(len(one), len(other)) - 1
    while length < limit:  # by halves, since comparing slices is much faster than comparing tokens
        middle = (length + limit + 1) // 2
        if one[length:middle] == other[length:middle]:
            length = middle
        else:
            limit = middle - 1
    return length


def _best_groups(order: list[int], common: list[int], start: int, end: int) -> tuple[int, list[tuple[int, list[int]]]]:
    """Return the tokens saved by, and the best groups of, the sorted rows from `start` up to `end`.

    The rows are either one group with their shortest common prefix, or split where that prefix ends.

    Args:
        order: row numbers, sorted by their tokens.
        common: length of the common prefix of each row and the next.
    """
    if end - start < MIN_ROWS:
        return 0, []
    shortest = min(common[start : end - 1])
    length = shortest if shortest >= STEP else 0
    borders = [row + 1 for row in range(start, end - 1) if common[row] == shortest]
    saved, groups = 0, []
    for first, last in zip([start, *borders], [*borders, end], strict=True):
        part_saved, part_groups = _best_groups(order, common, first, last)
        saved, groups = saved + part_saved, groups + part_groups
    saved_by_one_group = (end - start - 1) * length
    return (saved_by_one_group, [(length, order[start:end])]) if saved_by_one_group > saved else (saved, groups)


class _ReadOnlyLayer(DynamicLayer):
    """A layer's keys and values of the prefix, (1, heads, prefix, dim).

    Each pass sees them before its own keys and values, and does not add to them.
    """

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values

    def update(self, keys: Tensor, values: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        """Return the prefix's keys and values followed by those of this pass."""
        size = (keys.shape[0], -1, -1, -1)
        return torch.cat([self.keys.expand(size), keys], -2), torch.cat([self.values.expand(size), values], -2)


class _RecordingLayer(DynamicLayer):
    """Records a layer's keys and values; a second pass of the same tokens (gradient checkpointing) replaces them."""

    def update(self, keys: Tensor, values: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        """Keep the keys and values, and return them unchanged."""
        self.keys, self.values = keys, values
        return keys, values


def compute_prefix(embedder: SentenceTransformer, prefix: list[int]) -> Cache:
    """Return the prefix's keys and values in every layer; gradients flow through them if they are enabled."""
    transformer = embedder[0].model
    layers = transformer.get_decoder().layers
    for layer in layers:
        layer._can_checkpoint_with_cache = True  # otherwise gradient checkpointing drops the cache
    recorded = Cache(layers=[_RecordingLayer() for _ in layers])
    layout = Layout.for_model(embedder, len(prefix))
    features = to_tensors([prefix], layout) if layout.packed else {"input_ids": torch.tensor([prefix])}
    transformer(**_to_device(embedder, features), past_key_values=recorded, use_cache=False)
    length = len(prefix)
    return Cache(
        layers=[_ReadOnlyLayer(layer.keys[:, :, :length], layer.values[:, :, :length]) for layer in recorded.layers]
    )


def embed(embedder: nn.Module, features: dict[str, Tensor], cache: Cache) -> Tensor:
    """Embed a batch of sequences that follow a shared prefix.

    Args:
        embedder: the SentenceTransformer, or the DistributedDataParallel module around it.
        features: as `batching.to_tensors` returns them for the sequences without the prefix.
        cache: as `compute_prefix` returns it.

    Returns:
        (rows, dim).
    """
    if "cu_seq_lens_q" in features:
        return embedder({**features, "prefix": cache})["sentence_embedding"]
    modules = list(getattr(embedder, "module", embedder))
    # Padding follows every token, so no token attends to it and the model needs no mask.
    output = modules[0].model(input_ids=features["input_ids"], past_key_values=cache, use_cache=False)
    pooled_features = {name: value for name, value in features.items() if name != "input_ids"}
    pooled_features["token_embeddings"] = output.last_hidden_state.float()
    if output.hidden_states:
        pooled_features["all_layer_embeddings"] = output.hidden_states
    for module in modules[1:]:
        pooled_features = module(pooled_features)
    return pooled_features["sentence_embedding"]


def embed_chunk(embedder: nn.Module, chunk: dict[str, Tensor]) -> Tensor:
    """Embed a chunk (`training.chunks`), after its shared prefix if it has one; gradients flow through both.

    Args:
        embedder: the SentenceTransformer, or the DistributedDataParallel module around it.
        chunk: features as `batching.to_tensors` returns them, and the prefix's tokens as `prefix`, (1, tokens).

    Returns:
        (rows, dim).
    """
    features = {name: value for name, value in chunk.items() if name != "prefix"}
    if "prefix" not in chunk:
        return embedder(features)["sentence_embedding"]
    cache = compute_prefix(getattr(embedder, "module", embedder), chunk["prefix"][0].tolist())
    return embed(embedder, features, cache)
