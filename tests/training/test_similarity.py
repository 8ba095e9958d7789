"""Similarity of token vectors in the losses, compared with slow loops and with sentence-transformers' own losses."""

import pytest
import torch
from sentence_transformers.multi_vector_encoder.losses import MultiVectorMultipleNegativesRankingLoss
from sentence_transformers.multi_vector_encoder.scoring import mean_colbert_kd_scores, mean_colbert_scores

from rounds.config.recipe import Training
from rounds.training import losses, similarity
from rounds.training.similarity import TokenEmbeddings


def random_tokens(texts, longest, seed, dim=4):
    """Return unit vectors of texts with 1 to `longest` tokens, padded with zeros."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.nn.functional.normalize(torch.randn(texts, longest, dim, generator=generator), dim=2)
    sizes = torch.randint(1, longest + 1, (texts,), generator=generator)
    mask = torch.arange(longest)[None] < sizes[:, None]
    return TokenEmbeddings(vectors * mask[:, :, None], mask)


def slow_score(query, passage):
    """Return the mean, over a query's tokens, of the best inner product with a passage's."""
    return sum(max(float(token @ other) for other in passage) for token in query) / len(query)


def slow_scores(queries, passages):
    texts = [
        [vectors[mask] for vectors, mask in zip(side.vectors, side.mask, strict=True)] for side in (queries, passages)
    ]
    return torch.tensor([[slow_score(query, passage) for passage in texts[1]] for query in texts[0]])


@pytest.mark.parametrize("numbers", [1, 2**24])
def test_scores_equal_a_slow_loop(numbers, monkeypatch):
    """However many queries are compared at once, a score is that of the texts' own tokens, padding left out."""
    monkeypatch.setattr(similarity, "MAX_NUMBERS", numbers)
    queries, passages = random_tokens(5, 6, 0), random_tokens(7, 4, 1)
    torch.testing.assert_close(similarity.score_all(queries, passages), slow_scores(queries, passages))


def test_scores_of_groups_are_those_of_all_pairs():
    """Each query's group gets the scores that it has among all passages."""
    queries, passages = random_tokens(5, 6, 2), random_tokens(7, 4, 3)
    rows = torch.tensor([[0, 3], [6, 6], [1, 2], [4, 0], [5, 1]])
    expected = similarity.score_all(queries, passages).gather(1, rows)
    torch.testing.assert_close(similarity.score_groups(queries, passages, rows), expected)


def test_tokens_are_selected_by_their_rows():
    """Rows of a text's tokens are filled up with -1, which no vector belongs to."""
    vectors = torch.arange(6.0).reshape(3, 2)
    tokens = similarity.select(vectors, torch.tensor([[2, 0], [1, -1]]))
    assert tokens.vectors.tolist() == [[[4, 5], [0, 1]], [[2, 3], [0, 0]]]
    assert tokens.mask.tolist() == [[True, True], [True, False]]
    assert similarity.select(vectors, torch.tensor([1])).tolist() == [[2, 3]]


@pytest.mark.parametrize("tokens", [3, 5])
def test_flattened_embeddings_come_back(tokens):
    """What is sent to other processes holds the same tokens, padded to more; an added row scores without NaN."""
    passages, queries = random_tokens(4, 3, 4), random_tokens(2, 3, 5)
    rows = torch.nn.functional.pad(similarity.flatten(passages, tokens), (0, 0, 0, 1))
    back = similarity.unflatten(rows, passages, tokens)
    assert len(back) == 5
    torch.testing.assert_close(similarity.score_all(queries, back)[:, :4], similarity.score_all(queries, passages))
    assert torch.isfinite(similarity.score_all(queries, back)).all()


class GivenTokens(torch.nn.Module):
    """A multi-vector model whose features are its output."""

    def forward(self, features, task=None):
        return features


def as_features(tokens):
    return {"token_embeddings": tokens.vectors, "attention_mask": tokens.mask}


def batch_of(queries, passages, **values):
    """Return a batch whose passage i is the positive of query i, and whose other passages are hard negatives."""
    count, none = len(queries), torch.full((len(queries), 1), -2)
    keys, positive = torch.arange(len(passages)), torch.arange(count)
    return losses.EmbeddedBatch(queries, passages, keys, positive, none, **values)


def test_info_nce_is_the_librarys_loss():
    """With a positive and a hard negative each, the loss is that of MultiVectorMultipleNegativesRankingLoss."""
    queries, passages = random_tokens(4, 6, 6), random_tokens(8, 5, 7)
    columns = [TokenEmbeddings(passages.vectors[part], passages.mask[part]) for part in (slice(0, 4), slice(4, 8))]
    stock = MultiVectorMultipleNegativesRankingLoss(GivenTokens(), scale=20.0, similarity_fct=mean_colbert_scores)
    expected = stock([as_features(queries), *map(as_features, columns)])
    loss = losses.info_nce_loss(batch_of(queries, passages), Training(temperature=0.05))
    torch.testing.assert_close(loss, expected)


def test_false_negatives_get_no_gradient():
    """A masked passage pushes no query away."""
    queries, passages = random_tokens(2, 3, 8), random_tokens(4, 3, 9)
    passages.vectors.requires_grad_()
    batch = batch_of(queries, passages)
    masked = losses.EmbeddedBatch(**{**vars(batch), "false_negative_keys": torch.tensor([[3], [3]])})
    losses.info_nce_loss(masked, Training()).backward()
    assert passages.vectors.grad[3].abs().max() == 0
    assert passages.vectors.grad[2].abs().max() > 0


@pytest.mark.parametrize("name", ["distillation", "margin_mse"])
def test_a_teachers_scores_are_compared_with_maxsim(name):
    """The student's scores are those of the library's scoring of groups."""
    queries, passages = random_tokens(3, 5, 10), random_tokens(6, 4, 11)
    rows = torch.tensor([[0, 3], [1, 4], [2, 5]])
    teacher = torch.tensor([[2.0, 1.0], [0.5, 1.0], [3.0, -1.0]])
    batch = batch_of(queries, passages, group_rows=rows, teacher_scores=teacher)
    scores = mean_colbert_kd_scores(queries.vectors, passages.vectors[rows], queries.mask, passages.mask[rows])
    torch.testing.assert_close(batch.group_scores(), scores)
    settings = Training(loss=name, temperature=0.1)
    scale = 0.1 if name == "distillation" else 1.0
    expected = getattr(losses, name)(scores / scale, teacher, torch.ones(3, 2, dtype=torch.bool))
    torch.testing.assert_close(losses.LOSSES[name].compute(batch, settings), expected)


def test_gathering_in_one_process_returns_its_own_passages():
    """Without other processes nothing is padded."""
    passages = random_tokens(4, 3, 12)
    gathered, _, duplicates = losses.gather_passages(passages, torch.arange(4))
    assert gathered is passages and not duplicates.any()
