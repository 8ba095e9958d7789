"""Launch: the command lines that start a script in one process, in several, or on several machines.

On several machines each runs torchrun, whose processes meet at the first one. The others are reached by ssh, or by the
command in ROUNDS_REMOTE (such as `srun --overlap -N1 -n1 -w`), which gets the machine's name and the words to run.
"""

import os
import shlex
import sys
from collections.abc import Mapping

from rounds.pipeline.keys import Command

TORCHRUN = ("-m", "torch.distributed.run", "--nproc_per_node")

PORT = 29400  # of the first machine, where the processes meet

RESTARTS = 3  # of all processes when one of them dies; the training goes on behind its last epoch

REMOTE = "ROUNDS_REMOTE"

PASSED_ON = ("ROUNDS_", "HF_", "NCCL_", "GLOO_", "OMP_", "WANDB_")  # variables that the other machines get


def command_line(command: Command) -> list[str]:
    """The words of a script's call, from the project's folder; on several machines that of the first.

    >>> from rounds.pipeline.keys import command
    >>> command_line(command("lb", competition="x"))[1:]
    ['scripts/lb.py', '--competition', 'x']
    """
    return _words(command, 0)


def remote_lines(command: Command, environment: Mapping[str, str] = os.environ) -> list[list[str]]:
    """The command lines that start a script's call on each machine but the first; none where one machine runs it."""
    remote = shlex.split(environment.get(REMOTE, "")) or ["ssh", "-tt", "-o", "BatchMode=yes"]
    variables = [
        f"{name}={value}"
        for name, value in sorted(environment.items())
        if name.startswith(PASSED_ON) and name not in (REMOTE, "ROUNDS_GOALS")
    ]
    lines = []
    for number, host in enumerate(command.hosts[1:], 1):
        words = ["env", "-C", os.getcwd(), *variables, *_words(command, number)]
        is_shell = remote[0].endswith("ssh")  # which joins the words for a shell
        lines.append([*remote, host, *(map(shlex.quote, words) if is_shell else words)])
    return lines


def _words(command: Command, number: int) -> list[str]:
    """The words of a script's call on the machine of a number."""
    inside = os.path.relpath(sys.executable)
    python = sys.executable if inside.startswith("..") else inside
    return [python, *_torchrun(command, number), f"scripts/{command.script}.py", *command.arguments()]


def _torchrun(command: Command, number: int) -> list[str]:
    if command.processes == 1:
        return []
    machines = max(1, len(command.hosts))
    launch = [*TORCHRUN, str(command.processes // machines)]
    if machines == 1:
        return launch
    meeting = ["--rdzv_backend", "c10d", "--rdzv_endpoint", f"{command.hosts[0]}:{PORT}", "--rdzv_id", "rounds"]
    first = ["--rdzv_conf", f"is_host={int(number == 0)}", "--local_addr", command.hosts[number]]
    return [*launch, "--nnodes", str(machines), *meeting, *first, "--max_restarts", str(RESTARTS)]
