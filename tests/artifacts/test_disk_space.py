"""Full disks: one line, whichever library writes, and nothing half-written."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.scripts import SCRIPTS
from helpers.tiny_task import refused
from safetensors.torch import save_file

from rounds.artifacts import disk_space, store

SIZE = 50_000


def save_tensors(path: Path) -> None:
    save_file({"weights": torch.zeros(SIZE)}, path)


def save_state(path: Path) -> None:
    torch.save({"weights": torch.zeros(SIZE)}, path)


def save_array(path: Path) -> None:
    with open(path, "wb") as file:
        np.save(file, np.zeros(SIZE))


def save_table(path: Path) -> None:
    pd.DataFrame({"column": np.zeros(SIZE)}).to_csv(path)


def save_json(path: Path) -> None:
    path.write_text(json.dumps([0] * SIZE))


def map_array(path: Path) -> None:
    disk_space.allocate_array(path, (SIZE, 1))[:] = 1


@pytest.mark.parametrize("save", [save_tensors, save_state, save_array, save_table, save_json, map_array])
@pytest.mark.parametrize("wrapper", ["folder", "file"])
def test_a_full_disk_is_one_line_whatever_library_writes(small_disk, save, wrapper):
    """Checkpoints, vectors and tables that find no space name their path, and leave nothing."""
    path = small_disk / "artefact"
    with refused(path, "no space left"):
        if wrapper == "file":
            with store.replacing(path) as temporary:
                save(temporary)
        else:
            with store.drafting(path) as draft:
                save(draft.folder / "weights")
    assert list(small_disk.iterdir()) == []


def test_mapped_arrays_have_their_space_from_the_start(tmp_path):
    """The file of an allocated array is not sparse, and what is written into it is read back."""
    array = disk_space.allocate_array(tmp_path / "vectors.npy", (500, 100))
    assert (tmp_path / "vectors.npy").stat().st_blocks * 512 >= 500 * 100 * 4
    array[:] = 7
    assert (np.load(tmp_path / "vectors.npy") == 7).all()


@pytest.mark.parametrize(
    "error", [OSError(errno.EACCES, os.strerror(errno.EACCES)), ValueError("a value"), KeyError("key")]
)
def test_other_errors_pass(error):
    """An error that says nothing of space is the caller's."""
    with pytest.raises(type(error)), disk_space.required_for(Path("artefact")):
        raise error


def test_a_script_names_its_output_where_the_disk_is_full(tmp_path):
    """Whatever file of a script found no space, there is one line and no traceback."""
    # -B: Python renames a bytecode file that the limit cut, and no process could import its module afterwards.
    command = f"ulimit -f 1; exec {sys.executable} -B {SCRIPTS}/make_sample.py --output_dir {tmp_path}/sample"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert result.returncode == 2 and result.stderr.count("\n") == 1, result.stderr
    assert f"{tmp_path}/sample" in result.stderr and "no space left" in result.stderr
    assert list(tmp_path.iterdir()) == []
