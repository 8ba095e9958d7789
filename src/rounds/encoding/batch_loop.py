"""Loop over batches: smaller ones when memory runs out, a bar of the texts, and progress over blocks of them."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from tqdm import tqdm

from rounds.encoding import batching
from rounds.encoding.batching import Layout
from rounds.errors import UserError
from rounds.estimate import Estimate

Output = TypeVar("Output")

CPU_ALLOCATOR = "DefaultCPUAllocator: "  # begins what torch's RuntimeError says where the system refuses memory


def progress_bar(total: int, title: str) -> tqdm:
    """Return a bar that disappears when it is full; without a title, or outside a terminal, nothing is shown."""
    return tqdm(total=total, desc=title, unit="text", disable=None if title else True, leave=False)


def within_memory(
    lengths: list[int], layout: Layout, compute: Callable[[list[int], int], Output]
) -> Iterator[tuple[list[int], Output]]:
    """Yield the row numbers and the output of each batch; when memory runs out, halve the batches from there on.

    Args:
        lengths: tokens of each row.
        compute: returns a batch's output from its row numbers and the token budget.

    Raises:
        UserError: a single row does not fit.
    """
    waiting, budget = list(range(len(lengths))), layout.token_budget
    while waiting:
        done: set[int] = set()
        for places in batching.plan_batches([lengths[row] for row in waiting], layout, budget):
            rows = [waiting[place] for place in places]
            try:
                output = compute(rows, budget)
            except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
                if not is_out_of_memory(error):
                    raise
                if len(rows) == 1:
                    raise UserError(
                        f"out of memory with a single text of {lengths[rows[0]]} tokens; free memory, or lower "
                        "prompts.query_max_length or passage_max_length"
                    ) from None
                torch.cuda.empty_cache()
                budget //= 2
                tqdm.write(f"out of memory with {len(rows)} texts; continuing with {budget} tokens a batch")
                break
            yield rows, output
            done.update(rows)
        waiting = [row for row in waiting if row not in done]


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that a GPU, or this machine, has no memory left for an array."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or CPU_ALLOCATOR in str(error)


class BlockProgress:
    """Tells an estimate of a whole corpus about blocks that are encoded one after the other.

    The corpus's tokens are estimated from those of the blocks so far: a block is tokenized when its turn comes.

    Args:
        texts: texts of all blocks.
    """

    def __init__(self, estimate: Estimate, texts: int) -> None:
        self.estimate, self.texts = estimate, texts
        self._texts_so_far = self._tokens_before = self._block_tokens = 0.0

    def start(self, texts: int) -> None:
        """Begin the next block, which has so many texts."""
        self._texts_so_far += texts
        self._tokens_before += self._block_tokens

    def update(self, done: float, total: float) -> None:
        """Take note of the tokens of the current block, as `Estimate.update` takes them."""
        self._block_tokens = total
        expected = (self._tokens_before + total) * self.texts / self._texts_so_far
        self.estimate.update(self._tokens_before + done, expected)
