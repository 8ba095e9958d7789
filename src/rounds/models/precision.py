"""Numeric precision and attention implementation that a device supports."""

import importlib.util
from contextlib import AbstractContextManager, nullcontext

import torch

from rounds.config.recipe import FOUR_BIT_PRECISIONS
from rounds.errors import UserError
from rounds.models import packed_attention

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(precision: str, device: str, keep_casts: bool = True) -> AbstractContextManager:
    """Return a context for mixed precision on `device`; it does nothing where the device computes in fp32.

    Args:
        keep_casts: cast each weight once for the whole context. Gradient checkpointing cannot reuse such casts.
    """
    dtype = compute_dtype(precision, device)
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device.partition(":")[0], dtype=dtype, cache_enabled=keep_casts)


def resolve_precision(precision: str, device: str) -> str:
    """Return a precision, `auto` replaced by the best that the device supports natively.

    `auto` is bf16 where the device computes in it natively, else fp16 on a GPU and fp32 on a CPU.

    Raises:
        UserError: the precision is unknown, or this machine cannot compute in it.
    """
    if precision not in ("auto", *DTYPES, *FOUR_BIT_PRECISIONS):
        raise UserError(f"precision {precision!r} is not one of auto, {', '.join([*DTYPES, *FOUR_BIT_PRECISIONS])}")
    if precision in FOUR_BIT_PRECISIONS and importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(f"precision {precision}: needs bitsandbytes; install it with pip install '.[four_bits]'")
    if precision == "fp16" and device == "cpu":
        raise UserError("precision fp16: CPUs do not train or encode in it; use bf16 or fp32")
    if precision != "auto":
        return precision
    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if native else "fp32"


def compute_dtype(precision: str, device: str) -> torch.dtype:
    """Return the dtype of matrix products; 4-bit weights are unpacked to what `auto` resolves to."""
    return DTYPES[resolve_precision("auto", device) if precision in FOUR_BIT_PRECISIONS else precision]


def resolve_attention(attention: str, device: str) -> str:
    """Return transformers' name of an attention implementation.

    `auto` is FlashAttention where it is installed and the GPU supports it (Ampere and later), else SDPA. On CPUs,
    packed attention takes the place of SDPA.
    """
    if attention == "auto":
        supported = device.startswith("cuda") and torch.cuda.get_device_capability() >= (8, 0)
        attention = "flash_attention_2" if supported and importlib.util.find_spec("flash_attn") else "sdpa"
    return packed_attention.NAME if attention == "sdpa" and device == "cpu" else attention
