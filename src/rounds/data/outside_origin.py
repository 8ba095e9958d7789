"""Origins of outside questions: sources that were written from the competition's questions, or chosen by its labels.

Both make cross-validation too good, and neither shows in the text of a single row. A language model that was shown a
question of train.csv writes others on its construct and misconception; where that question is held out, these give its
label away. And a source that was made for the misconceptions without a label in train.csv (or with one) says of each
passage which it is, while a fold's held-out labels are all in train.csv.

Each check compares, source by source, the passages that the competition labels with those that it does not.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from scipy.stats import fisher_exact

from rounds.data.dataset import RetrievalDataset
from rounds.data.loaders.outside import OutsideRow

LEAST_RATIO = 3.0  # of two shares that differ too much

LEAST_ROWS = 50  # of a source that is checked alone

MOST_P = 1e-3  # of Fisher's exact test, so that a few rows are no evidence


class Share(NamedTuple):
    """Hits among a number of things."""

    hits: int
    number: int

    @property
    def value(self) -> float:
        """The hits' share; 0 of nothing."""
        return self.hits / self.number if self.number else 0.0

    def __str__(self) -> str:
        return f"{self.value:.0%}"


@dataclass(frozen=True)
class Origins:
    """What the checks found.

    Attributes:
        rewritten: sources that look written from the competition's questions.
        construct_shares: of their questions on labelled passages, and of questions on others: those with a labelled
            question's construct.
        chosen: source -> shares of the labelled passages, and of the others, that its rows are about; of sources whose
            passages tell which ones the competition labels.
    """

    rewritten: tuple[str, ...]
    construct_shares: tuple[Share, Share]
    chosen: dict[str, tuple[Share, Share]]


def trace(dataset: RetrievalDataset, rows: Sequence[OutsideRow]) -> Origins:
    """Check each source of outside rows; sources of a few rows are checked together, file by file.

    A source without questions on unlabelled passages is compared with the others' of all sources. Where there are none,
    it looks written from the competition's questions if it was chosen by the labels and has their constructs.

    Pseudo-labels are left out: they are the competition's own training questions, and a model labels them that knows
    no held-out label.

    Args:
        dataset: the competition's dataset with all its labels, be they held out or not. They decide about whole sources
            alone, never about a row.
    """
    labelled = {passage for passages in dataset.qrels.values() for passage in passages}
    constructs = {construct_of(query.fields) for query in dataset.queries if query.id in dataset.qrels} - {""}
    unlabelled = dataset.passages.keys() - labelled
    parts = _parts([row for row in rows if row.labelled_for is None])

    def construct_shares(own: Iterable[OutsideRow]) -> tuple[Share, Share]:
        sides: dict[bool, set[tuple[str, bool]]] = {True: set(), False: set()}
        for row in own:  # a question counts once a side, however many of its answers are rows
            if construct := construct_of(row.fields):
                sides[row.label in labelled].add((row.fields["question"], construct in constructs))
        known, other = ([is_known for _, is_known in sides[side]] for side in (True, False))
        return Share(sum(known), len(known)), Share(sum(other), len(other))

    def coverages(own: Iterable[OutsideRow]) -> tuple[Share, Share]:
        covered = {row.label for row in own}
        return Share(len(covered & labelled), len(labelled)), Share(len(covered & unlabelled), len(unlabelled))

    all_other = construct_shares(row for part in parts for row in part)[1]
    rewritten: list[list[OutsideRow]] = []
    chosen: dict[str, tuple[Share, Share]] = {}
    for part in parts:
        known, other = construct_shares(part)
        other, covered = other if other.number else all_other, coverages(part)
        is_chosen = _differ(*covered)
        if is_chosen:
            chosen |= dict.fromkeys(_sources(part), covered)
        if known.value > other.value and (
            _differ(known, other) or (is_chosen and not other.number and covered[0].value > covered[1].value)
        ):
            rewritten.append(part)
    known, other = construct_shares(row for part in rewritten for row in part)
    sources = tuple(source for part in rewritten for source in _sources(part))
    return Origins(sources, (known, other if other.number else all_other), chosen)


def _parts(rows: list[OutsideRow]) -> list[list[OutsideRow]]:
    """Divide rows into those of each source; sources too small to be checked alone are joined with others of a file."""
    counts = Counter(row.source for row in rows)
    parts: dict[tuple[str, str], list[OutsideRow]] = defaultdict(list)
    for row in rows:
        is_small = counts[row.source] < LEAST_ROWS
        parts["file" if is_small else "source", row.file if is_small else row.source].append(row)
    return list(parts.values())


def _sources(part: list[OutsideRow]) -> list[str]:
    return list(dict.fromkeys(row.source for row in part))


def construct_of(fields: dict[str, str]) -> str:
    """Return a query's construct as constructs are compared: without capitals and outer blanks."""
    return fields.get("construct", "").strip().casefold()


def _differ(one: Share, other: Share) -> bool:
    """Return whether two shares are far apart, and not by chance.

    >>> _differ(Share(90, 100), Share(10, 100)), _differ(Share(2, 2), Share(0, 2)), _differ(Share(9, 9), Share(0, 0))
    (True, False, False)
    """
    if not (one.number and other.number) or max(one.value, other.value) < LEAST_RATIO * min(one.value, other.value):
        return False
    table = [[share.hits, share.number - share.hits] for share in (one, other)]
    return bool(fisher_exact(table).pvalue < MOST_P)
