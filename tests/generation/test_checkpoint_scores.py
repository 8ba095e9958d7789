"""Scores of checkpoints: each is that of its own predictions, and none is scored on its training rows."""

import numpy as np
import pytest
from helpers.tiny_generator import make_recipe, make_rows

from rounds.artifacts import store
from rounds.errors import Refused
from rounds.generation import checkpoint_scores, generator
from rounds.generation.tuning import TuningJob, tune

HELD_OUT = make_rows(3, 8)


def embed(texts):
    """Return vectors that depend on the number of each text's letters alone."""
    angles = np.array([len(text) % 7 for text in texts]) / 10
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_each_checkpoint_has_the_score_of_its_own_predictions(tmp_path):
    """Scores are those of a loop over loaded checkpoints, beside the losses of the tuning."""
    recipe = make_recipe(steps=2, checkpoint_steps=1, learning_rate=1e-2)
    job = TuningJob(recipe=recipe, train=make_rows(8), validation=HELD_OUT, output=tmp_path / "out", device="cpu")
    manifest = tune(job)
    scored = checkpoint_scores.score(job.output, manifest, HELD_OUT, embed, "cpu")
    assert [each.validation_loss for each in scored] == [step.validation_loss for step in manifest.checkpoints]
    for each in scored:
        tuned = generator.find_checkpoint(job.output / each.folder).load("cpu")
        cubes = []
        for row in HELD_OUT:
            text = " ".join(tuned.write([tuned.tokenization.context(row)])[0][0].split())
            truth, predicted = embed([row.rewrite_prompt, text or recipe.generation.fallback])
            cubes.append(max(0.0, float(truth @ predicted)) ** 3)
        assert each.score == pytest.approx(np.mean(cubes), abs=1e-6)
    with pytest.raises(Refused):
        checkpoint_scores.score(job.output, store.read_manifest(job.output), make_rows(2), embed, "cpu")
