"""Brittleness: changed prompts are counted and compared pair by pair."""

import numpy as np
import pytest
from helpers.tiny_generator import make_recipe, make_rows

from rounds.evaluation.robustness import CHANGES
from rounds.generation import generator
from rounds.generation.brittleness import brittleness
from rounds.generation.generator import Generator


def test_effects_are_those_of_the_changed_texts(monkeypatch):
    """Where a generator writes another prompt behind an added blank, all rows count as changed, and else none."""
    writer = generator.load(make_recipe(), "cpu")
    monkeypatch.setattr(writer.tokenization, "context", lambda row: row.original_text)
    monkeypatch.setattr(Generator, "write", lambda self, texts: [["b" if text[-1] in " \n" else "a"] for text in texts])
    rows = make_rows(4)
    rows = [type(row)(row.id, row.original_text.strip(), row.rewritten_text) for row in rows]
    axes = {"a": [1.0, 0.0], "b": [0.8, 0.6]}
    effects = {
        each.change: each for each in brittleness(writer, rows, lambda texts: np.array([axes[t] for t in texts]))
    }
    assert list(effects) == list(CHANGES)
    assert [effects[name].changed for name in CHANGES] == [1.0, 1.0, 0.0]
    assert [effects[name].mean for name in CHANGES] == pytest.approx([0.512, 0.512, 1.0])
