"""Losses equal slow loops, and mask what must not count."""

import math

import pytest
import torch
import torch.nn.functional as F
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.util import dot_score
from torch import nn

from rounds.config import schema
from rounds.config.recipe import Training
from rounds.training import losses


def test_the_recipe_s_losses_are_registered():
    """The names that a recipe may use are those of the registered losses."""
    assert set(losses.LOSSES) == set(schema.choices(schema.fields(Training)["loss"]))


def slow_info_nce(queries, passages, positive, excluded, temperature):
    """Compute InfoNCE query by query, over the passages that are not excluded."""
    total = 0.0
    for i, query in enumerate(queries.tolist()):
        scores = [sum(a * b for a, b in zip(query, p, strict=True)) / temperature for p in passages.tolist()]
        kept = [s for j, s in enumerate(scores) if j == positive[i] or not excluded[i][j]]
        total += math.log(sum(math.exp(s) for s in kept)) - scores[positive[i]]
    return total / len(queries)


def example(seed: int = 0):
    """Return queries (5, 8), passages (9, 8), the row of each query's positive, and a random mask (5, 9)."""
    generator = torch.Generator().manual_seed(seed)
    queries = torch.nn.functional.normalize(torch.randn(5, 8, generator=generator), dim=1)
    passages = torch.nn.functional.normalize(torch.randn(9, 8, generator=generator), dim=1)
    positive = torch.tensor([0, 3, 3, 8, 1])
    excluded = torch.rand(5, 9, generator=generator) < 0.3
    return queries, passages, positive, excluded


def test_info_nce_equals_the_slow_loop():
    """The loss is -log softmax of the positive among the passages that are not excluded."""
    loss = losses.info_nce(*example(), 0.1)
    assert loss.item() == pytest.approx(slow_info_nce(*example(), 0.1), rel=1e-5)


@pytest.mark.parametrize("name", ["info_nce", "distillation", "margin_mse"])
def test_weights_multiply_each_query_s_loss(name):
    """The weighted loss is the mean of each query's own loss times its weight; weights of 1 change nothing."""
    queries, passages, positive, excluded = example()
    scores, present = queries @ passages.T, torch.ones(5, 9, dtype=torch.bool)

    def compute(rows: slice, weights: torch.Tensor | None = None) -> torch.Tensor:
        if name == "info_nce":
            return losses.info_nce(queries[rows], passages, positive[rows], excluded[rows], 0.1, weights=weights)
        return getattr(losses, name)(scores[rows], scores[rows].flip(1), present[rows], weights)

    weights = torch.tensor([1.0, 0.5, 2.0, 0.25, 1.0])
    each = torch.stack([compute(slice(row, row + 1)) for row in range(5)])
    torch.testing.assert_close(compute(slice(None), weights), (weights * each).mean())
    torch.testing.assert_close(compute(slice(None), torch.ones(5)), compute(slice(None)))


def test_the_positive_is_never_excluded():
    """If every passage is excluded, the positive stays, and the loss is 0."""
    queries, passages, positive, _ = example()
    everything = torch.ones(5, 9, dtype=torch.bool)
    assert losses.info_nce(queries, passages, positive, everything, 0.1).item() == pytest.approx(0, abs=1e-6)


def test_excluded_passages_get_no_gradient():
    """A passage that is excluded for all queries gets a gradient of 0."""
    queries, passages, positive, _ = example()
    passages.requires_grad_()
    excluded = torch.zeros(5, 9, dtype=torch.bool)
    excluded[:, 5] = True
    losses.info_nce(queries, passages, positive, excluded, 0.1).backward()
    assert passages.grad[5].abs().max() == 0
    assert passages.grad[4].abs().max() > 0


def test_one_process_gathers_its_own_passages():
    """A single process gets its own passages back, none of them marked as a duplicate."""
    passages, keys = torch.randn(3, 4), torch.tensor([7, 5, 9])
    gathered, all_keys, duplicates = losses.gather_passages(passages, keys)
    assert torch.equal(gathered, passages) and torch.equal(all_keys, keys) and not duplicates.any()


def test_similarities_are_fp32_under_mixed_precision():
    """An autocast region does not change the loss."""
    generator = torch.Generator().manual_seed(0)
    queries, passages = (F.normalize(torch.randn(n, 64, generator=generator)) for n in (4, 9))
    arguments = (queries, passages, torch.arange(4), torch.zeros(4, 9, dtype=torch.bool), 0.02)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = losses.info_nce(*arguments)
    assert float(loss) == pytest.approx(float(losses.info_nce(*arguments)), rel=1e-6)


def test_negatives_beyond_the_margin_are_excluded():
    """A passage that scores above the positive by more than the margin has no part in the loss, as in a slow loop."""
    queries, passages, positive, excluded = example()
    similarity = queries @ passages.T
    beyond = similarity > similarity.gather(1, positive[:, None]) + 0.1
    assert (beyond & ~excluded).any() and not (beyond | excluded).all()
    loss = losses.info_nce(queries, passages, positive, excluded, 0.1, margin=0.1)
    expected = slow_info_nce(queries, passages, positive, excluded | beyond, 0.1)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_a_negative_within_the_margin_stays():
    """Similarities 0.5 (positive), 0.59 and 0.61 and a margin of 0.1: only the last is a false negative."""
    queries, passages = torch.ones(1, 1), torch.tensor([[0.5], [0.59], [0.61]], requires_grad=True)
    none = torch.zeros(1, 3, dtype=torch.bool)
    losses.info_nce(queries, passages, torch.tensor([0]), none, 1.0, margin=0.1).backward()
    assert passages.grad[1] > 0 and passages.grad[2] == 0


MODES = ["in_batch_negatives", "hard_negatives", "all_negatives"]


def weighted_batch(kind: str) -> tuple[losses.EmbeddedBatch, list[torch.Tensor]]:
    """Return 4 queries with a positive and two hard negatives each, and the same as sentence-transformers' columns."""
    generator = torch.Generator().manual_seed(3)
    columns = [torch.randn(4, 8, generator=generator) for _ in range(4)]
    columns = [F.normalize(column) if kind == "unit vectors" else column.relu() for column in columns]
    columns = [column.requires_grad_() for column in columns]
    rows = torch.arange(4)[:, None] + torch.tensor([0, 4, 8])
    keys, none = torch.arange(12) + 30, torch.full((4, 1), -2)
    return losses.EmbeddedBatch(columns[0], torch.cat(columns[1:]), keys, keys[:4], none, rows), columns


@pytest.mark.parametrize("kind", ["unit vectors", "sparse vectors"])
@pytest.mark.parametrize("mode", MODES)
def test_hardness_is_sentence_transformers_(mode, kind):
    """Loss and gradients are those of MultipleNegativesRankingLoss with the same mode and strength."""
    batch, columns = weighted_batch(kind)
    stock = MultipleNegativesRankingLoss(
        nn.Identity(), 10.0, dot_score, hardness_mode=mode, hardness_strength=5.0
    ).compute_loss_from_embeddings(columns, None)
    ours = losses.info_nce_loss(batch, Training(temperature=0.1, hardness_mode=mode, hardness_strength=5.0))
    plain = losses.info_nce_loss(batch, Training(temperature=0.1))
    assert ours.item() == pytest.approx(stock.item(), rel=1e-5) and ours.item() > plain.item() + 0.01
    gradients = zip(torch.autograd.grad(ours, columns), torch.autograd.grad(stock, columns), strict=True)
    for gradient, expected in gradients:
        torch.testing.assert_close(gradient, expected)


def test_another_query_s_passage_that_is_one_s_own_negative_is_its_own():
    """A passage counts once; where it is the query's hard negative, it is no in-batch negative of that query."""
    passages = torch.tensor([[0.5], [0.6], [0.4]])
    keys, none = torch.arange(3), torch.full((2, 1), -2)
    rows = torch.tensor([[0, 1], [1, -1]])  # the second query's positive is the first one's negative
    batch = losses.EmbeddedBatch(torch.ones(2, 1), passages, keys, torch.tensor([0, 1]), none, rows)
    settings = Training(temperature=1.0, hardness_mode="hard_negatives", hardness_strength=2.0)
    logits = torch.tensor([[0.5, 0.6 + 2 * 0.6, 0.4], [0.5, 0.6, 0.4]])
    expected = F.cross_entropy(logits, torch.tensor([0, 1]))
    assert losses.info_nce_loss(batch, settings).item() == pytest.approx(expected.item(), rel=1e-6)


def group(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return a student's and a teacher's scores (2, 5), and which places hold a passage."""
    torch.manual_seed(seed)
    present = torch.tensor([[True] * 5, [True, True, True, False, False]])
    return torch.randn(2, 5), torch.randn(2, 5), present


def test_distillation_is_the_mean_kl_of_each_group():
    """The loss equals a slow loop over the queries and the places that hold a passage."""
    scores, teacher, present = group()
    expected = 0.0
    for row in range(2):
        student, target = (torch.softmax(values[row][present[row]], dim=0) for values in (scores, teacher))
        expected += float((target * (target / student).log()).sum()) / 2
    assert float(losses.distillation(scores, teacher, present)) == pytest.approx(expected, rel=1e-5)


def distilled_batch(teacher_scores: list[list[float]]) -> losses.EmbeddedBatch:
    """Return three queries with groups of three passages, whose first is the positive."""
    generator = torch.Generator().manual_seed(3)
    return losses.EmbeddedBatch(
        queries=torch.randn(3, 4, generator=generator).requires_grad_(),
        passages=torch.randn(6, 4, generator=generator),
        passage_keys=torch.arange(6),
        positive_keys=torch.tensor([0, 1, 5]),
        false_negative_keys=torch.tensor([[0], [1], [5]]),
        group_rows=torch.tensor([[0, 1, 2], [1, 3, 4], [5, 0, -1]]),
        teacher_scores=torch.tensor(teacher_scores),
    )


def test_passages_without_a_teacher_s_score_are_left_out_of_its_distribution():
    """The loss is that of a slow loop over the scored places; a query without any has no loss, and no NaN gradient."""
    nan = math.nan
    batch = distilled_batch([[-1.0, -0.5, -3.0], [nan, -0.2, -2.0], [nan, nan, 0.0]])
    loss = losses.distillation_loss(batch, Training(loss="distillation", temperature=0.5, teacher_temperature=2.0))
    expected = 0.0
    for row, places in ((0, [0, 1, 2]), (1, [1, 2])):
        target = torch.softmax(batch.teacher_scores[row, places] / 2.0, dim=0)
        scores = batch.passages[batch.group_rows[row, places]] @ batch.queries[row].detach() / 0.5
        expected += float((target * (target / torch.softmax(scores, dim=0)).log()).sum()) / 3
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert torch.isfinite(batch.queries.grad).all() and batch.queries.grad[2].abs().max() == 0


@pytest.mark.parametrize("name", ["distillation", "margin_mse"])
def test_the_weight_of_the_labels_adds_info_nce(name):
    """The loss is the teacher's plus the weight times InfoNCE of the same batch."""
    batch = distilled_batch([[-1.0, -0.5, -3.0], [-0.1, -0.2, -2.0], [-1.0, -2.0, 0.0]])
    alone, labels = (losses.LOSSES[loss].compute(batch, Training(loss=loss)) for loss in (name, "info_nce"))
    both = losses.LOSSES[name].compute(batch, Training(loss=name, label_weight=0.25))
    torch.testing.assert_close(both, alone + 0.25 * labels)


def test_margin_mse_is_the_mean_over_negatives():
    """The loss equals a slow loop over the places that hold a negative."""
    scores, teacher, present = group()
    errors = [
        float(((scores[row, 0] - scores[row, n]) - (teacher[row, 0] - teacher[row, n])) ** 2)
        for row in range(2)
        for n in range(1, 5)
        if present[row, n]
    ]
    assert float(losses.margin_mse(scores, teacher, present)) == pytest.approx(sum(errors) / len(errors), rel=1e-5)


@pytest.mark.parametrize("loss", [losses.distillation, losses.margin_mse])
def test_a_batch_without_negatives_teaches_nothing(loss):
    """Where a reranker left no row of the batch a negative, the loss is 0 and so are its gradients."""
    scores, teacher, present = group()
    present[:, 1:] = False
    student = scores.clone().requires_grad_()
    value = loss(student, teacher, present)
    value.backward()
    assert float(value.detach()) == 0 and student.grad.abs().max() == 0


@pytest.mark.parametrize("loss", [losses.distillation, losses.margin_mse])
def test_a_student_equal_to_its_teacher_has_no_loss(loss):
    """The loss is 0 and its gradient finite, although groups have empty places."""
    scores, _, present = group()
    student = scores.clone().requires_grad_()
    value = loss(student, scores, present)
    value.backward()
    assert float(value.detach()) == pytest.approx(0, abs=1e-6) and torch.isfinite(student.grad).all()
