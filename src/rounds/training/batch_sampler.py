"""Sample batches of rows, the same ones for any number of processes."""

import random
from collections.abc import Callable, Iterator

from sentence_transformers.base.sampler import DefaultBatchSampler


class BatchSampler(DefaultBatchSampler):
    """Shuffle the rows in each epoch, and divide every batch evenly among the processes.

    A batch of B queries is the same for any number of processes: each takes B / processes of them, in turn. Rows that
    cannot be divided at the end of an epoch (fewer than there are processes) are left out.

    Args:
        rows: number of rows in an epoch.
        batch_size: queries of one process in a batch.
        processes: number of processes.
        seed: together with the epoch, seeds the order of rows.
        rows_of: returns the rows of an epoch, counted from 0; by default all, from 0 on.
    """

    def __init__(
        self,
        rows: int,
        batch_size: int,
        processes: int,
        seed: int,
        rows_of: Callable[[int], list[int]] | None = None,
    ) -> None:
        super().__init__(range(rows), batch_size=batch_size, drop_last=False, seed=seed)
        self.rows, self.processes, self.rows_of = rows, processes, rows_of

    def __iter__(self) -> Iterator[list[int]]:
        order = self.rows_of(self.epoch) if self.rows_of else list(range(self.rows))
        random.Random(f"{self.seed}-{self.epoch}").shuffle(order)
        whole = self.batch_size * self.processes
        for start in range(0, self.rows, whole):
            batch = order[start : start + whole]
            share = len(batch) // self.processes
            for process in range(self.processes if share else 0):
                yield batch[process * share : (process + 1) * share]

    def __len__(self) -> int:
        whole = self.batch_size * self.processes
        rest = self.rows % whole
        return (self.rows // whole + (rest >= self.processes)) * self.processes
