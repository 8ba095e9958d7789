"""Progress: the callback writes it, and readers of an experiment's folder see how far the training is."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import slow_clock

from rounds.artifacts import store
from rounds.config.recipe import Recipe
from rounds.training.callbacks import EpochCheckpointCallback, StepEstimate
from rounds.training.progress import PROGRESS_FILE, QUIET, SavedProgress, read_progress, write_progress

PROGRESS = {"step": 30, "steps": 100, "first": 10, "seconds": 40.0, "losses": [[20, 1.5], [30, 1.25]]}


@pytest.fixture
def partial(tmp_path) -> Path:
    """The folder of a round in training, whose first epoch is finished."""
    folder = tmp_path / "tiny-v1" / "round3" / "train.partial"
    (folder / "epoch_1").mkdir(parents=True)
    write_progress(folder, SavedProgress(**PROGRESS))
    store.write_json(folder / "epoch_1" / "metrics.json", {"MAP@25": 0.5})
    return folder


def test_time_left_follows_the_speed_since_resuming(partial):
    """20 steps took 40 s and 70 are left: 140 s; steps before a resumed training began do not count."""
    written = (partial / PROGRESS_FILE).stat().st_mtime
    progress = read_progress(partial.parent.parent, now=written)
    assert (progress.round, progress.step, progress.steps, progress.seconds_left) == (3, 30, 100, 140.0)
    assert progress.scores == [(1, 0.5)] and progress.losses[-1] == (30, 1.25) and not progress.stopped
    assert read_progress(partial.parent.parent, now=written + 10).seconds_left == pytest.approx(130)
    assert read_progress(partial.parent.parent, now=written + QUIET + 1).stopped


@pytest.mark.parametrize("text", ["{", "[]", '{"step": 30}', json.dumps({**PROGRESS, "steps": "100"})])
def test_without_readable_progress_there_is_none(text, tmp_path, partial):
    """A missing folder, a half-written file, a missing key and a wrong type all give None."""
    assert read_progress(tmp_path / "none") is None
    (partial / PROGRESS_FILE).write_text(text)
    assert read_progress(partial.parent.parent) is None


def test_a_loss_that_is_no_number_is_shown(partial):
    """A training that diverges is watched to its end."""
    write_progress(partial, SavedProgress(**{**PROGRESS, "losses": [(20, 1.5), (30, float("nan"))]}))
    (_, (step, loss)) = read_progress(partial.parent.parent).losses
    assert step == 30 and math.isnan(loss)


def test_the_callback_writes_progress(tmp_path):
    """The file holds the first step, the current step, all steps and the losses so far, from the first step on."""
    plan = SimpleNamespace(recipe=Recipe("tiny"))
    callback = EpochCheckpointCallback(plan, tmp_path, torch.nn.Linear(1, 1), None)
    state = SimpleNamespace(global_step=4, max_steps=20)
    callback.on_train_begin(None, state, None)
    assert store.read_json(tmp_path / PROGRESS_FILE)["losses"] == []
    state.global_step = 6
    callback.on_log(None, state, None, {"loss": 0.5})
    callback.on_train_end(None, state, None)
    progress = store.read_json(tmp_path / PROGRESS_FILE)
    assert (progress["first"], progress["step"], progress["steps"], progress["losses"]) == (4, 6, 20, [[6, 0.5]])


@pytest.mark.parametrize(("first", "amount"), [(0, "20 steps, "), (4, "16 steps left, ")])
def test_the_first_steps_tell_how_long_the_others_take(first, amount, monkeypatch, capsys):
    """Where a training is resumed, the line counts what is left."""
    slow_clock.use(monkeypatch, 60)
    callback, arguments = StepEstimate("train on 40 queries"), SimpleNamespace(device=torch.device("cpu"))
    state = SimpleNamespace(global_step=first, max_steps=20, is_world_process_zero=True)
    callback.on_train_begin(arguments, state, None)
    for step in range(first + 1, 21):
        state.global_step = step
        callback.on_step_end(arguments, state, None)
    (line,) = slow_clock.lines(capsys)
    assert line == f"train on 40 queries: about {20 - first} min ({amount}1.0 steps/min)"


def test_one_of_several_processes_tells_how_long_training_takes(monkeypatch, capsys):
    """Others stay silent."""
    slow_clock.use(monkeypatch)
    callback, arguments = StepEstimate("train"), SimpleNamespace(device=torch.device("cpu"))
    state = SimpleNamespace(global_step=0, max_steps=20, is_world_process_zero=False)
    callback.on_train_begin(arguments, state, None)
    state.global_step = 1
    callback.on_step_end(arguments, state, None)
    assert slow_clock.lines(capsys) == []
