"""Batch sampler: each epoch is a permutation of the rows, divided the same way for any number of processes."""

import pytest

from rounds.training.batch_sampler import BatchSampler


def batches(rows: int, batch: int, processes: int, epoch: int = 0, seed: int = 42) -> list[list[int]]:
    """Return the batches of an epoch."""
    sampler = BatchSampler(rows, batch, processes, seed)
    sampler.set_epoch(epoch)
    return list(sampler)


SIZES = [(1, 8), (7, 8), (8, 8), (9, 8), (16, 8), (33, 8), (100, 16), (5, 1)]


@pytest.mark.parametrize(("rows", "batch"), SIZES)
@pytest.mark.parametrize("epoch", [0, 3])
def test_every_row_comes_once_per_epoch(rows, batch, epoch):
    """An epoch is a permutation of the rows, and only its last batch may be smaller."""
    sampled = batches(rows, batch, 1, epoch)
    assert sorted(row for one in sampled for row in one) == list(range(rows))
    assert all(len(one) == batch for one in sampled[:-1])


def test_epochs_and_seeds_differ_in_order():
    """Each epoch and each seed has an order of its own, and the same epoch and seed repeat it."""
    orders = {
        (epoch, seed): tuple(row for batch in batches(60, 8, 1, epoch, seed) for row in batch)
        for epoch in range(3)
        for seed in range(3)
    }
    assert len(set(orders.values())) == 9
    assert batches(60, 8, 1, 2, 1) == batches(60, 8, 1, 2, 1)


@pytest.mark.parametrize("rows", [64, 70, 71, 8, 9, 2])
def test_two_processes_share_the_batches_of_one(rows):
    """Two processes get equal halves of each batch of a single process; an odd last row is left out."""
    single, halves = batches(rows, 8, 1), batches(rows, 4, 2)
    pairs = list(zip(halves[::2], halves[1::2], strict=True))
    even = [batch[: len(batch) // 2 * 2] for batch in single]
    assert [first + second for first, second in pairs] == [batch for batch in even if batch]
    assert all(len(first) == len(second) for first, second in pairs)


@pytest.mark.parametrize(("rows", "batch"), [*SIZES, (17, 8), (31, 8), (3, 8)])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_length_is_the_number_of_batches(rows, batch, processes):
    """`len` is the number of batches of an epoch, and every process gets as many."""
    sampled = batches(rows, batch, processes)
    assert len(BatchSampler(rows, batch, processes, 42)) == len(sampled)
    assert len(sampled) % processes == 0


def test_an_epoch_may_have_rows_of_its_own():
    """The rows that are named for an epoch come once, shuffled."""
    sampler = BatchSampler(4, 2, 1, 42, rows_of=lambda epoch: [epoch, 10, 20, 30])
    sampler.set_epoch(3)
    sampled = [row for batch in sampler for row in batch]
    assert sorted(sampled) == [3, 10, 20, 30] and len(sampler) == 2
