"""Shared prefixes: computed once, they change no vector and no gradient."""

import dataclasses
import random

import numpy as np
import pytest
import torch

from rounds.config import loader
from rounds.encoding import batching, prefix_cache
from rounds.encoding.batching import Layout
from rounds.encoding.encoder import EncodingOptions, encode_ids
from rounds.models import backbone, checkpoint, peft_methods

PACKED, PADDED = Layout(packed=True, pad_id=0), Layout(packed=False, pad_id=0)

WHOLE = EncodingOptions(share_prefix=False)  # every sequence is computed as a whole


def rows(count: int = 24, shared: int = 70, kinds: int = 3, seed: int = 0) -> list[list[int]]:
    """Token rows in `kinds` groups of one prefix each, and a few that share nothing."""
    rng = random.Random(seed)
    heads = [[rng.randrange(3, 900) for _ in range(shared + 10 * kind)] for kind in range(kinds)]
    tails = [[rng.randrange(3, 900) for _ in range(rng.randrange(1, 40))] for _ in range(count)]
    made = [[1, *heads[n % kinds], *tail, 2] for n, tail in enumerate(tails)]
    return made + [[1, 500 + n, 2] for n in range(3)]


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
    """With and without a shared prefix, packed and padded, whatever the padding side: the same vectors."""
    embedder, ids = model(name, side=side, attention=attention), rows()
    shared = encode_ids(embedder, ids, "fp32")
    plain = encode_ids(model(name, attention="eager"), ids, "fp32", WHOLE)
    np.testing.assert_allclose(shared, plain, atol=2e-6)


def test_sharing_under_an_adapter_changes_no_vector():
    """LoRA layers are part of the prefix's states."""
    recipe = loader.load("tiny-mistral")
    embedder = model()
    torch.manual_seed(0)
    peft_methods.apply(embedder, recipe.tuning)
    for name, value in peft_methods.trainable_parameters(embedder).items():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.05)
    ids = rows()
    assert prefix_cache.can_share(embedder, max(map(len, ids)))
    shared = encode_ids(embedder, ids, "fp32")
    np.testing.assert_allclose(shared, encode_ids(embedder, ids, "fp32", WHOLE), atol=2e-6)


def test_bf16_vectors_stay_within_the_tolerance():
    """In half precision the two differ by rounding: cosine above 0.999."""
    embedder, ids = model(precision="bf16"), rows()
    one, other = (encode_ids(embedder, ids, "bf16", EncodingOptions(share_prefix=share)) for share in (True, False))
    assert (one * other).sum(axis=1).min() > 0.999


def test_what_is_shared_is_computed_once(monkeypatch):
    """The number of tokens that go through the model falls by what is shared."""
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
def test_groups_are_a_partition_with_true_prefixes(seed, layout):
    """Every row is in one group, and a group's rows begin alike and have a token of their own."""
    ids = rows(count=20 + seed, shared=30 + 20 * seed, kinds=1 + seed, seed=seed)
    found = prefix_cache.group_by_prefix(ids, layout)
    assert sorted(row for _, group in found for row in group) == list(range(len(ids)))
    for length, group in found:
        assert not length or length >= prefix_cache.STEP
        assert layout.packed or length % prefix_cache.STEP == 0
        assert len({tuple(ids[row][:length]) for row in group}) == 1
        assert all(len(ids[row]) > length for row in group)
        assert not length or len(group) >= prefix_cache.MIN_ROWS


def test_a_deeper_prefix_of_fewer_rows_is_weighed_against_a_shorter_one_of_all():
    """The grouping that computes the fewest tokens wins."""
    top = list(range(100, 133))
    deep = [top + [n] * 64 + [k] for n in (5, 6) for k in range(10)]
    assert [(length, len(group)) for length, group in prefix_cache.group_by_prefix(deep, PACKED)] == [
        (97, 10),
        (97, 10),
    ]
    assert [(length, len(group)) for length, group in prefix_cache.group_by_prefix(deep, PADDED)] == [
        (96, 10),
        (96, 10),
    ]
    flat = [top + [n, n, n] for n in range(10)]
    assert prefix_cache.group_by_prefix(flat, PACKED) == [(33, list(range(10)))]
    assert prefix_cache.group_by_prefix(flat, PADDED) == [(32, list(range(10)))]


def test_repeated_rows_and_rows_that_begin_another_are_kept_whole():
    """A row that is another's beginning still has a last token of its own."""
    base = list(range(3, 67))
    ids = [base, base + [9], base + [9, 8], base + [9, 8, 7]]
    assert prefix_cache.group_by_prefix(ids, PACKED) == [(63, [0, 1, 2, 3])]
    assert prefix_cache.group_by_prefix(ids, PADDED) == [(32, [0, 1, 2, 3])]


def test_flash_attention_packs_no_texts_behind_a_prefix():
    """Its kernels know of no prefix that stands before all texts of a row: such batches are padded."""
    flash = dataclasses.replace(PACKED, attention="flash_attention_2")
    assert flash.after_prefix(0).packed and not flash.after_prefix(32).packed and PACKED.after_prefix(32).packed


@pytest.mark.parametrize("name", ["minilm"])
def test_models_that_look_both_ways_do_not_share(name):
    """BERT's states depend on what follows."""
    source = checkpoint.resolve(None, loader.load(name), "cpu", "fp32")
    assert not prefix_cache.can_share(source.load(), 100)


def test_a_sliding_window_that_is_too_short_does_not_share():
    """Beyond its window a token no longer sees the prefix's start as it would alone."""
    embedder = model()
    embedder[0].model.config.sliding_window = 64
    assert prefix_cache.can_share(embedder, 64) and not prefix_cache.can_share(embedder, 65)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_flow_through_the_prefix(attention, checkpointing):
    """The gradient of a loss over shared-prefix vectors is that over whole sequences, recomputed or kept."""
    ids = rows(count=6, kinds=1)[:6]
    found = []
    for share in (True, False):
        embedder = model(attention=attention if share else "eager").train()
        layout = Layout.for_model(embedder, 200)
        if share and checkpointing:
            embedder.gradient_checkpointing_enable({"use_reentrant": False})
        if share:
            cache = prefix_cache.compute_prefix(embedder, ids[0][:64])
            vectors = prefix_cache.embed(
                embedder, batching.to_tensors([row[64:] for row in ids], layout, prefix_length=64), cache
            )
        else:
            vectors = embedder(batching.to_tensors(ids, layout))["sentence_embedding"]
        vectors = vectors[: len(ids)]
        (vectors @ vectors.T).tril(-1).sum().backward()
        found.append({name: p.grad for name, p in embedder.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, value in found[1].items():
        assert torch.norm(found[0][name] - value) <= 1e-4 * torch.norm(value) + 1e-7, name
