"""Choose devices: parse and check `cpu`, `cuda:N` and lists of them."""

import os
import resource

import torch

from rounds.errors import UserError


def resolve_device(device: str | None) -> str:
    """Return a checked device, such as `cuda:0` or `cpu`; None or empty takes a GPU if there is one.

    Raises:
        UserError: the device does not exist on this machine, or several are named.
    """
    if not device:
        return "cuda" if torch.cuda.is_available() else "cpu"
    _check_single(device)
    if device.startswith("cuda"):
        if not torch.cuda.is_available():
            raise UserError(f"device {device}: this machine has no CUDA GPU; leave the flag out or pass cpu")
        index = device.partition(":")[2]
        if index and not (index.isdecimal() and int(index) < torch.cuda.device_count()):
            raise UserError(f"device {device}: this machine has {torch.cuda.device_count()} CUDA GPU(s)")
    elif device != "cpu":
        raise UserError(f"device {device!r} is not cpu, cuda or cuda:N")
    return device


def resolve_devices(devices: str | None) -> tuple[str, ...]:
    """Parse and check a comma-separated list, such as `cuda:0,cuda:1` or `cpu,cpu`; each as `resolve_device` does.

    Raises:
        UserError: CPUs and GPUs are mixed, a GPU is named twice, or a device does not exist.
    """
    names = (devices or "").split(",")
    if len({name.partition(":")[0] for name in names}) > 1:
        raise UserError(f"devices {devices}: must be of one kind; name GPUs only (cuda:0,cuda:1) or cpu,cpu")
    resolved = tuple(map(resolve_device, names))
    if resolved[0] != "cpu" and len({name.partition(":")[2] or "0" for name in resolved}) < len(resolved):
        raise UserError(f"devices {devices}: names a GPU twice; name each once, such as cuda:0,cuda:1")
    return resolved


def _check_single(device: str) -> None:
    if "," in device:
        raise UserError(
            f"device {device}: only mining, evaluation and submission take several; name one "
            "(NPROC=2 trains in two processes)"
        )


def restrict_to_one_gpu(device: str) -> str:
    """Make one GPU the only visible one, and return its name in this process.

    The Trainer would otherwise spread over all GPUs and change the batch size. Under torchrun each process takes the
    GPU of its own rank. Call it before anything else touches CUDA.

    Raises:
        UserError: several devices are named.
    """
    _check_single(device)
    if device and not device.startswith("cuda"):
        return device
    if rank := os.environ.get("LOCAL_RANK"):  # the Trainer takes the GPU of this number
        return f"cuda:{rank}" if torch.cuda.is_available() else device
    index = device.partition(":")[2] or "0"
    visible = [gpu for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
    if index.isdecimal():
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[int(index)] if int(index) < len(visible) else index
    return "cuda:0" if device else ""


def peak_memory(device: str) -> float:
    """Return the most memory allocated so far, in MiB: on the GPU, or by this process where the device is a CPU."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def total_memory(device: str) -> float:
    """Return the MiB of memory of a GPU, or of this machine where the device is a CPU."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_properties(device).total_memory / 2**20
    with open("/proc/meminfo", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("MemTotal")) / 1024


def device_name(device: str) -> str:
    """Return the device, followed by the GPU's name in parentheses."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.startswith("cuda") else device
