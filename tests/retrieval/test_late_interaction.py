"""MaxSim and the token vectors that it compares: against slow references, packed and padded, without special tokens."""

import numpy as np
import pytest
import torch

from rounds.config import loader
from rounds.encoding.encoder import token_states
from rounds.models import checkpoint, packed_attention
from rounds.retrieval import late_interaction
from rounds.retrieval.late_interaction import Tokens

TEXTS = ["Adds the digits", "x", "Multiplies a fraction by its reciprocal, then divides", "Adds"]


@pytest.fixture(scope="module")
def minilm():
    """The packaged all-MiniLM-L6-v2, its recipe's prompts."""
    recipe = loader.load("minilm")
    return checkpoint.resolve(None, recipe, "cpu").load(), recipe.prompts


def tokens(generator: np.random.Generator, counts: list[int]) -> Tokens:
    found = [generator.standard_normal((count, 8)).astype(np.float32) for count in counts]
    return [(generator.integers(0, 9, len(each)), each / np.linalg.norm(each, axis=1, keepdims=True)) for each in found]


def test_scores_equal_a_slow_reference():
    """Pair by pair and token by token; a query without a pair is nobody's best."""
    generator = np.random.default_rng(1)
    queries, passages = tokens(generator, [3, 5, 2]), tokens(generator, [4, 1, 6])
    rows, columns = np.array([0, 0, 2, 2, 2]), np.array([1, 2, 0, 1, 2])
    found = late_interaction.score(queries, passages, (rows, columns))
    document_count = [sum(token in ids for ids, _ in passages) for token in range(9)]
    for pair, (row, column) in enumerate(zip(rows, columns, strict=True)):
        ids, own = passages[column]
        similar = [[float(a @ b) for b in queries[row][1]] for a in own]
        met = [max(line) for line in similar]
        weights = [max(np.log(3 / (1 + document_count[token])), 0) + late_interaction.MIN_TOKEN_WEIGHT for token in ids]
        expected = {
            "mean": np.mean(met),
            "weighted": np.average(met, weights=weights),
            "least": min(met),
            "of query": np.mean(np.max(similar, axis=0)),
        }
        for name, value in expected.items():
            assert found[name][pair] == pytest.approx(value, abs=1e-5)
            best = found[name][rows == row].max()
            assert found[f"{name} below best"][pair] == pytest.approx(found[name][pair] - best, abs=1e-6)


def test_token_states_are_the_model_s_own(minilm):
    """Those of sentence-transformers for each text alone, of unit length and without [CLS] and [SEP], in fp32."""
    embedder, prompts = minilm
    found = token_states(embedder, TEXTS, prompts, "passage", "fp32", "")
    for text, (ids, states) in zip(TEXTS, found, strict=True):
        features = embedder.tokenizer(text, return_tensors="pt")
        with torch.inference_mode():
            expected = embedder[0](dict(features))["token_embeddings"][0, 1:-1]
        assert ids.tolist() == features["input_ids"][0, 1:-1].tolist()
        expected = torch.nn.functional.normalize(expected, dim=-1).numpy()
        assert np.allclose(states, expected, atol=1e-4)


def test_padded_states_equal_packed_ones(minilm, monkeypatch):
    """The layout is a matter of speed."""
    embedder, prompts = minilm
    packed = token_states(embedder, TEXTS, prompts, "query", "fp32", "")
    monkeypatch.setattr(packed_attention, "can_pack", lambda *_: False)
    padded = token_states(embedder, TEXTS, prompts, "query", "fp32", "")
    for (ids, own), (other_ids, other) in zip(packed, padded, strict=True):
        assert np.array_equal(ids, other_ids) and np.allclose(own, other, atol=1e-4)


def test_a_text_of_special_tokens_only_keeps_them(minilm):
    """An empty text has something to compare."""
    embedder, prompts = minilm
    (ids, states), _ = token_states(embedder, ["", "a"], prompts, "passage", "fp32", "")
    assert len(ids) == len(states) == 2
