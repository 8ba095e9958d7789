"""The script: folder, upload, and failures as one line with exit code 2."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import hub_stand_in
from helpers.hub_stand_in import TOKEN, Hub
from helpers.scripts import SCRIPTS, assert_one_line
from helpers.tuned_models import build_tuned_model, save_checkpoint, tuned_recipe


@pytest.fixture
def server() -> Iterator[Hub]:
    """A hub without repositories."""
    with hub_stand_in.serving() as served:
        yield served


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A checkpoint with all weights."""
    recipe = tuned_recipe("full")
    return save_checkpoint(build_tuned_model(recipe), recipe, tmp_path_factory.mktemp("full") / "epoch_1")


def publish(server: Hub, *flags: object, token: str = TOKEN) -> subprocess.CompletedProcess:
    """Run the script with its flags; the hub is the stand-in."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": server.url, "HF_TOKEN": token, "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, str(SCRIPTS / "publish.py"), *map(str, flags)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL)


def make_flags(checkpoint: Path, data: Path, output: Path) -> list[object]:
    return ["--model_path", checkpoint, "--data_dir", data, "--repo", "you/tiny", "--output_dir", output]


@pytest.mark.slow
def test_a_checkpoint_is_written_and_uploaded(server, folder, tiny_collection, tmp_path):
    """What is in the folder is what the hub has, in one commit of the folder's name."""
    output = tmp_path / "tiny-round1"
    flags = make_flags(folder, tiny_collection, output)
    result = publish(server, *flags)
    assert result.returncode == 0, result.stderr
    local = {path.relative_to(output).as_posix(): path.read_bytes() for path in output.rglob("*") if path.is_file()}
    assert server.repos == {"you/tiny": local} and "README.md" in local and "model.safetensors" in local
    assert server.private == {"you/tiny": True}
    assert [commit["summary"] for commit in server.commits] == ["tiny-round1 by rounds"]
    assert result.stdout.splitlines()[1].startswith(f"{server.url}/you/tiny (private): commit ")


@pytest.mark.slow
def test_a_rehearsal_asks_nobody(server, folder, tiny_collection, tmp_path):
    """`--dry` writes the folder, without a token."""
    flags = make_flags(folder, tiny_collection, tmp_path / "o")
    result = publish(server, *flags, "--dry", token="")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "o" / "README.md").is_file() and server.requests == []


@pytest.mark.slow
def test_a_refused_token_is_one_line_before_anything_is_written(server, folder, tiny_collection, tmp_path):
    """Nor is the model loaded."""
    flags = make_flags(folder, tiny_collection, tmp_path / "o")
    assert_one_line(publish(server, *flags, token="hf_wrong"), "repo you/tiny", "refuses the token")
    assert not (tmp_path / "o").exists() and server.requests[-1] == "GET /api/whoami-v2" and server.repos == {}


def test_a_bad_repository_name_is_one_line(server, tmp_path):
    """The hub is not asked."""
    flags = ["--model_path", "m", "--data_dir", "d", "--repo", "you/a b", "--output_dir", tmp_path / "o"]
    assert_one_line(publish(server, *flags), "'you/a b'")
    assert server.requests == []
