"""Copies of the project in which tests run make."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from rounds.pipeline.experiment import tag

ROOT = Path(__file__).resolve().parents[2]
FLAGS = ["MODEL=tiny-mistral", "EPOCHS=1", "DEVICE=cpu"]


def make(project: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
    """Run make in the copy, without ever touching the set-up."""
    command = ["make", "--no-print-directory", "-o", ".venv/.setup", *arguments]
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")}
    result = subprocess.run(
        command, cwd=project, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=environment
    )
    assert not check or result.returncode == 0, result.stdout + result.stderr
    return result


def copy_project(folder: Path, *names: str) -> Path:
    """Files of the project in a folder of their own, on the environment that runs the tests."""
    for name in names:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy2(source, folder / name)
    if not (ROOT / ".venv").exists():
        pytest.skip("the Makefile's environment is not set up")
    (folder / ".venv").symlink_to(ROOT / ".venv")
    return folder


def experiment(project: Path, split: str = "v1") -> Path:
    """The folder of the rounds that `FLAGS` describes, on data in a folder `tiny`."""
    (folder,) = project.glob(f"model_output/tiny-*-tiny-mistral-{split}{tag(['epochs=1'])}")
    return folder
