"""A clock on which everything takes long, for the lines of `rounds.estimate`."""

import itertools
import re

import pytest

from rounds import estimate


def use(monkeypatch: pytest.MonkeyPatch, seconds: float = 600.0) -> None:
    """Let each batch take so many seconds."""
    monkeypatch.setattr(estimate, "clock", itertools.count(0.0, seconds).__next__)


def lines(capsys: pytest.CaptureFixture) -> list[str]:
    """Return the estimates that were printed."""
    return [line for line in capsys.readouterr().err.splitlines() if ": about " in line]


def amount(line: str) -> int:
    """Return the number of tokens, or of what else the work is counted in, that a line names."""
    return int(re.search(r"\(([\d,]+) ", line)[1].replace(",", ""))
