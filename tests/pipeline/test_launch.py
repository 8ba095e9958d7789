"""Launch: the words that start a script on several machines, and a training across two of them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import two_machines
from helpers.training import few_rows
from helpers.two_machines import Machine

from rounds.pipeline import launch
from rounds.pipeline.keys import Command

ROOT = Path(__file__).resolve().parents[2]

FLAGS = (("seed", ("7",)),)

# Runs a call as make does, with the settings behind `--` and the flags before it.
RUN = """
import sys
from rounds.pipeline import keys, settings
from rounds.pipeline.keys import Command
from rounds.pipeline.runner import Runner

split = sys.argv.index("--")
given = settings.read(sys.argv[split + 1:], {}).resolve()
flags = keys.parse(sys.argv[1:split])
Runner().call(Command("finetune", flags, given.processes, given.host_names, given.launch_by))
"""


# Stands in for a training: the process on the second machine dies in the first attempt. In the next one the first
# machine comes late, so that the second would find the address that its process had in the first attempt.
DYING = """
import os, signal, time
from pathlib import Path
import torch
import torch.distributed as dist

is_second, died, back = "ON_SECOND" in os.environ, Path("died"), Path("back")
with open("starts", "a") as file:
    file.write("x")  # one for each process that was started
if died.exists():
    if is_second:
        back.touch()
    while not back.exists():
        time.sleep(0.05)
    time.sleep(0 if is_second else 2)
dist.init_process_group("gloo")
if is_second and not died.exists():
    died.touch()
    os.kill(os.getpid(), signal.SIGKILL)
total = torch.ones(1)
dist.all_reduce(total)
Path(f"total{dist.get_rank()}").write_text(str(total.item()))
dist.destroy_process_group()
"""

# Stand in for Slurm's commands on one machine with two addresses.
SCONTROL = "#!/bin/sh\necho 127.0.0.1\necho 127.0.0.2\n"
SRUN = """#!/bin/sh
while case "$1" in --*) true;; *) false;; esac; do shift; done
ON_SECOND=1 exec "$@"
"""


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


def test_the_machines_meet_at_the_first():
    """It runs its part here; the other gets the same words with its own address, by ssh, in the project's folder."""
    command = Command("finetune", FLAGS, processes=4, hosts=("gpu-1", "gpu-2"))
    here, (there,) = launch.command_line(command), launch.remote_lines(command, {"NCCL_IB_DISABLE": "1", "HOME": "/x"})
    assert there[0] == "ssh" and there[there.index("env") - 1] == "gpu-2"
    assert there[there.index("env") :][1:4] == ["-C", os.getcwd(), "NCCL_IB_DISABLE=1"]
    for number, words in enumerate((here, there)):
        assert option(words, "--nnodes") == option(words, "--nproc_per_node") == "2"
        assert option(words, "--rdzv_endpoint") == f"gpu-1:{launch.PORT}"
        assert option(words, "--local_addr") == f"gpu-{number + 1}"
        assert option(words, "--rdzv_conf") == f"is_host={1 - number}"
        assert words[-3:] == ["scripts/finetune.py", "--seed", "7"]


def test_words_are_quoted_for_ssh_alone():
    """Another command gets them as they are."""
    command = Command("finetune", (("recipe", ("my recipe.yaml",)),), processes=2, hosts=("a", "b"))
    assert launch.remote_lines(command, {})[0][-1] == "'my recipe.yaml'"
    (line,) = launch.remote_lines(replace(command, launch_by="srun -w {host}"), {})
    assert line[:3] == ["srun", "-w", "b"] and line[-1] == "my recipe.yaml"


def test_a_launcher_gets_the_machines_name():
    """A pod's name is the part of its address before the first dot; each machine has its own."""
    command = Command("finetune", FLAGS, processes=3, hosts=("a.x", "b.x", "c.x"), launch_by="run {name} {host} --")
    assert [line[:5] for line in launch.remote_lines(command, {})] == [
        ["run", "b", "b.x", "--", "env"],
        ["run", "c", "c.x", "--", "env"],
    ]


def test_trainings_at_once_do_not_meet_each_other():
    """Another output is another rendezvous, and MASTER_PORT is another place for it."""
    one, other = (
        launch.command_line(Command("finetune", (("output_dir", (name,)),), 2, ("a", "b")), {"MASTER_PORT": port})
        for name, port in (("x", "29400"), ("y", "29500"))
    )
    assert option(one, "--rdzv_id") != option(other, "--rdzv_id")
    assert option(other, "--rdzv_endpoint") == "a:29500"


def test_a_sharded_script_is_told_of_the_machines():
    """It starts the processes itself, so torchrun's variables stand before its plain call."""
    command = Command("finetune", FLAGS, processes=2, hosts=("a", "b"), is_sharded=True)
    here, (there,) = launch.command_line(command, {}), launch.remote_lines(command, {})
    for number, words in enumerate((here, there[there.index("-C") + 2 :])):
        assert words[:4] == ["env", f"{launch.OWN_STORE}=1", "PET_NNODES=2", f"PET_RDZV_ENDPOINT=a:{launch.PORT}"]
        assert words[5:7] == [f"PET_LOCAL_ADDR={'ab'[number]}", f"PET_NODE_RANK={number}"]
        assert words[-3:] == ["scripts/finetune.py", "--seed", "7"] and "-m" not in words


def test_one_machine_has_no_other():
    """Several processes on it are torchrun's."""
    command = Command("finetune", FLAGS, processes=2)
    assert launch.remote_lines(command, {}) == []
    assert launch.command_line(command)[1:5] == [*launch.TORCHRUN, "2"]


@pytest.fixture(scope="module")
def flags(tiny_mined, tmp_path_factory) -> list:
    """The flags of a training of four steps without dropout."""
    folder = tmp_path_factory.mktemp("training")
    recipe = folder / "without-dropout.yaml"
    text = (ROOT / "src/rounds/recipes/tiny-mistral.yaml").read_text(encoding="utf-8")
    recipe.write_text(text.replace("dropout: 0.1", "dropout: 0.0"), encoding="utf-8")
    flags = ["--recipe", recipe, "--device", "cpu", "--train_data", few_rows(tiny_mined, folder, rows=16)]
    return [*flags, "--batch_size", 16, "--epochs", 4, "--model_output", folder]


@pytest.fixture(scope="module")
def expected(flags, tmp_path_factory) -> list[float]:
    """The losses of one process."""
    output = tmp_path_factory.mktemp("alone") / "train"
    subprocess.run([sys.executable, "-c", RUN, *map(str, flags), "--output_dir", output, "--"], check=True, cwd=ROOT)
    assert len(losses(output)) == 4
    return losses(output)


@pytest.fixture
def machines() -> Iterator[tuple[Machine, Machine]]:
    """Two machines."""
    with two_machines.connected() as both:
        yield both


def losses(output: Path) -> list[float]:
    """Return the loss of each epoch, which is one step."""
    folders = sorted(output.glob("lora_epoch_*"))
    return [json.loads((folder / "metrics.json").read_text())["train loss"] for folder in folders]


def start(machine: Machine, call: list, log: Path, **variables: str) -> subprocess.Popen:
    """Start a training on its first machine."""
    variables["GLOO_SOCKET_IFNAME"] = two_machines.INTERFACE
    return machine.start([sys.executable, "-c", RUN, *call], log, **variables)


@pytest.mark.slow
def test_two_machines_train_with_the_losses_of_one(machines, flags, expected, tmp_path):
    """Each step's loss is that of one process on the same batch, negatives of both machines included."""
    first, second = machines
    launcher = tmp_path / "launcher"
    launcher.write_text(f'#!/bin/sh\nshift\nexec ip netns exec {second.name} "$@"\n')
    launcher.chmod(0o755)
    hosts = [f"HOSTS={first.address},{second.address}", f"LAUNCH_BY={launcher} {{host}}"]
    call = [*flags, "--output_dir", tmp_path / "train", "--", *hosts]
    assert start(first, call, tmp_path / "log").wait() == 0, (tmp_path / "log").read_text()
    assert (tmp_path / "log").read_text().count("s of training") == 1
    assert losses(tmp_path / "train") == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_a_process_that_dies_on_another_node_of_a_job_is_started_again(tmp_path):
    """All processes of a Slurm job meet again, those of the node that lost none included."""
    (tmp_path / "scripts").mkdir()
    for name, text in (("scripts/finetune.py", DYING), ("scontrol", SCONTROL), ("srun", SRUN)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    job = {"SLURM_JOB_NODELIST": "gpu-[1-2]", "SLURMD_NODENAME": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
    environment = two_machines.environment(**job, PATH=f"{tmp_path}:{os.environ['PATH']}")
    result = subprocess.run(
        [sys.executable, "-c", RUN, "--", "HOSTS=slurm"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert [(tmp_path / f"total{rank}").read_text() for rank in range(2)] == ["2.0", "2.0"]
    assert (tmp_path / "starts").read_text() == 4 * "x" and "exitcode: -9" in result.stderr
