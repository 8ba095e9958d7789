"""Packed attention: one row of tokens gives what padded batches with plain attention give."""

import dataclasses
import random

import numpy as np
import pytest
import torch
from transformers import XLMRobertaConfig, XLMRobertaModel

from rounds.config import loader
from rounds.encoding import batching
from rounds.encoding.batching import Layout
from rounds.encoding.encoder import EncodingOptions, encode_ids
from rounds.models import backbone, packed_attention


def load_model(name: str = "mistral", attention: str = "sdpa", precision: str = "fp32", **changed):
    """Load a random model, by kind or folder; on a CPU, `sdpa` packs and `eager` pads."""
    recipe = loader.load("tiny-mistral")
    pooling = "last_token" if name in ("mistral", "qwen2") else "mean"
    name_or_path = f"random:{name}" if name in ("mistral", "qwen2", "bert") else name
    changes = {"name_or_path": name_or_path, "bos": None, "attention": attention, "pooling": pooling, **changed}
    return backbone.load(
        dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, **changes)), precision, "cpu"
    )


@pytest.fixture(scope="module")
def roberta(tmp_path_factory):
    """The folder of a random XLM-RoBERTa: its positions count from 2."""
    folder = tmp_path_factory.mktemp("roberta")
    embedder = load_model("bert")
    embedder.tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=1000,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=200,
        pad_token_id=1,
        type_vocab_size=1,
    )
    XLMRobertaModel(config).save_pretrained(folder)
    return str(folder)


def random_token_ids(count: int = 40, most: int = 90) -> list[list[int]]:
    """Draw texts of 1 to `most` tokens."""
    rng = random.Random(1)
    return [[rng.randrange(3, 900) for _ in range(rng.randrange(1, most))] for _ in range(count)]


@pytest.mark.parametrize("name", ["mistral", "qwen2", "bert", "roberta"])
def test_packed_vectors_equal_padded_ones(name, roberta):
    """For each architecture, and its way to number positions, packed embeddings equal padded ones."""
    name = roberta if name == "roberta" else name
    packed, padded = load_model(name), load_model(name, "eager")
    assert Layout.for_model(packed, 90).packed and not Layout.for_model(padded, 90).packed
    options = EncodingOptions(share_prefix=False)
    vectors = [encode_ids(embedder, random_token_ids(), "fp32", options) for embedder in (packed, padded)]
    np.testing.assert_allclose(*vectors, atol=2e-6)


def test_packed_vectors_in_bf16_stay_within_the_tolerance():
    """In half precision packed and padded embeddings differ by rounding only: cosine above 0.999."""
    options = EncodingOptions(share_prefix=False)
    packed, padded = (
        encode_ids(load_model("bert", attention), random_token_ids(), "bf16", options)
        for attention in ("sdpa", "eager")
    )
    assert (packed * padded).sum(axis=1).min() > 0.999


@pytest.mark.parametrize("name", ["mistral", "bert"])
def test_packed_gradients_equal_padded_ones(name):
    """Packed and padded training get the same gradients: relative error of each parameter's at most 1e-5."""
    gradients = []
    for attention in ("sdpa", "eager"):
        embedder = load_model(name, attention, dropout=0.0).train()
        vectors = embedder(batching.to_tensors(random_token_ids(12), Layout.for_model(embedder, 200)))[
            "sentence_embedding"
        ][:12]
        (vectors @ vectors.T).tril(-1).sum().backward()
        gradients.append({name: p.grad for name, p in embedder.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, value in gradients[1].items():
        if not name.endswith("key.bias"):  # softmax cancels it, so its gradient is rounding
            assert torch.norm(gradients[0][name] - value) <= 1e-5 * torch.norm(value) + 1e-8, name


def slow_attention(query, key, value, prefix, starts, causal):
    """Compute softmax attention by its definition, one text after the other, each behind the prefix."""
    parts = []
    for start, end in zip(starts, starts[1:], strict=False):
        keys, values = key[start:end], value[start:end]
        if prefix:
            keys, values = torch.cat([prefix[0], keys]), torch.cat([prefix[1], values])
        shared = len(keys) - (end - start)
        scores = torch.einsum("qhd,khd->hqk", query[start:end], keys) * query.shape[-1] ** -0.5
        if causal:
            mask = torch.ones(end - start, len(keys)).tril(shared).bool()
            scores = scores.masked_fill(~mask, -torch.inf)
        parts.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1), values))
    return torch.cat(parts)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shared", [0, 33])
def test_the_fused_kernels_equal_attention_by_its_definition(causal, shared):
    """Outputs and all gradients, those of the prefix too, equal those of a slow loop over texts."""
    torch.manual_seed(0)
    starts = [0, 7, 14, 30, 31, 32, 40]
    states = [torch.randn(40, 3, 8, requires_grad=True) for _ in range(3)]
    prefix = [torch.randn(shared, 3, 8, requires_grad=True) for _ in range(2)] if shared else []
    weight = torch.randn(40, 3, 8)
    runs = packed_attention.equal_length_runs(starts)
    packed = packed_attention.PackedAttention.apply(*states, *(prefix or [None, None]), runs, causal, 8**-0.5)
    expected = slow_attention(*states, prefix, starts, causal)
    torch.testing.assert_close(packed, expected, rtol=1e-5, atol=1e-5)
    inputs = [*states, *prefix]
    ours, theirs = (torch.autograd.grad((out * weight).sum(), inputs) for out in (packed, expected))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_texts_do_not_attend_to_each_other():
    """Another neighbour in the row changes no embedding."""
    embedder, texts = load_model("bert"), random_token_ids(6)
    layout = Layout.for_model(embedder, 200)
    with torch.inference_mode():
        one = embedder(batching.to_tensors(texts, layout))["sentence_embedding"]
        other = embedder(batching.to_tensors([*texts[:3], *random_token_ids(20)[17:]], layout))["sentence_embedding"]
    torch.testing.assert_close(one[:3], other[:3], rtol=0, atol=1e-6)


def test_attention_dropout_in_training_goes_back_to_padding():
    """The packed kernels have no dropout, so a model with dropout is padded while it trains."""
    embedder = load_model("bert", dropout=0.1)
    assert Layout.for_model(embedder, 200).packed
    assert not Layout.for_model(embedder.train(), 200).packed


def test_a_saved_model_names_no_attention_of_ours(tmp_path):
    """A saved model's configuration does not name packed attention, so it loads without this project."""
    load_model("bert").save_pretrained(str(tmp_path))
    assert not [file for file in tmp_path.rglob("*.json") if packed_attention.NAME in file.read_text(encoding="utf-8")]


def test_plain_calls_of_a_model_that_could_pack_still_work():
    """Padded features give the same embeddings in a model that can pack."""
    packed, padded = load_model(), load_model(attention="eager")
    features = batching.to_tensors(random_token_ids(5), Layout(False, 0))
    with torch.inference_mode():
        one, other = (embedder(dict(features))["sentence_embedding"] for embedder in (packed, padded))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_a_sliding_window_that_is_too_short_is_not_packed():
    """The packed kernels attend to whole texts, so a model with a shorter sliding window is padded."""
    embedder = load_model()
    embedder[0].model.config.sliding_window = 64
    assert Layout.for_model(embedder, 64).packed and not Layout.for_model(embedder, 65).packed
