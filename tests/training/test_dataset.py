import random

import pytest
from helpers.tiny_task import refused

from rounds.artifacts import store
from rounds.config import loader
from rounds.data.text import normalize_text
from rounds.training.batch_sampler import BatchSampler
from rounds.training.dataset import TrainingGroups, read_training_groups


def row(query: str, pos: list[str], neg: list[str]) -> dict:
    return {"query": query, "pos": pos, "neg": neg}


def read(folder, rows: list[dict], seed: int = 42) -> TrainingGroups:
    store.write_jsonl(folder / "data.jsonl", rows)
    return read_training_groups(folder / "data.jsonl", seed, loader.load("minilm"))


def negatives(found: TrainingGroups, number: int) -> list[str]:
    return [found.passages[each] for each in found.negatives[number]]


MANY = [row(f"query {n}", [f"positive {n}"], [f"negative {n} {each}" for each in range(15)]) for n in range(4)]


@pytest.mark.parametrize("size", [2, 4, 6, 8, 16, 40])
def test_windows_move_with_the_epoch_and_cover_the_pool(tmp_path, size):
    """Epochs draw windows of `size - 1` that follow each other, so a few of them see every negative."""
    found = read(tmp_path, MANY)
    count = min(size - 1, 15)
    epochs = -(-15 // count)
    for number in range(len(MANY)):
        drawn = [found.draw(number, epoch, size)[1] for epoch in range(epochs)]
        assert all(len(each) == len(set(each)) == count for each in drawn)
        assert set().union(*drawn) == set(found.negatives[number])
        flat = [each for window in drawn for each in window]
        assert len(set(flat[:15])) == 15, "no negative comes again before the others had their turn"


def test_a_draw_is_a_function_of_its_arguments(tmp_path):
    """The same row, epoch and size draw the same, in another process too (nothing is drawn at random there)."""
    one, other = read(tmp_path, MANY), read(tmp_path, MANY)
    assert [one.draw(n, e, 8) for n in range(4) for e in range(3)] == [
        other.draw(n, e, 8) for n in range(4) for e in range(3)
    ]


def test_positives_take_turns(tmp_path):
    """A row with several positives shows them one epoch after the other."""
    found = read(tmp_path, [row("q", ["a", "b"], ["c"])])
    assert [found.passages[found.draw(0, epoch, 2)[0]] for epoch in range(4)] == ["a", "b", "a", "b"]


def test_a_row_without_negatives_draws_its_positive_alone(tmp_path):
    """A row without negatives still trains against the others of its batch."""
    found = read(tmp_path, [row("q", ["a"], []), row("r", ["b"], ["c"])])
    assert found.draw(0, 3, 8) == (found.positives[0][0], [])


def test_negatives_are_shuffled_by_seed_and_row(tmp_path):
    """A row's order of negatives depends on the seed and the row, not on where in the file it stands."""
    forward, backward, other = read(tmp_path, MANY), read(tmp_path, MANY[::-1]), read(tmp_path, MANY, seed=43)
    assert [negatives(forward, n) for n in range(4)] == [negatives(backward, n) for n in range(3, -1, -1)]
    assert negatives(forward, 0) != negatives(other, 0)
    assert len({tuple(each.split()[-1] for each in negatives(forward, n)) for n in range(4)}) == 4
    assert sorted(negatives(forward, 0)) == sorted(MANY[0]["neg"])


@pytest.mark.parametrize("twin", ["the same", " the  same\n", "the\tsame"])
def test_a_positive_by_text_is_never_a_negative(tmp_path, twin):
    """A negative with the text of the row's positive, white space apart, is left out."""
    found = read(tmp_path, [row("q", ["x", "the same"], ["a", twin, "b"])])
    assert sorted(negatives(found, 0)) == ["a", "b"]


def test_positives_of_all_rows_of_a_query_text_are_known(tmp_path):
    """Two rows with one query text: what is positive in either is negative in neither."""
    found = read(tmp_path, [row("q", ["a"], ["b", "c"]), row("q", ["b "], ["a", "d"]), row("r", ["e"], ["a", "b"])])
    assert [sorted(negatives(found, n)) for n in range(3)] == [["c"], ["d"], ["a", "b"]]
    assert [{found.passages[n].strip() for n in known} for known in found.false_negatives] == [
        {"a", "b"},
        {"a", "b"},
        {"e"},
    ]


def test_each_text_is_held_once(tmp_path):
    """Passages that differ in white space only are one passage, wherever they stand."""
    rows = [row("q", ["a"], ["b", "b ", "c"]), row("r", ["c\n"], [" a", "b"])]
    found = read(tmp_path, rows)
    normal = [normalize_text(text) for text in found.passages]
    assert sorted(normal) == ["a", "b", "c"]
    assert all(len(pool) == len(set(pool)) for pool in found.negatives)


def test_random_data_keeps_the_rules(tmp_path):
    """Whatever the file: row n's query and positives are its own and no known passage is among its negatives."""
    rng = random.Random(0)
    texts = [f"text {n // 2}{' ' * (n % 2)}" for n in range(30)]
    rows = [row(f"q{rng.randrange(8)}", rng.sample(texts, 2), rng.sample(texts, rng.randrange(9))) for _ in range(40)]
    found = read(tmp_path, rows)
    for number, each in enumerate(rows):
        same = [normalize_text(text) for other in rows if other["query"] == each["query"] for text in other["pos"]]
        expected = {normalize_text(text) for text in each["neg"]} - set(same)
        assert found.queries[number] == each["query"]
        assert {normalize_text(text) for text in negatives(found, number)} == expected
        assert [normalize_text(found.passages[n]) for n in found.positives[number]] == [
            normalize_text(text) for text in each["pos"]
        ]


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
    """A file that cannot be trained on is named, with the line where there is one."""
    with refused(tmp_path / "data.jsonl", says):
        read(tmp_path, rows)


def batches(rows: int, batch: int, processes: int, epoch: int = 0, seed: int = 42) -> list[list[int]]:
    sampler = BatchSampler(rows, batch, processes, seed)
    sampler.set_epoch(epoch)
    return list(sampler)


SIZES = [(1, 8), (7, 8), (8, 8), (9, 8), (16, 8), (33, 8), (100, 16), (5, 1)]


@pytest.mark.parametrize(("rows", "batch"), SIZES)
@pytest.mark.parametrize("epoch", [0, 3])
def test_every_row_comes_once_an_epoch(rows, batch, epoch):
    """An epoch is a permutation of the rows, in batches of which only the last is smaller."""
    found = batches(rows, batch, 1, epoch)
    assert sorted(n for each in found for n in each) == list(range(rows))
    assert all(len(each) == batch for each in found[:-1])


def test_epochs_and_seeds_differ_in_order():
    """Each epoch and each seed has an order of its own, and the same of both has the same."""
    orders = {
        (epoch, seed): tuple(n for each in batches(60, 8, 1, epoch, seed) for n in each)
        for epoch in range(3)
        for seed in range(3)
    }
    assert len(set(orders.values())) == 9
    assert batches(60, 8, 1, 2, 1) == batches(60, 8, 1, 2, 1)


@pytest.mark.parametrize("rows", [64, 70, 71, 8, 9, 2])
def test_two_processes_see_one_s_batches(rows):
    """A global batch holds the same queries for one process and for two; an odd row out is the last of an epoch."""
    alone, together = batches(rows, 8, 1), batches(rows, 4, 2)
    joined = [together[n] + together[n + 1] for n in range(0, len(together), 2)]
    even = [each[: len(each) // 2 * 2] for each in alone]
    assert joined == [each for each in even if each]
    assert all(len(together[n]) == len(together[n + 1]) for n in range(0, len(together), 2))


@pytest.mark.parametrize(("rows", "batch"), [*SIZES, (17, 8), (31, 8), (3, 8)])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_length_is_the_number_of_batches(rows, batch, processes):
    """`len` counts the batches that come, which is the same number for every process."""
    found = batches(rows, batch, processes)
    assert len(BatchSampler(rows, batch, processes, 42)) == len(found)
    assert len(found) % processes == 0
