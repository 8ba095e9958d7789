"""Shared prefixes: computing them once changes no vector and no gradient."""

import dataclasses
import random

import numpy as np
import pytest
import torch
from helpers.tuned_models import randomize_lora

from rounds.config import loader
from rounds.encoding import batching, prefix_cache
from rounds.encoding.batching import Layout
from rounds.encoding.encoder import EncodingOptions, encode_ids
from rounds.models import backbone, checkpoint, peft_methods

PACKED, PADDED = Layout(packed=True, pad_id=0), Layout(packed=False, pad_id=0)

WHOLE = EncodingOptions(share_prefix=False)  # every sequence is computed as a whole


def rows(count: int = 24, shared: int = 70, kinds: int = 3, seed: int = 0) -> list[list[int]]:
    """Return token rows in `kinds` groups of one prefix each, and a few that share nothing."""
    rng = random.Random(seed)
    heads = [[rng.randrange(3, 900) for _ in range(shared + 10 * kind)] for kind in range(kinds)]
    tails = [[rng.randrange(3, 900) for _ in range(rng.randrange(1, 40))] for _ in range(count)]
    sharing = [[1, *heads[n % kinds], *tail, 2] for n, tail in enumerate(tails)]
    return sharing + [[1, 500 + n, 2] for n in range(3)]


def model(name: str = "mistral", precision: str = "fp32", side: str = "right", attention: str = "sdpa"):
    recipe = loader.load("tiny-mistral")
    changed = dataclasses.replace(
        recipe.model,
        name_or_path=f"random:{name}",
        padding_side=side,
        bos=None,
        precision=precision,
        attention=attention,
    )
    return backbone.load(dataclasses.replace(recipe, model=changed), precision, "cpu")


@pytest.mark.parametrize("name", ["mistral", "qwen2"])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_sharing_changes_no_vector(name, side, attention):
    """Vectors are the same with and without a shared prefix, packed and padded, on either padding side."""
    embedder, ids = model(name, side=side, attention=attention), rows()
    shared = encode_ids(embedder, ids, "fp32")
    plain = encode_ids(model(name, attention="eager"), ids, "fp32", WHOLE)
    np.testing.assert_allclose(shared, plain, atol=2e-6)


def test_sharing_under_an_adapter_changes_no_vector():
    """The prefix's states include the LoRA layers."""
    recipe = loader.load("tiny-mistral")
    embedder = model()
    torch.manual_seed(0)
    peft_methods.apply(embedder, recipe.tuning)
    randomize_lora(embedder)
    ids = rows()
    assert prefix_cache.can_share(embedder, max(map(len, ids)))
    shared = encode_ids(embedder, ids, "fp32")
    np.testing.assert_allclose(shared, encode_ids(embedder, ids, "fp32", WHOLE), atol=2e-6)


def test_bf16_vectors_stay_within_the_tolerance():
    """In half precision, sharing changes vectors by rounding only: cosine above 0.999."""
    embedder, ids = model(precision="bf16"), rows()
    one, other = (encode_ids(embedder, ids, "bf16", EncodingOptions(share_prefix=share)) for share in (True, False))
    assert (one * other).sum(axis=1).min() > 0.999


def test_a_shared_prefix_is_computed_once(monkeypatch):
    """Sharing reduces the number of tokens that go through the model."""
    embedder, ids = model(), rows(count=30, kinds=1)
    counts = []
    forward = embedder[0].model.forward

    def counting(input_ids=None, **kwargs):
        counts[-1] += input_ids.numel()
        return forward(input_ids=input_ids, **kwargs)

    monkeypatch.setattr(embedder[0].model, "forward", counting)
    for share in (True, False):
        counts.append(0)
        encode_ids(embedder, ids, "fp32", EncodingOptions(share_prefix=share))
    assert counts[0] < 0.6 * counts[1]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("layout", [PACKED, PADDED])
def test_groups_partition_the_rows_by_true_prefixes(seed, layout):
    """Every row is in one group; a group is large enough, and its rows share the prefix and have tokens behind it."""
    ids = rows(count=20 + seed, shared=30 + 20 * seed, kinds=1 + seed, seed=seed)
    groups = prefix_cache.group_by_prefix(ids, layout)
    assert sorted(row for _, group in groups for row in group) == list(range(len(ids)))
    for length, group in groups:
        assert not length or length >= prefix_cache.STEP
        assert layout.packed or length % prefix_cache.STEP == 0
        assert len({tuple(ids[row][:length]) for row in group}) == 1
        assert all(len(ids[row]) > length for row in group)
        assert not length or len(group) >= prefix_cache.MIN_ROWS


def test_the_grouping_that_computes_the_fewest_tokens_wins():
    """A long prefix of fewer rows is weighed against a shorter one of all rows."""
    top = list(range(100, 133))
    deep = [top + [n] * 64 + [k] for n in (5, 6) for k in range(10)]
    for layout, expected in ((PACKED, 97), (PADDED, 96)):
        groups = prefix_cache.group_by_prefix(deep, layout)
        assert [(length, len(group)) for length, group in groups] == [(expected, 10), (expected, 10)]
    flat = [top + [n, n, n] for n in range(10)]
    assert prefix_cache.group_by_prefix(flat, PACKED) == [(33, list(range(10)))]
    assert prefix_cache.group_by_prefix(flat, PADDED) == [(32, list(range(10)))]


def test_a_row_that_is_the_start_of_another_keeps_its_last_token():
    """The prefix leaves at least one token to every row."""
    base = list(range(3, 67))
    ids = [base, base + [9], base + [9, 8], base + [9, 8, 7]]
    assert prefix_cache.group_by_prefix(ids, PACKED) == [(63, [0, 1, 2, 3])]
    assert prefix_cache.group_by_prefix(ids, PADDED) == [(32, [0, 1, 2, 3])]


def test_flash_attention_packs_no_texts_behind_a_prefix():
    """Its kernels cannot put one prefix before all texts of a row: such batches are padded."""
    flash = dataclasses.replace(PACKED, attention="flash_attention_2")
    assert flash.after_prefix(0).packed and not flash.after_prefix(32).packed and PACKED.after_prefix(32).packed


@pytest.mark.parametrize("name", ["minilm"])
def test_bidirectional_models_do_not_share(name):
    """BERT's states depend on the tokens that follow."""
    source = checkpoint.resolve(None, loader.load(name), "cpu", "fp32")
    assert not prefix_cache.can_share(source.load(), 100)


def test_a_sliding_window_that_is_too_short_does_not_share():
    """A token does not attend to what lies outside its window, so the window must hold the longest sequence."""
    embedder = model()
    embedder[0].model.config.sliding_window = 64
    assert prefix_cache.can_share(embedder, 64) and not prefix_cache.can_share(embedder, 65)


def similarity_gradients(embedder, vectors: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the gradients of the summed similarities of all pairs, by parameter name."""
    (vectors @ vectors.T).tril(-1).sum().backward()
    return {name: value.grad for name, value in embedder.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_flow_through_the_prefix(attention, checkpointing):
    """A loss over shared-prefix vectors has the gradient of one over whole sequences, recomputed or kept."""
    ids = rows(count=6, kinds=1)[:6]
    plain = model(attention="eager").train()
    features = batching.to_tensors(ids, Layout.for_model(plain, 200))
    expected = similarity_gradients(plain, plain(features)["sentence_embedding"][: len(ids)])

    sharing = model(attention=attention).train()
    layout = Layout.for_model(sharing, 200)
    if checkpointing:
        sharing.gradient_checkpointing_enable({"use_reentrant": False})
    cache = prefix_cache.compute_prefix(sharing, ids[0][:64])
    features = batching.to_tensors([row[64:] for row in ids], layout, prefix_length=64)
    gradients = similarity_gradients(sharing, prefix_cache.embed(sharing, features, cache)[: len(ids)])

    assert gradients.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.norm(gradients[name] - value) <= 1e-4 * torch.norm(value) + 1e-7, name
