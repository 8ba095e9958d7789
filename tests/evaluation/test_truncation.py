"""Matryoshka: cut vectors are trained, measured and ranked as what they are."""

import numpy as np
import pytest
import torch
from helpers.tiny_task import chunks_and_labels, refused
from helpers.training import few_rows

from rounds.data import collection
from rounds.encoding import run_store
from rounds.evaluation import truncation
from rounds.evaluation.metrics import per_query
from rounds.evaluation.stage import evaluate_checkpoint
from rounds.models import checkpoint
from rounds.retrieval.run import Run
from rounds.retrieval.vectors import truncate_vectors
from rounds.training import losses
from rounds.training.collator import Collator
from rounds.training.dataset import read_training_groups
from rounds.training.loss_module import EmbeddingLoss


@pytest.mark.parametrize("normalize", [True, False])
def test_cutting_is_the_same_in_training_and_in_runs(normalize):
    """One definition on either side."""
    vectors = np.random.default_rng(0).normal(size=(5, 12)).astype(np.float32)
    for dim in (1, 7, 12):
        expected = losses.truncate(torch.tensor(vectors), dim, normalize).numpy()
        np.testing.assert_allclose(truncate_vectors(vectors, dim, normalize), expected, atol=1e-6)
    assert truncate_vectors(vectors, None, normalize) is vectors


def test_the_loss_is_the_sum_over_dimensions(tiny, tiny_mined, tmp_path):
    """Each dimension's InfoNCE on vectors that are cut and normalized again."""
    recipe = tiny.replace("training", batch_size=4)
    data = read_training_groups(few_rows(tiny_mined, tmp_path), 42, recipe)
    embedder = checkpoint.resolve(None, recipe, "cpu").load()
    collate = Collator(data, embedder, recipe, 42)

    def loss(dims: list[int]) -> float:
        how = recipe.replace("training", matryoshka_dims=dims).training
        chunks, labels = chunks_and_labels(collate([{"row": row} for row in range(4)]))
        with torch.no_grad():
            return float(EmbeddingLoss(embedder, how, "fp32")(chunks, labels))

    whole = embedder.get_embedding_dimension()
    assert loss([whole]) == pytest.approx(loss([]), rel=1e-5)
    assert loss([whole, 16, 4]) == pytest.approx(loss([whole]) + loss([16]) + loss([4]), rel=1e-5)
    with refused("matryoshka_dims has 999", f"{whole} dimensions"):
        loss([999])


def test_a_cut_checkpoint_ranks_by_cut_vectors(tiny, tiny_collection, tmp_path):
    """Its run is that of the first numbers, under another key and label; the vectors on disk are the whole ones'."""
    data = collection.read(tiny_collection)
    source = checkpoint.resolve(None, tiny, "cpu")
    whole, short = (
        evaluate_checkpoint(each, data, tmp_path, False) for each in (source, source.with_options(truncate_dim=8))
    )
    encoder = run_store.open_store(source, tmp_path)
    vectors, _ = encoder.vectors(list(data.validation.values()), "query", "validation")
    corpus, _ = encoder.vectors(list(data.passages.values()), "passage", "corpus")
    scores = truncate_vectors(vectors, 8, True) @ truncate_vectors(corpus, 8, True).T
    order = np.argsort(-np.round(scores, 6), axis=1, kind="stable")[:, :100]
    run = Run(list(data.validation), np.array(list(data.passages))[order], -np.arange(100) * np.ones((len(order), 1)))
    expected = per_query(run, data.qrels, ("MAP@25",))["MAP@25"].mean()
    assert short.metrics["MAP@25"] == pytest.approx(expected, abs=0.01)
    assert short.fingerprint != whole.fingerprint and short.label == "zero-shot, 8 dimensions"
    assert len(list((tmp_path / "base").glob("*/*/vectors.npy"))) == 2


@pytest.mark.parametrize(
    ("dim", "parts"), [(0, ["truncate_dim 0", "at least 1"]), (999, ["truncate_dim 999", "dimensions"])]
)
def test_dimensions_that_are_not_there_are_refused(dim, parts, tiny, tiny_collection, tmp_path):
    """None, or more than a vector has."""
    with refused(*parts):
        source = checkpoint.resolve(None, tiny, "cpu").with_options(truncate_dim=dim)
        evaluate_checkpoint(source, collection.read(tiny_collection), tmp_path, False)


def test_dimensions_are_compared_before_and_after(tiny, tiny_collection, tmp_path):
    """Whole vectors first, gain and size of the index beside; the same checkpoint gains nothing."""
    data, source = collection.read(tiny_collection), checkpoint.resolve(None, tiny, "cpu")
    measured = truncation.measure(source, source, data, [16, 4], tmp_path)
    assert [result.dim for result in measured] == [64, 16, 4]
    assert measured[0].index_mib == pytest.approx(len(data.passages) * 64 * 4 / 2**20)
    assert [row[3] for row in truncation.truncation_table(measured).rows] == ["+0.0000"] * 3
    with refused("dims 65", "64 dimensions"):
        truncation.measure(source, source, data, [65], tmp_path)
