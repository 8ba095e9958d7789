"""Probes: how a checkpoint takes small changes of a text, what its tokenizer makes of the data, how much fits."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from rounds import batches, encoding, pictures
from rounds import prompts as prompting
from rounds.model import backbone
from rounds.model.checkpoint import Checkpoint
from rounds.recipe import Prompts

TOP = 25
LEAST_TOKENS, MOST_TOKENS = 1024, 131_072
ROOM = 0.8  # of the memory there is, to be used


def _other_case(text: str) -> str:
    """One word, the same for a text each time, in the other case."""
    words = text.split(" ")
    rng = random.Random(text)
    places = [n for n, word in enumerate(words) if word.lower() != word.upper()]
    if places:
        place = rng.choice(places)
        words[place] = words[place].lower() if words[place] != words[place].lower() else words[place].upper()
    return " ".join(words)


CHANGES: dict[str, Callable[[str], str]] = {
    "a space added": lambda text: f"{text} ",
    "a trailing newline": lambda text: f"{text}\n",
    "a word in other case": _other_case,
}


@dataclass(frozen=True)
class Brittle:
    """What one change does to the queries' vectors.

    Attributes:
        mean, least: cosine of a query's vector before and after.
        overlap: mean share of the top 25 that stays.
    """

    change: str
    mean: float
    least: float
    overlap: float


def brittleness(
    source: Checkpoint, queries: list[str], passages: list[str], before: list[list[str]] | None = None
) -> list[Brittle]:
    """Encode the queries once more after each of `CHANGES`."""
    embedder, recipe = source.load(), source.recipe

    def encode(texts: list[str], kind: str, examples: list[list[str]] | None = None) -> np.ndarray:
        return encoding.encode(embedder, texts, recipe.prompts, kind, source.precision, before=examples)

    corpus, plain = encode(passages, "passage"), encode(queries, "query", before)
    tops = _tops(plain, corpus)
    found = []
    for name, change in CHANGES.items():
        vectors = encode([pictures.reworded(query, change) for query in queries], "query", before)
        cosines = (plain * vectors).sum(1) / (np.linalg.norm(plain, axis=1) * np.linalg.norm(vectors, axis=1))
        kept = [len(one & other) / len(one) for one, other in zip(tops, _tops(vectors, corpus), strict=True)]
        found.append(Brittle(name, float(cosines.mean()), float(cosines.min()), float(np.mean(kept))))
    return found


def _tops(queries: np.ndarray, corpus: np.ndarray) -> list[set[int]]:
    depth = min(TOP, len(corpus))
    return [set(np.argpartition(-(corpus @ query), depth - 1)[:depth].tolist()) for query in queries]


@dataclass(frozen=True)
class Tokens:
    """What the tokenizer makes of texts of one kind.

    Attributes:
        unknown: share of tokens that stand for what the vocabulary lacks.
        cut: share of texts that are longer than the recipe's limit.
        mean, longest: tokens, prompt and special tokens included.
    """

    kind: str
    texts: int
    unknown: float
    cut: float
    mean: float
    longest: int
    limit: int


def tokens(tokenizer, texts: list[str], prompts: Prompts, kind: str) -> Tokens:
    """Count tokens of `query` or `passage` texts, uncut, with their prompt."""
    start, end = prompting.wrap(prompts, kind)
    rows = tokenizer([start + text + end for text in texts], verbose=False)["input_ids"]
    lengths, limit = [len(row) for row in rows], prompting.max_length(prompts, kind)
    unknown = tokenizer.unk_token_id
    lost = sum(row.count(unknown) for row in rows) if unknown is not None else 0
    cut = sum(length > limit for length in lengths) / len(rows)
    return Tokens(kind, len(rows), lost / sum(lengths), cut, sum(lengths) / len(rows), max(lengths), limit)


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
    limit = room or ROOM * _memory(device)
    layout = batches.Layout.of(embedder, length)
    count = LEAST_TOKENS
    while count <= MOST_TOKENS:
        rows = [[min(5, len(embedder.tokenizer) - 1)] * length for _ in range(max(count // length, 1))]
        chunk = {key: value.to(device) for key, value in batches.tensors(rows, layout).items()}
        embedder.zero_grad()
        start = time.perf_counter()
        try:
            with encoding.autocast(precision, str(device)):
                embedder(chunk)["sentence_embedding"].float().square().sum().backward()
        except torch.OutOfMemoryError:
            break
        peak = backbone.peak_memory(str(device))
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
