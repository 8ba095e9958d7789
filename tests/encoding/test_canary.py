"""Proof: a side or tower that answers otherwise than when it was trained is refused where it is used."""

import pytest
import torch
from helpers.tiny_task import refused
from helpers.tuned_models import recipe_of, tuned

from rounds.artifacts import store
from rounds.encoding import canary, run_store
from rounds.models import checkpoint, dual_encoder
from rounds.models.checkpoint import Checkpoint

QUERIES, PASSAGES = {"q": "3/4 + 1/8 = 4/12"}, {"p": "Adds the denominators", "r": "Adds the numerators"}


@pytest.fixture
def kept(tmp_path):
    """A checkpoint with two sides, and its proof in the manifest, as training keeps it."""
    recipe = recipe_of("full", separate=True)
    embedder = tuned(recipe)
    manifest: dict = {}
    with store.writing(tmp_path / "epoch_1", manifest) as temporary:
        about = {"lineage": {}, "round": 1, "epoch": 1}
        manifest.update(checkpoint.save(embedder, temporary, recipe, "fp32", about))
        manifest["proof"] = canary.embed_canaries(embedder, recipe.prompts, "fp32")
    return checkpoint.resolve(str(tmp_path / "epoch_1"), device="cpu")


def test_a_checkpoint_as_it_was_trained_passes(kept, tmp_path):
    """And encodes; in another precision nothing is compared."""
    assert canary.is_needed(kept.load())
    run, _ = run_store.encoder_for(kept, tmp_path).run("validation", QUERIES, PASSAGES)
    assert run.scores.shape == (1, 2)
    canary.check(kept.with_options(precision="bf16"), kept.load())


def test_queries_through_the_passages_encoder_are_refused(kept, tmp_path, monkeypatch):
    """The line says whose encoder answered; no vectors are kept."""
    other = dict(zip(dual_encoder.KINDS, reversed(dual_encoder.KINDS), strict=True))
    side, embedder = dual_encoder.encoder_for, kept.load()
    monkeypatch.setattr(Checkpoint, "load", lambda source: embedder)
    monkeypatch.setattr(dual_encoder, "encoder_for", lambda embedder, kind: side(embedder, other[kind]))
    with refused("words of the query side", "the passage side's encoder stands in its place"):
        run_store.encoder_for(kept, tmp_path).run("validation", QUERIES, PASSAGES)
    assert not list(tmp_path.rglob("vectors.npy"))


def test_weights_that_changed_in_memory_are_refused(kept):
    """Such as a side that fell back to other weights while it was loaded."""
    embedder = kept.load()
    with torch.no_grad():
        for value in dual_encoder.encoder_for(embedder, "passage").parameters():
            value.mul_(-1).add_(0.1)
    with refused("words of the passage side", "otherwise than when it was trained"):
        canary.check(kept, embedder)
