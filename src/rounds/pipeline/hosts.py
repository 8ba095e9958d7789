"""Hosts: the machines that HOSTS names, and the command that starts another one on them.

Only the standard library is needed, as in `settings`.
"""

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rounds.errors import UserError

SLURM = "slurm"

HOST, NAME = "{host}", "{name}"  # in LAUNCH_BY: a machine's name, and the part of it before the first dot

SSH = f"ssh -tt -o BatchMode=yes {HOST}"

# Not bound to cores: a step of one task would have one core, which all of its processes would share.
SRUN = f"srun --overlap --nodes=1 --ntasks=1 --cpu-bind=none --nodelist={HOST}"

# A launcher's number of each copy of the command that it started.
RANKS = ("SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK")


@dataclass(frozen=True)
class Machines:
    """Where a training runs.

    Attributes:
        names: of the machines, this one first.
        launch_by: the command that starts another one on a machine; empty for ssh.
        slots: processes that each machine has room for; None where nothing says so.
    """

    names: tuple[str, ...]
    launch_by: str = ""
    slots: int | None = None


def resolve(text: str, environment: Mapping[str, str], has_nproc: bool = False) -> Machines:
    """Return the machines that a value of HOSTS names.

    Args:
        text: `HOST,HOST,...`, `@FILE` (a hostfile) or `slurm` (the nodes of the job that this process runs in).
        has_nproc: NPROC is given, so that slots do not count.

    Raises:
        UserError: no allocation, or a hostfile that is missing or wrong.
    """
    if text == SLURM:
        return Machines(_slurm_nodes(environment), SRUN)
    if not text.startswith("@"):
        return Machines(tuple(name.strip() for name in text.split(",")))
    path = Path(text[1:])
    slots = _read_hostfile(path)
    if has_nproc or None in slots.values():
        return Machines(tuple(slots))
    if len(set(slots.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in slots.items())
        raise UserError(f"HOSTS={text}: each machine needs as many slots as the others ({listed}); or say NPROC=N")
    return Machines(tuple(slots), slots=next(iter(slots.values())))


def copy_number(environment: Mapping[str, str]) -> int:
    """Return which copy of its command this process is, where srun or mpirun started several; 0 is the first."""
    numbers = [environment[name] for name in RANKS if name in environment]
    return max((int(number) for number in numbers if number.isdecimal()), default=0)


def _slurm_nodes(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the nodes of the allocation, this one first."""
    hosts = f"HOSTS={SLURM}"
    if not (allocated := environment.get("SLURM_JOB_NODELIST")):
        raise UserError(f"{hosts}: this is no Slurm job (SLURM_JOB_NODELIST is not set); run make in a batch script")
    call = ["scontrol", "show", "hostnames", allocated]
    try:
        names = subprocess.run(call, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError) as error:
        reason = " ".join((getattr(error, "stderr", "") or str(error)).split())
        raise UserError(f"{hosts}: {' '.join(call)} failed ({reason}); name the machines, HOSTS=HOST,HOST") from None
    here = environment.get("SLURMD_NODENAME", "")
    if here not in names:
        raise UserError(
            f"{hosts}: make must run on a node of the job ({', '.join(names)}), not on {here or 'another machine'}; "
            "run it in the batch script, or by srun --overlap --nodes=1 --ntasks=1"
        )
    return (here, *(name for name in names if name != here))


def _read_hostfile(path: Path) -> dict[str, int | None]:
    """Return the machines of a hostfile, each with its slots; None where the file gives no number for it.

    Lines are `HOST`, `HOST slots=4` (Open MPI, DeepSpeed) or `HOST:4` (MPICH, Intel MPI); a machine on several lines
    has a slot for each (PBS).
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", "") or "not UTF-8"
        raise UserError(f"HOSTS=@{path}: cannot be read ({reason}); name a hostfile, or HOST,HOST") from None
    listed: dict[str, list[int | None]] = {}
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        match = re.fullmatch(r"([\w.-]+)(?::(\d+))?((?: \w[\w-]*=\d+)*)", " ".join(words))
        options = dict(word.split("=") for word in words[1:]) if match else {}
        count = match and (match[2] or options.get("slots"))
        if not match or count == "0":
            raise UserError(f"{path} line {number}: must be HOST, HOST slots=N or HOST:N, not {line.strip()!r}")
        listed.setdefault(match[1], []).append(int(count) if count else None)
    if not listed:
        raise UserError(f"HOSTS=@{path}: the file names no machine")
    return {name: _slots(counts) for name, counts in listed.items()}


def _slots(counts: list[int | None]) -> int | None:
    """Return the slots of a machine from those of its lines; a line without a number counts as one beside others."""
    return sum(count or 1 for count in counts) if len(counts) > 1 else counts[0]
