"""Hosts: what HOSTS names, in a list, a hostfile or a Slurm job, and what starts a command there."""

import os
from pathlib import Path

import pytest

from rounds.errors import UserError
from rounds.pipeline import __main__ as main
from rounds.pipeline import hosts, settings

# Stands in for Slurm's scontrol: two nodes, whatever the list.
SCONTROL = '#!/bin/sh\n[ "$*" = "show hostnames gpu-[1-2]" ] && echo gpu-1 && echo gpu-2\n'


@pytest.fixture
def job(tmp_path: Path, monkeypatch) -> dict[str, str]:
    """The variables of a job on two nodes, in its batch script."""
    program = tmp_path / "bin" / "scontrol"
    program.parent.mkdir()
    program.write_text(SCONTROL)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    variables = {"SLURM_JOB_NODELIST": "gpu-[1-2]", "SLURMD_NODENAME": "gpu-1", "SLURM_PROCID": "0"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


def hostfile(folder: Path, text: str) -> str:
    """Return the value of HOSTS for a hostfile of that text."""
    (folder / "hosts").write_text(text)
    return f"@{folder}/hosts"


def test_slurm_names_the_nodes_of_the_job(job):
    """This node comes first, wherever the job's list has it; srun starts the others."""
    assert hosts.resolve("slurm", job) == hosts.Machines(("gpu-1", "gpu-2"), hosts.SRUN)
    assert hosts.resolve("slurm", {**job, "SLURMD_NODENAME": "gpu-2"}).names == ("gpu-2", "gpu-1")


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"SLURM_JOB_NODELIST": ""}, ["no Slurm job", "batch script"]),
        ({"SLURMD_NODENAME": ""}, ["gpu-1, gpu-2", "not on another machine", "srun --overlap"]),
        ({"SLURM_JOB_NODELIST": "gpu-["}, ["scontrol show hostnames gpu-[ failed", "HOSTS=HOST,HOST"]),
    ],
)
def test_slurm_without_nodes_is_refused(job, changes, parts):
    """Outside of a job, on its login node, and where scontrol fails; the line says what to do."""
    with pytest.raises(UserError) as caught:
        hosts.resolve("slurm", {**job, **changes})
    assert str(caught.value).startswith("HOSTS=slurm: ") and all(part in str(caught.value) for part in parts)


def test_slurm_without_its_tools_is_refused(job, monkeypatch):
    """Such as in a container of the job: the machines can be named."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="scontrol .* No such file .* HOSTS=HOST,HOST"):
        hosts.resolve("slurm", job)


@pytest.mark.parametrize(
    ("text", "slots"),
    [
        ("a\nb\n", None),
        ("# of the job\n\na slots=4 max-slots=8\nb slots=4  # the other\n", 4),
        ("a:2\nb:2\n", 2),
        ("a\na\nb\nb\n", 2),
    ],
)
def test_a_hostfile_names_machines_and_slots(text, slots, tmp_path):
    """As Open MPI, DeepSpeed, MPICH and PBS write it."""
    assert hosts.resolve(hostfile(tmp_path, text), {}) == hosts.Machines(("a", "b"), slots=slots)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a\nb slots=two\n", ["hosts line 2", "slots=N", "'b slots=two'"]),
        ("a:0\n", ["hosts line 1"]),
        ("# none\n", ["names no machine"]),
        ("a slots=4\nb slots=2\n", ["a 4, b 2", "NPROC=N"]),
    ],
)
def test_a_wrong_hostfile_is_refused(text, parts, tmp_path):
    """The line names the file, and its line where one is wrong."""
    with pytest.raises(UserError) as caught:
        hosts.resolve(hostfile(tmp_path, text), {})
    assert all(part in str(caught.value) for part in parts)


def test_a_missing_hostfile_is_refused(tmp_path):
    """The reason is the system's."""
    with pytest.raises(UserError, match="HOSTS=@.*no: cannot be read .No such file"):
        hosts.resolve(f"@{tmp_path}/no", {})


def test_slots_are_processes_unless_nproc_says_so(tmp_path):
    """NPROC, when given, also evens out machines with other numbers of slots."""
    given = settings.read([f"HOSTS={hostfile(tmp_path, 'a slots=4')}"], {}).resolve(root=tmp_path)
    assert (given.nproc, given.host_names, given.processes) == (4, (), 4)
    uneven = hostfile(tmp_path, "a slots=4\nb slots=2\n")
    given = settings.read([f"HOSTS={uneven}", "NPROC=2"], {}).resolve(root=tmp_path)
    assert (given.nproc, given.host_names, given.processes) == (2, ("a", "b"), 4)


def test_a_job_of_one_node_trains_as_without_hosts(job, monkeypatch, tmp_path):
    """One batch script serves any number of nodes."""
    (tmp_path / "bin" / "scontrol").write_text("#!/bin/sh\necho gpu-1\n")
    given = settings.read(["HOSTS=slurm", "NPROC=4"], {}).resolve(root=tmp_path)
    assert (given.host_names, given.processes, given.launch_by) == ((), 4, "")


@pytest.mark.parametrize("name", hosts.RANKS)
def test_of_the_copies_that_a_launcher_starts_the_first_works(name, capsys):
    """`srun make` and `mpirun make` run it on each machine: the others end at once, without an error."""
    assert main.main(["round1", "HOSTS=a,b"], {name: "1"}) == 0
    assert capsys.readouterr().out == "round1: copy 1 of this make ends here; the first trains on all of HOSTS\n"
    assert hosts.copy_number({name: "0"}) == hosts.copy_number({}) == 0
