"""Progress of a round in training: written to its unfinished folder, and read by whoever watches."""

import time
from dataclasses import dataclass
from pathlib import Path

from pydantic import StrictInt

from rounds.artifacts import store
from rounds.artifacts.manifests import Entry, Number

PROGRESS_FILE = "progress.json"

QUIET = 600  # seconds without a step after which a training counts as stopped; evaluating a large split takes fewer


@dataclass(frozen=True)
class Progress:
    """How far a round has trained.

    Attributes:
        round: its number.
        step: optimizer steps done.
        steps: optimizer steps of all epochs.
        losses: (step, mean training loss since the entry before), in order.
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


class SavedProgress(Entry):
    """The content of `progress.json`.

    Attributes:
        step: optimizer steps done.
        steps: optimizer steps of all epochs.
        first: step at which this process began.
        seconds: since then.
        losses: (step, mean training loss since the entry before), in order.
    """

    step: StrictInt
    steps: StrictInt
    first: StrictInt
    seconds: Number
    losses: list[tuple[StrictInt, Number]]


def write_progress(partial: Path, progress: SavedProgress) -> None:
    """Write the progress of a training to its unfinished folder."""
    store.write_json(partial / PROGRESS_FILE, progress.model_dump())


def read_progress(experiment: Path, now: float | None = None) -> Progress | None:
    """Return the progress of the round in training in an experiment's folder; None if there is none.

    If several rounds are unfinished, return the one that was written to last.

    Args:
        now: Unix time in seconds; None takes the clock's.
    """
    try:
        written = {file: file.stat().st_mtime for file in experiment.glob(f"round*/train.partial/{PROGRESS_FILE}")}
        latest = max(written, key=written.get)
        progress = SavedProgress.model_validate_json(latest.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # there is none, the training ended at this moment, or it is broken
        return None
    partial, age = latest.parent, (now or time.time()) - written[latest]
    done, left = progress.step - progress.first, progress.steps - progress.step
    return Progress(
        round=int(partial.parent.name.removeprefix("round")),
        step=progress.step,
        steps=progress.steps,
        losses=progress.losses,
        scores=_scores(partial),
        seconds_left=max(0.0, progress.seconds / done * left - age) if done else None,
        stopped=age > QUIET,
    )


def _scores(partial: Path) -> list[tuple[int, float]]:
    """Return (epoch, MAP@25) of the finished epochs that were evaluated, in order."""
    scores = []
    for file in partial.glob("*epoch_*/metrics.json"):
        metrics = store.read_json(file)
        if "MAP@25" in metrics:
            scores.append((int(file.parent.name.rpartition("_")[2]), metrics["MAP@25"]))
    return sorted(scores)
