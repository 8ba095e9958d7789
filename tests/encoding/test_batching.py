"""Batches: every row once, within the budget, in few shapes."""

import numpy as np
import pytest
import torch

from rounds.encoding import batching
from rounds.encoding.batching import Layout

LENGTHS = np.random.default_rng(0).integers(1, 400, size=700).tolist()
PACKED, PADDED = Layout(True, 0), Layout(False, 0)


@pytest.mark.parametrize("layout", [PACKED, PADDED])
@pytest.mark.parametrize("budget", [300, 4096, None])
def test_a_plan_holds_every_row_once_within_the_budget(layout, budget):
    """Batches partition the rows, longest first, and only a single row may exceed the budget."""
    plan = batching.plan(LENGTHS, layout, budget)
    assert sorted(row for rows in plan for row in rows) == list(range(700))
    order = [LENGTHS[row] for rows in plan for row in rows]
    assert order == sorted(order, reverse=True)
    size = (lambda n: n) if layout.packed else batching.snap
    for rows in plan:
        assert budget is None or len(rows) == 1 or sum(size(LENGTHS[row]) for row in rows) <= budget


def test_padded_batches_come_in_few_shapes():
    """One row count for each length, and one more for its last batch."""
    rows = [[1] * length for length in LENGTHS]
    shapes = [
        tuple(batching.tensors([rows[n] for n in part], PADDED, 4096)["input_ids"].shape)
        for part in batching.plan(LENGTHS, PADDED, 4096)
    ]
    assert all(count * length <= 4096 for count, length in shapes)
    assert len(set(shapes)) <= 2 * len({length for _, length in shapes})


def test_padding_fills_up_with_the_first_row():
    """Rows beyond the texts repeat the first, so that no row is without a token."""
    padded = batching.tensors([[5, 6], [7], [8]], PADDED, 16 * 4)
    assert padded["input_ids"][:, :2].tolist() == [[5, 6], [7, 0], [8, 0], [5, 6]]
    assert padded["attention_mask"].sum(dim=1).tolist() == [2, 1, 1, 2]
    assert batching.texts_in(padded) == 4
    left = batching.tensors([[5, 6]], Layout(False, 0, left=True))
    assert left["input_ids"][0, -2:].tolist() == [5, 6]


def test_packed_rows_stand_one_behind_the_other():
    """Positions start anew with each text, behind what is shared; the filler is a text of its own."""
    found = batching.tensors([[5, 6, 7], [8, 9]], Layout(True, 3, first=2), shared=10)
    assert found["input_ids"].tolist() == [[5, 6, 7, 8, 9] + [3] * 11]
    assert found["position_ids"][0, :5].tolist() == [12, 13, 14, 12, 13]
    assert found["cu_seq_lens_q"].tolist() == [0, 3, 5, 16]
    assert batching.texts_in(found) == 3


def test_flash_attention_gets_what_the_library_would_give_it():
    """The keys and values of transformers' own flattening collator."""
    from transformers import DataCollatorWithFlattening

    rows = [[5] * 9, [8] * 7]
    collate = DataCollatorWithFlattening(return_flash_attn_kwargs=True, return_position_ids=True)
    theirs = collate([{"input_ids": row} for row in rows])
    ours = batching.tensors(rows, Layout(True, 0, attention="flash_attention_2"))
    for name in ("input_ids", "position_ids", "cu_seq_lens_q", "cu_seq_lens_k"):
        assert torch.equal(ours[name].long(), theirs[name].long()), name
    assert int(ours["max_length_q"]) == int(theirs["max_length_q"]) and "attention_mask" not in ours
