"""Batch size finder: chunks double until memory, gain or time ends, and each is told as soon as it is measured."""

import itertools

import pytest
import torch

from rounds.models import checkpoint, peft_methods
from rounds.models.devices import peak_memory
from rounds.training import batch_size_finder
from rounds.training.batch_size_finder import LEAST_TOKENS, BatchSizeFinder, ChunkFit, Speed, best_chunk


@pytest.fixture(scope="module")
def finder(tiny):
    """A finder for a model with a trainable adapter, and texts of 64 tokens."""
    embedder = checkpoint.resolve(None, tiny, "cpu").load()
    torch.manual_seed(0)
    peft_methods.apply(embedder, tiny.tuning)
    return BatchSizeFinder(embedder.train(), 64, "fp32")


def fit(tokens: int, share: float) -> ChunkFit:
    """Return a chunk whose training reaches a share of the bound."""
    return ChunkFit(tokens, 100.0, Speed(1e6 * share, 1e6), Speed(1e6 * share, 1e6))


def test_chunks_double_up_to_the_limit(finder, monkeypatch):
    """Each chunk has twice the tokens of the one before, and stays below the limit."""
    monkeypatch.setattr(batch_size_finder, "MIN_GAIN", 0.0)
    limit = peak_memory("cpu") + 300
    fits = list(finder.fits(60, limit))
    assert fits and [fit.tokens for fit in fits] == [LEAST_TOKENS * 2**n for n in range(len(fits))]
    assert all(fit.peak <= limit for fit in fits)
    assert all(speed.tokens > 0 and speed.bound > 0 for fit in fits for speed in (fit.training, fit.encoding))


def test_nothing_fits_below_the_memory_in_use(finder):
    """A limit of 1 MiB fits no chunk."""
    assert list(finder.fits(60, limit=1)) == []


def test_a_single_text_that_does_not_fit_is_a_reason(finder, monkeypatch):
    """Memory that runs out while the model warms up ends the chunks as it does later."""

    def run_out(self, chunk):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(BatchSizeFinder, "_train", run_out)
    with pytest.raises(StopIteration) as end:
        next(finder.fits(60))
    assert end.value.value == "a text of 64 tokens does not fit into memory"


def test_chunks_end_where_they_gain_no_speed(finder, monkeypatch):
    """Shares of 30%, 40% and 40%: the third chunk shows that the second is as fast, and the fourth is not tried."""
    shares = iter([0.3, 0.4, 0.4, 0.9])
    monkeypatch.setattr(BatchSizeFinder, "_measure", lambda self, tokens: fit(tokens, next(shares)))
    fits = list(finder.fits(60, limit=1000))
    assert [fit.training.share for fit in fits] == [0.3, 0.4, 0.4]
    assert best_chunk(fits).tokens == 2 * LEAST_TOKENS


def test_chunks_end_before_the_time_does(finder, monkeypatch):
    """A step of 10 s leaves no room for one of 20 s in 25 s; the first chunk is measured whatever it takes."""
    clock, shares = itertools.count(0, 10), itertools.count(1)
    monkeypatch.setattr(BatchSizeFinder, "_measure", lambda self, tokens: fit(tokens, next(shares)))
    monkeypatch.setattr(batch_size_finder.time, "monotonic", lambda: next(clock))
    assert len(list(finder.fits(25, limit=1000))) == 1
    assert len(list(finder.fits(0, limit=1000))) == 1


def test_the_first_chunk_of_a_slow_model_is_small(finder, monkeypatch):
    """At 10 tokens/s a quarter of 100 s fits no step of 128 tokens: a step is that of a single text."""
    monkeypatch.setattr(BatchSizeFinder, "bound", lambda self, trains: 10.0)
    assert next(finder.fits(100)).tokens == 64


def test_packed_chunks_hold_as_many_tokens_as_they_say(finder, monkeypatch):
    """Texts of 100 tokens fill a chunk of 1,024 with a shorter one at the end, so no memory is missed."""
    widths = []
    monkeypatch.setattr(BatchSizeFinder, "_train", lambda self, chunk: widths.append(chunk["input_ids"].numel()))
    next(BatchSizeFinder(finder.embedder, 100, "fp32").fits(60))
    assert widths[-1] == LEAST_TOKENS


def test_own_texts_are_trained_on_chunk_by_chunk(finder):
    """Every text is in one chunk, and the texts' tokens are those that count, not their padding."""
    ids = [[5] * length for length in (3, 9, 40, 64, 17)]
    texts, speed = finder.train_on(ids, 64, 60)
    assert texts == 5 and speed.tokens > 0 and speed.bound > 0


def test_own_texts_end_before_the_time_does(finder):
    """Without time the first chunk is measured alone."""
    texts, _ = finder.train_on([[5] * 64, [5] * 64, [5] * 64], 64, 0)
    assert texts == 1
