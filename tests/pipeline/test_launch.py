"""Launch: the words that start a script on several machines, and a training across two of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import two_machines
from helpers.training import few_rows

from rounds.pipeline import launch
from rounds.pipeline.keys import Command

ROOT = Path(__file__).resolve().parents[2]

FLAGS = (("seed", ("7",)),)

# Runs a call as make does.
RUN = """
import sys
from rounds.pipeline import keys
from rounds.pipeline.keys import Command
from rounds.pipeline.runner import Runner

hosts = tuple(filter(None, sys.argv[1].split(",")))
Runner().call(Command("finetune", keys.parse(sys.argv[2:]), processes=max(1, len(hosts)), hosts=hosts))
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
    (line,) = launch.remote_lines(command, {launch.REMOTE: "srun --overlap -w"})
    assert line[:4] == ["srun", "--overlap", "-w", "b"] and line[-1] == "my recipe.yaml"


def test_one_machine_has_no_other():
    """Several processes on it are torchrun's."""
    command = Command("finetune", FLAGS, processes=2)
    assert launch.remote_lines(command, {}) == []
    assert launch.command_line(command)[1:5] == [*launch.TORCHRUN, "2"]


def losses(output: Path) -> list[float]:
    """Return the loss of each epoch, which is one step."""
    folders = sorted(output.glob("lora_epoch_*"))
    return [json.loads((folder / "metrics.json").read_text())["train loss"] for folder in folders]


@pytest.mark.slow
def test_two_machines_train_with_the_losses_of_one(tiny_mined, tmp_path):
    """Each step's loss is that of one process on the same batch, negatives of both machines included."""
    recipe = tmp_path / "without-dropout.yaml"
    text = (ROOT / "src/rounds/recipes/tiny-mistral.yaml").read_text(encoding="utf-8")
    recipe.write_text(text.replace("dropout: 0.1", "dropout: 0.0"), encoding="utf-8")
    flags = ["--recipe", recipe, "--device", "cpu", "--train_data", few_rows(tiny_mined, tmp_path, rows=16)]
    flags += ["--batch_size", 16, "--epochs", 4, "--model_output", tmp_path]
    with two_machines.connected() as (first, second):
        remote = tmp_path / "remote"  # in place of ssh
        remote.write_text(f'#!/bin/sh\nshift\nexec ip netns exec {second.name} "$@"\n')
        remote.chmod(0o755)
        variables = {launch.REMOTE: str(remote), "GLOO_SOCKET_IFNAME": two_machines.INTERFACE}
        environment = two_machines.environment(**variables)
        outputs = {"alone": "", "together": f"{first.address},{second.address}"}
        for name, hosts in outputs.items():
            call = [sys.executable, "-c", RUN, hosts, *flags, "--output_dir", tmp_path / name]
            result = subprocess.run(first.inside(call), capture_output=True, text=True, cwd=ROOT, env=environment)
            assert result.returncode == 0, result.stderr
            assert result.stdout.count("s of training") == 1
    assert len(losses(tmp_path / "alone")) == 4
    assert losses(tmp_path / "together") == pytest.approx(losses(tmp_path / "alone"), rel=1e-4)
