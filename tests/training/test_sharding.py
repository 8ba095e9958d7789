"""Sharding: reaches `accelerate launch` with a configuration of ours, and never becomes plain DDP in silence."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.tiny_task import refused

import rounds
from rounds.config import loader
from rounds.models import backbone, peft_methods, weights_io
from rounds.training import sharding

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """No launcher's variables."""
    for name in ("WORLD_SIZE", "ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("kind", "expected"), [("fsdp", "FSDP"), ("zero3", "DEEPSPEED")])
def test_the_line_starts_accelerate_with_our_configuration(kind, expected, monkeypatch):
    """accelerate itself reads the file that the line names, and would shard by it."""
    from accelerate.commands.config.config_args import load_config_from_file

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    line = sharding.command(kind, ["finetune.py", "--epochs", "1"], cards=2)
    assert line[:3] == [sys.executable, "-m", "accelerate.commands.launch"]
    assert line[-5:] == ["--num_processes", "2", "finetune.py", "--epochs", "1"]
    config = load_config_from_file(line[line.index("--config_file") + 1])
    assert config.distributed_type.value == expected and not config.use_cpu


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_finetune_on_a_cpu_says_that_it_would_not_shard(tmp_path):
    """One line, instead of accelerate's silent DDP."""
    recipe = tmp_path / "sharded.yaml"
    text = (Path(rounds.__file__).parent / "recipes" / "tiny-mistral.yaml").read_text(encoding="utf-8")
    recipe.write_text(f"{text}  sharding: fsdp\n  micro_batch_tokens: 512\n", encoding="utf-8")
    command = [sys.executable, SCRIPTS / "finetune.py", "--recipe", recipe, "--train_data", "x", "--output_dir", "y"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: training.sharding fsdp: needs CUDA cards") and ran.stderr.count("\n") == 1


def test_what_torchrun_started_is_not_sharded(monkeypatch):
    """NPROC and sharding would start each other's processes."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with refused("training.sharding fsdp", "NPROC at 1"):
        sharding.command("fsdp", [], 2)


def test_a_missing_deepspeed_is_named(monkeypatch):
    """ZeRO without DeepSpeed is one line."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with refused("training.sharding zero3", "pip install deepspeed"):
        sharding.command("zero3", [], 2)


@pytest.mark.parametrize(
    ("section", "values"),
    [("training", {"micro_batch_tokens": 0}), ("model", {"precision": "nf4"})],
)
def test_recipes_that_cannot_be_sharded_are_refused(section, values):
    """Sharding goes with LoRA over 16-bit weights in micro-batches."""
    recipe = loader.load("bge-en-icl").replace("training", sharding="fsdp")
    with refused("training.sharding fsdp"):
        recipe.replace(section, **values)


def test_gathered_weights_are_saved_as_the_model_s_own(tiny, tmp_path):
    """An adapter written from gathered weights equals the one written from the model."""
    torch.manual_seed(0)
    embedder = backbone.load(tiny, "fp32", "cpu")
    peft_methods.apply(embedder, tiny.tuning)
    for folder, weights in (("own", None), ("gathered", embedder.state_dict())):
        weights_io.save_weights(embedder, tmp_path / folder, tiny.tuning, weights)
    one, other = (tmp_path / name / weights_io.ADAPTER_WEIGHTS for name in ("own", "gathered"))
    assert one.read_bytes() == other.read_bytes()
    peft_methods.check_weights_moved(
        {k: v + 1 for k, v in peft_methods.snapshot_trainable(embedder).items()}, embedder.state_dict()
    )


def test_is_on_only_under_accelerate(monkeypatch):
    """The launcher's variable decides."""
    assert not sharding.is_on()
    monkeypatch.setitem(os.environ, "ACCELERATE_USE_FSDP", "true")
    assert sharding.is_on()
