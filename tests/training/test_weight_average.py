"""Average of the weights along a training: what an epoch's checkpoint holds, and what training goes on from."""

from pathlib import Path

import pytest
import torch
from helpers.training import few_rows, finetune
from safetensors.torch import load_file
from torch import nn

from rounds.config.recipe import Training
from rounds.models import weights_io
from rounds.training import weight_average
from rounds.training.callbacks import EpochCheckpointCallback


def model_of(*values: float) -> nn.Module:
    """Return a model with one trainable parameter and one that is not."""
    model = nn.Module()
    model.trained, model.frozen = nn.Parameter(torch.tensor(values)), nn.Parameter(torch.ones(1), requires_grad=False)
    return model


def train(average: weight_average.WeightAverage, model: nn.Module, *steps: float) -> None:
    """Set the trainable parameter to each value in turn, as after a step that ends an epoch."""
    for number, value in enumerate(steps, 1):
        model.trained.data.fill_(value)
        average.after_step(number)
        average.after_epoch()


def test_the_last_epochs_are_averaged_uniformly():
    """Of five epochs the last three count; of a single one, it alone."""
    model = model_of(0.0)
    average = weight_average.make(model, Training(average="last", average_epochs=3))
    train(average, model, 7.0)
    assert average.mean()["trained"].item() == 7.0
    train(average, model, 1.0, 2.0, 4.0, 9.0)
    assert average.mean()["trained"].item() == pytest.approx(5.0)


def test_the_moving_average_is_computed_by_hand():
    """From 10 before training: steps to 20, 30 and 40 with decays 2/11, 3/12 and at most 0.3."""
    model = model_of(10.0)
    average = weight_average.make(model, Training(average="ema", ema_decay=0.3))
    train(average, model, 20.0, 30.0, 40.0)
    expected = 10.0
    for decay, value in ((2 / 11, 20.0), (3 / 12, 30.0), (0.3, 40.0)):
        expected = decay * expected + (1 - decay) * value
    assert average.mean()["trained"].item() == pytest.approx(expected)


@pytest.mark.parametrize("method", ["none", "last", "ema"])
def test_training_goes_on_from_the_weights_that_it_reached(method):
    """The average is in the model within the block only, whatever happens there; frozen weights have none."""
    model = model_of(1.0)
    average = weight_average.make(model, Training(average=method))
    train(average, model, 2.0, 4.0)
    with pytest.raises(KeyError), average.applied():
        averaged = model.trained.item()
        assert model.frozen.item() == 1.0
        raise KeyError
    assert model.trained.item() == 4.0
    assert (averaged == 4.0) if method == "none" else (averaged < 4.0)


@pytest.mark.parametrize("method", ["none", "last", "ema"])
def test_a_resumed_average_goes_on(method, tmp_path):
    """What is saved after two epochs and loaded again ends where an uninterrupted average does."""
    settings, model = Training(average=method), model_of(1.0)
    average = weight_average.make(model, settings)
    train(average, model, 2.0, 4.0)
    average.save(tmp_path)
    resumed = weight_average.make(model, settings)
    resumed.load(tmp_path)
    for one in (average, resumed):
        model.trained.data.fill_(8.0)
        one.after_step(3)
        one.after_epoch()
    with average.applied():
        expected = model.trained.item()
    with resumed.applied():
        assert model.trained.item() == expected


def weights(folder: Path, epoch: int) -> dict[str, torch.Tensor]:
    """Return the adapter of an epoch, by name."""
    return load_file(folder / f"lora_epoch_{epoch}" / weights_io.ADAPTER_WEIGHTS)


@pytest.mark.slow
def test_the_checkpoints_of_a_round_hold_the_mean(tiny, tiny_mined, tiny_collection, tmp_path):
    """With `average: last`, epoch 2 is the mean of what epochs 1 and 2 are without it, and epoch 1 is the same."""
    data = few_rows(tiny_mined, tmp_path)
    finetune(tiny, data, tmp_path / "plain")
    finetune(tiny.replace("training", average="last"), data, tmp_path / "mean", tiny_collection)
    plain = [weights(tmp_path / "plain", epoch) for epoch in (1, 2)]
    for name, value in weights(tmp_path / "mean", 2).items():
        torch.testing.assert_close(value, (plain[0][name] + plain[1][name]) / 2)
        assert torch.equal(weights(tmp_path / "mean", 1)[name], plain[0][name])


@pytest.mark.slow
def test_a_stopped_round_resumes_to_the_same_average(tiny, tiny_mined, tmp_path, monkeypatch):
    """Stopped within epoch 2, a round with `average: ema` ends with the weights of one without a stop."""
    recipe = tiny.replace("training", average="ema", ema_decay=0.8)
    data = few_rows(tiny_mined, tmp_path)
    finetune(recipe, data, tmp_path / "whole")
    on_step_end = EpochCheckpointCallback.on_step_end

    def stop(self, args, state, control, **kwargs):
        on_step_end(self, args, state, control, **kwargs)
        if state.epoch > 1.4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(EpochCheckpointCallback, "on_step_end", stop)
        finetune(recipe, data, tmp_path / "stopped")
    finetune(recipe, data, tmp_path / "stopped")
    for name, value in weights(tmp_path / "whole", 2).items():
        torch.testing.assert_close(weights(tmp_path / "stopped", 2)[name], value)
