"""Splits by group (Eedi: QuestionId): v1 to v5 and `submission`.

v1 to v4 are the splits that competitors compare on; v5 imitates the leaderboard, where about 60% of the rows
have a passage that training never labels.
"""

import random
from collections import Counter, defaultdict
from dataclasses import dataclass

from sklearn.model_selection import train_test_split

from rounds.data.dataset import RetrievalDataset
from rounds.errors import UserError

VERSIONS = ("v1", "v2", "v3", "v4", "v5", "submission")

SHARE_V5 = 0.20

UNSEEN_V5 = 0.60

UNSEEN_V5_BOUNDS = (0.58, 0.62)

SIZE_V5_BOUNDS = (0.17, 0.24)

CANDIDATES_V5 = 50

SLACK_V5 = 0.02

MAX_FOLDS = 4  # on the competition data a fifth fold finds too few passages that no earlier fold has broken up


@dataclass(frozen=True)
class Split:
    """Groups on either side; `submission` trains on all and validates on none."""

    name: str
    train: set[str]
    validation: set[str]


def parse_version(text: str) -> str:
    """`1`, `v1` and `V1` all name v1.

    >>> parse_version("1"), parse_version("submission")
    ('v1', 'submission')
    """
    name = text.strip().lower()
    name = f"v{name}" if name.isdigit() else name
    if name not in VERSIONS:
        raise UserError(f"split {text!r} is not one of {', '.join(VERSIONS)}")
    return name


def make_split(task: RetrievalDataset, version: str, seed: int = 42, fold: int = 0) -> Split:
    """Divide the task's groups.

    Args:
        version: one of `VERSIONS`.
        seed: seeds v1, v2, v3 and v5; the comparable ones use 42. v4 draws nothing.
        fold: v5 only, 0 to 3; folds of one seed have disjoint validation groups.
    """
    name = parse_version(version)
    if not 0 <= seed < 2**32:
        raise UserError(f"seed {seed}: must be between 0 and {2**32 - 1}")
    groups = list(dict.fromkeys(query.group for query in task.queries))
    if fold and name != "v5":
        raise UserError(f"fold {fold}: only split v5 has folds")
    if name == "submission":
        return Split(name, set(groups), set())
    if len(groups) < 10:
        raise UserError(f"{len(groups)} questions are too few to split")
    validation = _VALIDATION[name](task, groups, seed, fold)
    if not validation or not any(query.id in task.qrels for query in task.queries if query.group in validation):
        raise UserError(f"split {name}: no labelled question is left for validation")
    return Split(name, set(groups) - validation, validation)


def describe(task: RetrievalDataset, split: Split) -> dict:
    """What `split.json` says: sizes, unseen share, texts that stand on both sides."""
    train, validation = task.labelled(split.train), task.labelled(split.validation)
    unseen = unseen_queries(task.qrels, [q.id for q in train], [q.id for q in validation])
    return {
        "split": split.name,
        "train_questions": len(split.train),
        "validation_questions": len(split.validation),
        "train_queries": len(train),
        "validation_queries": len(validation),
        "corpus": len(task.passages),
        "passages_labelled_in_train": len({p for q in train for p in task.qrels[q.id]}),
        "unseen_share": round(len(unseen) / len(validation), 4) if validation else None,
        "question_texts_on_both_sides": len(_texts(train, "question") & _texts(validation, "question")),
        "query_texts_on_both_sides": len(_texts(train) & _texts(validation)),
    }


def unseen_queries(qrels: dict[str, list[str]], train: list[str], validation: list[str]) -> set[str]:
    """Validation queries none of whose relevant passages is a label in train.

    >>> unseen_queries({"1_A": ["7"], "2_A": ["7"], "2_B": ["8"]}, ["1_A"], ["2_A", "2_B"])
    {'2_B'}
    """
    seen = {passage for query in train for passage in qrels[query]}
    return {query for query in validation if not seen.intersection(qrels[query])}


def _texts(queries: list, part: str | None = None) -> set[tuple[str, ...]]:
    return {(q.fields[part],) if part else tuple(q.fields.values()) for q in queries}


def _random_share(share: float):
    def validation(task: RetrievalDataset, groups: list[str], seed: int, fold: int) -> set[str]:
        return set(train_test_split(groups, test_size=share, random_state=seed)[1])

    return validation


def _fully_labelled(task: RetrievalDataset, groups: list[str], seed: int, fold: int) -> set[str]:
    """v2: a third of all groups' count, drawn from the groups whose every query is labelled."""
    unlabelled = {query.group for query in task.queries if query.id not in task.qrels}
    full = [group for group in groups if group not in unlabelled]
    count = round(0.333 * len(groups))
    if len(full) <= count:
        raise UserError(f"split v2: only {len(full)} questions have every wrong answer labelled, {count} are needed")
    return set(train_test_split(full, test_size=count, random_state=seed)[1])


def _minimal_overlap(task: RetrievalDataset, groups: list[str], seed: int, fold: int) -> set[str]:
    """v4: in each class of groups with n labels, the 20% whose passages are rarest."""
    frequency = Counter(passage for labels in task.qrels.values() for passage in labels)
    labels = defaultdict(list)
    for query in task.queries:
        labels[query.group] += task.qrels.get(query.id, [])
    classes = defaultdict(list)
    for group in groups:
        if labels[group]:
            classes[len(labels[group])].append((sum(frequency[p] for p in labels[group]), _number(group), group))
    return {group for members in classes.values() for _, _, group in sorted(members)[: round(0.2 * len(members))]}


def _number(group: str) -> tuple:
    return (0, int(group), "") if group.isdigit() else (1, 0, group)


def _leaderboard_like(task: RetrievalDataset, groups: list[str], seed: int, fold: int) -> set[str]:
    """v5: about 20% of the labelled rows, 58 to 62% of them on passages that train does not label."""
    if not 0 <= fold < MAX_FOLDS:
        raise UserError(f"fold {fold}: split v5 has folds 0 to {MAX_FOLDS - 1}")
    labels = defaultdict(list)
    for query in task.queries:
        labels[query.group] += task.qrels.get(query.id, [])
    used: set[str] = set()
    for number in range(fold + 1):
        validation = _one_fold({g: labels[g] for g in groups}, used, random.Random(f"{seed}-{number}"))
        used |= validation
    rows = [q.id for q in task.labelled(validation)]
    train = [q.id for q in task.labelled(set(groups) - validation)]
    share = len(unseen_queries(task.qrels, train, rows)) / max(len(rows), 1)
    size = len(rows) / len(task.qrels)
    if not (UNSEEN_V5_BOUNDS[0] <= share <= UNSEEN_V5_BOUNDS[1] and SIZE_V5_BOUNDS[0] <= size <= SIZE_V5_BOUNDS[1]):
        raise UserError(
            f"split v5, fold {fold}: {size:.1%} of the rows would be in it, {share:.1%} of them unseen, not 20% "
            "and 60%; take a lower fold, another seed or more questions"
        )
    return validation


def hold_out(task: RetrievalDataset, size: float, unseen: float, seed: int) -> set[str]:
    """Groups to keep apart: about `size` of the labelled rows, `unseen` of them on passages that the rest never labels.

    Raises:
        UserError: the task does not have such a part.
    """
    if not (0 < size <= 0.5 and 0 <= unseen < 1):
        raise UserError(f"a part of {size} with {unseen} unseen: take a size up to 0.5 and a share from 0 to below 1")
    labels = defaultdict(list)
    for query in task.queries:
        labels[query.group] += task.qrels.get(query.id, [])
    found = _one_fold(dict(labels), set(), random.Random(f"{seed}-hold-out"), size, unseen)
    rows = [q.id for q in task.labelled(found)]
    rest = [q.id for q in task.labelled(labels.keys() - found)]
    share = len(unseen_queries(task.qrels, rest, rows)) / max(len(rows), 1)
    if not rows or abs(len(rows) / len(task.qrels) - size) > 0.2 * size + 0.01 or abs(share - unseen) > 0.03:
        raise UserError(
            f"{len(rows)} of {len(task.qrels)} labelled rows would be kept apart, {share:.0%} of them unseen, not "
            f"{size:.0%} and {unseen:.0%}; take another size or share, or more questions"
        )
    return found


def _one_fold(
    labels: dict[str, list[str]], used: set[str], rng: random.Random, size: float = SHARE_V5, share: float = UNSEEN_V5
) -> set[str]:
    """One v5 fold out of the groups that are not `used`; `labels` maps a group to its rows' passages.

    Whole passages move with all their groups until the unseen rows suffice: of a few drawn ones always that which
    drags the fewest rows of other, still seen passages along. Then single groups until the size is
    right. Single groups are drawn in proportion to how frequent their passages are: those stay seen, and rare
    passages stay whole for the folds to come.
    """
    holders = defaultdict(set)
    for group, passages in labels.items():
        for passage in passages:
            holders[passage].add(group)
    total = Counter(p for passages in labels.values() for p in passages)
    wanted, least = size * total.total(), SIZE_V5_BOUNDS[0] * total.total() * (size / SHARE_V5)
    inside: Counter = Counter()
    validation: set[str] = set()

    def unseen() -> int:
        return sum(count for passage, count in inside.items() if count == total[passage])

    def move(group: str) -> None:
        validation.add(group)
        inside.update(labels[group])

    def gain(passage: str) -> tuple[int, int]:
        """Rows that moving the passage makes unseen, and rows that it moves."""
        moved = Counter(p for group in holders[passage] - validation for p in labels[group])
        return sum(total[p] for p in moved if inside[p] + moved[p] == total[p]), moved.total()

    def worth(passage: str) -> float:
        made, moved = gain(passage)
        return made / max(moved, 1)

    free = [p for p in sorted(holders) if not holders[p] & used]
    rng.shuffle(free)
    while free and unseen() < share * wanted:
        passage = max(free[:CANDIDATES_V5], key=worth)
        free.remove(passage)
        made, moved = gain(passage)
        if inside.total() + moved <= wanted and unseen() + made <= (share + SLACK_V5) * wanted:
            for group in sorted(holders[passage] - validation):
                move(group)
    singles = [g for g in labels if g not in used and g not in validation and labels[g]]
    draws = {g: rng.random() ** (1 / min(total[p] for p in labels[g]) ** 2) for g in singles}
    for group in sorted(singles, key=lambda g: -draws[g]):
        right = unseen() <= share * inside.total()
        if right and inside.total() >= least:
            break
        if right or all(inside[p] + labels[group].count(p) < total[p] for p in labels[group]):
            move(group)  # while too many rows are unseen, only what adds none
    return validation


_VALIDATION = {
    "v1": _random_share(0.333),
    "v2": _fully_labelled,
    "v3": _random_share(0.20),
    "v4": _minimal_overlap,
    "v5": _leaderboard_like,
}
