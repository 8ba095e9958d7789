"""Precision: values that are unknown, or that the device does not support, are refused."""

import importlib.util

import pytest
import torch
from helpers.tiny_task import refused
from torch import nn
from transformers import BertConfig, BertModel

from rounds.models import precision as precision_module
from rounds.models.precision import (
    native_precision,
    resolve_precision,
    training_advice,
    widened,
    wider_precision,
)


@pytest.mark.parametrize(("precision", "message"), [("fp16", "precision fp16: CPUs"), ("int3", "precision 'int3'")])
def test_unsupported_precisions_are_refused(precision, message):
    """fp16 on a CPU and an unknown precision are refused by name."""
    with refused(message):
        resolve_precision(precision, "cpu")


def test_a_checkpoint_made_in_fp16_is_computed_on_a_cpu(capsys):
    """It takes what suits the CPU, and a line names the checkpoint; other precisions stay."""
    assert native_precision("fp16", "cpu", "some/folder") == resolve_precision("auto", "cpu")
    assert "some/folder: was made in fp16" in capsys.readouterr().out
    kept = [native_precision(precision, "cpu", "") for precision in ("fp32", "bf16", "nf4")]
    assert kept == ["fp32", "bf16", "nf4"] and native_precision("fp16", "cuda:0", "") == "fp16"


def test_a_loss_that_is_lost_in_fp16_is_advised_another_precision(monkeypatch):
    """The model is named; in other precisions the loss is lost for another reason."""
    model = BertModel(BertConfig(vocab_size=2, hidden_size=4, num_hidden_layers=1, num_attention_heads=1))
    model.config.name_or_path = "someone/gemma"
    assert "model someone/gemma may overflow in fp16" in training_advice(model, "fp16")
    assert training_advice(model, "fp32") == ""


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
