"""Live: how far a round that trains at this moment is, as its unfinished folder says."""

import json
import time
from dataclasses import dataclass
from pathlib import Path

from rounds.artifacts import store

PROGRESS_FILE = "progress.json"

QUIET = 600  # seconds without a step (evaluation of a large split included) after which a training counts as stopped


@dataclass(frozen=True)
class Progress:
    """A round that trains.

    Attributes:
        round: its number.
        step, steps: optimizer steps done, and of all epochs.
        losses: (step, mean training loss since the one before), in order.
        scores: (epoch, MAP@25) of the finished epochs.
        seconds_left: at this process's speed; None before its first step.
        stopped: nothing was written for `QUIET` seconds.
    """

    round: int
    step: int
    steps: int
    losses: list[tuple[int, float]]
    scores: list[tuple[int, float]]
    seconds_left: float | None
    stopped: bool


def write_progress(partial: Path, progress: dict) -> None:
    """Keep `step`, `steps`, `first` (this process's first step), `seconds` (since it began) and `losses`."""
    store.write_json(partial / PROGRESS_FILE, progress)


def read_progress(experiment: Path, now: float | None = None) -> Progress | None:
    """The latest round that trains in an experiment's folder; None where none does."""
    try:
        written = {file: file.stat().st_mtime for file in experiment.glob(f"round*/train.partial/{PROGRESS_FILE}")}
        latest = max(written, key=written.get)
        found = json.loads(latest.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # none, or the training ended at this moment
        return None
    partial, age = latest.parent, (now or time.time()) - written[latest]
    done = found["step"] - found["first"]
    return Progress(
        round=int(partial.parent.name.removeprefix("round")),
        step=found["step"],
        steps=found["steps"],
        losses=[tuple(each) for each in found["losses"]],
        scores=_scores(partial),
        seconds_left=max(0.0, found["seconds"] / done * (found["steps"] - found["step"]) - age) if done else None,
        stopped=age > QUIET,
    )


def _scores(partial: Path) -> list[tuple[int, float]]:
    scores = []
    for file in partial.glob("*epoch_*/metrics.json"):
        metrics = store.read_json(file)
        if "MAP@25" in metrics:
            scores.append((int(file.parent.name.rpartition("_")[2]), metrics["MAP@25"]))
    return sorted(scores)
