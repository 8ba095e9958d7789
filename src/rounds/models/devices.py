"""Choose devices: parse and check `cpu`, `cuda:N` and lists of them."""

import os
import resource

import torch

from rounds.errors import UserError


def resolve_device(device: str | None) -> str:
    """`cuda:0`, `cpu`, ...; None or empty takes a GPU where there is one."""
    if not device:
        return "cuda" if torch.cuda.is_available() else "cpu"
    _check_single(device)
    if device.startswith("cuda"):
        if not torch.cuda.is_available():
            raise UserError(f"device {device}: this machine has no CUDA GPU; leave the flag out or pass cpu")
        index = device.partition(":")[2]
        if index and not (index.isdigit() and int(index) < torch.cuda.device_count()):
            raise UserError(f"device {device}: this machine has {torch.cuda.device_count()} CUDA GPU(s)")
    elif device != "cpu":
        raise UserError(f"device {device!r} is not cpu, cuda or cuda:N")
    return device


def resolve_devices(devices: str | None) -> tuple[str, ...]:
    """`cuda:0,cuda:1`, `cpu,cpu`, ... -> each of them; a single one, or none, as `resolve_device` takes it.

    Raises:
        UserError: CPUs and GPUs are mixed, or a GPU is named twice.
    """
    names = (devices or "").split(",")
    if len({name.partition(":")[0] for name in names}) > 1:
        raise UserError(f"devices {devices}: must be of one kind; name GPUs only (cuda:0,cuda:1) or cpu,cpu")
    found = tuple(map(resolve_device, names))
    if found[0] != "cpu" and len({name.partition(":")[2] or "0" for name in found}) < len(found):
        raise UserError(f"devices {devices}: names a GPU twice; name each once, such as cuda:0,cuda:1")
    return found


def _check_single(device: str) -> None:
    if "," in device:
        raise UserError(
            f"device {device}: only mining, evaluation and submission take several; name one "
            "(NPROC=2 trains in two processes)"
        )


def restrict_to_one_gpu(device: str) -> str:
    """Make one CUDA card the only visible one: the Trainer would spread over all, and change the batch size.

    Under torchrun each process takes the card of its own rank. Call it before anything else touches CUDA.
    """
    _check_single(device)
    if device and not device.startswith("cuda"):
        return device
    if rank := os.environ.get("LOCAL_RANK"):  # the Trainer takes the card of this number
        return f"cuda:{rank}" if torch.cuda.is_available() else device
    index = device.partition(":")[2] or "0"
    visible = [card for card in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if card]
    if index.isdecimal():
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[int(index)] if int(index) < len(visible) else index
    return "cuda:0" if device else ""


def peak_memory(device: str) -> float:
    """MiB held at most so far: of the card, or of the process where there is none."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def device_name(device: str) -> str:
    """The device with its card's name."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.startswith("cuda") else device
