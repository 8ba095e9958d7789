"""The FLOPS regularization equals a slow loop and sentence-transformers' own, and its weight rises."""

from types import SimpleNamespace

import pytest
import torch
from helpers.tiny_task import refused
from sentence_transformers.sparse_encoder.losses import FlopsLoss, SparseMultipleNegativesRankingLoss, SpladeLoss
from torch import nn

from rounds.config import loader
from rounds.config.recipe import Training
from rounds.training.callbacks import FlopsRamp
from rounds.training.loss_module import EmbeddingLoss
from rounds.training.losses import flops


def vectors(rows: int, seed: int) -> torch.Tensor:
    """Return (rows, 12) sparse vectors."""
    return torch.randn(rows, 12, generator=torch.Generator().manual_seed(seed)).relu()


def test_flops_equal_a_slow_loop():
    """The sum over the words of the squared mean weight."""
    batch = vectors(5, 0)
    expected = sum((sum(float(row[word]) for row in batch) / 5) ** 2 for word in range(12))
    assert float(flops(batch)) == pytest.approx(expected, rel=1e-6)


def test_flops_equal_sentence_transformers_():
    """The term is that of FlopsLoss."""
    assert float(flops(vectors(5, 0))) == pytest.approx(
        float(FlopsLoss(None).compute_loss_from_embeddings(vectors(5, 0)))
    )


def labels(queries: int, passages: int) -> dict[str, torch.Tensor]:
    """Query i's positive is passage i."""
    return {
        "query_order": torch.arange(queries),
        "passage_order": torch.arange(queries, queries + passages),
        "passages": torch.arange(passages),
        "positive": torch.arange(queries),
        "false_negatives": torch.full((queries, 1), -2),
    }


def our_loss(**settings: float) -> EmbeddingLoss:
    return EmbeddingLoss(nn.Identity(), Training(temperature=1.0, **settings), "fp32", normalize=False)


def test_the_loss_equals_splade_loss():
    """InfoNCE by inner product with both regularizers is SpladeLoss on the same batch, gradients included."""
    queries, positives, negatives = (vectors(4, seed).requires_grad_() for seed in range(3))
    loss = our_loss(flops_query=0.05, flops_passage=0.03)
    ours = loss.calculate_loss([[queries], [positives], [negatives]], labels(4, 8))
    our_gradients = torch.autograd.grad(ours, [queries, positives, negatives])
    ranking = SparseMultipleNegativesRankingLoss(nn.Identity(), scale=1.0)
    stock = SpladeLoss(nn.Identity(), ranking, document_regularizer_weight=0.03, query_regularizer_weight=0.05)
    embeddings = [queries, positives, negatives]
    theirs = ranking.compute_loss_from_embeddings(embeddings, None)
    theirs = theirs + 0.05 * stock.query_regularizer.compute_loss_from_embeddings(queries)
    theirs = theirs + 0.03 * stock.document_regularizer.compute_loss_from_embeddings(torch.cat(embeddings[1:]))
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    for our_gradient, gradient in zip(our_gradients, torch.autograd.grad(theirs, embeddings), strict=True):
        assert torch.allclose(our_gradient, gradient, atol=1e-6)


def test_the_weight_rises_with_the_square_of_the_steps():
    """Nothing counts at first, a quarter halfway up, and all of it after a third of the steps."""
    loss = our_loss()
    ramp, seen = FlopsRamp(loss), []
    for step in (0, 5, 10, 20, 29):
        ramp.on_step_begin(None, SimpleNamespace(global_step=step, max_steps=30), None)
        seen.append(loss.flops_ramp)
    assert seen == pytest.approx([0, 0.25, 1, 1, 1])


def test_the_ramp_scales_the_regularization():
    """With half the ramp, half of the regularization is added."""
    queries, passages = vectors(4, 0), vectors(4, 1)
    loss, values = our_loss(flops_query=0.5, flops_passage=0.2), []
    for ramp in (0.0, 0.5, 1.0):
        loss.flops_ramp = ramp
        values.append(float(loss.calculate_loss([[queries], [passages]], labels(4, 4))))
    assert values[1] - values[0] == pytest.approx((values[2] - values[0]) / 2, rel=1e-4)
    assert values[2] - values[0] == pytest.approx(0.5 * float(flops(queries)) + 0.2 * float(flops(passages)), rel=1e-4)


SPARSE = {"pooling": "splade"}


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"model": SPARSE | {"normalize": True}}, "model.normalize"),
        ({"model": SPARSE | {"precision": "nf4"}, "tuning": {"method": "qlora"}}, "model.precision nf4"),
        ({"model": SPARSE | {"vision": {"name_or_path": "tower"}}}, "model.vision"),
        ({"model": SPARSE, "tuning": {"method": "prompt"}}, "tuning.method prompt"),
        ({"model": SPARSE, "tuning": {"projection": {"dim": 8}}}, "tuning.projection.dim"),
        ({"model": SPARSE, "tuning": {"separate": True}}, "tuning.separate"),
        ({"model": SPARSE, "training": {"matryoshka_dims": [8]}}, "training.matryoshka_dims"),
        ({"model": SPARSE, "mining": {"index": "hnsw"}}, "mining.index hnsw"),
        ({"training": {"flops_query": 0.1}}, "training.flops_query"),
    ],
)
def test_keys_for_the_other_kind_are_refused(values, key):
    """What dense or sparse vectors alone have is refused by name beside the other."""
    with refused("file.yaml", key):
        loader.from_dict({"name": "mine", **values}, "file.yaml")


def test_a_sparse_recipe_has_the_defaults_of_its_kind(tmp_path):
    """Temperature 1 and raw vectors, alone and on top of a dense recipe; what the file says itself counts."""
    for text, temperature in (("", 1.0), ("extends: minilm\n", 1.0), ("training:\n  temperature: 0.5\n", 0.5)):
        file = tmp_path / "mine.yaml"
        file.write_text(text + "model:\n  pooling: splade\n", encoding="utf-8")
        recipe = loader.load(str(file))
        assert recipe.training.temperature == temperature and not recipe.model.normalize
