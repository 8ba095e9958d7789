"""Sharding: split a model that is too large for one GPU over several, by accelerate's FSDP or DeepSpeed ZeRO.

On CPUs accelerate silently falls back to plain DDP; here that is an error.
"""

import importlib.util
import os
import sys
from importlib import resources

import torch
from torch import Tensor

from rounds.errors import UserError


def is_on() -> bool:
    """Return whether `accelerate launch` started this process with one of our configurations."""
    return any(os.environ.get(f"ACCELERATE_USE_{kind}", "").lower() == "true" for kind in ("FSDP", "DEEPSPEED"))


def command(kind: str, script: list[str], gpus: int) -> list[str]:
    """Return the command that starts a script with sharding.

    Args:
        kind: `fsdp` or `zero3`.
        script: the script and its flags.
        gpus: number of GPUs, and of processes.

    Raises:
        UserError: no GPU, processes that were started already, or a library that is missing.
    """
    if not gpus:
        raise UserError(
            f"training.sharding {kind}: needs CUDA GPUs (on CPUs accelerate would train unsharded); set it to none"
        )
    if "WORLD_SIZE" in os.environ:
        raise UserError(
            f"training.sharding {kind}: starts one process per GPU of this machine; leave NPROC at 1 and HOSTS out"
        )
    if kind == "zero3" and importlib.util.find_spec("deepspeed") is None:
        raise UserError("training.sharding zero3: needs DeepSpeed; run pip install deepspeed, or set it to fsdp")
    config = resources.files("rounds.training") / "launch" / f"{kind}.yaml"
    launch = ["-m", "accelerate.commands.launch", "--config_file", str(config), "--num_processes", str(gpus)]
    return [sys.executable, *launch, *script]


def restart(kind: str) -> None:
    """Replace this process by `accelerate launch` of the running script; does not return."""
    arguments = command(kind, sys.argv, torch.cuda.device_count())
    os.execv(arguments[0], arguments)


def gather_weights(trainer) -> dict[str, Tensor] | None:
    """Return all weights, unsharded, in every process, keyed by their names in the model; None without sharding."""
    return trainer.accelerator.get_state_dict(trainer.model_wrapped) if is_on() else None


def process_count() -> int:
    """Return the number of processes that train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def wait_for_all_processes() -> None:
    """Block until every process has reached this call; a single process goes on at once."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
