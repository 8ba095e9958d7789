"""Batches: token rows -> tensors of a few shapes, packed into one row of tokens or padded to one length."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from rounds.models import packed_attention, prompt_tuning

# Every new tensor shape costs a compiled kernel: padded lengths snap to these (above the last, to multiples of it).
LENGTHS = (16, 32, 64, 96, 128, 192, 256)

TOKENS = 4096


@dataclass(frozen=True)
class Layout:
    """How a model takes its texts.

    Attributes:
        packed: one behind the other in one row, each seeing itself only; else padded.
        left: padding stands before the text.
        first: position id of a text's first token (RoBERTa counts from 2).
        attention: the model's attention implementation.
    """

    packed: bool
    pad_id: int
    left: bool = False
    first: int = 0
    attention: str = packed_attention.NAME

    @classmethod
    def of(cls, embedder: SentenceTransformer, longest: int) -> "Layout":
        """Packed where the attention can for texts of up to `longest` tokens, else padded as the tokenizer says."""
        tokenizer, transformer = embedder.tokenizer, embedder[0].model
        # Padding between virtual tokens and text would move the text away from them.
        left = tokenizer.padding_side == "left" and not prompt_tuning.has_virtual_tokens(transformer)
        return cls(
            packed_attention.can_pack(embedder, longest), tokenizer.pad_token_id, left,
            _first_position(transformer), transformer.config._attn_implementation,
        )  # fmt: skip

    def behind(self, shared: int) -> "Layout":
        """For texts behind `shared` tokens: FlashAttention packs texts, but with no prefix before them all."""
        return self if not shared or self.attention == packed_attention.NAME else replace(self, packed=False)


def _first_position(transformer: nn.Module) -> int:
    """RoBERTa and its kin look positions up from behind their padding token's."""
    for module in transformer.modules():
        if isinstance(getattr(module, "position_embeddings", None), nn.Embedding):
            padding = getattr(module, "padding_idx", None)
            return padding + 1 if isinstance(padding, int) else 0
    return 0


def snap(length: int) -> int:
    """The padded length for a text of `length` tokens.

    >>> snap(17), snap(256), snap(300)
    (32, 256, 512)
    """
    for candidate in LENGTHS:
        if length <= candidate:
            return candidate
    return -(-length // LENGTHS[-1]) * LENGTHS[-1]


def plan(lengths: Sequence[int], layout: Layout, budget: int | None = TOKENS) -> list[list[int]]:
    """Row numbers of each batch, longest first; none has more than `budget` tokens unless it is a single row.

    Padded, rows of one snapped length stand together, always equally many but for the last batch.
    """
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    found: list[list[int]] = []
    used = 0
    for row in order:
        size = lengths[row] if layout.packed else snap(lengths[row])
        fits = found and (budget is None or used + size <= budget)
        if fits and (layout.packed or size == snap(lengths[found[-1][0]])):
            found[-1].append(row)
            used += size
        else:
            found.append([row])
            used = size
    return found


def tensors(rows: Sequence[list[int]], layout: Layout, budget: int | None = None, shared: int = 0) -> dict[str, Tensor]:
    """What the model is called with for one batch.

    Args:
        rows: token ids of each text.
        budget: as `plan` got it: a smaller last batch is filled up to a power of two, but not beyond it.
        shared: tokens of the prefix that stands before every row.

    Returns:
        Packed, `input_ids` and `position_ids` (1, tokens) and `cu_seq_lens_q` (texts + 1,), the last text being
        padding that snaps the number of tokens; else `input_ids` and `attention_mask` (texts, length). Either way,
        what stands behind the rows' own vectors is to be thrown away.
    """
    return _packed(rows, layout, shared) if layout.packed else _padded(rows, layout, budget, shared)


def _packed(rows: Sequence[list[int]], layout: Layout, shared: int) -> dict[str, Tensor]:
    total = sum(map(len, rows))
    filler = [layout.pad_id] * (-total % (128 if total > 512 else 16))
    whole = [*rows, filler] if filler else list(rows)
    lengths = torch.tensor([len(row) for row in whole])
    starts = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])
    places = torch.arange(int(starts[-1])) - starts[:-1].repeat_interleave(lengths)
    found = {
        "input_ids": torch.tensor([token for row in whole for token in row])[None],
        "position_ids": (places + layout.first + shared)[None],
        "cu_seq_lens_q": starts.int(),
    }
    if layout.attention == packed_attention.NAME:
        # A mask of four dimensions is handed on as it is: without one, a mask of tokens x tokens would be made.
        return found | {"attention_mask": torch.zeros(1, 1, 1, 1)}
    longest = torch.tensor(int(lengths.max()))
    return found | {"cu_seq_lens_k": starts.int(), "max_length_q": longest, "max_length_k": longest}


def _padded(rows: Sequence[list[int]], layout: Layout, budget: int | None, shared: int) -> dict[str, Tensor]:
    length = snap(max(map(len, rows)))
    most = max(len(rows), (budget or 0) // length)
    count = min(most, 1 << (len(rows) - 1).bit_length())
    ids = torch.full((count, length), layout.pad_id, dtype=torch.long)
    mask = torch.zeros((count, length), dtype=torch.long)
    for number in range(count):
        row = rows[number if number < len(rows) else 0]
        place = slice(length - len(row), length) if layout.left and not shared else slice(0, len(row))
        ids[number, place] = torch.tensor(row, dtype=torch.long)
        mask[number, place] = 1
    return {"input_ids": ids, "attention_mask": mask}


def texts_in(features: dict[str, Tensor]) -> int:
    """How many vectors the model makes of a batch, those of its padding included."""
    starts = features.get("cu_seq_lens_q")
    return len(features["input_ids"]) if starts is None else len(starts) - 1
