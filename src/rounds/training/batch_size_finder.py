"""Find the largest training chunk, in tokens, that fits into memory, and its speed."""

import time
from dataclasses import dataclass

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from rounds.encoding import batching
from rounds.encoding.batching import Layout
from rounds.models import dual_encoder, token_bound
from rounds.models.devices import peak_memory
from rounds.models.precision import autocast

LEAST_TOKENS, MOST_TOKENS = 1024, 131_072  # of the chunks to try

MEMORY_SHARE = 0.8  # of the device's memory that may be used


@dataclass(frozen=True)
class ChunkFit:
    """A chunk that fits: what its forward and backward pass took.

    Attributes:
        tokens: tokens of the chunk.
        peak: highest memory use in MiB, including the model and everything else that the process holds.
        speed: tokens per second.
        bound: tokens per second that the device's matrix products allow (`models.token_bound`).
    """

    tokens: int
    peak: float
    speed: float
    bound: float


def fit_batch(embedder: SentenceTransformer, length: int, precision: str, limit: float | None = None) -> list[ChunkFit]:
    """Double the chunk until memory runs out, and return the chunks that fit; the last one is `micro_batch_tokens`.

    Args:
        embedder: the model in training mode, with the recipe's weights trainable, and gradient checkpointing if the
            recipe trains with it.
        length: tokens of a text, the longest that can occur.
        precision: `fp32`, `bf16`, `fp16` or a 4-bit precision.
        limit: MiB that may be used; default: `MEMORY_SHARE` of the GPU's memory, or of the machine's.
    """
    limit = limit or MEMORY_SHARE * _total_memory(embedder.device)
    layout = Layout.for_model(embedder, length)
    fits: list[ChunkFit] = []
    tokens = LEAST_TOKENS
    transformer = dual_encoder.encoder_for(embedder, "query")[0].model
    recomputes = bool(getattr(transformer, "is_gradient_checkpointing", False))
    bound = token_bound.tokens_per_second(transformer, precision, trains=True, recomputes=recomputes)
    while tokens <= MOST_TOKENS:
        texts = max(tokens // length, 1)
        try:
            seconds = _time_step(embedder, _make_chunk(embedder, texts, length, layout), precision, recomputes)
        except torch.OutOfMemoryError:
            break
        peak = peak_memory(str(embedder.device))
        if peak > limit:
            break
        fits.append(ChunkFit(tokens, peak, texts * length / seconds, bound))
        if len(fits) > 1 and peak + 2 * (peak - fits[-2].peak) > limit:
            break  # Twice the tokens would not fit, and a CPU out of memory kills the process.
        tokens *= 2
    return fits


def _make_chunk(embedder: SentenceTransformer, texts: int, length: int, layout: Layout) -> dict[str, Tensor]:
    """Return a chunk of `texts` texts of `length` equal tokens, on the model's device."""
    token = min(5, len(embedder.tokenizer) - 1)
    tensors = batching.to_tensors([[token] * length for _ in range(texts)], layout)
    return {name: tensor.to(embedder.device) for name, tensor in tensors.items()}


def _time_step(embedder: SentenceTransformer, chunk: dict[str, Tensor], precision: str, recomputes: bool) -> float:
    """Return the seconds of a forward and backward pass."""
    embedder.zero_grad()
    start = time.perf_counter()
    with autocast(precision, str(embedder.device), keep_casts=not recomputes):
        output = embedder(chunk)
        output.get("sentence_embedding", output["token_embeddings"]).float().square().sum().backward()
    return time.perf_counter() - start


def _total_memory(device: torch.device) -> float:
    """Return the MiB of memory of the GPU, or of the machine."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / 2**20
    with open("/proc/meminfo", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("MemTotal")) / 1024
