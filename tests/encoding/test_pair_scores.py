"""Scores of pairs: they are finite, or the pairs are named."""

import dataclasses

import numpy as np
import pytest
import torch
from helpers.tiny_task import refused

from rounds.config import loader
from rounds.encoding import pair_scores
from rounds.models import cross_encoder
from rounds.models.weights import locate_model

PAIRS = [("1 + 1", "joins digits"), ("1 + 1", "adds"), ("2 / 3", "adds zzz")]


@pytest.fixture
def recipe():
    """A random BERT as a reranker in bf16, on a CPU that computes in it one way or the other."""
    tiny = loader.load("tiny-qwen2").replace("tuning", method="full")
    model = dataclasses.replace(tiny.model, name_or_path="random:bert", precision="bf16", pooling="mean")
    return dataclasses.replace(tiny, model=model)


def lose_scores(monkeypatch, dtypes: tuple[torch.dtype, ...]) -> None:
    """Let the model score the last pair NaN where it computes in one of the dtypes."""
    load = cross_encoder.load

    def load_broken(*arguments):
        model = load(*arguments)
        predict = model.predict

        def lose(pairs, **settings):
            scores = np.array(predict(pairs, **settings))
            enabled = torch.is_autocast_enabled("cpu")
            if (torch.get_autocast_dtype("cpu") if enabled else torch.float32) in dtypes:
                scores[[pair == PAIRS[2] for pair in pairs]] = np.nan
            return scores

        model.predict = lose
        return model

    monkeypatch.setattr(cross_encoder, "load", load_broken)


def test_scores_that_overflow_are_computed_in_a_wider_precision(recipe, monkeypatch, capsys):
    """A pair whose score is not finite is scored again, and a line counts such pairs."""
    lose_scores(monkeypatch, (torch.bfloat16,))
    scores = pair_scores.score(locate_model(recipe.model), PAIRS, "cpu", recipe)
    assert np.isfinite(scores).all()
    assert "bf16 overflows in 1 of 3 scores" in capsys.readouterr().out


def test_scores_that_no_precision_makes_finite_are_refused(recipe, monkeypatch):
    """The pair is named; it does not vanish from the ranking."""
    lose_scores(monkeypatch, (torch.bfloat16, torch.float32))
    with refused("no finite numbers in fp32", "'2 / 3' with 'adds zzz'"):
        pair_scores.score(locate_model(recipe.model), PAIRS, "cpu", recipe)
