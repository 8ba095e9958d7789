"""Partial folder: what a training writes until it ends, which a later call goes on with."""

import shutil
from pathlib import Path

from rounds.artifacts import store
from rounds.training.plan import COMPLETE

CONFIG = "config.json"  # what is trained from what


def prepare(partial: Path, config: dict) -> None:
    """Create the unfinished output folder; keep a killed run's only if it was trained from the same config."""
    file = partial / CONFIG
    if file.is_file() and store.differences(store.read_json(file), config):
        shutil.rmtree(partial)
    elif partial.exists() and not file.is_file():
        shutil.rmtree(partial)
    partial.mkdir(parents=True, exist_ok=True)
    store.write_json(file, config)


def find_last_state(folder: Path) -> str | None:
    """Return the folder of the newest complete Trainer state, or None; remove the incomplete ones."""
    states = sorted(folder.glob(f"checkpoint-*/{COMPLETE}"), key=lambda f: int(f.parent.name.rpartition("-")[2]))
    for state in folder.glob("checkpoint-*"):
        if not (state / COMPLETE).is_file() and store.is_main_process():
            shutil.rmtree(state)
    return str(states[-1].parent) if states else None
