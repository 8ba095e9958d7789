"""Numeric precision and attention implementations that a device supports."""

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn

from rounds.config.recipe import FOUR_BIT_PRECISIONS
from rounds.errors import UserError, install_command
from rounds.models.loading import report_once
from rounds.retrieval.vectors import list_names

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


def wider_precision(precision: str, model: nn.Module, device: str) -> str | None:
    """Return the precision with a wider range or finer numbers to compute in where this one gives no finite numbers.

    That of fp16 is bf16, which has the range of fp32 (cards without it, such as T4, emulate it slowly). That of bf16 is
    fp32, where the weights are in fp32.

    Returns:
        None if there is none.
    """
    dtype = compute_dtype(precision, device)
    if dtype == torch.float16:
        return "bf16"
    has_full_weights = all(weights.dtype == torch.float32 for weights in model.parameters())
    return "fp32" if dtype == torch.bfloat16 and has_full_weights else None


def describe_overflow(model: nn.Module, precision: str, lost: int, count: int, unit: str) -> str:
    """Return the line on texts or scores that were computed again in the wider precision, and how to avoid that.

    Args:
        precision: the one in which they are not finite.
        lost, count: how many of how many.
        unit: what they are, plural.
    """
    device = str(next(model.parameters()).device)
    return describe_overflow_of(describe_model(model), precision, device, lost, count, unit)


def describe_overflow_of(name: str, precision: str, device: str, lost: int, count: int, unit: str) -> str:
    """Return the line of `describe_overflow` on a model that is loaded elsewhere, given by its name and device."""
    dtype = compute_dtype(precision, device)
    narrow, wider, advice = ("fp16", "bf16", "bf16 or fp32") if dtype == torch.float16 else ("bf16", "fp32", "fp32")
    return (
        f"{name}: {narrow} overflows in {lost} of {count} {unit}; these are computed in {wider} "
        f"(set precision {advice} to compute each once)"
    )


def training_advice(model: nn.Module, precision: str) -> str:
    """Return the advice, ending in `; or `, to train in another precision than fp16; nothing for other precisions."""
    if compute_dtype(precision, str(next(model.parameters()).device)) != torch.float16:
        return ""
    return f"{describe_model(model)} may overflow in fp16, set model.precision bf16 or fp32; or "


def describe_model(model: nn.Module) -> str:
    """Return `model NAME` with the folder or hub name of the transformer within a model, or else `the model`."""
    configs = (getattr(module, "config", None) for module in model.modules())
    name = next(filter(None, (getattr(config, "_name_or_path", "") for config in configs)), "")
    return f"model {name}" if name else "the model"


@contextmanager
def widened(model: nn.Module, precision: str, names: Sequence[str]) -> Iterator[str]:
    """Let a model compute in the wider precision within a block that `autocast` put into this one, and yield it.

    Args:
        names: of the texts whose numbers are not finite.

    Raises:
        UserError: there is no wider precision; the line names the model, the precision and the texts.
    """
    parameter = next(model.parameters())
    device = str(parameter.device)
    wider = wider_precision(precision, model, device)
    if wider is None:
        # Half-precision weights may have overflowed while they were loaded, whatever is computed in now.
        held = {weights.dtype for weights in model.parameters()} & {torch.float16, torch.bfloat16}
        shown = "fp16" if torch.float16 in held else precision
        remedy = "its weights may be broken" + (f", or {shown} does not hold them: take fp32" if held else "")
        raise UserError(f"{describe_model(model)} gives no finite numbers in {shown} for {list_names(names)}; {remedy}")
    quantized = [
        layer for layer in model.modules() if hasattr(layer, "compute_dtype") and hasattr(layer, "quant_state")
    ]
    before = [layer.compute_dtype for layer in quantized]
    for layer in quantized:  # bitsandbytes' layers, which do not heed autocast
        layer.compute_dtype = DTYPES[wider]
    torch.clear_autocast_cache()  # it does not tell casts to one dtype from casts to another
    try:
        with torch.autocast(device.partition(":")[0], enabled=False):
            yield wider
    finally:
        torch.clear_autocast_cache()
        for layer, dtype in zip(quantized, before, strict=True):
            layer.compute_dtype = dtype


def resolve_precision(precision: str, device: str) -> str:
    """Return a precision, `auto` replaced by the best that the device supports natively.

    `auto` is bf16 where the device computes in it natively, else fp16 on a GPU and fp32 on a CPU.

    Raises:
        UserError: the precision is unknown, or this machine cannot compute in it.
    """
    if precision not in ("auto", *DTYPES, *FOUR_BIT_PRECISIONS):
        raise UserError(f"precision {precision!r} is not one of auto, {', '.join([*DTYPES, *FOUR_BIT_PRECISIONS])}")
    if precision in FOUR_BIT_PRECISIONS and importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(f"precision {precision}: needs bitsandbytes; install it with {install_command('four_bits')}")
    if precision == "fp16" and device == "cpu":
        raise UserError("precision fp16: CPUs do not train or encode in it; use bf16 or fp32")
    if precision != "auto":
        return precision
    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if native else "fp32"


def native_precision(precision: str, device: str, name: str) -> str:
    """Return the precision that a checkpoint was made in; for fp16 on a CPU `auto`'s, with a line that says so.

    Args:
        name: what the line calls the checkpoint.
    """
    if precision != "fp16" or device != "cpu":
        return precision
    best = resolve_precision("auto", device)
    report_once(f"{name}: was made in fp16, in which CPUs do not compute; it is computed in {best}")
    return best


def compute_dtype(precision: str, device: str) -> torch.dtype:
    """Return the dtype of matrix products; 4-bit weights are unpacked to what `auto` resolves to."""
    return DTYPES[resolve_precision("auto", device) if precision in FOUR_BIT_PRECISIONS else precision]


def loading_attention(attention: str) -> dict[str, str]:
    """Return transformers' keyword argument of the attention implementation to load a model with.

    Without one, transformers takes SDPA where the architecture supports it, else `eager`;
    `batch_support.choose_attention` decides the rest once the model is there.
    """
    return {} if attention in ("auto", "sdpa") else {"attn_implementation": attention}


def can_use_flash_attention(device: str) -> bool:
    """Return whether FlashAttention is installed and the GPU supports it (Ampere and later)."""
    supported = device.startswith("cuda") and torch.cuda.get_device_capability() >= (8, 0)
    return supported and importlib.util.find_spec("flash_attn") is not None
