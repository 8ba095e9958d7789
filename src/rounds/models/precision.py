"""Numeric precision and attention implementation that a device supports."""

import importlib.util
from contextlib import nullcontext

import torch

from rounds.config.recipe import FOUR_BIT_PRECISIONS
from rounds.errors import UserError
from rounds.models import packed_attention


def autocast(precision: str, device: str, keep_casts: bool = True):
    """Mixed precision on `device`; nothing where it computes in fp32.

    Args:
        keep_casts: cast each weight once for the whole region. Gradient checkpointing cannot find such casts again.
    """
    dtype = compute_dtype(precision, device)
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device.partition(":")[0], dtype=dtype, cache_enabled=keep_casts)


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_precision(precision: str, device: str) -> str:
    """`auto` -> bf16 where the device computes in it natively, else fp16 on a GPU and fp32 on a CPU."""
    if precision not in ("auto", *DTYPES, *FOUR_BIT_PRECISIONS):
        raise UserError(f"precision {precision!r} is not one of auto, {', '.join([*DTYPES, *FOUR_BIT_PRECISIONS])}")
    if precision in FOUR_BIT_PRECISIONS and importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(f"precision {precision}: needs bitsandbytes; pip install '.[four_bits]' brings it")
    if precision == "fp16" and device == "cpu":
        raise UserError("precision fp16: CPUs do not train or encode in it; use bf16 or fp32")
    if precision != "auto":
        return precision
    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if native else "fp32"


def compute_dtype(precision: str, device: str) -> torch.dtype:
    """What matrix products are computed in; 4-bit weights are unpacked to what `auto` takes."""
    return DTYPES[resolve_precision("auto", device) if precision in FOUR_BIT_PRECISIONS else precision]


def resolve_attention(attention: str, device: str) -> str:
    """`auto` -> FlashAttention where it is installed and the card can (Ampere and later), else SDPA; packed on CPUs."""
    if attention == "auto":
        capable = device.startswith("cuda") and torch.cuda.get_device_capability() >= (8, 0)
        attention = "flash_attention_2" if capable and importlib.util.find_spec("flash_attn") else "sdpa"
    return packed_attention.NAME if attention == "sdpa" and device == "cpu" else attention
