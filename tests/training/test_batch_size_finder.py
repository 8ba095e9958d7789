"""Batch size finder: chunks double until the memory limit."""

import pytest
import torch

from rounds.models import checkpoint, peft_methods
from rounds.models.devices import peak_memory
from rounds.training.batch_size_finder import LEAST_TOKENS, fit_batch


@pytest.fixture(scope="module")
def embedder(tiny):
    """A model with a trainable adapter."""
    embedder = checkpoint.resolve(None, tiny, "cpu").load()
    torch.manual_seed(0)
    peft_methods.apply(embedder, tiny.tuning)
    return embedder.train()


def test_chunks_double_up_to_the_limit(embedder):
    """Each chunk has twice the tokens of the one before, and stays below the limit."""
    limit = peak_memory("cpu") + 300
    fits = fit_batch(embedder, 64, "fp32", limit)
    assert fits and [fit.tokens for fit in fits] == [LEAST_TOKENS * 2**n for n in range(len(fits))]
    assert all(fit.peak <= limit and fit.speed > 0 and fit.bound > 0 for fit in fits)


def test_nothing_fits_below_the_memory_in_use(embedder):
    """A limit of 1 MiB fits no chunk."""
    assert fit_batch(embedder, 64, "fp32", limit=1) == []
