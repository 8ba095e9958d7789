"""Split a dataset by group (Eedi: QuestionId) into training and validation: v1 to v6 and `submission`.

`official` and `dev` take the sides from the dataset's own files of labels; `official_split.py` makes them.

v1 to v4 are the splits that competitors compare on. v5 imitates the leaderboard, where about 60% of the rows have a
passage that training never labels. v6 holds out whole constructs, as the competition's winner did to choose models.
"""

import random
from collections import Counter, defaultdict
from dataclasses import dataclass

from sklearn.model_selection import train_test_split

from rounds.data.dataset import Query, RetrievalDataset
from rounds.data.source import FOLDED, MAX_SEED, N_FOLDS, OFFICIAL_SPLITS
from rounds.data.unseen_fold import V5_SIZE, V5_SIZE_BOUNDS, V5_UNSEEN_BOUNDS, draw_fold
from rounds.errors import UserError

VERSIONS = ("v1", "v2", "v3", "v4", "v5", "v6", "submission")


@dataclass(frozen=True)
class Split:
    """The groups of each side. The split `submission` trains on all groups and validates on none."""

    name: str
    train: set[str]
    validation: set[str]


def parse_version(text: str) -> str:
    """Return the name of a split: `1`, `v1` and `V1` all name v1.

    >>> parse_version("1"), parse_version("submission")
    ('v1', 'submission')

    Raises:
        UserError: there is no such split.
    """
    name = text.strip().lower()
    name = f"v{name}" if name.isdecimal() else name
    if name not in (names := (*VERSIONS, *OFFICIAL_SPLITS)):
        raise UserError(f"split {text!r} is not one of {', '.join(names)}")
    return name


def make_split(dataset: RetrievalDataset, version: str, seed: int = 42, fold: int = 0, n_folds: int = N_FOLDS) -> Split:
    """Divide the dataset's groups into training and validation.

    Args:
        version: one of `VERSIONS`.
        seed: seeds v1, v2, v3, v5 and v6; published comparisons use 42. v4 draws nothing.
        fold: v5 and v6 only, below `n_folds`; folds of one seed and number of folds have disjoint validation groups.
        n_folds: v5 and v6 only, number of folds.

    Raises:
        UserError: an unknown version, seed, fold or number of folds, or a dataset that cannot be split this way.
    """
    name = parse_version(version)
    if name in OFFICIAL_SPLITS:
        raise UserError(f"split {name}: its sides are in files of labels; official_split makes it")
    if not 0 <= seed <= MAX_SEED:
        raise UserError(f"seed {seed}: must be between 0 and {MAX_SEED}")
    groups = list(dict.fromkeys(query.group for query in dataset.queries))
    _check_folds(name, fold, n_folds, len(groups))
    if name == "submission":
        return Split(name, set(groups), set())
    if len(groups) < 10:
        raise UserError(f"{len(groups)} questions are too few to split")
    if name in FOLDED:
        validation = _FOLD[name](dataset, groups, seed, fold, n_folds)
    else:
        validation = _VALIDATION[name](dataset, groups, seed)
    if not dataset.labelled(validation):
        raise UserError(f"split {name}: no labelled question is left for validation")
    return Split(name, set(groups) - validation, validation)


def _check_folds(name: str, fold: int, n_folds: int, groups: int) -> None:
    """Refuse a fold that the split does not have, and a number of folds that cannot be."""
    if name not in FOLDED:
        if fold or n_folds != N_FOLDS:
            given = f"fold {fold}" if fold else f"n_folds {n_folds}"
            raise UserError(f"{given}: only splits {' and '.join(FOLDED)} have folds")
        return
    if not 2 <= n_folds <= groups:
        raise UserError(f"n_folds {n_folds}: must be between 2 and the number of questions, {groups}")
    if not 0 <= fold < n_folds:
        raise UserError(f"fold {fold}: split {name} has folds 0 to {n_folds - 1}")


def describe(dataset: RetrievalDataset, split: Split) -> dict:
    """Return what `split.json` holds: sizes, the share of unseen queries, and texts that are on both sides."""
    train, validation = dataset.labelled(split.train), dataset.labelled(split.validation)
    unseen = unseen_queries(dataset.qrels, [query.id for query in train], [query.id for query in validation])
    return {
        "split": split.name,
        "train_questions": len(split.train),
        "validation_questions": len(split.validation),
        "train_queries": len(train),
        "validation_queries": len(validation),
        "corpus": len(dataset.passages),
        "passages_labelled_in_train": len({passage for query in train for passage in dataset.qrels[query.id]}),
        "unseen_share": round(len(unseen) / len(validation), 4) if validation else None,
        "question_texts_on_both_sides": len(_question_texts(train) & _question_texts(validation)),
        "query_texts_on_both_sides": len(_query_texts(train) & _query_texts(validation)),
    }


def unseen_queries(qrels: dict[str, list[str]], train: list[str], validation: list[str]) -> set[str]:
    """Return the validation queries none of whose relevant passages is a label of a training query.

    A query that has no relevant passage is neither seen nor unseen, and is not among them.

    >>> unseen_queries({"1_A": ["7"], "2_A": ["7"], "2_B": ["8"]}, ["1_A"], ["2_A", "2_B"])
    {'2_B'}
    """
    labelled = {passage for query in train for passage in qrels[query]}
    return {query for query in validation if qrels[query] and not labelled.intersection(qrels[query])}


def hold_out(dataset: RetrievalDataset, size: float, unseen: float, seed: int) -> set[str]:
    """Return groups to keep apart from all training, with a given share of unseen rows.

    Args:
        size: share of the labelled rows, above 0 and at most 0.5.
        unseen: share of the held-out rows on passages that the rest never labels, from 0 to below 1.

    Raises:
        UserError: a share out of range, or a dataset that has no such part.
    """
    if not (0 < size <= 0.5 and 0 <= unseen < 1):
        raise UserError(f"a part of {size} with {unseen} unseen: take a size up to 0.5 and a share from 0 to below 1")
    labels = _labels_by_group(dataset)
    groups = draw_fold(labels, set(), random.Random(f"{seed}-hold-out"), size, unseen)
    rows, row_share, unseen_share = _measure_fold(dataset, groups, labels.keys() - groups)
    if not rows or abs(row_share - size) > 0.2 * size + 0.01 or abs(unseen_share - unseen) > 0.03:
        raise UserError(
            f"{rows} of {len(dataset.qrels)} labelled rows would be kept apart, {unseen_share:.0%} of them unseen, not "
            f"{size:.0%} and {unseen:.0%}; take another size or share, or more questions"
        )
    return groups


def _question_texts(queries: list[Query]) -> set[str]:
    return {query.fields["question"] for query in queries}


def _query_texts(queries: list[Query]) -> set[tuple[str, ...]]:
    return {tuple(query.fields.values()) for query in queries}


def _labels_by_group(dataset: RetrievalDataset) -> dict[str, list[str]]:
    """Return the relevant passages of all queries of each group, in file order."""
    labels: dict[str, list[str]] = defaultdict(list)
    for query in dataset.queries:
        labels[query.group] += dataset.qrels.get(query.id, [])
    return dict(labels)


def _measure_fold(dataset: RetrievalDataset, groups: set[str], rest: set[str]) -> tuple[int, float, float]:
    """Return a fold's labelled rows, their share of all labelled rows, and the share of them that is unseen."""
    rows = [query.id for query in dataset.labelled(groups)]
    train = [query.id for query in dataset.labelled(rest)]
    unseen = unseen_queries(dataset.qrels, train, rows)
    return len(rows), len(rows) / max(len(dataset.qrels), 1), len(unseen) / max(len(rows), 1)


def _split_v1(dataset: RetrievalDataset, groups: list[str], seed: int) -> set[str]:
    """Draw a third of the groups."""
    return set(train_test_split(groups, test_size=0.333, random_state=seed)[1])


def _split_v2(dataset: RetrievalDataset, groups: list[str], seed: int) -> set[str]:
    """Draw as many groups as in v1, from those whose every query is labelled."""
    unlabelled = {query.group for query in dataset.queries if query.id not in dataset.qrels}
    fully_labelled = [group for group in groups if group not in unlabelled]
    count = round(0.333 * len(groups))
    if len(fully_labelled) <= count:
        raise UserError(
            f"split v2: only {len(fully_labelled)} questions have every wrong answer labelled, {count} are needed"
        )
    return set(train_test_split(fully_labelled, test_size=count, random_state=seed)[1])


def _split_v3(dataset: RetrievalDataset, groups: list[str], seed: int) -> set[str]:
    """Draw a fifth of the groups."""
    return set(train_test_split(groups, test_size=0.20, random_state=seed)[1])


def _split_v4(dataset: RetrievalDataset, groups: list[str], seed: int) -> set[str]:
    """Take, among the groups with one, two, three ... labels each, the 20% whose passages are rarest."""
    frequency = Counter(passage for passages in dataset.qrels.values() for passage in passages)
    labels = _labels_by_group(dataset)
    by_count: dict[int, list[tuple]] = defaultdict(list)
    for group in groups:
        if labels[group]:
            sum_of_frequencies = sum(frequency[passage] for passage in labels[group])
            by_count[len(labels[group])].append((sum_of_frequencies, _numeric_order(group), group))
    rarest = (sorted(members)[: round(0.2 * len(members))] for members in by_count.values())
    return {group for members in rarest for *_, group in members}


def _numeric_order(group: str) -> tuple:
    """Return a sort key that puts numbers first, by value."""
    return (0, int(group), "") if group.isdecimal() else (1, 0, group)


def _split_v5(dataset: RetrievalDataset, groups: list[str], seed: int, fold: int, n_folds: int) -> set[str]:
    """Take about 80% / n_folds of the labelled rows, 58 to 62% of them on passages that training does not label.

    Folds are drawn one after the other, so fold 2 repeats the drawing of folds 0 and 1. Together they hold no more than
    80% of the rows: the last folds would find too few passages that earlier ones left whole.
    """
    labels = _labels_by_group(dataset)
    wanted = V5_SIZE * N_FOLDS / n_folds
    used: set[str] = set()
    for number in range(fold + 1):
        validation = draw_fold(labels, used, random.Random(f"{seed}-{number}"), wanted)
        used |= validation
    _, size, share = _measure_fold(dataset, validation, set(groups) - validation)
    has_size = V5_SIZE_BOUNDS[0] <= size / (wanted / V5_SIZE) <= V5_SIZE_BOUNDS[1]
    if not (has_size and V5_UNSEEN_BOUNDS[0] <= share <= V5_UNSEEN_BOUNDS[1]):
        raise UserError(
            f"split v5, fold {fold}: {size:.1%} of the rows would be in it, {share:.1%} of them unseen, not "
            f"{wanted:.0%} and 60%; take a lower fold, another seed or number of folds, or more questions"
        )
    return validation


def _split_v6(dataset: RetrievalDataset, groups: list[str], seed: int, fold: int, n_folds: int) -> set[str]:
    """Take one of the folds, which share no construct and divide the labelled rows evenly.

    As in scikit-learn's GroupKFold, the largest construct goes first, each into the fold with the fewest rows so far;
    the seed shuffles constructs of one size.
    """
    if not dataset.constructs:
        raise UserError("split v6: groups questions by ConstructId, which the data lack; choose one of v1 to v5")
    members: dict[str, list[str]] = defaultdict(list)
    for group in groups:
        members[dataset.constructs[group]].append(group)
    if len(members) < n_folds:
        raise UserError(f"split v6: {len(members)} constructs do not fill {n_folds} folds")
    labels = _labels_by_group(dataset)
    rows = {construct: sum(len(labels[group]) for group in members[construct]) for construct in members}
    constructs = sorted(members)
    random.Random(f"{seed}-constructs").shuffle(constructs)
    folds: list[set[str]] = [set() for _ in range(n_folds)]
    sizes = [0] * n_folds
    for construct in sorted(constructs, key=lambda construct: -rows[construct]):
        smallest = sizes.index(min(sizes))
        folds[smallest].update(members[construct])
        sizes[smallest] += rows[construct]
    return folds[fold]


_VALIDATION = {
    "v1": _split_v1,
    "v2": _split_v2,
    "v3": _split_v3,
    "v4": _split_v4,
}

_FOLD = {"v5": _split_v5, "v6": _split_v6}
