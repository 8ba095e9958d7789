"""The hand-run pipeline's commands, as docs/by-hand.md has them, on a tiny model in the hub model's place."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rounds.config import loader
from rounds.models.weights import locate_model

ROOT = Path(__file__).resolve().parents[2]
HUB_NAME = "BAAI/bge-en-icl"


def commands() -> list[str]:
    """The lines of the page's block that starts with `cd scripts`."""
    block = re.search(
        r"```sh\ncd scripts\n(.*?)```", (ROOT / "docs" / "by-hand.md").read_text(encoding="utf-8"), re.DOTALL
    )
    return block[1].replace("\\\n", " ").splitlines()


def test_the_block_holds_the_reference_commands():
    """Each script and each flag that the hand-run pipeline used stands in the block."""
    text = "\n".join(commands())
    for part in (
        "gen_data_for_hn_mine.py --mode validation --validation_version v1 --sub_dir_name hn_mine_data_zero_round",
        "gen_data_for_hn_mine.py --mode submission --sub_dir_name hn_mine_data_zero_round",
        f"hn_mine.py --embedder_name_or_path {HUB_NAME} --embedder_model_class decoder-only-icl",
        "--pooling_method last_token",
        "--range_for_sampling 2-200 --negative_number 15 --devices cuda:0",
        "./icl_finetune.sh",
        "eval_llm_embedder.py --use_examples_in_query=True",
        "eval_llm_embedder.py --use_examples_in_query=False",
        f"eval_llm_embedder.py --model_path={HUB_NAME}",
        "--lora_path=../model_output/icl_finetune_validation_v1_round1/lora_epoch_4 --validation_version=1",
    ):
        assert part in text


@pytest.fixture(scope="module")
def project(raw, tmp_path_factory) -> tuple[Path, dict]:
    """A copy of `scripts/` with competition data in `data/raw`, and an environment whose model is tiny."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "scripts", root / "scripts")
    shutil.copytree(raw, root / "data" / "raw")
    model = root / "tiny-icl"
    shutil.copytree(locate_model(loader.load("tiny-mistral").model), model)
    (model / "manifest.json").unlink()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return root, {**os.environ, "ROUNDS_MODEL": str(model), "PATH": path}


def run(project, line: str) -> subprocess.CompletedProcess:
    root, environment = project
    line = line.replace(HUB_NAME, environment["ROUNDS_MODEL"])
    return subprocess.run(["bash", "-c", line], cwd=root / "scripts", env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_the_reference_commands_run_as_written(project):
    """Every line of the page's block ends well and writes where it says; only the missing GPU is left out."""
    printed = {}
    for line in commands():
        ran = run(project, line.replace("--devices cuda:0", "--devices cpu"))
        assert ran.returncode == 0, f"{line}\n{ran.stderr[-3000:]}"
        printed[line] = ran.stdout
    root, _ = project
    data = root / "data" / "hn_mine_data_zero_round"
    for name in ("finetune_data.jsonl", "finetune_data_minedHN.jsonl", "candidate_pool.jsonl"):
        assert (data / "validation_v1" / name).is_file()
    assert (data / "submission" / "finetune_data.jsonl").is_file()
    trained = root / "model_output" / "icl_finetune_validation_v1_round1"
    assert [(trained / f"lora_epoch_{n}" / "adapter_model.safetensors").is_file() for n in range(1, 6)] == [True] * 5
    with_examples, without = (
        next(text for line, text in printed.items() if line.endswith(f"--use_examples_in_query={value}"))
        for value in (True, False)
    )
    assert "zero-shot (examples)" in with_examples and "zero-shot (no examples)" in without
    tuned = next(text for line, text in printed.items() if "--lora_path" in line)
    assert "round 1, epoch 4" in tuned and "lineage unknown" not in tuned


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_missing_gpu_is_one_line(project):
    """`--devices cuda:0` on a machine without CUDA says so and leaves nothing."""
    line = next(line for line in commands() if "cuda:0" in line)
    ran = run(project, line)
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: device cuda:0") and ran.stderr.count("\n") == 1


def test_icl_finetune_passes_its_flags_on(tmp_path):
    """The wrapper's own flags become finetune.py's, others go through as they are."""
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    shutil.copy(ROOT / "scripts" / "icl_finetune.sh", scripts)
    (scripts / "finetune.py").write_text("import os, sys; print(os.environ['CUDA_VISIBLE_DEVICES'], *sys.argv[1:])")
    flags = (
        "--epochs 3 --batch_size=8 --gpu_ids 1 --train_data a.jsonl --output_dir=out --model_name_or_path m --seed 7"
    )
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", str(scripts / "icl_finetune.sh"), *flags.split()]
    ran = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": path})
    assert ran.stdout.split() == (
        "1 --train_data a.jsonl --output_dir out --epochs 3 --batch_size 8 --model_name_or_path m --seed 7".split()
    )


@pytest.mark.parametrize("flags", [["--epochs"], ["epochs", "3"], ["--num_gpus", "two"]])
def test_icl_finetune_refuses_what_it_cannot_read(flags):
    """A flag without a value, a word that is no flag, or a number that is none is one line."""
    ran = subprocess.run(["bash", str(ROOT / "scripts" / "icl_finetune.sh"), *flags], capture_output=True, text=True)
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: ") and ran.stderr.count("\n") == 1
