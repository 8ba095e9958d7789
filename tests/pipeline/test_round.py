"""The default model on the default sample: what a newcomer's first table stands on."""

import pytest

from rounds.config import loader
from rounds.data import collection, splits
from rounds.data.loaders import eedi
from rounds.data.synthetic import maths
from rounds.evaluation.stage import evaluate_checkpoint
from rounds.models import checkpoint


@pytest.mark.slow
def test_the_sample_is_as_hard_as_the_real_thing(tmp_path):
    """MiniLM zero-shot reaches a MAP@25 between 0.15 and 0.45 on 1,100 generated questions."""
    raw = tmp_path / "sample"
    raw.mkdir()
    maths.generate(raw)
    recipe, task = loader.load("minilm"), eedi.load(raw)
    collection.write(task, splits.make_split(task, "v3"), recipe.prompts, tmp_path / "v3", {})
    source = checkpoint.resolve(None, recipe, "cpu")
    row = evaluate_checkpoint(source, collection.read(tmp_path / "v3"), tmp_path, False)
    assert 0.15 < row.metrics["MAP@25"] < 0.45


@pytest.mark.slow
def test_every_split_is_there_on_the_sample(tmp_path):
    """v1 to v6 and submission can be made from the default sample."""
    raw = tmp_path / "sample"
    raw.mkdir()
    maths.generate(raw)
    task = eedi.load(raw)
    for version in splits.VERSIONS:
        described = splits.describe(task, splits.make_split(task, version))
        assert described["train_questions"] + described["validation_questions"] == 1100
    assert 0.58 <= splits.describe(task, splits.make_split(task, "v5", fold=2))["unseen_share"] <= 0.62
