"""Sharding: split a model that is too large for one GPU over several, by accelerate's FSDP or DeepSpeed ZeRO.

On CPUs accelerate silently falls back to plain DDP; here that is an error.
"""

import importlib.util
import os
import sys
from collections.abc import Mapping
from importlib import resources

import torch
from torch import Tensor

from rounds.errors import UserError

RESTARTS = 3  # of all machines' processes when one of them dies


def is_on() -> bool:
    """Return whether `accelerate launch` started this process with one of our configurations."""
    return any(os.environ.get(f"ACCELERATE_USE_{kind}", "").lower() == "true" for kind in ("FSDP", "DEEPSPEED"))


def command(kind: str, script: list[str], gpus: int, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the command that starts a script with sharding.

    Args:
        kind: `fsdp` or `zero3`.
        script: the script and its flags.
        gpus: number of GPUs, and of processes, of each machine.
        environment: has torchrun's variables where several machines train together: PET_NNODES, PET_NODE_RANK and
            PET_RDZV_ENDPOINT, the first machine's HOST:PORT.

    Raises:
        UserError: no GPU, processes that were started already, or a library that is missing.
    """
    if not gpus:
        raise UserError(
            f"training.sharding {kind}: needs CUDA GPUs (on CPUs accelerate would train unsharded); set it to none"
        )
    if "WORLD_SIZE" in environment:
        raise UserError(f"training.sharding {kind}: starts one process per GPU of this machine; leave NPROC at 1")
    if kind == "zero3" and importlib.util.find_spec("deepspeed") is None:
        raise UserError("training.sharding zero3: needs DeepSpeed; run pip install deepspeed, or set it to fsdp")
    config = resources.files("rounds.training") / "launch" / f"{kind}.yaml"
    machines = int(environment.get("PET_NNODES", "1"))
    launch = ["-m", "accelerate.commands.launch", "--config_file", str(config)]
    launch += ["--num_processes", str(gpus * machines)]
    if machines > 1:
        launch += _meeting(kind, machines, int(environment["PET_NODE_RANK"]), environment["PET_RDZV_ENDPOINT"])
    return [sys.executable, *launch, *script]


def _meeting(kind: str, machines: int, rank: int, first: str) -> list[str]:
    """Return the flags by which several machines meet at the first one."""
    host, _, port = first.rpartition(":")
    flags = ["--num_machines", str(machines), "--machine_rank", str(rank)]
    flags += ["--main_process_ip", host, "--main_process_port", port]
    flags += ["--rdzv_backend", "c10d", "--rdzv_conf", f"is_host={int(rank == 0)}", "--max_restarts", str(RESTARTS)]
    return [*flags, *(["--deepspeed_multinode_launcher", "standard"] if kind == "zero3" else [])]


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
