"""Precision: values that are unknown, or that the device does not support, are refused."""

import importlib.util

import pytest
import torch
from helpers.tiny_task import refused
from torch import nn

from rounds.models import precision as precision_module
from rounds.models.precision import resolve_precision, widened, wider_precision


@pytest.mark.parametrize(("precision", "message"), [("fp16", "precision fp16: CPUs"), ("int3", "precision 'int3'")])
def test_unsupported_precisions_are_refused(precision, message):
    """fp16 on a CPU and an unknown precision are refused by name."""
    with refused(message):
        resolve_precision(precision, "cpu")


def test_a_missing_bitsandbytes_is_named(monkeypatch):
    """4-bit weights without the library are refused in one line that says what to install."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with refused("precision nf4", "needs bitsandbytes"):
        resolve_precision("nf4", "cpu")


@pytest.mark.parametrize(
    ("precision", "weights", "wider"),
    [
        ("fp16", torch.float16, "bf16"),
        ("fp16", torch.float32, "bf16"),
        ("bf16", torch.float32, "fp32"),
        ("bf16", torch.bfloat16, None),
        ("fp32", torch.float32, None),
    ],
)
def test_the_wider_precision_fits_the_weights(precision, weights, wider):
    """fp16 is computed again in bf16, bf16 in fp32 where the weights are; there is none beyond."""
    assert wider_precision(precision, nn.Linear(2, 2, dtype=weights), "cpu") == wider


class FourBitLayer(nn.Linear):
    """Has the attributes of bitsandbytes' 4-bit layer, which computes in a dtype of its own."""

    def __init__(self) -> None:
        super().__init__(2, 2)
        self.compute_dtype, self.quant_state = torch.float16, None


def test_four_bit_weights_are_unpacked_to_the_wider_precision(monkeypatch):
    """Where 4-bit weights are computed in fp16, overflows are computed in bf16; the layers then are as before."""
    monkeypatch.setattr(precision_module, "compute_dtype", lambda precision, device: torch.float16)
    layer = FourBitLayer()
    with widened(layer, "nf4", ["q1"]) as wider:
        assert (wider, layer.compute_dtype) == ("bf16", torch.bfloat16)
    assert layer.compute_dtype == torch.float16


def test_numbers_that_no_precision_makes_finite_are_refused_by_name():
    """The line names the texts, and only a few of many."""
    with refused("no finite numbers in fp32", "q0, q1, q2, q3, q4 and 2 more"):
        with widened(nn.Linear(2, 2), "fp32", [f"q{number}" for number in range(7)]):
            pass
