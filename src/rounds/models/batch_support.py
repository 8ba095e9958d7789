"""Batch support: which attention a loaded model computes with, and how its texts share a batch.

Architectures differ in what they do to a token beside attention to its own text: some have attention of their own,
some mix neighbouring tokens, some count positions from the padding. So the model itself is asked: two short texts are
embedded alone and together, and what changes an embedding is not done.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Transformer
from torch import Tensor
from transformers import PreTrainedModel

from rounds.models import packed_attention, positions
from rounds.models.precision import can_use_flash_attention

LENGTHS = (6, 9)  # tokens of the two texts

TOLERANCES = {torch.float32: 1e-4}  # relative error of token states; rounding moves them by some 1e-6

HALF_PRECISION_TOLERANCE = 0.1  # of large models, whose rounding alone is some 0.03

MAX_WIDENED_PARAMETERS = 600_000_000  # a larger model is tried in its own precision: in fp32 it may not fit

MAX_TRIED_POSITIONS = 512  # a longer row would take seconds

FLASH = "flash_attention_2"


@dataclass(frozen=True)
class BatchSupport:
    """How a model takes texts of different lengths together.

    Attributes:
        packs: texts can be packed into one row.
        padding: side on which padding changes no embedding, `right` or `left`; None: only texts of equal length can
            share a batch.
        window: tokens that the shortest sliding window or chunk holds, as the model's layers ask for it; None: all.
    """

    packs: bool = False
    padding: str | None = "right"
    window: int | None = None


def choose_attention(embedder: SentenceTransformer, attention: str, device: str) -> None:
    """Choose a model's attention implementation and try how it takes batches, in place.

    The model was loaded with the implementation that transformers chooses for it, or the one that the recipe names.
    `auto` takes FlashAttention where the GPU and the model support it. On CPUs packed attention takes the place of
    SDPA for models that compute the same with it.

    Args:
        attention: the recipe's `model.attention`.
        device: as torch names it.
    """
    transformer = embedder[0]
    model = transformer.model
    if attention == "auto" and can_use_flash_attention(device) and model._supports_flash_attn:
        _try_to_set(model, FLASH)
    with evaluating(embedder), in_full_precision(model):
        model.batch_support = _try_batches(transformer, embedder.tokenizer, attention)


@contextmanager
def evaluating(embedder: SentenceTransformer) -> Iterator[None]:
    """Put a model into evaluation mode (no dropout), without gradients, and back into its mode afterwards."""
    was_training = embedder.training
    embedder.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        embedder.train(was_training)


@contextmanager
def in_full_precision(model: PreTrainedModel) -> Iterator[None]:
    """Hold a small model's half-precision weights in fp32, so that what changes an embedding differs from rounding.

    Large and quantized models, and FlashAttention, which knows no fp32, stay as they are.
    """
    tensors = [*model.parameters(), *model.buffers()]
    is_small = sum(tensor.numel() for tensor in tensors) <= MAX_WIDENED_PARAMETERS
    if not is_small or getattr(model, "is_quantized", False) or model.config._attn_implementation == FLASH:
        yield
        return
    halves = [(tensor, tensor.data) for tensor in tensors if tensor.dtype in (torch.float16, torch.bfloat16)]
    try:
        for tensor, half in halves:
            tensor.data = half.float()
        yield
    finally:
        for tensor, half in halves:
            tensor.data = half


def _try_batches(transformer: Transformer, tokenizer, attention: str) -> BatchSupport:
    side = tokenizer.padding_side
    model = transformer.model
    if model.config._attn_implementation == packed_attention.NAME:  # tried before
        _try_to_set(model, "sdpa")
    chosen = model.config._attn_implementation
    texts = example_texts(model, tokenizer)
    try:
        alone = [_states(transformer, {"input_ids": text, "attention_mask": torch.ones_like(text)}) for text in texts]
    except Exception:  # what such a model needs, only its own code knows; encoding will show its error
        return BatchSupport(padding=side)
    may_pack = getattr(model, "_supports_attention_backend", False)
    if chosen == "sdpa" and attention in ("auto", "sdpa") and model.device.type == "cpu" and may_pack:
        with packed_attention.observe_windows() as windows:
            if _try_to_set(model, packed_attention.NAME):
                packs = _packs(transformer, texts, alone)
                if packs and (padding := _find_padding(transformer, texts, alone, side, tokenizer)):
                    return BatchSupport(True, padding, min(windows, default=None))
                model.set_attn_implementation(chosen)
    packs = chosen == FLASH and may_pack and _packs(transformer, texts, alone)
    return BatchSupport(packs, _find_padding(transformer, texts, alone, side, tokenizer))


def _try_to_set(model: PreTrainedModel, implementation: str) -> bool:
    """Set an attention implementation; return whether the model takes it."""
    if not model._can_set_attn_implementation():
        return False
    try:
        model.set_attn_implementation(implementation)
    except (ValueError, ImportError):
        return False
    return model.config._attn_implementation == implementation


def example_texts(model: PreTrainedModel, tokenizer) -> list[Tensor]:
    """Return two texts, (1, tokens) each, of different tokens from all over the vocabulary, none of them special."""
    special = {*tokenizer.all_special_ids, getattr(model.config.get_text_config(), "pad_token_id", None)}
    size = min(len(tokenizer), getattr(model.get_input_embeddings(), "num_embeddings", len(tokenizer)))
    ids = [token for token in range(size) if token not in special]
    short, long = LENGTHS
    chosen = torch.tensor([ids[len(ids) * place // (short + long)] for place in range(short + long)] if ids else [0])
    return [text[None].to(model.device) for text in (chosen[:short], chosen[short:])]


def _states(transformer: Transformer, features: dict[str, Tensor]) -> Tensor:
    """Return the token states of one batch, (rows, tokens, dim) float32."""
    return transformer(features)["token_embeddings"].float()


def _packs(transformer: Transformer, texts: list[Tensor], alone: list[Tensor]) -> bool:
    """Return whether a text's states stay the same in one row of tokens with another before and behind it."""
    places = [1, 0, *[1] * _count_fillers(transformer.model)]
    lengths = torch.tensor([texts[place].shape[1] for place in places])
    device = texts[0].device
    starts = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])
    counted = torch.cat([torch.arange(length) for length in lengths])
    longest = lengths.max()
    features = {
        "input_ids": torch.cat([texts[place] for place in places], dim=1),
        "position_ids": (counted + positions.first_position(transformer.model))[None].to(device),
        "cu_seq_lens_q": starts.int().to(device),
    }
    if transformer.model.config._attn_implementation == packed_attention.NAME:
        features["attention_mask"] = torch.zeros(1, 1, 1, 1)
    else:
        features |= {"cu_seq_lens_k": starts.int().to(device), "max_length_q": longest, "max_length_k": longest}
    try:
        states = _states(transformer, features)
    except Exception:  # the model's own code, or an argument of attention that the packed kernels do not implement
        return False
    middle = states[:, lengths[0] : lengths[0] + lengths[1]]
    outer = states[:, : lengths[0]]
    return agree(transformer.model, middle, alone[0]) and agree(transformer.model, outer, alone[1])


def _count_fillers(model: PreTrainedModel) -> int:
    """Return how many times the longer text follows: of CLIP no row may be longer than the model has positions."""
    bound = positions.max_tokens(model)
    return 1 + bound // LENGTHS[1] if bound and bound <= MAX_TRIED_POSITIONS else 1


def _find_padding(
    transformer: Transformer, texts: list[Tensor], alone: list[Tensor], preferred: str, tokenizer
) -> str | None:
    """Return the side on which padding changes no state: the preferred one if possible."""
    other = "left" if preferred == "right" else "right"
    return next((side for side in (preferred, other) if _pads(transformer, texts, alone, side, tokenizer)), None)


def _pads(transformer: Transformer, texts: list[Tensor], alone: list[Tensor], side: str, tokenizer) -> bool:
    short, long = (text.shape[1] for text in texts)
    padding = texts[0].new_full((1, long - short), tokenizer.pad_token_id or 0)
    row, mask = [texts[0], padding], [torch.ones_like(texts[0]), torch.zeros_like(padding)]
    place = slice(0, short)
    if side == "left":
        row, mask, place = row[::-1], mask[::-1], slice(long - short, long)
    ids = torch.cat([torch.cat(row, dim=1), texts[1]])
    masks = torch.cat([torch.cat(mask, dim=1), torch.ones_like(texts[1])])
    try:
        states = _states(transformer, {"input_ids": ids, "attention_mask": masks})
    except Exception:  # the model's own code
        return False
    return agree(transformer.model, states[:1, place], alone[0])


def agree(model: PreTrainedModel, states: Tensor, expected: Tensor) -> bool:
    """Return whether states are the same but for rounding in the model's precision."""
    if states.shape != expected.shape:
        return False
    tolerance = TOLERANCES.get(model.dtype, HALF_PRECISION_TOLERANCE)
    return bool((states - expected).norm() <= tolerance * expected.norm())
