"""Uploads: what cannot leave is refused before anything runs for it."""

import pytest

from rounds.errors import UserError
from rounds.pipeline import targets


@pytest.mark.parametrize("target", ["submit", "best", "distil"])
@pytest.mark.parametrize(
    ("missing", "arguments", "part"),
    [
        ("", ("TASK=pairs", "FIELDS=a,b"), "TASK=pairs: has no test queries"),
        ("test.csv", (), "raw/test.csv: no such file"),
        ("sample_submission.csv", (), "raw/sample_submission.csv: no such file"),
    ],
    ids=["pairs", "test", "sample"],
)
def test_nothing_is_trained_for_a_submission_that_cannot_be_written(target, missing, arguments, part, session, project):
    """A task or data without test queries are one line, hours of rounds earlier."""
    if missing:
        (project / "raw" / missing).unlink()
    given = session(*arguments, target=target)
    with pytest.raises(UserError, match=part):
        targets.run(target, given)
    assert given.runner.calls == []


def test_a_run_that_is_missing_is_told_before_data_are_made(session):
    """One run is looked for first, as several are."""
    given = session("RUNS=nothing/round1")
    with pytest.raises(UserError, match="RUNS: nothing/round1 has no checkpoint"):
        targets.run("submit", given)
    assert given.runner.calls == []
