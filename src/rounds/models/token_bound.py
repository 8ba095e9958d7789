"""Token bound: how many tokens a second a device could compute, if nothing but a model's matrix products took time.

The bound counts what the device is asked to compute: of a training step the forward pass, the gradients, and with
gradient checkpointing the second forward pass; of LoRA the products with both of its matrices. It leaves out what is no
product with a weight: attention, embeddings, norms, activations, the random numbers of dropout, casts between dtypes,
the loss and the optimizer.
"""

import time

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from rounds.models.precision import compute_dtype

MATRIX_SIZES = {"cpu": 2048, "cuda": 8192}  # large enough for the full rate: smaller products leave a GPU half idle

MATRIX_REPEATS = 10


def matrix_rate(
    device: torch.device, dtype: torch.dtype, size: int | None = None, repeats: int = MATRIX_REPEATS
) -> float:
    """Return the TFLOP/s of a square matrix product, the best of some runs behind one that warms up.

    On CPUs the products of a 0.5B decoder (896 to 4,864 columns) run within 8% of it.

    Args:
        size: rows and columns of the matrices; default: `MATRIX_SIZES`.
        repeats: the number of runs.
    """
    size = size or MATRIX_SIZES.get(device.type, MATRIX_SIZES["cpu"])
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = min([_time_product(left, right) for _ in range(repeats + 1)][1:])
    return 2 * size**3 / seconds / 1e12


def _time_product(left: torch.Tensor, right: torch.Tensor) -> float:
    """Return the seconds of a product, until the device has finished it."""
    is_cuda = left.device.type == "cuda"
    if is_cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    torch.matmul(left, right)
    if is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def count_flops(model: nn.Module, trains: bool, recomputes: bool = False) -> int:
    """Return the floating point operations that a token takes in a model's linear layers.

    A weight takes two forward, and two more for the gradient of its input; a trained weight takes two for its own
    gradient (Kaplan et al. 2020, arXiv:2001.08361, section 2.1). Attention, which grows with the length, and embeddings
    are left out, so the bound is a little too high for long texts. All experts of a mixture count.

    Args:
        model: the transformer, without a head over the vocabulary.
        trains: count the backward pass as well.
        recomputes: gradient checkpointing computes the forward pass twice.
    """
    flops = 0
    for layer in model.modules():
        if isinstance(layer, nn.Linear | Conv1D):  # GPT-2's linear layers are called Conv1D
            # 4-bit weights are packed into fewer elements.
            size = layer.weight.numel() if isinstance(layer, Conv1D) else layer.in_features * layer.out_features
            trained = layer.weight.requires_grad
            flops += 2 * size * (1 + (trains and 1 + trained + recomputes))
    return flops


def tokens_per_second(
    model: nn.Module, precision: str, trains: bool, recomputes: bool = False, repeats: int = MATRIX_REPEATS
) -> float:
    """Return the bound of a loaded model on its device, measuring the matrix rate now.

    Args:
        precision: `fp32`, `bf16`, `fp16`, `nf4` or `fp4`.
        trains, recomputes: as `count_flops` takes them.
        repeats: as `matrix_rate` takes it.
    """
    device = next(model.parameters()).device
    rate = matrix_rate(device, compute_dtype(precision, str(device)), repeats=repeats)
    return rate * 1e12 / count_flops(model, trains, recomputes)
