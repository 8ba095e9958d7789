"""Canary embeddings: an encoder whose vectors differ from those of its training is refused where it is used."""

import pytest
import torch
from helpers.tiny_task import refused
from helpers.tuned_models import build_tuned_model, save_checkpoint, tuned_recipe

from rounds.encoding import canary, run_store
from rounds.models import checkpoint, dual_encoder
from rounds.models.checkpoint import Checkpoint

QUERIES, PASSAGES = {"q": "3/4 + 1/8 = 4/12"}, {"p": "Adds the denominators", "r": "Adds the numerators"}


@pytest.fixture
def dual_checkpoint(tmp_path):
    """A checkpoint with two sides whose manifest holds canary embeddings, as training saves it."""
    recipe = tuned_recipe("full", separate=True)
    embedder = build_tuned_model(recipe)
    proof = canary.embed_canaries(embedder, recipe.prompts, "fp32")
    save_checkpoint(embedder, recipe, tmp_path / "epoch_1", proof=proof)
    return checkpoint.resolve(str(tmp_path / "epoch_1"), device="cpu")


def test_a_checkpoint_as_it_was_saved_encodes(dual_checkpoint, tmp_path):
    """The canaries of an intact checkpoint match, and its run is ranked."""
    assert canary.is_needed(dual_checkpoint.load())
    run, _ = run_store.open_store(dual_checkpoint, tmp_path).run("validation", QUERIES, PASSAGES)
    assert run.scores.shape == (1, 2)


def test_another_precision_is_not_compared(dual_checkpoint):
    """Vectors in another precision differ by rounding, so that even changed weights pass."""
    embedder = _changed(dual_checkpoint.load())
    canary.check(dual_checkpoint.with_options(precision="bf16"), embedder)


def test_queries_through_the_passages_encoder_are_refused(dual_checkpoint, tmp_path, monkeypatch):
    """The message says whose encoder answered; no vectors are stored."""
    other = dict(zip(dual_encoder.KINDS, reversed(dual_encoder.KINDS), strict=True))
    encoder_for, embedder = dual_encoder.encoder_for, dual_checkpoint.load()
    monkeypatch.setattr(Checkpoint, "load", lambda source: embedder)
    monkeypatch.setattr(dual_encoder, "encoder_for", lambda embedder, kind: encoder_for(embedder, other[kind]))
    with refused("query encoder's vectors for words differ", "the passage encoder is in its place"):
        run_store.open_store(dual_checkpoint, tmp_path).run("validation", QUERIES, PASSAGES)
    assert not list(tmp_path.rglob("vectors.npy"))


def test_weights_that_changed_in_memory_are_refused(dual_checkpoint):
    """Such as an encoder that fell back to other weights while it was loaded."""
    with refused("passage encoder's vectors for words differ", "from those of its training"):
        canary.check(dual_checkpoint, _changed(dual_checkpoint.load()))


def _changed(embedder):
    """Change the weights of the passages' encoder."""
    with torch.no_grad():
        for value in dual_encoder.encoder_for(embedder, "passage").parameters():
            value.mul_(-1).add_(0.1)
    return embedder
