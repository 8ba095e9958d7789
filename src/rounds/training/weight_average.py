"""Average of the weights along a training: of its last epochs (`last`) or of all its steps (`ema`).

The checkpoints of the epochs hold the average; training itself goes on from the weights that it reached.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from torch import Tensor

from rounds.config.recipe import Training
from rounds.models import peft_methods

FILE = "average.safetensors"  # in a folder of the Trainer's state


class WeightAverage:
    """No average: the checkpoints hold the weights that training reached. Base class of the averages.

    Args:
        embedder: the model in training, whose trainable parameters are averaged.
    """

    def __init__(self, embedder: SentenceTransformer) -> None:
        self.parameters = peft_methods.trainable_parameters(embedder)

    def after_step(self, step: int) -> None:
        """Take in the weights after an optimizer step, counted from 1."""

    def after_epoch(self) -> None:
        """Take in the weights after an epoch."""

    def mean(self) -> dict[str, Tensor]:
        """Return the averaged parameters by name; those that are missing stay as they are."""
        return {}

    def stored(self) -> dict[str, Tensor]:
        """Return what a resumed training needs, by name."""
        return {}

    def restore(self, stored: dict[str, Tensor]) -> None:
        """Take what `stored` returned."""

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average into the model for the block, and then the weights that training reached back."""
        mean = self.mean()
        reached = {name: self.parameters[name].data for name in mean}
        try:
            for name, value in mean.items():
                self.parameters[name].data = value.to(reached[name])
            yield
        finally:
            for name, value in reached.items():
                self.parameters[name].data = value

    def save(self, folder: Path) -> None:
        """Write what a resumed training needs into a folder of the Trainer's state."""
        if stored := self.stored():
            save_file({name: value.contiguous() for name, value in stored.items()}, folder / FILE)

    def load(self, folder: Path) -> None:
        """Read what `save` wrote."""
        if (folder / FILE).is_file():
            self.restore(load_file(folder / FILE))

    def _copies(self) -> dict[str, Tensor]:
        return {name: parameter.detach().float().clone() for name, parameter in self.parameters.items()}


class LastEpochs(WeightAverage):
    """Uniform mean of the weights after the last epochs, of fewer where there are not yet as many.

    Args:
        embedder: the model in training.
        count: number of epochs.
    """

    def __init__(self, embedder: SentenceTransformer, count: int) -> None:
        super().__init__(embedder)
        self.count = count
        self.epochs: list[dict[str, Tensor]] = []  # fp32 copies in the CPU's memory, oldest first

    def after_epoch(self) -> None:
        weights = {name: value.cpu() for name, value in self._copies().items()}
        self.epochs = [*self.epochs, weights][-self.count :]

    def mean(self) -> dict[str, Tensor]:
        return {name: torch.stack([epoch[name] for epoch in self.epochs]).mean(dim=0) for name in self.parameters}

    def stored(self) -> dict[str, Tensor]:
        return {f"{number} {name}": value for number, epoch in enumerate(self.epochs) for name, value in epoch.items()}

    def restore(self, stored: dict[str, Tensor]) -> None:
        numbers = sorted({int(key.partition(" ")[0]) for key in stored})
        self.epochs = [{name: stored[f"{number} {name}"] for name in self.parameters} for number in numbers]


class ExponentialAverage(WeightAverage):
    """Exponential moving average (EMA) of the weights after each step, starting from those before training.

    The decay rises from 2/11 with `(1 + step) / (10 + step)` to its final value, as usual: a short training would
    otherwise end near where it began.

    Args:
        embedder: the model in training.
        decay: share of the average that a step keeps.
    """

    def __init__(self, embedder: SentenceTransformer, decay: float) -> None:
        super().__init__(embedder)
        self.decay, self.average = decay, self._copies()

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, parameter in self.parameters.items():
            self.average[name].lerp_(parameter.float(), 1 - decay)

    def mean(self) -> dict[str, Tensor]:
        return self.average

    def stored(self) -> dict[str, Tensor]:
        return self.average

    def restore(self, stored: dict[str, Tensor]) -> None:
        self.average = {name: stored[name].to(value.device) for name, value in self.average.items()}


def make(embedder: SentenceTransformer, settings: Training) -> WeightAverage:
    """Return the average that the recipe's `training.average` names."""
    if settings.average == "last":
        return LastEpochs(embedder, settings.average_epochs)
    return ExponentialAverage(embedder, settings.ema_decay) if settings.average == "ema" else WeightAverage(embedder)
