"""Find the largest training chunk, in tokens, that fits into memory, and its speed."""

import time
from dataclasses import dataclass

import torch
from sentence_transformers import SentenceTransformer

from rounds.encoding import batching
from rounds.encoding.batching import Layout
from rounds.evaluation import robustness
from rounds.models.devices import peak_memory
from rounds.models.precision import autocast


@dataclass(frozen=True)
class Fit:
    """A training step's forward and backward pass over one chunk.

    Attributes:
        tokens: of the chunk.
        peak: MiB held at most, the model and what a process holds beside it included.
        speed: tokens a second.
    """

    tokens: int
    peak: float
    speed: float


def fit_batch(embedder: SentenceTransformer, length: int, precision: str, room: float | None = None) -> list[Fit]:
    """Double the chunk until memory ends, and say what each took; the last that fits is `micro_batch_tokens`.

    Args:
        embedder: with the recipe's weights trainable.
        length: tokens of a text: the longest there can be.
        room: MiB; default: 80% of the card, or of the machine.
    """
    device, found = embedder.device, []
    limit = room or robustness.ROOM * _memory(device)
    layout = Layout.for_model(embedder, length)
    count = robustness.LEAST_TOKENS
    while count <= robustness.MOST_TOKENS:
        rows = [[min(5, len(embedder.tokenizer) - 1)] * length for _ in range(max(count // length, 1))]
        chunk = {key: value.to(device) for key, value in batching.to_tensors(rows, layout).items()}
        embedder.zero_grad()
        start = time.perf_counter()
        try:
            with autocast(precision, str(device)):
                embedder(chunk)["sentence_embedding"].float().square().sum().backward()
        except torch.OutOfMemoryError:
            break
        peak = peak_memory(str(device))
        if peak > limit:
            break
        found.append(Fit(count, peak, len(rows) * length / (time.perf_counter() - start)))
        if len(found) > 1 and peak + 2 * (peak - found[-2].peak) > limit:
            break  # twice the tokens would not fit, and a CPU's memory ends with a killed process
        count *= 2
    return found


def _memory(device: torch.device) -> float:
    """MiB of the card or the machine."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / 2**20
    with open("/proc/meminfo", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("MemTotal")) / 1024
