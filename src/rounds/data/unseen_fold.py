"""Draw a fold in which a given share of the rows has passages that the rest of the data never labels."""

import random
from collections import Counter, defaultdict

V5_SIZE = 0.20  # share of all labelled rows in one of four folds of v5

V5_UNSEEN = 0.60  # share of a fold's rows on passages that training does not label

V5_SIZE_BOUNDS = (0.17, 0.24)

V5_UNSEEN_BOUNDS = (0.58, 0.62)

MAX_COMPARED = 50  # passages compared before one of them is moved into the fold

UNSEEN_SLACK = 0.02  # by which the unseen rows may exceed their share


def draw_fold(
    labels: dict[str, list[str]],
    used: set[str],
    rng: random.Random,
    size: float = V5_SIZE,
    unseen_share: float = V5_UNSEEN,
) -> set[str]:
    """Return the groups of one fold.

    Args:
        labels: group -> passages of its labelled rows.
        used: groups of earlier folds; none of them, and no passage that one of them has, is made unseen again.
        rng: the source of randomness; equal states give equal folds.
        size: wanted share of the labelled rows.
        unseen_share: wanted share of the fold's rows on passages that no group outside the fold has.
    """
    fold = _Fold(labels, used, size, unseen_share)
    fold.add_whole_passages(rng)
    fold.add_single_groups(rng)
    return fold.groups


class _Fold:
    """A fold that grows group by group.

    A row is unseen if all rows of its passage are in the fold. So first whole passages move in, with all their groups,
    until there are enough unseen rows; then single groups, until the size is right.

    Attributes:
        groups: groups in the fold.
        inside: passage -> rows in the fold.
        total: passage -> rows in all groups.
        holders: passage -> groups that have it.
    """

    def __init__(self, labels: dict[str, list[str]], used: set[str], size: float, unseen_share: float) -> None:
        self.labels, self.used, self.unseen_share = labels, used, unseen_share
        self.groups: set[str] = set()
        self.inside: Counter = Counter()
        self.total = Counter(passage for passages in labels.values() for passage in passages)
        self.holders: dict[str, set[str]] = defaultdict(set)
        for group, passages in labels.items():
            for passage in passages:
                self.holders[passage].add(group)
        self.wanted_rows = size * self.total.total()
        self.min_rows = V5_SIZE_BOUNDS[0] * self.total.total() * (size / V5_SIZE)

    def add_whole_passages(self, rng: random.Random) -> None:
        """Move passages in with all their groups until enough rows are unseen.

        Of a few drawn passages, take the one that makes the most rows unseen per moved row: it drags the fewest rows of
        other, still seen passages along.
        """
        free = [passage for passage in sorted(self.holders) if not self.holders[passage] & self.used]
        rng.shuffle(free)
        while free and self.count_unseen() < self.unseen_share * self.wanted_rows:
            passage = max(free[:MAX_COMPARED], key=self.unseen_per_moved_row)
            free.remove(passage)
            new_unseen, moved = self.effect_of_moving(passage)
            max_unseen = (self.unseen_share + UNSEEN_SLACK) * self.wanted_rows
            if self.inside.total() + moved <= self.wanted_rows and self.count_unseen() + new_unseen <= max_unseen:
                for group in sorted(self.holders[passage] - self.groups):
                    self.move(group)

    def add_single_groups(self, rng: random.Random) -> None:
        """Move single groups in until the fold is large enough.

        Groups are drawn in proportion to how frequent their passages are: frequent passages stay seen, and rare ones
        stay whole for later folds. While too many rows are unseen, only groups that add no unseen row move.
        """
        left = [g for g in self.labels if g not in self.used and g not in self.groups and self.labels[g]]
        draws = {group: rng.random() ** (1 / self.rarest_frequency(group) ** 2) for group in left}
        for group in sorted(left, key=lambda group: -draws[group]):
            may_add_unseen = self.count_unseen() <= self.unseen_share * self.inside.total()
            if may_add_unseen and self.inside.total() >= self.min_rows:
                break
            if may_add_unseen or self.adds_no_unseen(group):
                self.move(group)

    def move(self, group: str) -> None:
        """Put a group into the fold."""
        self.groups.add(group)
        self.inside.update(self.labels[group])

    def count_unseen(self) -> int:
        """Return the rows whose passage no group outside the fold has."""
        return sum(count for passage, count in self.inside.items() if count == self.total[passage])

    def effect_of_moving(self, passage: str) -> tuple[int, int]:
        """Return the rows that moving a passage with all its groups makes unseen, and the rows that it moves."""
        moved = Counter(label for group in self.holders[passage] - self.groups for label in self.labels[group])
        complete = [label for label in moved if self.inside[label] + moved[label] == self.total[label]]
        return sum(self.total[label] for label in complete), moved.total()

    def unseen_per_moved_row(self, passage: str) -> float:
        """Return how many rows become unseen for each row that moving a passage moves."""
        new_unseen, moved = self.effect_of_moving(passage)
        return new_unseen / max(moved, 1)

    def rarest_frequency(self, group: str) -> int:
        """Return the rows of the group's rarest passage."""
        return min(self.total[passage] for passage in self.labels[group])

    def adds_no_unseen(self, group: str) -> bool:
        """Return whether all of the group's passages would still have rows outside the fold."""
        labels = self.labels[group]
        return all(self.inside[passage] + labels.count(passage) < self.total[passage] for passage in labels)
