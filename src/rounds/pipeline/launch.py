"""Launch: the command lines that start a script in one process, in several, or on several machines.

On several machines each runs torchrun, whose processes meet at the first one. A recipe that shards its model has
`accelerate launch` in torchrun's place, which the script itself starts.
"""

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import PurePath

from rounds.pipeline import hosts
from rounds.pipeline.experiment import short_hash
from rounds.pipeline.keys import Command

TORCHRUN = ("-m", "torch.distributed.run", "--nproc_per_node")

PORT = "29400"  # of the first machine, where the processes meet; MASTER_PORT is another one

RESTARTS = 3  # of all processes when one of them dies; the training goes on behind its last epoch

# Gives processes that are started again a store of their own. In one that all attempts share (torch's default), they
# find the addresses of those that are gone, and fail again.
OWN_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"

PASSED_ON = ("ROUNDS_", "HF_", "NCCL_", "GLOO_", "OMP_", "WANDB_")  # variables that the other machines get

# What another launcher says about its own processes: accelerate and torchrun would take it to be about ours.
FOREIGN = ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
FOREIGN_PREFIXES = ("OMPI_COMM_WORLD_", "PMI_", "MPI_LOCAL", "MV2_COMM_WORLD_", "PET_")


def command_line(command: Command, environment: Mapping[str, str] = os.environ) -> list[str]:
    """The words of a script's call, from the project's folder; on several machines that of the first.

    >>> from rounds.pipeline.keys import command
    >>> command_line(command("lb", competition="x"))[1:]
    ['scripts/lb.py', '--competition', 'x']
    """
    return _words(command, 0, environment)


def remote_lines(command: Command, environment: Mapping[str, str] = os.environ) -> list[list[str]]:
    """The command lines that start a script's call on each machine but the first; none where one machine runs it."""
    variables = [
        f"{name}={value}"
        for name, value in sorted(environment.items())
        if name.startswith(PASSED_ON) and name != "ROUNDS_GOALS"
    ]
    launcher = shlex.split(command.launch_by or hosts.SSH)
    is_shell = PurePath(launcher[0]).name == "ssh"  # which joins the words for a shell
    lines = []
    for number, host in enumerate(command.hosts[1:], 1):
        name = host.partition(".")[0]
        words = ["env", "-C", os.getcwd(), *variables, *_words(command, number, environment)]
        start = [word.replace(hosts.HOST, host).replace(hosts.NAME, name) for word in launcher]
        lines.append([*start, *(map(shlex.quote, words) if is_shell else words)])
    return lines


def script_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of a script: this one, without what srun, mpirun or a Kubernetes operator says of its processes.

    >>> script_environment({"PATH": "/bin", "RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"})
    {'PATH': '/bin'}
    """
    foreign = [name for name in environment if name in FOREIGN or name.startswith(FOREIGN_PREFIXES)]
    return {name: value for name, value in environment.items() if name not in foreign}


def _words(command: Command, number: int, environment: Mapping[str, str]) -> list[str]:
    """The words of a script's call on the machine of a number."""
    inside = os.path.relpath(sys.executable)
    python = sys.executable if inside.startswith("..") else inside
    script = [f"scripts/{command.script}.py", *command.arguments()]
    if len(command.hosts) < 2:
        several = [*TORCHRUN, str(command.processes)] if command.processes > 1 else []
        return [python, *several, *script]
    meeting = {
        "nnodes": str(len(command.hosts)),
        "rdzv_endpoint": f"{command.hosts[0]}:{environment.get('MASTER_PORT', PORT)}",
        "rdzv_id": f"rounds-{short_hash(shlex.join(script))}",
        "local_addr": command.hosts[number],
    }
    start = ["env", f"{OWN_STORE}=1"]
    if command.is_sharded:
        variables = {**meeting, "node_rank": str(number)}  # torchrun's own names, as its script has no such flags
        return [*start, *(f"PET_{name.upper()}={value}" for name, value in variables.items()), python, *script]
    fixed = {"rdzv_backend": "c10d", "rdzv_conf": f"is_host={int(number == 0)}", "max_restarts": str(RESTARTS)}
    options = [word for name, value in {**meeting, **fixed}.items() for word in (f"--{name}", value)]
    return [*start, python, *TORCHRUN, str(command.processes // len(command.hosts)), *options, *script]
