"""Refusals are recorded beside the ledger; other bad input is not."""

import sys
from dataclasses import dataclass

import pytest

from rounds import cli
from rounds.artifacts import refusals
from rounds.errors import Refused, UserError


@dataclass
class Flags:
    """Flags of an invented script."""

    model_path: str
    model_output: str


@pytest.mark.parametrize(("error", "recorded_count"), [(Refused, 1), (UserError, 0)])
def test_a_refusal_is_recorded(error, recorded_count, tmp_path, monkeypatch, capsys):
    """`Refused` is recorded with stage and reason, any other `UserError` is not; both exit with 2 and one line."""

    def main(flags: Flags) -> None:
        """Refuse."""
        raise error(f"{flags.model_path}: leaks")

    path = "out/a-v1/round1/train"
    monkeypatch.setattr(sys, "argv", ["scripts/eval.py", "--model_path", path, "--model_output", str(tmp_path)])
    with pytest.raises(SystemExit, match="2"):
        cli.run(main, Flags)
    assert capsys.readouterr().err == f"error: {path}: leaks\n"
    recorded = refusals.read(tmp_path, "a-v1")
    assert [(refusal["stage"], refusal["reason"]) for refusal in recorded] == [
        ("eval", f"{path}: leaks")
    ] * recorded_count
    assert refusals.read(tmp_path, "a-v1-0f") == []


def test_a_refusal_makes_no_folder(tmp_path):
    """Where there is no output folder, nothing is written."""
    refusals.record(tmp_path / "none", "eval", [], "leaks")
    assert list(tmp_path.iterdir()) == []
