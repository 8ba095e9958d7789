"""Refusals: what keeps a number honest is noted beside the ledger; other bad input is not."""

import sys
from dataclasses import dataclass

import pytest

from rounds import cli
from rounds.artifacts import refusals
from rounds.errors import Refused, UserError


@dataclass
class Flags:
    """As the scripts have them."""

    model_path: str
    model_output: str


@pytest.mark.parametrize(("error", "noted"), [(Refused, 1), (UserError, 0)])
def test_a_refusal_is_noted(error, noted, tmp_path, monkeypatch, capsys):
    """With the stage, its flags and the reason; it still ends with 2 and one line."""

    def main(flags: Flags) -> None:
        """Refuse."""
        raise error(f"{flags.model_path}: leaks")

    path = "out/a-v1/round1/train"
    monkeypatch.setattr(sys, "argv", ["scripts/eval.py", "--model_path", path, "--model_output", str(tmp_path)])
    with pytest.raises(SystemExit, match="2"):
        cli.run(main, Flags)
    assert capsys.readouterr().err == f"error: {path}: leaks\n"
    found = refusals.read(tmp_path, "a-v1")
    assert [(each["stage"], each["reason"]) for each in found] == [("eval", f"{path}: leaks")] * noted
    assert refusals.read(tmp_path, "a-v1-0f") == []


def test_a_folder_is_not_made_for_it(tmp_path):
    """Nor is anything written where there was nothing."""
    refusals.note(tmp_path / "none", "eval", [], "leaks")
    assert list(tmp_path.iterdir()) == []
