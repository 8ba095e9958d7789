"""Epoch rows: which rows an epoch trains on, beside outside ones or after them."""

import pytest

from rounds.config.recipe import Outside
from rounds.training.epoch_rows import EpochRows

OWN, OUTSIDE = 6, 10
MARKS = [False] * OWN + [True] * OUTSIDE


def epochs(marks: list[bool] = MARKS, count: int = 4, seed: int = 42, round_number: int = 1, **keys) -> list[list[int]]:
    """Return the rows of some epochs, each as long as it says."""
    rows = EpochRows(marks, Outside(**keys), seed, round_number, count)
    drawn = [rows.of(epoch) for epoch in range(count)]
    assert all(len(epoch) == len(rows) for epoch in drawn)
    return drawn


def test_by_default_every_epoch_has_all_rows():
    """In file order, as without outside rows."""
    assert epochs() == [list(range(OWN + OUTSIDE))] * 4


@pytest.mark.parametrize("keys", [{"ratio": 0.5}, {"first": 1}, {}], ids=str)
def test_keys_change_nothing_without_outside_rows(keys):
    """All rows are the competition's."""
    assert epochs([False] * OWN, **keys) == [list(range(OWN))] * 4


def test_a_ratio_adds_other_outside_rows_in_each_epoch():
    """Half as many outside rows as others, until all have come; the competition's come in every epoch."""
    drawn = epochs(ratio=0.5)
    outside = [[row for row in epoch if row >= OWN] for epoch in drawn]
    assert all(epoch[:OWN] == list(range(OWN)) for epoch in drawn)
    assert [len(rows) for rows in outside] == [3] * 4
    assert {row for rows in outside for row in rows} == set(range(OWN, OWN + OUTSIDE))
    assert len({row for rows in outside[:3] for row in rows}) == 9


@pytest.mark.parametrize("keys", [{"ratio": 0.25}, {"ratio": 0.5}, {"first": 1}, {"first": 2}], ids=str)
def test_rounds_go_on_where_the_round_before_ended(keys):
    """Their windows follow each other over one order of the outside rows, which they go through again and again."""
    marks, count = [False] * OWN + [True] * 30, 2
    drawn = [epochs(marks, count, round_number=number, **keys) for number in (1, 2, 3)]
    outside = [row for rows in drawn for epoch in rows for row in epoch if row >= OWN]
    assert len(set(outside)) == min(len(outside), 30)
    assert drawn[0] == epochs(marks, count, **keys) and drawn[1] == epochs(marks, count, round_number=2, **keys)


def test_a_ratio_above_what_there_is_takes_all():
    """No row comes twice in an epoch."""
    assert epochs(ratio=9) == epochs()


def test_seeds_draw_other_rows():
    """The order of outside rows is the seed's, and one seed repeats it."""
    assert epochs(ratio=0.5) == epochs(ratio=0.5) != epochs(ratio=0.5, seed=7)


def test_outside_rows_come_first_and_alone():
    """Two epochs of other outside rows, then the competition's; all have equally many."""
    drawn = epochs(first=2)
    assert drawn[2:] == [list(range(OWN))] * 2
    assert all(row >= OWN for epoch in drawn[:2] for row in epoch)
    assert {row for epoch in drawn[:2] for row in epoch} == set(range(OWN, OWN + OUTSIDE))


def test_few_outside_rows_come_more_than_once_when_alone():
    """An epoch of four outside rows has six."""
    (first, _) = epochs([False] * OWN + [True] * 4, count=2, first=1)
    assert len(first) == OWN and set(first) == {6, 7, 8, 9}
