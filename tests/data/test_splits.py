import dataclasses
import random
from collections import Counter, defaultdict

import pytest
from helpers.tiny_task import make_task, refused

from rounds.data import lineage, splits
from rounds.data.dataset import Query, RetrievalDataset
from rounds.data.source import FOLDED, N_FOLDS
from rounds.data.splits import Split, make_split
from rounds.errors import Refused

LETTERS = "BCD"


@pytest.fixture(scope="module")
def task() -> RetrievalDataset:
    """600 questions in no order; passages with Zipf-like frequencies; some wrong answers unlabelled."""
    rng = random.Random(0)
    ids = [str(number) for number in range(2500)]
    weights = [1 / (rank + 3) ** 0.8 for rank in range(len(ids))]
    labels = {}
    for group in rng.sample(range(5000), 600):
        kept = 3 if rng.random() < 0.6 else rng.choice((0, 1, 2))
        labels[str(group)] = [rng.choices(ids, weights)[0] if n < kept else "" for n in range(3)]
    return make_task(labels, {each: f"misconception {each}" for each in ids})


def groups(task: RetrievalDataset) -> list[str]:
    return list(dict.fromkeys(query.group for query in task.queries))


def unseen_share(task: RetrievalDataset, split: Split) -> float:
    """Share of the labelled validation rows whose passage no train row has; a slow loop."""
    unseen = rows = 0
    for query in task.queries:
        if query.group not in split.validation or query.id not in task.qrels:
            continue
        rows += 1
        others = [q for q in task.queries if q.group in split.train and q.id in task.qrels]
        unseen += all(task.qrels[q.id] != task.qrels[query.id] for q in others)
    return unseen / rows


ALL = [(version, 0) for version in splits.VERSIONS]
ALL += [(version, fold) for version in FOLDED for fold in range(1, N_FOLDS)]


@pytest.mark.parametrize(("version", "fold"), ALL)
def test_sides_share_no_group_and_hold_all(task, version, fold):
    """Train and validation are disjoint and together are all groups."""
    split = make_split(task, version, fold=fold)
    assert not split.train & split.validation
    assert split.train | split.validation == set(groups(task))


@pytest.mark.parametrize(("version", "fold"), ALL)
def test_equal_arguments_give_an_equal_split(task, version, fold):
    """A split depends on task, version, seed and fold only."""
    assert make_split(task, version, seed=7, fold=fold) == make_split(task, version, seed=7, fold=fold)


@pytest.mark.parametrize("version", ["v1", "v2", "v3", "v5", "v6"])
def test_another_seed_is_another_split(task, version):
    """v1, v2, v3, v5 and v6 are drawn by the seed."""
    assert make_split(task, version, seed=42).validation != make_split(task, version, seed=43).validation


def test_v4_draws_nothing(task):
    """v4 follows from the labels alone."""
    assert make_split(task, "v4", seed=42) == make_split(task, "v4", seed=43)


@pytest.mark.parametrize(("version", "share"), [("v1", 0.333), ("v2", 0.333), ("v3", 0.20)])
def test_random_splits_have_their_share_of_all_questions(task, version, share):
    """v1 and v2 validate on 33.3% and v3 on 20% of the count of all questions."""
    assert len(make_split(task, version).validation) == pytest.approx(share * len(groups(task)), abs=1)


def test_v2_validates_on_fully_labelled_questions(task):
    """Every wrong answer of every v2 validation question is labelled."""
    validation = make_split(task, "v2").validation
    assert all(query.id in task.qrels for query in task.queries if query.group in validation)


def test_v2_without_enough_full_questions_is_refused():
    """v2 says how many fully labelled questions there are and how many it needs."""
    labels = {str(number): ["1", "2", "3"] if number < 6 else ["1", "2", ""] for number in range(30)}
    with refused("split v2", "6 questions", "10 are needed"):
        make_split(make_task(labels), "v2")


def test_v4_takes_groups_of_any_name():
    """A group that looks like a number and is none comes behind the numbers."""
    rows = {group: ["1"] for group in ("²", "٣", "10", "9", "x", *map(str, range(20, 25)))}
    task = make_task({str(number): labels for number, labels in enumerate(rows.values())})
    names = dict(zip(map(str, range(len(rows))), rows, strict=True))
    queries = [dataclasses.replace(query, group=names[query.group]) for query in task.queries]
    assert make_split(dataclasses.replace(task, queries=queries), "v4").validation == {"٣", "9"}


def test_v4_equals_the_slow_reference():
    """v4: in each class of 1, 2 or 3 labels the first 20% by sum of frequencies, ties by QuestionId."""
    rng = random.Random(1)
    labels = {}
    for number, group in enumerate(rng.sample(range(10_000), 400)):
        row = rng.sample([str(each) for each in range(12)], number % 4) + ["", "", ""]
        labels[str(group)] = rng.sample(row[:3], 3)
    task = make_task(labels)
    frequency = Counter(label for row in labels.values() for label in row if label)
    expected = set()
    for count in (1, 2, 3):
        members = [group for group, row in labels.items() if sum(map(bool, row)) == count]
        members.sort(key=lambda group: (sum(frequency[label] for label in labels[group] if label), int(group)))
        assert len(members) % 5 == 0, "the reference leaves no room for rounding"
        expected |= set(members[: len(members) // 5])
    assert make_split(task, "v4").validation == expected


@pytest.mark.parametrize("seed", [42, 1, 2])
@pytest.mark.parametrize("fold", range(N_FOLDS))
def test_v5_is_like_the_leaderboard(task, seed, fold):
    """58 to 62% of v5's rows are on passages that train does not label, and it holds about 20% of the rows."""
    split = make_split(task, "v5", seed=seed, fold=fold)
    assert 0.58 <= unseen_share(task, split) <= 0.62
    assert 0.18 <= len(task.labelled(split.validation)) / len(task.qrels) <= 0.22


@pytest.mark.parametrize("seed", [42, 1])
def test_v6_puts_constructs_on_one_side(task, seed):
    """No construct has questions on both sides, and a fold holds a quarter of the labelled rows."""
    for fold in range(N_FOLDS):
        split = make_split(task, "v6", seed=seed, fold=fold)
        train, validation = ({task.constructs[group] for group in side} for side in (split.train, split.validation))
        assert train and validation and not train & validation
        assert len(task.labelled(split.validation)) == pytest.approx(len(task.qrels) / 4, rel=0.02)


def test_v6_folds_hold_all_questions(task):
    """The four folds together validate on every question once."""
    folds = [make_split(task, "v6", fold=fold).validation for fold in range(N_FOLDS)]
    assert sorted(group for fold in folds for group in fold) == sorted(groups(task))


def test_v6_without_constructs_is_refused(task):
    """Data of other tasks name none, and few constructs fill no folds."""
    with refused("split v6", "ConstructId", "choose one of v1 to v5"):
        make_split(dataclasses.replace(task, constructs={}), "v6")
    few = {group: str(int(group) % 3) for group in task.constructs}
    with refused("split v6", "3 constructs do not fill 4 folds"):
        make_split(dataclasses.replace(task, constructs=few), "v6")


@pytest.mark.parametrize("version", FOLDED)
def test_folds_are_disjoint(task, version):
    """No question is validated on in two folds of one seed."""
    folds = [make_split(task, version, fold=fold).validation for fold in range(N_FOLDS)]
    times = Counter(group for fold in folds for group in fold)
    assert set(times.values()) == {1}


@pytest.mark.parametrize("fold", [-1, N_FOLDS])
@pytest.mark.parametrize("version", FOLDED)
def test_a_fold_out_of_range_is_refused(task, version, fold):
    """A fold that the split does not have is named."""
    with refused(f"fold {fold}", version, "0 to 3"):
        make_split(task, version, fold=fold)


@pytest.mark.parametrize("version", FOLDED)
def test_ten_folds_are_disjoint_and_smaller(task, version):
    """Of ten, a fold of v5 holds 8% of the rows, 58 to 62% of them unseen; those of v6 divide all questions.

    The last fold of v5 finds too few whole passages in these labels.
    """
    folds = [make_split(task, version, fold=fold, n_folds=10) for fold in range(9 if version == "v5" else 10)]
    times = Counter(group for fold in folds for group in fold.validation)
    assert set(times.values()) == {1}
    sizes = [len(task.labelled(fold.validation)) / len(task.qrels) for fold in folds]
    assert sizes == pytest.approx([0.08 if version == "v5" else 0.1] * len(folds), rel=0.2)
    if version == "v5":
        assert all(0.58 <= unseen_share(task, fold) <= 0.62 for fold in folds)
    else:
        assert len(times) == len(groups(task))


def test_a_fold_of_ten_is_no_fold_of_four(task):
    """A model that was trained on fold 1 of 10 knows validation questions of fold 1 of 4, and the guard says so."""
    one, other = make_split(task, "v5", fold=1, n_folds=10), make_split(task, "v5", fold=1)
    digests = lineage.question_digests(task, one.train), lineage.question_digests(task, other.validation)
    with pytest.raises(Refused, match="trained on .* of the .* validation questions"):
        lineage.guard("of ten", *digests, allow_leak=False)


@pytest.mark.parametrize(("number", "parts"), [(1, ["n_folds 1", "2 and"]), (601, ["n_folds 601", "questions, 600"])])
@pytest.mark.parametrize("version", FOLDED)
def test_a_number_of_folds_that_cannot_be_is_refused(task, version, number, parts):
    """A split has two folds or more, and no more than questions."""
    with refused(*parts):
        make_split(task, version, n_folds=number)


def test_a_number_of_folds_of_a_split_without_folds_is_refused(task):
    """v1 would ignore it in silence."""
    with refused("n_folds 10", "v5 and v6"):
        make_split(task, "v1", n_folds=10)


@pytest.mark.parametrize("version", ["v1", "v2", "v3", "v4", "submission"])
def test_fold_of_a_split_without_folds_is_refused(task, version):
    """Only v5 and v6 have folds; elsewhere a fold would be ignored in silence."""
    with refused("fold 1", "v5 and v6"):
        make_split(task, version, fold=1)


def test_v5_that_cannot_be_is_refused():
    """Where every passage is frequent, no 60% of unseen rows can be made, and v5 says so."""
    labels = {str(number): [str((number + each) % 4) for each in range(3)] for number in range(60)}
    with refused("split v5", "60%"):
        make_split(make_task(labels), "v5")


def test_submission_trains_on_all(task):
    """The submission split has no validation."""
    split = make_split(task, "submission")
    assert (split.train, split.validation) == (set(groups(task)), set())


@pytest.mark.parametrize(("short", "long"), [("1", "v1"), ("3", "v3"), ("V4", "v4"), (" Submission ", "submission")])
def test_versions_have_short_names(task, short, long):
    """`1` is `v1`."""
    assert make_split(task, short) == make_split(task, long)


@pytest.mark.parametrize("version", ["v7", "0", "", "all", "v"])
def test_unknown_version_is_refused(task, version):
    """A version that does not exist is named with those that do."""
    with refused(repr(version), "v1", "v6", "submission"):
        make_split(task, version)


@pytest.mark.parametrize("version", ["v1", "v2", "v3", "v4", "v5", "v6"])
def test_too_few_questions_are_refused(version):
    """Nine questions are no basis for a split."""
    with refused("9 questions"):
        make_split(make_task({str(number): ["1", "2", "3"] for number in range(9)}), version)


def test_validation_without_a_label_is_refused():
    """A split whose validation side holds no labelled row is refused, not evaluated on nothing."""
    labels = {str(number): ["", "", ""] for number in range(500)} | {"999": ["1", "", ""]}
    seed = next(seed for seed in range(50) if _trains_on_999(labels, seed))
    with refused("split v3", "no labelled question"):
        make_split(make_task(labels), "v3", seed=seed)


def _trains_on_999(labels: dict, seed: int) -> bool:
    """v3 does not look at labels, so it divides a labelled task of the same questions alike."""
    full = make_task({group: ["1", "1", "1"] for group in labels})
    return "999" in make_split(full, "v3", seed=seed).train


@pytest.mark.parametrize(("version", "fold"), ALL)
def test_description_equals_a_slow_count(task, version, fold):
    """Every number of `describe` is what a loop over the queries counts."""
    split = make_split(task, version, fold=fold)
    rows = {"train": [], "validation": []}
    for query in task.queries:
        if query.id in task.qrels:
            rows["train" if query.group in split.train else "validation"].append(query)
    assert splits.describe(task, split) == {
        "split": version,
        "train_questions": len(split.train),
        "validation_questions": len(split.validation),
        "train_queries": len(rows["train"]),
        "validation_queries": len(rows["validation"]),
        "corpus": len(task.passages),
        "passages_labelled_in_train": len({task.qrels[query.id][0] for query in rows["train"]}),
        "unseen_share": round(unseen_share(task, split), 4) if rows["validation"] else None,
        "question_texts_on_both_sides": 0,
        "query_texts_on_both_sides": 0,
    }


def test_texts_on_both_sides_are_counted():
    """Two QuestionIds with one text on either side are counted once; so are whole queries that are equal."""
    same = {"construct": "c", "subject": "s", "question": "same?", "correct": "1", "wrong": "2"}
    queries = [
        Query("1_B", "1", same),
        Query("1_C", "1", {**same, "wrong": "3"}),
        Query("2_B", "2", same),
        Query("2_C", "2", {**same, "wrong": "4"}),
        Query("3_B", "3", {**same, "question": "other?"}),
    ]
    task = RetrievalDataset("t", queries, {"7": "seven"}, {query.id: ["7"] for query in queries})
    described = splits.describe(task, Split("v1", {"1", "3"}, {"2"}))
    assert described["question_texts_on_both_sides"] == 1
    assert described["query_texts_on_both_sides"] == 1


def test_unseen_queries_equal_a_slow_loop():
    """A validation query is unseen where none of its relevant passages is relevant to a train query."""
    rng = random.Random(3)
    qrels = {f"q{n}": rng.sample("abcdefghij", rng.choice((1, 2))) for n in range(20)}
    train, validation = list(qrels)[:8], list(qrels)[8:]
    seen = defaultdict(bool)
    for query in train:
        for passage in qrels[query]:
            seen[passage] = True
    expected = {query for query in validation if not any(seen[passage] for passage in qrels[query])}
    assert splits.unseen_queries(qrels, train, validation) == expected
