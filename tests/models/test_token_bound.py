"""The token bound: operations a token by hand, and the share that they are of a measured rate."""

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from rounds.models import token_bound


@pytest.fixture
def layers() -> nn.Sequential:
    """Two linear layers of 6 and 12 weights, the second frozen."""
    layers = nn.Sequential(nn.Embedding(10, 2), nn.Linear(2, 3), nn.Linear(3, 4))
    layers[2].requires_grad_(False)
    return layers


@pytest.mark.parametrize(
    ("trains", "recomputes", "expected"),
    [(False, False, 2 * 18), (True, False, 6 * 6 + 4 * 12), (True, True, 8 * 6 + 6 * 12)],
)
def test_operations_of_a_token(layers, trains, recomputes, expected):
    """Forward 2 a weight, backward 2 more and 2 more where it is trained, and 2 to compute it again."""
    assert token_bound.count_flops(layers, trains, recomputes) == expected


def test_gpt_2_s_layers_count():
    """Its linear layers are transformers' Conv1D."""
    assert token_bound.count_flops(Conv1D(4, 3), trains=False) == 2 * 12


def test_the_bound_is_the_matrix_rate_over_the_operations(layers, monkeypatch):
    """1 TFLOP/s computes 1e12 / 36 tokens of 36 operations."""
    monkeypatch.setattr(token_bound, "matrix_rate", lambda device, dtype, repeats: 1.0)
    assert token_bound.tokens_per_second(layers, "fp32", trains=False) == pytest.approx(1e12 / 36)


def test_the_matrix_rate_is_a_number_of_the_device():
    """A product of small matrices has a positive rate."""
    assert token_bound.matrix_rate(torch.device("cpu"), torch.float32, size=16) > 0
