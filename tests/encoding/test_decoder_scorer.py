"""A decoder's log-odds behind shared prefixes: the cross-encoder's own scores and gradients, for fewer tokens."""

import functools

import numpy as np
import pytest
import torch
from helpers import slow_clock
from helpers.answering_decoders import TEMPLATE, build

from rounds.encoding import batching, pair_scores
from rounds.encoding.decoder_scorer import DecoderScorer
from rounds.models import cross_encoder
from rounds.reranking.cross_encoder_training import ListwiseLoss, score_behind_prefixes, score_in_chunks

QUERIES = [f"{n} + {n} = {n}{n} " + "because both numbers are joined " * 6 for n in range(3)]

PAIRS = [(query, f"joins digits {'again ' * n}") for query in QUERIES for n in range(6)]


def count_tokens(monkeypatch, model) -> list[int]:
    """Return a list that gets the number of tokens of each forward pass of the decoder."""
    decoder, counts = model[0].model.get_decoder(), []
    forward = decoder.forward

    def counting(*arguments, **features):
        counts.append(features["input_ids"].numel())
        return forward(*arguments, **features)

    monkeypatch.setattr(decoder, "forward", counting)
    return counts


@pytest.mark.parametrize("attention", ["auto", "eager"])
@pytest.mark.parametrize("tied", [False, True])
def test_scores_are_those_of_the_cross_encoder(tmp_path, attention, tied):
    """Packed and padded, with a head of its own and with the word embeddings as the head."""
    recipe = build(tmp_path, attention=attention, tie_word_embeddings=tied)
    expected = cross_encoder.load(str(tmp_path), recipe, "cpu").predict(PAIRS)
    np.testing.assert_allclose(pair_scores.score(str(tmp_path), PAIRS, "cpu", recipe), expected, atol=1e-5)


def test_a_query_is_read_once_for_its_passages(tmp_path, monkeypatch):
    """The tokens that go through the decoder are the prefixes once, and the rest of each pair; unless switched off."""
    recipe = build(tmp_path)
    model = cross_encoder.load(str(tmp_path), recipe, "cpu")
    scorer = DecoderScorer.find(model, recipe)
    counts = count_tokens(monkeypatch, model)
    scorer.score(PAIRS, "fp32")
    whole = sum(map(len, scorer.tokenize(PAIRS)))
    assert sum(counts) < 0.5 * whole
    counts.clear()
    DecoderScorer.find(model, recipe.replace("prompts", share_prefix=False)).score(PAIRS, "fp32")
    assert sum(counts) >= whole


def test_a_head_that_transforms_its_logits_is_left_to_the_library(tmp_path):
    """Soft caps make the log-odds another function of the state; the scores stay the model's own."""
    recipe = build(tmp_path, "gemma2")
    model = cross_encoder.load(str(tmp_path), recipe, "cpu")
    expected, attention = model.predict(PAIRS), model[0].model.config._attn_implementation
    assert DecoderScorer.find(model, recipe) is None
    assert model[0].model.get_decoder().config._attn_implementation == attention
    np.testing.assert_allclose(pair_scores.score(str(tmp_path), PAIRS, "cpu", recipe), expected, atol=1e-6)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_sharing_prefixes_changes_no_gradient(tmp_path, checkpointing):
    """The listwise loss and its gradients are the same with whole pairs, with and without gradient checkpointing."""
    recipe = build(tmp_path).replace("training", gradient_checkpointing=checkpointing, micro_batch_tokens=256)
    inputs = [QUERIES, [[passage for query, passage in PAIRS if query == own] for own in QUERIES]]
    labels = [torch.arange(6) / 10.0] * 3
    outcomes = []
    for shares in (False, True):
        model = cross_encoder.load(str(tmp_path), recipe, "cpu").train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        scorer = DecoderScorer.find(model, recipe)
        score = (
            functools.partial(score_behind_prefixes, scorer, recipe)
            if shares
            else functools.partial(score_in_chunks, model, 4)
        )
        loss = ListwiseLoss(model, score)(inputs, labels)
        loss.backward()
        outcomes.append((loss.item(), {name: weight.grad for name, weight in model.named_parameters()}))
    (loss, gradients), (shared_loss, shared_gradients) = outcomes
    assert shared_loss == pytest.approx(loss, abs=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(shared_gradients[name], gradient, atol=1e-5, rtol=1e-3)


def test_pairs_that_spell_special_tokens_are_words_in_scoring_and_training(tmp_path):
    """Both read the same tokens, of which the template's alone are special, also where a pair is cut."""
    recipe = build(tmp_path).replace("reranking", template=f"{TEMPLATE}</s>", max_length=64)
    model = cross_encoder.load(str(tmp_path), recipe, "cpu")
    pairs = [("adds</s> both", "joins <pad>"), ("adds", "joins </s>" * 40), PAIRS[0]]
    scorer = DecoderScorer.find(model, recipe)
    rows = scorer.tokenize(pairs)
    special = [token for row in rows for token in row if token in model.tokenizer.all_special_ids]
    assert special == [model.tokenizer.eos_token_id] * 3 and [row[-1] for row in rows] == special
    assert len(rows[1]) == 64
    with torch.no_grad():
        trained = score_behind_prefixes(scorer, recipe, pairs)
        np.testing.assert_allclose(trained, score_in_chunks(model, 2, pairs), atol=1e-5)
    np.testing.assert_allclose(pair_scores.score(str(tmp_path), pairs, "cpu", recipe), trained, atol=1e-5)


def test_a_saved_reranker_is_read_as_it_was_trained(tmp_path):
    """Its folder holds the library's own tokenizer, and what its pairs spell are words again."""
    recipe = build(tmp_path / "base").replace("reranking", template=f"{TEMPLATE}</s>")
    model = cross_encoder.load(str(tmp_path / "base"), recipe, "cpu")
    model.save_pretrained(str(tmp_path / "saved"))
    pairs = [("adds</s> both", "joins <pad>"), PAIRS[0]]
    saved = cross_encoder.load(str(tmp_path / "saved"), None, "cpu")
    assert saved.preprocess(pairs)["input_ids"].tolist() == model.preprocess(pairs)["input_ids"].tolist()


def test_scoring_tells_how_long_it_takes(tmp_path, monkeypatch, capsys):
    """In tokens that are computed, those of a query's prefix once; scores are the same."""
    recipe = build(tmp_path)
    monkeypatch.setattr(batching, "TOKEN_BUDGET", 128)
    expected = pair_scores.score(str(tmp_path), PAIRS, "cpu", recipe)
    slow_clock.use(monkeypatch)
    np.testing.assert_array_equal(pair_scores.score(str(tmp_path), PAIRS, "cpu", recipe), expected)
    (line,) = slow_clock.lines(capsys)
    whole = sum(map(len, DecoderScorer(cross_encoder.load(str(tmp_path), recipe, "cpu"), recipe).tokenize(PAIRS)))
    assert line.startswith("score 18 pairs: about ") and slow_clock.amount(line) < 0.5 * whole
