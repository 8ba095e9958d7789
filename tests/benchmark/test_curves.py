"""Curves: the same work on larger and larger corpora, in a table of its own."""

from rounds.benchmark import corpus_work, curves, table
from rounds.benchmark.contenders import Outcome
from rounds.benchmark.curves import Curve


def test_each_stage_works_on_each_corpus():
    """Every stage sees the corpus that was asked for, and mines and evaluates all queries."""
    results = []

    def measure(work, contender, *arguments) -> Outcome:
        seconds, result = work(contender, *arguments)
        results.append((work.__name__, result))
        return Outcome(seconds, 100.0, result)

    curve = curves.measure_stages(measure, (300, 400))
    assert list(curve.outcomes) == ["data", "encode", "mine", "evaluate"] and curve.sizes == (300, 400)
    assert [result for name, result in results if name in ("make_collection", "encode_corpus")] == [300, 300, 400, 400]
    assert [result for name, result in results if name == "mine_encoded"] == [corpus_work.QUERIES] * 2
    assert all(0 <= result <= 1 for name, result in results if name == "evaluate_encoded")


def test_a_curve_is_a_table_below_the_others():
    """A row has seconds and MiB of each size; an empty line divides two tables."""
    curve = Curve("stage", (10, 2000), {"data": [Outcome(0.1234, 99.6, None), Outcome(123.4, 5, None)]})
    lines = [
        "| stage | 10 passages | 2,000 passages |",
        "|---|---:|---:|",
        "| data | 0.123 s, 100 MiB | 123 s, 5 MiB |",
    ]
    assert curve.lines() == lines
    assert table.table([], [curve, curve]).splitlines() == [*lines, "", *lines]
