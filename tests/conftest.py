"""Fixtures: a tiny generated data set, its collection, and tiny random models. Nothing leaves the temporary folder."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random models are built here, not in the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["ROUNDS_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated competition CSVs: 60 questions, 8 test questions."""
    from rounds.data.synthetic import maths

    folder = tmp_path_factory.mktemp("raw") / "tiny"
    folder.mkdir()
    maths.generate(folder, questions=60, test_questions=8, seed=0)
    return folder


@pytest.fixture(scope="session")
def tiny():
    """The recipe `tiny`: a random Mistral with LoRA."""
    from rounds.config import loader

    return loader.load("tiny-mistral")


@pytest.fixture(scope="session")
def tiny_collection(raw: Path, tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Split v1 of `raw` in the recipe's format."""
    from rounds.data import collection, splits
    from rounds.data.loaders import eedi

    folder = tmp_path_factory.mktemp("data") / "validation_v1"
    task = eedi.load(raw)
    collection.write(task, splits.make_split(task, "v1"), tiny.prompts, folder, {})
    return folder


@pytest.fixture(scope="session")
def tiny_mined(tiny, tiny_collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Negatives for `tiny_collection`, mined with the random base model."""
    from helpers.training import mine

    folder = tmp_path_factory.mktemp("mined")
    output = folder / "finetune_data_minedHN.jsonl"
    mine(tiny, tiny_collection, output)
    return output


@pytest.fixture
def unused_port() -> int:
    """A TCP port on loopback that nobody listens on."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 KB; the test is skipped where none can be mounted."""
    import subprocess

    folder = tmp_path / "small-disk"
    folder.mkdir()
    try:
        command = ["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", str(folder)]
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
