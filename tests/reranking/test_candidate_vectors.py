"""Names of fused models: each tells which checkpoint the features are of."""

import dataclasses

from helpers.manifests import PARENT, checkpoint_manifest

from rounds.models import checkpoint
from rounds.reranking.candidate_vectors import FusedCheckpoint


def test_rounds_averages_and_the_base_model_have_names_of_their_own(tiny):
    """An average was trained in no round, and is not the base model, whose features carry round 0."""
    base = checkpoint.resolve(None, tiny, "cpu")
    manifests = [checkpoint_manifest(round=2), checkpoint_manifest(title="mean of round 1, round 2", parents=[PARENT])]
    names = [FusedCheckpoint(dataclasses.replace(base, manifest=manifest)).name for manifest in manifests]
    assert names == ["tiny-mistral round 2", "tiny-mistral mean of round 1, round 2"]
    assert FusedCheckpoint(base, "topic").name == "tiny-mistral round 0 topic"
