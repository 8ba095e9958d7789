"""Find the largest training chunk, in tokens, that fits into memory, and its speed."""

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from rounds.encoding import batching
from rounds.encoding.batching import Layout
from rounds.models import dual_encoder, token_bound
from rounds.models.batch_support import evaluating
from rounds.models.devices import peak_memory, total_memory
from rounds.models.precision import autocast

LEAST_TOKENS, MOST_TOKENS = 1024, 131_072  # of the chunks to try

MEMORY_SHARE = 0.8  # of the device's memory that may be used

MIN_GAIN = 1.05  # twice the tokens go this many times as fast, or larger chunks are not tried

FIRST_SHARE = 0.25  # of the time, the most that the first step may be expected to take

SLOWNESS = 2  # a step is expected to take this many times what the bound says

WARM_UP_SECONDS = 1.0  # a step on one text that is expected to take longer is not worth a second one

BOUND_REPEATS = 1  # product before a step, and another behind it: a shared machine changes its speed by the minute


@dataclass(frozen=True)
class Speed:
    """Tokens per second.

    Attributes:
        tokens: of the model.
        bound: those that the device's matrix products allowed at that time (`models.token_bound`).
    """

    tokens: float
    bound: float

    @property
    def share(self) -> float:
        """Return the share of the bound."""
        return self.tokens / self.bound


@dataclass(frozen=True)
class ChunkFit:
    """A chunk that fits: what its forward and backward pass took.

    Attributes:
        tokens: tokens of the chunk.
        peak: highest memory use in MiB, including the model and everything else that the process holds.
        training: speed of the forward and backward pass.
        encoding: speed of the forward pass alone, without gradients.
    """

    tokens: int
    peak: float
    training: Speed
    encoding: Speed


@dataclass(frozen=True)
class BatchSizeFinder:
    """Measures chunks of a model that trains.

    Attributes:
        embedder: the model in training mode, with the recipe's weights trainable, and gradient checkpointing if the
            recipe trains with it.
        length: tokens of a text, the longest that can occur.
        precision: `fp32`, `bf16`, `fp16` or a 4-bit precision.
    """

    embedder: SentenceTransformer
    length: int
    precision: str

    @property
    def recomputes(self) -> bool:
        """Return whether gradient checkpointing computes the forward pass twice."""
        return bool(getattr(self._transformer, "is_gradient_checkpointing", False))

    def bound(self, trains: bool) -> float:
        """Measure how many tokens a second the device's matrix products allow now."""
        recomputes = trains and self.recomputes
        return token_bound.tokens_per_second(self._transformer, self.precision, trains, recomputes, BOUND_REPEATS)

    def fits(self, seconds: float, limit: float | None = None) -> Generator[ChunkFit, None, str]:
        """Yield chunks of twice the tokens each, as soon as each is measured.

        The first chunk is measured whatever time it takes.

        Args:
            seconds: time for all chunks.
            limit: MiB that may be used; default: `MEMORY_SHARE` of the GPU's memory, or of the machine's.

        Returns:
            why no larger chunk was tried or fits.
        """
        end, peak_before, best = time.monotonic() + seconds, 0.0, 0.0
        limit = limit or MEMORY_SHARE * total_memory(str(self.embedder.device))
        try:
            tokens = self._first_size(seconds)
        except torch.OutOfMemoryError:
            return f"a text of {self.length:,} tokens does not fit into memory"
        while tokens <= MOST_TOKENS:
            start = time.monotonic()
            try:
                fit = self._measure(tokens)
            except torch.OutOfMemoryError:
                return f"{tokens:,} tokens do not fit into memory"
            if fit.peak > limit:
                return f"{tokens:,} tokens take more than {limit:,.0f} MiB"
            yield fit
            tokens *= 2
            took = time.monotonic() - start  # that of the bound included, which the next chunk takes as long
            took_next = took + tokens / 2 / fit.training.tokens + tokens / 2 / fit.encoding.tokens
            if peak_before and fit.peak + 2 * (fit.peak - peak_before) > limit:
                # A CPU out of memory kills the process.
                return f"{tokens:,} tokens would take more than {limit:,.0f} MiB"
            if fit.training.share < MIN_GAIN * best:
                return "twice the tokens went no faster"
            if time.monotonic() + took_next > end:
                return f"no time for {tokens:,} tokens"
            peak_before, best = fit.peak, fit.training.share
        return f"{MOST_TOKENS:,} tokens are the most that are tried"

    def train_on(self, ids: list[list[int]], tokens: int, seconds: float) -> tuple[int, Speed]:
        """Time the forward and backward pass of the data's own texts, longest first, between measurements of the bound.

        Args:
            ids: token ids of each text, at least one; whole chunks are left out where time ends.
            tokens: of a chunk.
            seconds: time for all chunks; the first is measured whatever time it takes.

        Returns:
            the number of texts, and their speed.
        """
        end, longest = time.monotonic() + seconds, max(map(len, ids))
        layout = Layout.for_model(self.embedder, longest)
        texts, done, spent, least = 0, 0, 0.0, 0.0
        for rows in batching.plan_batches([len(row) for row in ids], layout, tokens):
            before, start = self.bound(trains=True), time.monotonic()
            took = self._time(self._train, self._on_device([ids[row] for row in rows], layout))
            count = sum(len(ids[row]) for row in rows)
            texts, done, spent = texts + len(rows), done + count, spent + took
            least += 2 * count / (before + self.bound(trains=True))
            if 2 * time.monotonic() - start > end:
                break
        return texts, Speed(done / spent, done / least)

    @property
    def _transformer(self) -> torch.nn.Module:
        return dual_encoder.encoder_for(self.embedder, "query")[0].model

    def _first_size(self, seconds: float) -> int:
        """Return the tokens of the first chunk: of a slow model fewer, and a fast one is warmed up."""
        tokens, bound = LEAST_TOKENS, self.bound(trains=True)
        while tokens > self.length and SLOWNESS * tokens / bound > FIRST_SHARE * seconds:
            tokens //= 2
        if SLOWNESS * self.length / bound < WARM_UP_SECONDS:
            self._train(self._make_chunk(self.length))
        return tokens

    def _measure(self, tokens: int) -> ChunkFit:
        if self.embedder.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.embedder.device)
        training = self._speed(self._train, tokens, trains=True)
        peak = peak_memory(str(self.embedder.device))
        with evaluating(self.embedder):
            encoding = self._speed(self._encode, tokens, trains=False)
        return ChunkFit(tokens, peak, training, encoding)

    def _speed(self, work: Callable[[dict[str, Tensor]], None], tokens: int, trains: bool) -> Speed:
        """Time the work on a chunk, between two measurements of the bound."""
        chunk, before = self._make_chunk(tokens), self.bound(trains)
        count = chunk["input_ids"].numel()
        seconds = self._time(work, chunk)
        return Speed(count / seconds, (before + self.bound(trains)) / 2)

    def _time(self, work: Callable[[dict[str, Tensor]], None], chunk: dict[str, Tensor]) -> float:
        """Return the seconds of the work on a chunk, until the device has finished it."""
        start = time.perf_counter()
        work(chunk)
        if self.embedder.device.type == "cuda":
            torch.cuda.synchronize(self.embedder.device)
        return time.perf_counter() - start

    def _make_chunk(self, tokens: int) -> dict[str, Tensor]:
        """Return a chunk of texts of equal tokens, on the model's device; the last text is cut if texts are packed."""
        layout = Layout.for_model(self.embedder, self.length)
        lengths, rest = [self.length] * (tokens // self.length), tokens % self.length
        if rest and layout.packed and lengths:
            lengths.append(rest)
        token = min(5, len(self.embedder.tokenizer) - 1)
        return self._on_device([[token] * length for length in lengths or [self.length]], layout)

    def _on_device(self, ids: list[list[int]], layout: Layout) -> dict[str, Tensor]:
        return {name: tensor.to(self.embedder.device) for name, tensor in batching.to_tensors(ids, layout).items()}

    def _train(self, chunk: dict[str, Tensor]) -> None:
        """Compute a forward and backward pass."""
        self.embedder.zero_grad()
        with autocast(self.precision, str(self.embedder.device), keep_casts=not self.recomputes):
            output = self.embedder(chunk)
            output.get("sentence_embedding", output["token_embeddings"]).float().square().sum().backward()

    def _encode(self, chunk: dict[str, Tensor]) -> None:
        """Compute a forward pass."""
        with torch.inference_mode(), autocast(self.precision, str(self.embedder.device)):
            self.embedder(chunk)


def best_chunk(fits: list[ChunkFit]) -> ChunkFit:
    """Return the smallest of the chunks beyond which the training gains nothing: the one for `micro_batch_tokens`."""
    fastest = max(fit.training.share for fit in fits)
    return next(fit for fit in fits if fit.training.share * MIN_GAIN >= fastest)
