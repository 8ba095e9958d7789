"""Packing: one row of tokens gives what padded batches with plain attention give."""

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


def model(name: str = "mistral", attention: str = "sdpa", precision: str = "fp32", **changed):
    recipe = loader.load("tiny-mistral")
    pooling = "last_token" if name in ("mistral", "qwen2") else "mean"
    where = f"random:{name}" if name in ("mistral", "qwen2", "bert") else name
    changes = {"name_or_path": where, "bos": None, "attention": attention, "pooling": pooling, **changed}
    return backbone.load(
        dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, **changes)), precision, "cpu"
    )


@pytest.fixture(scope="module")
def roberta(tmp_path_factory):
    """The folder of a random XLM-RoBERTa: its positions count from 2."""
    folder = tmp_path_factory.mktemp("roberta")
    embedder = model("bert")
    embedder.tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=1000, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=200, pad_token_id=1, type_vocab_size=1,
    )  # fmt: skip
    XLMRobertaModel(config).save_pretrained(folder)
    return str(folder)


def rows(count: int = 40, most: int = 90) -> list[list[int]]:
    rng = random.Random(1)
    return [[rng.randrange(3, 900) for _ in range(rng.randrange(1, most))] for _ in range(count)]


@pytest.mark.parametrize("name", ["mistral", "qwen2", "bert", "roberta"])
def test_packed_vectors_equal_padded_ones(name, roberta):
    """Whatever the architecture, and its way to number positions: packed is padded with plain attention."""
    name = roberta if name == "roberta" else name
    packed, padded = model(name), model(name, "eager")
    assert Layout.for_model(packed, 90).packed and not Layout.for_model(padded, 90).packed
    found = [encode_ids(embedder, rows(), "fp32", EncodingOptions(share_prefix=False)) for embedder in (packed, padded)]
    np.testing.assert_allclose(*found, atol=2e-6)


def test_packed_vectors_in_bf16_stay_within_the_tolerance():
    """In half precision the two differ by rounding: cosine above 0.999."""
    found = [
        encode_ids(model("bert", attention), rows(), "bf16", EncodingOptions(share_prefix=False))
        for attention in ("sdpa", "eager")
    ]
    assert (found[0] * found[1]).sum(axis=1).min() > 0.999


@pytest.mark.parametrize("name", ["mistral", "bert"])
def test_packed_gradients_equal_padded_ones(name):
    """Training sees the same gradients: relative error of each parameter's at most 1e-5."""
    found = []
    for attention in ("sdpa", "eager"):
        embedder = model(name, attention, dropout=0.0).train()
        vectors = embedder(batching.to_tensors(rows(12), Layout.for_model(embedder, 200)))["sentence_embedding"][:12]
        (vectors @ vectors.T).tril(-1).sum().backward()
        found.append({name: p.grad for name, p in embedder.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, value in found[1].items():
        if not name.endswith("key.bias"):  # softmax does not see it: its gradient is rounding
            assert torch.norm(found[0][name] - value) <= 1e-5 * torch.norm(value) + 1e-8, name


def slow(query, key, value, before, starts, causal):
    """Each text on its own, behind the prefix: softmax attention as it is written down."""
    parts = []
    for start, end in zip(starts, starts[1:], strict=False):
        keys, values = (torch.cat([b, x[start:end]]) if before else x[start:end] for b, x in zip(
            before or (None, None), (key, value), strict=True))  # fmt: skip
        shared = len(keys) - (end - start)
        scores = torch.einsum("qhd,khd->hqk", query[start:end], keys) * query.shape[-1] ** -0.5
        if causal:
            mask = torch.ones(end - start, len(keys)).tril(shared).bool()
            scores = scores.masked_fill(~mask, -torch.inf)
        parts.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1), values))
    return torch.cat(parts)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shared", [0, 33])
def test_the_fused_kernels_equal_attention_as_it_is_written_down(causal, shared):
    """Outputs and all gradients, those of the prefix too, against a slow loop over texts."""
    torch.manual_seed(0)
    starts = [0, 7, 14, 30, 31, 32, 40]
    states = [torch.randn(40, 3, 8, requires_grad=True) for _ in range(3)]
    before = [torch.randn(shared, 3, 8, requires_grad=True) for _ in range(2)] if shared else []
    weight = torch.randn(40, 3, 8)
    runs = packed_attention.equal_length_runs(starts)
    found = packed_attention.PackedAttention.apply(*states, *(before or [None, None]), runs, causal, 8**-0.5)
    expected = slow(*states, before, starts, causal)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    inputs = [*states, *before]
    ours, theirs = (torch.autograd.grad((out * weight).sum(), inputs) for out in (found, expected))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_texts_do_not_see_each_other():
    """Another neighbour in the row changes no vector."""
    embedder, texts = model("bert"), rows(6)
    layout = Layout.for_model(embedder, 200)
    with torch.inference_mode():
        one = embedder(batching.to_tensors(texts, layout))["sentence_embedding"]
        other = embedder(batching.to_tensors([*texts[:3], *rows(20)[17:]], layout))["sentence_embedding"]
    torch.testing.assert_close(one[:3], other[:3], rtol=0, atol=1e-6)


def test_attention_dropout_in_training_goes_back_to_padding():
    """The packed kernels drop nothing out, so a model that wants it is padded while it trains."""
    embedder = model("bert", dropout=0.1)
    assert Layout.for_model(embedder, 200).packed
    assert not Layout.for_model(embedder.train(), 200).packed


def test_a_saved_model_names_no_attention_of_ours(tmp_path):
    """The checkpoint loads without this project."""
    model("bert").save_pretrained(str(tmp_path))
    assert not [file for file in tmp_path.rglob("*.json") if packed_attention.NAME in file.read_text(encoding="utf-8")]


def test_plain_calls_of_a_model_that_could_pack_still_work():
    """Padded features and caches go through the same model as ever."""
    packed, padded = model(), model(attention="eager")
    features = batching.to_tensors(rows(5), Layout(False, 0))
    with torch.inference_mode():
        one, other = (embedder(dict(features))["sentence_embedding"] for embedder in (packed, padded))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_a_sliding_window_that_is_too_short_is_not_packed():
    """The packed kernels see whole texts, so a model that must not see that far is padded."""
    embedder = model()
    embedder[0].model.config.sliding_window = 64
    assert Layout.for_model(embedder, 64).packed and not Layout.for_model(embedder, 65).packed
