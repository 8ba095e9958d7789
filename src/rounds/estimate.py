"""Estimate: one line that says how long a stage will take, printed as soon as its first batches show their rate."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar
from weakref import WeakKeyDictionary

from tqdm import tqdm

Item = TypeVar("Item")

OnProgress = Callable[[float, float], None]  # gets the work done so far, and that of all

SETTLING = 5.0  # seconds of work before a rate is trusted

MEASURED = 2.0  # seconds that a rate is measured over, at least

SHORTEST = 60.0  # seconds; work that takes less gets no line

clock = time.monotonic  # seconds

_printed: WeakKeyDictionary[object, set[str]] = WeakKeyDictionary()


class Estimate:
    """Prints how long the work of a loop takes, once, or not at all where that is below a minute.

    The rate is that of the batches behind the first, which warms up. A first batch that takes longer than `SETTLING`
    by itself counts, so that whoever waits for it is told, unless it `warms_up` for long.

    Args:
        title: what is done, the start of the line.
        unit: what the work is counted in, plural.
        warms_up: the first batch may take many times as long as the others: kernels are loaded or compiled.
        owner: an object, such as a model, for which no title is printed twice; None for no such check.
    """

    def __init__(self, title: str, unit: str, warms_up: bool = False, owner: object = None) -> None:
        self.title, self.unit, self.warms_up, self.owner = title, unit, warms_up, owner
        self._marks: list[tuple[float, float]] = []  # seconds and work done: at the start, behind the first batch, now
        self._is_settled = False

    def update(self, done: float, total: float) -> None:
        """Take note of a finished batch, or of the start of the work.

        Args:
            done: work done so far; the first call's is where the work starts.
            total: work of all batches.
        """
        if self._is_settled:
            return
        self._marks = [*self._marks[:2], (clock(), done)]
        if len(self._marks) < (3 if self.warms_up else 2):
            return
        (start, start_done), (since, since_done), (now, _) = self._marks[0], self._marks[-2], self._marks[-1]
        if now - start < SETTLING or now - since < MEASURED or done <= since_done:
            return
        self._is_settled = True
        rate = (done - since_done) / (now - since)
        seconds = now - start + (total - done) / rate
        if done < total and seconds >= SHORTEST and self._is_new():
            amount = f"{round(total - start_done):,} {self.unit}{' left' if start_done else ''}"
            line = f"{self.title}: about {describe_duration(seconds)} ({amount}, {describe_rate(rate, self.unit)})"
            tqdm.write(line, file=sys.stderr)

    def of_part(self, start: float, size: float, total: float) -> OnProgress:
        """Return an `update` for a part of the work, which counts in a unit of its own.

        Args:
            start: work done before the part.
            size: work of the part.
            total: work of all parts.

        >>> estimate = Estimate("search", "queries")
        >>> estimate.of_part(100, 50, 400)(1, 10)  # a tenth of the part: 105 of 400
        """
        return lambda done, part_total: self.update(start + size * done / part_total, total)

    @property
    def is_settled(self) -> bool:
        """Whether the line has been printed, or never will be."""
        return self._is_settled

    def _is_new(self) -> bool:
        """Return whether the owner has no line of this title yet, and note that it has one now."""
        if self.owner is None:
            return True
        titles = _printed.setdefault(self.owner, set())
        is_new = self.title not in titles
        titles.add(self.title)
        return is_new


def estimate_search(passages: int, queries: int) -> Estimate:
    """Return the started estimate of a search of a corpus, whose work is counted in queries."""
    estimate = Estimate(f"search {passages:,} passages", "queries")
    estimate.update(0, queries)
    return estimate


def track(items: Iterable[Item], total: int, title: str, unit: str) -> Iterator[Item]:
    """Yield items, and print how long the loop over all of them takes.

    Args:
        total: the number of items.
        title, unit: as `Estimate` takes them.
    """
    estimate = Estimate(title, unit)
    estimate.update(0, total)
    for number, item in enumerate(items, 1):
        yield item
        estimate.update(number, total)


class Counter:
    """Counts finished work.

    Args:
        on_progress: called before the work and after each batch.
        total: work of all batches.

    Attributes:
        done: work counted so far.
    """

    def __init__(self, on_progress: OnProgress, total: float) -> None:
        self.on_progress, self.total, self.done = on_progress, total, 0
        on_progress(0, total)

    def add(self, work: int) -> None:
        """Count the work of a finished batch."""
        self.done += work
        self.on_progress(self.done, self.total)


def ignore(done: float, total: float) -> None:
    """Stand in for `Estimate.update` where nothing is to be printed."""


def describe_duration(seconds: float) -> str:
    """Return a duration in the unit that suits it.

    >>> [describe_duration(seconds) for seconds in (61, 5400, 9000, 200_000)]
    ['1 min', '90 min', '2.5 h', '2.3 days']
    """
    minutes = seconds / 60
    if round(minutes) < 100:
        return f"{minutes:.0f} min"
    hours = minutes / 60
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def describe_rate(rate: float, unit: str) -> str:
    """Return a rate a second, or a minute or an hour where it is below one.

    >>> [describe_rate(rate, "steps") for rate in (1234.5, 2.25, 0.2, 0.001)]
    ['1,234 steps/s', '2.2 steps/s', '12 steps/min', '3.6 steps/h']
    """
    period, name = next(
        ((seconds, name) for seconds, name in ((1, "s"), (60, "min")) if rate * seconds >= 1), (3600, "h")
    )
    count = rate * period
    return f"{count:,.0f} {unit}/{name}" if count >= 10 else f"{count:.1f} {unit}/{name}"
