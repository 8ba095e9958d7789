"""Batching: every sequence once, within the budget, in few shapes."""

import numpy as np
import pytest
import torch

from rounds.encoding import batching
from rounds.encoding.batching import Layout

LENGTHS = np.random.default_rng(0).integers(1, 400, size=700).tolist()

PACKED, PADDED = Layout(packed=True, pad_id=0), Layout(packed=False, pad_id=0)

ALL_LAYOUTS = pytest.mark.parametrize("layout", [PACKED, PADDED])

ALL_BUDGETS = pytest.mark.parametrize("budget", [300, 4096, None])


@ALL_LAYOUTS
@ALL_BUDGETS
def test_batches_partition_the_sequences(layout, budget):
    """Every sequence is in exactly one batch, the longest first."""
    rows = [row for batch in batching.plan_batches(LENGTHS, layout, budget) for row in batch]
    assert sorted(rows) == list(range(len(LENGTHS)))
    lengths = [LENGTHS[row] for row in rows]
    assert lengths == sorted(lengths, reverse=True)


@ALL_LAYOUTS
@pytest.mark.parametrize("budget", [300, 4096])
def test_only_a_single_sequence_exceeds_the_budget(layout, budget):
    """The budget counts the tokens that are computed: padded lengths for padded batches."""
    size = (lambda length: length) if layout.packed else batching.padded_length
    for batch in batching.plan_batches(LENGTHS, layout, budget):
        assert len(batch) == 1 or sum(size(LENGTHS[row]) for row in batch) <= budget


@ALL_LAYOUTS
def test_without_a_budget_packed_sequences_are_one_batch(layout):
    """Padded sequences are one batch for each padded length."""
    batches = batching.plan_batches(LENGTHS, layout, None)
    assert len(batches) == (1 if layout.packed else len(set(map(batching.padded_length, LENGTHS))))


def test_padded_batches_come_in_few_shapes():
    """Each padded length has one number of rows, and one more for its last batch."""
    rows = [[1] * length for length in LENGTHS]
    shapes = [
        tuple(batching.to_tensors([rows[row] for row in batch], PADDED, 4096)["input_ids"].shape)
        for batch in batching.plan_batches(LENGTHS, PADDED, 4096)
    ]
    assert all(count * length <= 4096 for count, length in shapes)
    assert len(set(shapes)) <= 2 * len({length for _, length in shapes})


def test_a_padded_batch_is_filled_up_with_its_first_row():
    """Rows beyond the sequences repeat the first, so that no row is without a token."""
    features = batching.to_tensors([[5, 6], [7], [8]], PADDED, 16 * 4)
    assert features["input_ids"][:, :2].tolist() == [[5, 6], [7, 0], [8, 0], [5, 6]]
    assert features["attention_mask"].sum(dim=1).tolist() == [2, 1, 1, 2]
    assert batching.count_rows(features) == 4


def test_left_padding_stands_before_the_text():
    """A model that pads on the left gets its last token at the end of the row."""
    features = batching.to_tensors([[5, 6]], Layout(packed=False, pad_id=0, pads_left=True))
    assert features["input_ids"][0, -2:].tolist() == [5, 6]


def test_packed_positions_start_anew_with_each_sequence():
    """Sequences are concatenated, positions count on from the shared prefix, and the filler is a sequence itself."""
    features = batching.to_tensors(
        [[5, 6, 7], [8, 9]], Layout(packed=True, pad_id=3, first_position=2), prefix_length=10
    )
    assert features["input_ids"].tolist() == [[5, 6, 7, 8, 9] + [3] * 11]
    assert features["position_ids"][0, :5].tolist() == [12, 13, 14, 12, 13]
    assert features["cu_seq_lens_q"].tolist() == [0, 3, 5, 16]
    assert batching.count_rows(features) == 3


def test_flash_attention_gets_the_inputs_of_transformers_own_collator():
    """Packed tensors have the keys and values of `DataCollatorWithFlattening`, and no mask."""
    from transformers import DataCollatorWithFlattening

    rows = [[5] * 9, [8] * 7]
    collate = DataCollatorWithFlattening(return_flash_attn_kwargs=True, return_position_ids=True)
    expected = collate([{"input_ids": row} for row in rows])
    features = batching.to_tensors(rows, Layout(packed=True, pad_id=0, attention="flash_attention_2"))
    for name in ("input_ids", "position_ids", "cu_seq_lens_q", "cu_seq_lens_k"):
        assert torch.equal(features[name].long(), expected[name].long()), name
    assert int(features["max_length_q"]) == int(expected["max_length_q"]) and "attention_mask" not in features
