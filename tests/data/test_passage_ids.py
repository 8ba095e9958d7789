"""Ids of a large corpus in one array of bytes behave as a list of texts does."""

import random

import pytest

from rounds.data.passage_ids import MAX_PADDED, PassageIds

NAMES = [f"p{number}" for number in range(10_000)]
ODD = ["b", "a", "é", "e\u0301", "漢", "😀", "ab", "\uffff", "10", "9"]


@pytest.mark.parametrize("names", [NAMES, ODD, []], ids=["many", "odd", "none"])
def test_a_sequence_of_texts(names):
    """Length, places, slices and iteration are those of a list."""
    ids = PassageIds(names)
    assert len(ids) == len(names) and list(ids) == names
    assert [ids[place] for place in range(-len(names), len(names))] == names + names
    for cut in (slice(3, 7), slice(-2, None), slice(None, None, 3), slice(5, 1)):
        assert ids[cut] == names[cut]
    with pytest.raises(IndexError):
        ids[len(names)]


@pytest.mark.parametrize("names", [NAMES, ODD], ids=["many", "odd"])
def test_rows_are_found_by_id(names):
    """Every id gives its row, and one that is not there gives -1."""
    ids = PassageIds(names)
    shuffled = random.Random(0).sample(names, len(names))
    assert ids.rows_of(shuffled).tolist() == [names.index(name) for name in shuffled]
    assert ids.rows_of(["", "p", "p10000x"]).tolist() == [-1, -1, -1] and ids.row_of(names[5]) == 5


def test_colliding_hashes_are_told_apart(monkeypatch):
    """Where all hashes are equal, ids are still compared themselves."""
    monkeypatch.setattr("builtins.hash", lambda text: 7)
    ids = PassageIds(ODD)
    assert ids.rows_of([*ODD, "x"]).tolist() == [*range(len(ODD)), -1]
    assert ids.first_repeat() is None and PassageIds([*ODD, "a", "b"]).first_repeat() == len(ODD)


def test_the_first_repeat():
    """Of several ids that come again, the row that comes first is named; triples too."""
    assert PassageIds(NAMES).first_repeat() is None
    assert PassageIds([*NAMES, "x", "p7", "p3", "p7"]).first_repeat() == len(NAMES) + 1
    assert PassageIds([]).first_repeat() is None


@pytest.mark.parametrize(
    "names", [NAMES, ODD, [*ODD, "x" * MAX_PADDED, "x" * (MAX_PADDED + 1), "xy"]], ids=["many", "odd", "long"]
)
def test_ids_are_sorted_as_texts(names):
    """The order is that of Python's texts, whatever their length in bytes."""
    ids = PassageIds(names)
    assert [ids[row] for row in ids.sorted_rows()] == sorted(names)
