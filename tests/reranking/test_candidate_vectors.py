"""Fused models: names, and several training seeds of one round as one model of mean similarity."""

import dataclasses
from pathlib import Path

import numpy as np
from helpers.manifests import PARENT, checkpoint_manifest
from helpers.tiny_task import refused

from rounds.config.sections.tuning import Projection
from rounds.data import collection
from rounds.models import checkpoint
from rounds.models.checkpoint import Checkpoint
from rounds.reranking import candidate_vectors, stage
from rounds.reranking.candidate_vectors import FusedCheckpoint


def test_rounds_averages_and_the_base_model_have_names_of_their_own(tiny):
    """An average was trained in no round, and is not the base model, whose features carry round 0."""
    base = checkpoint.resolve(None, tiny, "cpu")
    manifests = [checkpoint_manifest(round=2), checkpoint_manifest(title="mean of round 1, round 2", parents=[PARENT])]
    names = [FusedCheckpoint(dataclasses.replace(base, manifest=manifest)).name for manifest in manifests]
    assert names == ["tiny-mistral round 2", "tiny-mistral mean of round 1, round 2"]
    assert FusedCheckpoint(base, "topic").name == "tiny-mistral round 0 topic"


def trained(base: Checkpoint, number: int, seed: int, **changes) -> Checkpoint:
    """A round's checkpoint that was trained with a seed."""
    manifest = checkpoint_manifest(round=number, seed=seed)
    return dataclasses.replace(base, folder=Path(f"{number}-{seed}"), manifest=manifest, **changes)


def test_seeds_of_a_round_are_one_model(tiny):
    """The features are as many as those of one seed, in the order of the rounds."""
    base = checkpoint.resolve(None, tiny, "cpu")
    rounds = [trained(base, number, seed) for number in (1, 2) for seed in (42, 43, 44)]
    fused = stage.fused_checkpoints([base, *rounds], ("topic", ""))
    assert [model.name.removeprefix("tiny-mistral ") for model in fused] == [
        *("round 0 topic", "round 0"),
        *("round 1", "round 2"),
    ]
    assert [list(model.checkpoints) for model in fused[2:]] == [rounds[:3], rounds[3:]]


def test_keys_of_second_stages_set_no_seed_apart(tiny):
    """A recipe may get such a key after some seeds' rounds were trained, which stay as they are."""
    base, later = checkpoint.resolve(None, tiny, "cpu"), tiny.replace("ensemble", unseen_prior=True)
    fused = stage.fused_checkpoints([trained(base, 1, 42), trained(base, 1, 43, recipe=later)], ("",))
    assert [len(model.checkpoints) for model in fused] == [2]


def test_what_is_no_other_seed_is_refused(tiny):
    """One seed twice, other settings under one recipe's name, a round that lacks a seed."""
    base = checkpoint.resolve(None, tiny, "cpu")
    other = dataclasses.replace(tiny, training=dataclasses.replace(tiny.training, temperature=0.5))
    for second in (trained(base, 1, 42), trained(base, 1, 43, recipe=other)):
        with refused(second.name, "second model named tiny-mistral round 1"):
            stage.fused_checkpoints([trained(base, 1, 42), second], ("",))
    with refused("some have more training seeds than others"):
        stage.fused_checkpoints([trained(base, 1, 42), trained(base, 1, 43), trained(base, 2, 42)], ("",))


class _Drawn:
    """Vectors drawn by a checkpoint's seed and the texts."""

    def __init__(self, source: Checkpoint, _model_output: Path) -> None:
        self.seed = source.manifest.seed

    def vectors(self, texts: list[str], kind: str, title: str, examples: object = None) -> tuple[np.ndarray, None]:
        drawn = np.random.default_rng([self.seed, len(texts), len(kind)]).normal(size=(len(texts), 16))
        return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32), None


def test_features_of_seeds_are_those_of_the_mean_similarity(tiny, tiny_collection, monkeypatch):
    """Each pair's similarity and token match is the mean of the seeds' own; the best by the mean are candidates."""
    base = checkpoint.resolve(None, tiny, "cpu")
    seeds = [trained(base, 1, seed) for seed in (1, 2)]
    monkeypatch.setattr(candidate_vectors.run_store, "open_store", _Drawn)
    monkeypatch.setattr(
        candidate_vectors,
        "_token_features",
        lambda source, queries, passages, pairs: {"x": np.full(len(pairs[0]), source.manifest.seed)},
    )
    data = collection.read(tiny_collection)
    queries = {query: data.metadata[query] for query in list(data.validation)[:10]}
    rows = collection.read_rows(tiny_collection / collection.FINETUNE, ("pos",))
    fused = stage.fused_checkpoints(seeds, ("",))
    table = candidate_vectors.compute_candidates(fused, data, queries, rows, Path())
    name = fused[0].name
    similarities = []
    for seed in seeds:
        encoder = _Drawn(seed, Path())
        passages, _ = encoder.vectors(list(data.passages.values()), "passage", "")
        similarities.append(encoder.vectors(list(queries), "query", "")[0] @ passages.T)
    mean = np.mean(similarities, axis=0)
    columns = [list(data.passages).index(passage) for passage in table.passage_ids]
    np.testing.assert_allclose(table.features[f"{name}: score"], mean[table.query_rows, columns], atol=1e-6)
    assert (table.features[f"tokens {name}: x"] == 1.5).all()
    best = {(row, column) for row in range(10) for column in np.argsort(-mean[row])[:25].tolist()}
    assert best <= set(zip(table.query_rows.tolist(), columns, strict=True))


def test_vectors_of_any_length_are_refused(tiny, tiny_collection, tmp_path):
    """Votes are by cosine; inner products of longer vectors would weigh them by numbers without bound."""
    data = collection.read(tiny_collection)
    for section, values in (
        ("model", {"normalize": False}),
        ("tuning", {"projection": Projection(8, normalize=False)}),
    ):
        source = trained(checkpoint.resolve(None, tiny.replace(section, **values), "cpu"), 1, 1)
        with refused("candidates", "tiny-mistral", "normalize"):
            stage.make_candidates([source], data, tmp_path / "out", tmp_path, False)
    assert not (tmp_path / "out").exists()
