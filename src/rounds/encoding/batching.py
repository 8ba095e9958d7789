"""Group token sequences into batches and turn them into tensors, either packed into one row or padded.

Every new tensor shape costs a compiled kernel or a warm-up, so batches come in few shapes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from rounds.models import multi_vector, packed_attention, positions, prompt_tuning, splade
from rounds.models.embedder_classes import representation_name

PADDED_LENGTHS = (16, 32, 64, 96, 128, 192, 256)  # longer sequences are padded to a multiple of the last

TOKEN_BUDGET = 4096  # tokens of a batch

LEAST_BUDGET = 256  # tokens of a batch, however large the vocabulary


@dataclass(frozen=True)
class Layout:
    """How a model takes a batch of token sequences.

    Attributes:
        packed: sequences are concatenated into one row, and each attends to itself only; otherwise they are padded.
        pad_id: token id of the padding.
        pads_left: padding stands before the text.
        first_position: position id of a sequence's first token (RoBERTa counts from 2).
        attention: the model's attention implementation.
        pads: rows of different lengths can be padded to one; otherwise a batch holds rows of one length.
        max_tokens: tokens that the model has positions for; None for no bound.
        token_budget: tokens of a batch where nothing else bounds them.
    """

    packed: bool
    pad_id: int
    pads_left: bool = False
    first_position: int = 0
    attention: str = packed_attention.NAME
    pads: bool = True
    max_tokens: int | None = None
    token_budget: int = TOKEN_BUDGET

    @classmethod
    def for_model(cls, embedder: SentenceTransformer, longest: int) -> "Layout":
        """Return the layout for sequences of up to `longest` tokens: packed where the attention supports it."""
        transformer, side = embedder[0].model, _padding_side(embedder)
        has_unattended = representation_name(embedder) == "tokens" and multi_vector.hides_expansion(embedder)
        return cls(
            packed=not has_unattended and packed_attention.can_pack(embedder, longest),
            pad_id=embedder.tokenizer.pad_token_id or 0,  # without a padding token, any will do: it is masked
            pads_left=side == "left",
            first_position=positions.first_position(transformer),
            attention=transformer.config._attn_implementation,
            pads=side is not None,
            max_tokens=positions.max_tokens(transformer),
            token_budget=_token_budget(embedder),
        )

    def after_prefix(self, length: int) -> "Layout":
        """Return the layout for sequences that follow a shared prefix of `length` tokens.

        FlashAttention packs sequences, but has no way to put one prefix before all of them: these are padded.
        """
        return self if not length or self.attention == packed_attention.NAME else replace(self, packed=False)

    def padded_length(self, length: int, prefix_length: int = 0) -> int:
        """Return the length that a row of `length` tokens is padded to, within the model's positions."""
        if not self.pads:
            return length
        longest = padded_length(length) if self.max_tokens is None else self.max_tokens - prefix_length
        return max(length, min(padded_length(length), longest))


def _token_budget(embedder: SentenceTransformer) -> int:
    """Return how many tokens a batch has; of a sparse model fewer, whose logits are a thousand times its tokens."""
    if not splade.is_sparse(embedder):
        return TOKEN_BUDGET
    words = embedder[0].model.config.vocab_size
    return min(TOKEN_BUDGET, max(LEAST_BUDGET, splade.MOST_LOGITS // words))


def _padding_side(embedder: SentenceTransformer) -> str | None:
    """Return the side on which rows are padded; None for a model whose embeddings any padding would change."""
    transformer = embedder[0].model
    if prompt_tuning.has_virtual_tokens(transformer):
        return "right"  # padding between virtual tokens and text would move the text away from them
    support = getattr(transformer, "batch_support", None)
    return embedder.tokenizer.padding_side if support is None else support.padding


def padded_length(length: int) -> int:
    """Return the length that a sequence of `length` tokens is padded to.

    >>> padded_length(17), padded_length(256), padded_length(300)
    (32, 256, 512)
    """
    for candidate in PADDED_LENGTHS:
        if length <= candidate:
            return candidate
    return -(-length // PADDED_LENGTHS[-1]) * PADDED_LENGTHS[-1]


def plan_batches(lengths: Sequence[int], layout: Layout, budget: int | None = TOKEN_BUDGET) -> list[list[int]]:
    """Divide sequences into batches of at most `budget` tokens; a single sequence may exceed it.

    Padded batches hold sequences of one padded length, and all but the last batch of a length have equally many.

    Args:
        lengths: tokens of each sequence.
        budget: tokens of a batch; None for no limit.

    Returns:
        the row numbers of each batch, longest sequence first.
    """
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    batches: list[list[int]] = []
    used = 0
    for row in order:
        size = lengths[row] if layout.packed else layout.padded_length(lengths[row])
        fits = batches and (budget is None or used + size <= budget)
        if fits and (layout.packed or size == layout.padded_length(lengths[batches[-1][0]])):
            batches[-1].append(row)
            used += size
        else:
            batches.append([row])
            used = size
    return batches


def to_tensors(
    rows: Sequence[list[int]], layout: Layout, budget: int | None = None, prefix_length: int = 0
) -> dict[str, Tensor]:
    """Return the model's inputs for one batch.

    Args:
        rows: token ids of each sequence, without the shared prefix; `~id` of a token that no other attends to
            (`multi_vector.expand_queries`).
        budget: as `plan_batches` got it: a smaller last batch is filled up to a power of two, but not beyond it.
        prefix_length: tokens of the prefix that all sequences share.

    Returns:
        `input_ids`, `position_ids` (1, tokens) and `cu_seq_lens_q` (sequences + 1,) if packed, where the last
        sequence is padding up to a round number of tokens; otherwise `input_ids` and `attention_mask` (sequences,
        length). The model returns the embeddings of `rows` first; discard those of the padding behind them.
    """
    return _packed(rows, layout, prefix_length) if layout.packed else _padded(rows, layout, budget, prefix_length)


def _packed(rows: Sequence[list[int]], layout: Layout, prefix_length: int) -> dict[str, Tensor]:
    total = sum(map(len, rows))
    filler = [layout.pad_id] * (-total % (128 if total > 512 else 16))
    sequences = [*rows, filler] if filler else list(rows)
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    starts = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])
    #   rows     [5 6 7] [8 9]        starts     0 3 5
    #   tokens    5 6 7   8 9         positions  0 1 2 0 1
    counted = torch.arange(int(starts[-1])) - starts[:-1].repeat_interleave(lengths)
    counted = counted.clamp(max=max(map(len, rows)) - 1)  # the model may have no positions for all of the filler
    features = {
        "input_ids": torch.tensor([token for sequence in sequences for token in sequence])[None],
        "position_ids": (counted + layout.first_position + prefix_length)[None],
        "cu_seq_lens_q": starts.int(),
    }
    if layout.attention == packed_attention.NAME:
        # transformers passes a 4-dimensional mask on unchanged; without one it would build a mask of tokens x tokens.
        return features | {"attention_mask": torch.zeros(1, 1, 1, 1)}
    longest = torch.tensor(int(lengths.max()))
    return features | {"cu_seq_lens_k": starts.int(), "max_length_q": longest, "max_length_k": longest}


def _padded(rows: Sequence[list[int]], layout: Layout, budget: int | None, prefix_length: int) -> dict[str, Tensor]:
    length = layout.padded_length(max(map(len, rows)), prefix_length)
    limit = max(len(rows), (budget or 0) // length)
    count = min(limit, 1 << (len(rows) - 1).bit_length())
    ids = torch.full((count, length), layout.pad_id, dtype=torch.long)
    mask = torch.zeros((count, length), dtype=torch.long)
    for number in range(count):
        row = rows[number if number < len(rows) else 0]  # fill up with the first row: no row is without a token
        place = slice(length - len(row), length) if layout.pads_left and not prefix_length else slice(0, len(row))
        tokens = torch.tensor(row, dtype=torch.long)
        ids[number, place] = torch.where(tokens < 0, ~tokens, tokens)
        mask[number, place] = (tokens >= 0).long()
    return {"input_ids": ids, "attention_mask": mask}


def count_rows(features: dict[str, Tensor]) -> int:
    """Return how many embeddings the model computes for a batch, those of its padding included."""
    starts = features.get("cu_seq_lens_q")
    return len(features["input_ids"]) if starts is None else len(starts) - 1


def token_places(kept: Sequence[np.ndarray], layout: Layout, width: int) -> list[np.ndarray]:
    """Return the places of some tokens of each sequence among all tokens of a batch, row behind row.

    Args:
        kept: which tokens of each sequence are wanted, (tokens,) bool each.
        layout: how the sequences are arranged.
        width: tokens of a row of the batch.

    >>> one, two = np.array([True, True]), np.array([True, False, True])
    >>> padded = Layout(packed=False, pad_id=0)
    >>> [places.tolist() for places in token_places([one, two], padded, 3)]
    [[0, 1], [3, 5]]
    """
    lengths = np.array(list(map(len, kept)))
    if layout.packed:
        starts = np.cumsum(lengths) - lengths
    else:
        starts = np.arange(len(kept)) * width + (width - lengths) * layout.pads_left
    return [start + np.flatnonzero(tokens) for start, tokens in zip(starts, kept, strict=True)]
