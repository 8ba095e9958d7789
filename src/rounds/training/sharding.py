"""Sharding: a model too large for one card, split over several by accelerate's FSDP or DeepSpeed ZeRO.

accelerate falls back to plain DDP on CPUs without a word; here that is an error.
"""

import importlib.util
import os
import sys
from importlib import resources

import torch
from torch import Tensor

from rounds.errors import UserError


def is_on() -> bool:
    """Whether this process was started by `accelerate launch` with one of our configurations."""
    return any(os.environ.get(f"ACCELERATE_USE_{kind}", "").lower() == "true" for kind in ("FSDP", "DEEPSPEED"))


def command(kind: str, script: list[str], cards: int) -> list[str]:
    """The line that starts a script under a sharding configuration.

    Args:
        kind: `fsdp` or `zero3`.
        script: the script and its flags.

    Raises:
        UserError: no card, processes that somebody else started, or a library that is missing.
    """
    if not cards:
        raise UserError(
            f"training.sharding {kind}: needs CUDA cards (on CPUs accelerate would train unsharded); set it to none"
        )
    if "WORLD_SIZE" in os.environ:
        raise UserError(f"training.sharding {kind}: starts its own process for each card; leave NPROC at 1")
    if kind == "zero3" and importlib.util.find_spec("deepspeed") is None:
        raise UserError("training.sharding zero3: needs DeepSpeed; pip install deepspeed, or take fsdp")
    config = resources.files("rounds.training") / "launch" / f"{kind}.yaml"
    launch = ["-m", "accelerate.commands.launch", "--config_file", str(config), "--num_processes", str(cards)]
    return [sys.executable, *launch, *script]


def restart(kind: str) -> None:
    """Become `accelerate launch` of the running script; does not return."""
    line = command(kind, sys.argv, torch.cuda.device_count())
    os.execv(line[0], line)


def gathered(trainer) -> dict[str, Tensor] | None:
    """All weights in one piece, on every process, by their names in the model; None where nothing is sharded."""
    return trainer.accelerator.get_state_dict(trainer.model_wrapped) if is_on() else None


def process_count() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def wait_for_all_processes() -> None:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
