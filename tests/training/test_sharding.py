"""Sharding: `accelerate launch` gets our configuration, and a machine that cannot shard is refused."""

import importlib.util
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
import torch.distributed.run
from accelerate.commands import launch
from accelerate.commands.config.config_args import load_config_from_file
from helpers.tiny_task import refused

import rounds
from rounds.config import loader
from rounds.models import backbone, peft_methods, weights_io
from rounds.training import sharding

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(autouse=True)
def without_launcher(monkeypatch):
    """Unset the variables that a launcher sets."""
    for name in ("WORLD_SIZE", "PET_NNODES", "ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("kind", "expected"), [("fsdp", "FSDP"), ("zero3", "DEEPSPEED")])
def test_the_command_starts_accelerate_with_our_configuration(kind, expected, monkeypatch):
    """The command names a file from which accelerate reads the kind of sharding."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    command = sharding.command(kind, ["finetune.py", "--epochs", "1"], gpus=2)
    assert command[:3] == [sys.executable, "-m", "accelerate.commands.launch"]
    assert command[-5:] == ["--num_processes", "2", "finetune.py", "--epochs", "1"]
    config = load_config_from_file(command[command.index("--config_file") + 1])
    assert config.distributed_type.value == expected and not config.use_cpu


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("kind", ["fsdp", "zero3"])
def test_machines_meet_at_the_first(kind, rank, monkeypatch):
    """Accelerate makes of the command what torchrun needs on each machine: their number, its own, and the first."""
    here = f"gpu-{rank + 1}"
    variables = {"PET_NNODES": "2", "PET_NODE_RANK": str(rank), "PET_RDZV_ENDPOINT": "gpu-1:29400"}
    for name, value in {**variables, "PET_LOCAL_ADDR": here, "PET_RDZV_ID": "rounds-7"}.items():
        monkeypatch.setenv(name, value)
    with monkeypatch.context() as patched:
        patched.setattr(importlib.util, "find_spec", lambda name: object())
        command = sharding.command(kind, ["finetune.py", "--epochs", "1"], 4)
    started = []
    monkeypatch.setattr(torch.distributed.run, "run", started.append)
    monkeypatch.setattr(launch, "is_deepspeed_available", lambda: True)
    for name in ("deepspeed", "deepspeed.launcher", "deepspeed.launcher.runner"):  # from which a file's name is read
        monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(DEEPSPEED_ENVIRONMENT_NAME=""))
    launch.launch_command(launch.launch_command_parser().parse_args(command[3:]))
    (torchrun,) = started
    assert (torchrun.nnodes, torchrun.node_rank, torchrun.nproc_per_node) == ("2", rank, "4")
    assert (torchrun.rdzv_backend, torchrun.rdzv_endpoint, torchrun.rdzv_id) == ("c10d", "gpu-1:29400", "rounds-7")
    assert (torchrun.rdzv_conf, torchrun.local_addr) == (f"is_host={1 - rank}", here)
    assert (torchrun.max_restarts, torchrun.training_script) == (sharding.RESTARTS, "finetune.py")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_sharding_on_a_cpu_is_refused(tmp_path):
    """finetune.py ends with a line and exit status 2, where accelerate would silently fall back to DDP."""
    recipe = tmp_path / "sharded.yaml"
    text = (Path(rounds.__file__).parent / "recipes" / "tiny-mistral.yaml").read_text(encoding="utf-8")
    recipe.write_text(f"{text}  sharding: fsdp\n  micro_batch_tokens: 512\n", encoding="utf-8")
    command = [sys.executable, SCRIPTS / "finetune.py", "--recipe", recipe, "--train_data", "x", "--output_dir", "y"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: training.sharding fsdp: needs CUDA GPUs") and ran.stderr.count("\n") == 1


def test_processes_of_torchrun_are_refused(monkeypatch):
    """NPROC together with sharding is refused, as both would start processes."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with refused("training.sharding fsdp", "NPROC at 1"):
        sharding.command("fsdp", [], 2)


def test_a_missing_deepspeed_is_named(monkeypatch):
    """ZeRO without DeepSpeed is refused, and the refusal says how to install it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with refused("training.sharding zero3", "pip install deepspeed"):
        sharding.command("zero3", [], 2)


@pytest.mark.parametrize(
    ("section", "values"),
    [("training", {"micro_batch_tokens": 0}), ("model", {"precision": "nf4"})],
)
def test_recipes_that_cannot_be_sharded_are_refused(section, values):
    """Sharding without micro-batches, or over 4-bit weights, is refused."""
    recipe = loader.load("bge-en-icl").replace("training", sharding="fsdp")
    with refused("training.sharding fsdp"):
        recipe.replace(section, **values)


def test_gathered_weights_give_the_same_adapter_file(tiny, tmp_path):
    """An adapter that is written from gathered weights has the bytes of one that is written from the model."""
    torch.manual_seed(0)
    embedder = backbone.load(tiny, "fp32", "cpu")
    peft_methods.apply(embedder, tiny.tuning)
    for folder, weights in (("model", None), ("gathered", embedder.state_dict())):
        weights_io.save_weights(embedder, tmp_path / folder, tiny.tuning, weights)
    files = [tmp_path / folder / weights_io.ADAPTER_WEIGHTS for folder in ("model", "gathered")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_gathered_weights_can_be_checked_for_movement(tiny):
    """Gathered weights have the names of the snapshot from before the training."""
    embedder = backbone.load(tiny, "fp32", "cpu")
    peft_methods.apply(embedder, tiny.tuning)
    before = {name: weight + 1 for name, weight in peft_methods.snapshot_trainable(embedder).items()}
    peft_methods.check_weights_moved(before, embedder.state_dict())


def test_sharding_is_on_only_under_accelerate(monkeypatch):
    """The variable that accelerate sets for its processes decides."""
    assert not sharding.is_on()
    monkeypatch.setitem(os.environ, "ACCELERATE_USE_FSDP", "true")
    assert sharding.is_on()
