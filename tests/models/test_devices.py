"""Devices: names that this machine cannot serve are refused."""

import pytest
import torch
from helpers.tiny_task import refused

from rounds.models.devices import resolve_device


@pytest.mark.parametrize(("device", "part"), [("cuda:0", "no CUDA GPU"), ("tpu", "not cpu")])
def test_devices_that_do_not_exist_are_refused(device, part):
    """`cuda:0` on a machine without CUDA, or an unknown device, is refused in one line."""
    if device == "cuda:0" and torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with refused(device, part):
        resolve_device(device)
