"""Estimate: one line, from the rate behind the first batch, for work of a minute or more."""

import pytest

from rounds import estimate
from rounds.estimate import Counter, Estimate, track


@pytest.fixture
def clock(monkeypatch):
    """Return what sets the seconds that the next looks at the clock see."""

    def use(*seconds: float) -> None:
        monkeypatch.setattr(estimate, "clock", iter(seconds).__next__)

    return use


def printed(capsys, clock, marks: list[tuple[float, float]], total: float, **options) -> str:
    """Return what an estimate prints, given seconds and work done at its start and after each batch."""
    clock(*(seconds for seconds, _ in marks), *[1e9] * 3)
    watched = Estimate("encode corpus", "tokens", **options)
    for _, done in marks:
        watched.update(done, total)
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_the_rate_is_that_behind_the_first_batch(capsys, clock):
    """The first batch takes 4 s, the next two 1 s each for 100 tokens: 98 more take 98 s, after the 6 s so far."""
    marks = [(0, 0), (4, 100), (5, 200), (6, 300)]
    assert printed(capsys, clock, marks, 10_100) == "encode corpus: about 2 min (10,100 tokens, 100 tokens/s)\n"


def test_nothing_is_printed_in_the_first_seconds(capsys, clock):
    """Batches of the first 5 s are too few to measure."""
    assert printed(capsys, clock, [(0, 0), (1, 100), (4.9, 200)], 100_000) == ""


def test_work_below_a_minute_gets_no_line(capsys, clock):
    """6 s so far and 53 s to come, or 55 s."""
    assert printed(capsys, clock, [(0, 0), (4, 0), (6, 100)], 100 + 53 * 50) == ""
    assert printed(capsys, clock, [(0, 0), (4, 0), (6, 100)], 100 + 55 * 50) != ""


def test_there_is_one_line_however_the_rate_changes(capsys, clock):
    """A slower batch later prints nothing."""
    marks = [(0, 0), (4, 100), (6, 200), (1000, 201), (2000, 202)]
    assert printed(capsys, clock, marks, 100_000).count("\n") == 1


def test_a_long_first_batch_counts_unless_it_warms_up(capsys, clock):
    """Whoever waits half a minute for a batch is told at its end; where it compiles, after the second."""
    first, second = (30, 100), (40, 200)
    assert "about 50 min (10,000 tokens, 3.3 tokens/s)" in printed(capsys, clock, [(0, 0), first], 10_000)
    assert printed(capsys, clock, [(0, 0), first], 10_000, warms_up=True) == ""
    assert "about 17 min" in printed(capsys, clock, [(0, 0), first, second], 10_000, warms_up=True)


def test_finished_work_gets_no_line(capsys, clock):
    """The only batch took 10 minutes; there is nothing left to wait for."""
    assert printed(capsys, clock, [(0, 0), (600, 100)], 100) == ""


def test_work_that_goes_on_counts_what_is_left(capsys, clock):
    """Steps before the start neither count for the rate nor for the total."""
    assert "about 15 min (90 tokens left, 6.0 tokens/min)" in printed(capsys, clock, [(0, 10), (10, 11)], 100)


def test_an_owner_has_no_title_twice(capsys, clock):
    """A model that encodes the same corpus after each epoch says so once; another model says it for itself."""

    class Model: ...

    one, other = Model(), Model()
    printed_lines = [printed(capsys, clock, [(0, 0), (60, 1)], 100, owner=owner) for owner in (one, one, other)]
    assert [bool(line) for line in printed_lines] == [True, False, True]


def test_a_part_is_counted_as_its_share_of_all(capsys, clock):
    """Half of the second of four parts is done: three eighths."""
    clock(0, 30)
    watched = Estimate("search", "queries")
    watched.update(0, 400)
    watched.of_part(100, 100, 400)(5, 10)
    assert capsys.readouterr().err == "search: about 1 min (400 queries, 5.0 queries/s)\n"


def test_items_pass_unchanged(capsys, clock):
    """`track` yields what it gets; the first of 3 items took 10 minutes."""
    clock(0, 600)
    assert list(track(iter("abc"), 3, "images", "batches")) == ["a", "b", "c"]
    assert capsys.readouterr().err == "images: about 30 min (3 batches, 6.0 batches/h)\n"


def test_a_counter_adds_up():
    """The total stays, and the first call comes before any work."""
    calls = []
    counter = Counter(lambda *call: calls.append(call), 10)
    counter.add(4)
    counter.add(6)
    assert calls == [(0, 10), (4, 10), (10, 10)]
