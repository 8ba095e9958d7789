"""Training groups: how a file of queries, positives and negatives is read, and what each epoch draws from it."""

import math
import random

import pytest
from helpers.tiny_task import refused

from rounds.artifacts import store
from rounds.config import loader
from rounds.data.text import normalize_text
from rounds.training.dataset import TrainingGroups, read_training_groups


def row(query: str, pos: list[str], neg: list[str]) -> dict:
    """Return a row of a training file."""
    return {"query": query, "pos": pos, "neg": neg}


def read(folder, rows: list[dict], seed: int = 42) -> TrainingGroups:
    """Write rows to a file and read it."""
    store.write_jsonl(folder / "data.jsonl", rows)
    return read_training_groups(folder / "data.jsonl", seed, loader.load("minilm"))


def negatives(groups: TrainingGroups, row: int) -> list[str]:
    """Return the texts of a row's negatives."""
    return [groups.passages[passage] for passage in groups.negatives[row]]


MANY = [row(f"query {n}", [f"positive {n}"], [f"negative {n} {m}" for m in range(15)]) for n in range(4)]


@pytest.mark.parametrize("twin", ["q  ", "q\n"])
def test_positives_of_a_query_are_no_negatives_of_the_same_query_with_other_blanks(tmp_path, twin):
    """Queries are compared as passages are, white space collapsed."""
    groups = read(tmp_path, [row("q", ["a"], ["b", "c"]), row(twin, ["b"], ["a", "c"])])
    assert [negatives(groups, number) for number in (0, 1)] == [["c"], ["c"]]


@pytest.mark.parametrize(
    ("pos", "neg"),
    [
        (None, [0.5, 0.4]),
        ([1.0], None),
        ([None], [0.5, 0.4]),
        (["1"], [0.5, 0.4]),
        ("1", "23"),
        (1, [0.5, 0.4]),
        ([float("nan")], [0.5, 0.4]),
        ([1.0, 0.5], [0.4]),
    ],
)
def test_teacher_scores_that_are_no_number_for_each_passage_are_refused(tmp_path, pos, neg):
    """A missing score, a text, not-a-number, or scores of the wrong side are one line with the row."""
    recipe = loader.load("minilm").replace("training", loss="distillation")
    scored = row("q", ["a"], ["b", "c"]) | {"pos_scores": pos, "neg_scores": neg}
    store.write_jsonl(
        tmp_path / "data.jsonl", [row("r", ["a"], ["b"]) | {"pos_scores": [1], "neg_scores": [0]}, scored]
    )
    with refused(tmp_path / "data.jsonl line 2", "teacher's score of each passage"):
        read_training_groups(tmp_path / "data.jsonl", 42, recipe)


@pytest.mark.parametrize("loss", ["distillation", "margin_mse"])
def test_a_passage_that_a_row_names_as_unscored_has_no_score(tmp_path, loss):
    """Its score is null, and NaN among the groups' scores; margins need all scores."""
    recipe = loader.load("minilm").replace("training", loss=loss)
    scored = row("q", ["a"], ["b"]) | {"pos_scores": [None], "neg_scores": [0.5], "unscored": ["a"]}
    store.write_jsonl(tmp_path / "data.jsonl", [scored])
    if loss == "margin_mse":
        with refused("line 1", "teacher's score of each passage"):
            read_training_groups(tmp_path / "data.jsonl", 42, recipe)
        return
    ((of_pos, of_neg),) = (
        scores.values() for scores in read_training_groups(tmp_path / "data.jsonl", 42, recipe).teacher_scores
    )
    assert math.isnan(of_pos) and of_neg == 0.5


@pytest.mark.parametrize("size", [2, 4, 6, 8, 16, 40])
def test_windows_move_with_the_epoch_and_cover_the_pool(tmp_path, size):
    """Epochs draw consecutive windows of `size - 1` negatives, so that a few epochs draw every negative."""
    groups = read(tmp_path, MANY)
    count = min(size - 1, 15)
    epochs = -(-15 // count)
    for number in range(len(MANY)):
        windows = [groups.draw(number, epoch, size).negatives for epoch in range(epochs)]
        assert all(len(window) == len(set(window)) == count for window in windows)
        assert set().union(*windows) == set(groups.negatives[number])
        drawn = [passage for window in windows for passage in window]
        assert len(set(drawn[:15])) == 15, "a negative was drawn twice before all were drawn once"


def test_a_draw_is_a_function_of_its_arguments(tmp_path):
    """The same row, epoch and size draw the same group from a file that is read again, as another process does."""
    first, second = read(tmp_path, MANY), read(tmp_path, MANY)
    arguments = [(row, epoch, 8) for row in range(4) for epoch in range(3)]
    assert [first.draw(*values) for values in arguments] == [second.draw(*values) for values in arguments]


def test_positives_take_turns(tmp_path):
    """A row with several positives draws one after the other, epoch by epoch."""
    groups = read(tmp_path, [row("q", ["a", "b"], ["c"])])
    assert [groups.passages[groups.draw(0, epoch, 2).positive] for epoch in range(4)] == ["a", "b", "a", "b"]


def test_a_row_without_negatives_draws_its_positive_alone(tmp_path):
    """A row without negatives draws none; it trains against the passages of its batch."""
    groups = read(tmp_path, [row("q", ["a"], []), row("r", ["b"], ["c"])])
    assert groups.draw(0, 3, 8) == (groups.positives[0][0], [])


def test_negatives_are_shuffled_by_seed_and_row(tmp_path):
    """A row's order of negatives depends on the seed and the row's texts, and not on its place in the file."""
    forward, backward, other = read(tmp_path, MANY), read(tmp_path, MANY[::-1]), read(tmp_path, MANY, seed=43)
    assert [negatives(forward, n) for n in range(4)] == [negatives(backward, n) for n in range(3, -1, -1)]
    assert negatives(forward, 0) != negatives(other, 0)
    assert len({tuple(text.split()[-1] for text in negatives(forward, n)) for n in range(4)}) == 4
    assert sorted(negatives(forward, 0)) == sorted(MANY[0]["neg"])


@pytest.mark.parametrize("twin", ["the same", " the  same\n", "the\tsame"])
def test_a_positive_by_text_is_never_a_negative(tmp_path, twin):
    """A negative that differs from one of the row's positives in white space only is left out."""
    groups = read(tmp_path, [row("q", ["x", "the same"], ["a", twin, "b"])])
    assert sorted(negatives(groups, 0)) == ["a", "b"]


def test_positives_of_all_rows_of_a_query_text_are_known(tmp_path):
    """If two rows have the same query text, the positives of both are negatives of neither."""
    groups = read(tmp_path, [row("q", ["a"], ["b", "c"]), row("q", ["b "], ["a", "d"]), row("r", ["e"], ["a", "b"])])
    assert [sorted(negatives(groups, n)) for n in range(3)] == [["c"], ["d"], ["a", "b"]]
    known = [{groups.passages[passage].strip() for passage in passages} for passages in groups.false_negatives]
    assert known == [{"a", "b"}, {"a", "b"}, {"e"}]


def test_each_text_is_kept_once(tmp_path):
    """Passages that differ in white space only are one passage, in whichever rows they are."""
    rows = [row("q", ["a"], ["b", "b ", "c"]), row("r", ["c\n"], [" a", "b"])]
    groups = read(tmp_path, rows)
    assert sorted(normalize_text(text) for text in groups.passages) == ["a", "b", "c"]
    assert all(len(pool) == len(set(pool)) for pool in groups.negatives)


def test_random_data_keeps_the_rules(tmp_path):
    """In random files too, a row keeps its query and positives, and its negatives hold no known positive."""
    rng = random.Random(0)
    texts = [f"text {n // 2}{' ' * (n % 2)}" for n in range(30)]
    rows = [row(f"q{rng.randrange(8)}", rng.sample(texts, 2), rng.sample(texts, rng.randrange(9))) for _ in range(40)]
    groups = read(tmp_path, rows)
    for number, data in enumerate(rows):
        positives = {normalize_text(text) for other in rows if other["query"] == data["query"] for text in other["pos"]}
        expected = {normalize_text(text) for text in data["neg"]} - positives
        assert groups.queries[number] == data["query"]
        assert {normalize_text(text) for text in negatives(groups, number)} == expected
        own = [normalize_text(groups.passages[passage]) for passage in groups.positives[number]]
        assert own == [normalize_text(text) for text in data["pos"]]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([row("q", ["a"], ["b"]), row("r", [], ["b"])], "line 2: pos is empty"),
        ([row("q", ["a"], ["b"]), {"query": "r", "pos": ["a"]}], "line 2: key 'neg'"),
        ([row("q", ["a"], ["b"]), {"pos": ["a"], "neg": []}], "line 2: key 'query'"),
        ([row("q", ["a"], []), row("r", ["b"], [])], "no row has negatives"),
        ([row("q", ["a"], ["a "]), row("r", ["b"], [])], "no row has negatives"),
        ([row("q", ["a"], ["b"]), row("r", "abc", ["b"])], "line 2"),
        ([row("q", ["a"], ["b"]), row("r", ["a"], "bcd")], "line 2"),
        ([], "empty"),
    ],
    ids=["no positive", "no neg", "no query", "no negatives", "only positives", "pos is text", "neg is text", "empty"],
)
def test_unusable_files_are_refused(tmp_path, rows, says):
    """A file that cannot be trained on is refused, with its name and, if a line is at fault, the line's number."""
    with refused(tmp_path / "data.jsonl", says):
        read(tmp_path, rows)
