"""Partial folder: what a training writes until it ends, which a later call goes on with."""

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from rounds.artifacts import store

COMPLETE = "complete"  # JSON in a folder of the Trainer's state that was written to its end; once it was empty

CONFIG = "config.json"  # what is trained from what


@dataclass(frozen=True)
class SavedState:
    """A complete state of the Trainer.

    Attributes:
        folder: what Trainer takes as `resume_from_checkpoint`.
        seconds: time that the training had taken by then, without what was lost behind earlier states.
        peak_mib: the most memory that it had held by then, in MiB.
    """

    folder: str
    seconds: float = 0.0
    peak_mib: float = 0.0


def prepare(partial: Path, config: dict) -> None:
    """Create the unfinished output folder; keep a killed run's only if it was trained from the same config."""
    file = partial / CONFIG
    if file.is_file() and store.differences(store.read_json(file), config):
        shutil.rmtree(partial)
    elif partial.exists() and not file.is_file():
        shutil.rmtree(partial)
    partial.mkdir(parents=True, exist_ok=True)
    store.write_json(file, config)


def mark_complete(state: Path, seconds: float, peak_mib: float = 0.0) -> None:
    """Mark a Trainer state as written to its end, once the disk has it: a power cut leaves no mark on half a state.

    Args:
        seconds: time that the training has taken so far.
        peak_mib: the most memory that it has held so far, in MiB; 0 where nobody asks.
    """
    for file in state.rglob("*"):
        if file.is_file():
            _sync(file)
    for folder in (state, state.parent):
        with contextlib.suppress(OSError):  # some network file systems have no fsync for folders
            _sync(folder)
    store.write_json(state / COMPLETE, {"seconds": seconds, "peak_mib": peak_mib})


def _sync(path: Path) -> None:
    """Wait until a file, or a folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def find_last_state(folder: Path) -> SavedState | None:
    """Return the newest complete Trainer state, or None; remove the incomplete ones."""
    marks = sorted(folder.glob(f"checkpoint-*/{COMPLETE}"), key=lambda f: int(f.parent.name.rpartition("-")[2]))
    for state in folder.glob("checkpoint-*"):
        if not (state / COMPLETE).is_file() and store.is_main_process():
            shutil.rmtree(state)
    if not marks:
        return None
    return SavedState(str(marks[-1].parent), **(store.read_json(marks[-1]) if marks[-1].stat().st_size else {}))
