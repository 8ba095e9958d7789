"""Origins of outside questions: sources that were written from the competition's questions, or chosen by its labels.

Both make cross-validation too good, and neither shows in the text of a single row. A language model that was shown a
question of train.csv writes others on its construct and misconception; where that question is held out, these give its
label away. And a source that was made for the misconceptions without a label in train.csv (or with one) says of each
passage which it is, while a fold's held-out labels are all in train.csv.

Each check compares, source by source, the passages that the competition labels with those that it does not.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from scipy.stats import fisher_exact

from rounds.data.dataset import RetrievalDataset
from rounds.data.loaders.outside import OutsideRow

LEAST_RATIO = 3.0  # of two shares that differ too much

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
        rewritten: sources written from the competition's questions.
        construct_shares: of their rows on labelled passages, and on others: those with a labelled question's construct.
        chosen: sources whose passages tell which ones the competition labels.
        coverages: of the labelled passages, and of the others: those that a row of these sources is about.
    """

    rewritten: tuple[str, ...]
    construct_shares: tuple[Share, Share]
    chosen: tuple[str, ...]
    coverages: tuple[Share, Share]


def trace(dataset: RetrievalDataset, rows: Sequence[OutsideRow]) -> Origins:
    """Check each source of outside rows.

    Pseudo-labels are left out: they are the competition's own training questions, and a model labels them that knows
    no held-out label.

    Args:
        dataset: the competition's dataset with all its labels, be they held out or not. They decide about whole sources
            alone, never about a row.
    """
    labelled = {passage for passages in dataset.qrels.values() for passage in passages}
    constructs = {construct_of(query.fields) for query in dataset.queries if query.id in dataset.qrels} - {""}
    unlabelled = dataset.passages.keys() - labelled
    by_source: dict[str, list[OutsideRow]] = defaultdict(list)
    for row in rows:
        if row.labelled_for is None:
            by_source[row.source].append(row)

    def construct_shares(own: Iterable[OutsideRow]) -> tuple[Share, Share]:
        """Of rows on labelled passages, and of the others: those with a construct of a labelled question."""
        sides = {True: [], False: []}
        for row in own:
            if construct := construct_of(row.fields):
                sides[row.label in labelled].append(construct in constructs)
        known, other = sides[True], sides[False]
        return Share(sum(known), len(known)), Share(sum(other), len(other))

    def coverages(own: Iterable[OutsideRow]) -> tuple[Share, Share]:
        """Of the labelled passages, and of the others: those that a row is about."""
        covered = {row.label for row in own}
        return Share(len(covered & labelled), len(labelled)), Share(len(covered & unlabelled), len(unlabelled))

    def of(sources: Iterable[str]) -> Iterable[OutsideRow]:
        return (row for source in sources for row in by_source[source])

    chosen = tuple(source for source in by_source if _differ(*coverages(of([source]))))
    rewritten = []
    for source in by_source:
        known, other = construct_shares(of([source]))
        if known.value > other.value and _differ(known, other):  # invented rows use them as often on either side
            rewritten.append(source)
    return Origins(tuple(rewritten), construct_shares(of(rewritten)), chosen, coverages(of(chosen)))


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
