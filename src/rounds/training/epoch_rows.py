"""Rows of an epoch: the competition's training rows, and the outside ones that the recipe adds to them."""

import random
from collections.abc import Sequence

from rounds.config.recipe import Outside


class EpochRows:
    """Chooses the rows of each epoch; all epochs have equally many, as the Trainer's steps do.

    Outside rows come from a window over their shuffled order that moves on each epoch, so that a few epochs see all;
    a round begins where the round before it ended.

    Args:
        is_outside: whether each training row is an outside one.
        settings: the recipe's section `outside`.
        seed: shuffles the outside rows.
        round_number: the round, from 1.
        epochs: epochs of each round.
    """

    def __init__(
        self, is_outside: Sequence[bool], settings: Outside, seed: int, round_number: int = 1, epochs: int = 0
    ) -> None:
        self.own = [row for row, outside in enumerate(is_outside) if not outside]
        self.outside = [row for row, outside in enumerate(is_outside) if outside]
        random.Random(f"{seed}-outside").shuffle(self.outside)
        self.first = settings.first if self.own and self.outside else 0
        self.drawn = len(self.outside)
        if settings.ratio is not None and self.own:
            self.drawn = min(self.drawn, round(settings.ratio * len(self.own)))
        self.passed = (round_number - 1) * (self.first or epochs)  # windows of earlier rounds

    def __len__(self) -> int:
        """Return the number of rows in an epoch."""
        return len(self.own) + (0 if self.first else self.drawn)

    def of(self, epoch: int) -> list[int]:
        """Return the rows of an epoch, counted from 0, in ascending order.

        >>> rows = EpochRows([False, False, True, True, True], Outside(ratio=0.5), seed=42)
        >>> [len(rows.of(epoch)) for epoch in range(3)], sorted({row for epoch in range(3) for row in rows.of(epoch)})
        ([3, 3, 3], [0, 1, 2, 3, 4])
        """
        if epoch < self.first:  # with few outside rows, some come more than once
            return sorted(self._window(epoch, len(self.own)))
        return sorted([*self.own, *([] if self.first else self._window(epoch, self.drawn))])

    def _window(self, epoch: int, count: int) -> list[int]:
        """Return `count` outside rows, the next ones in each epoch."""
        start = (self.passed + epoch) * count
        return [self.outside[(start + step) % len(self.outside)] for step in range(count)]
