"""Precision: values that are unknown, or that the device does not support, are refused."""

import importlib.util

import pytest
from helpers.tiny_task import refused

from rounds.models.precision import resolve_precision


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
