"""Bench: what all sections share: the device, the texts, a scratch folder, and measuring."""

import dataclasses
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from rounds.benchmark import models, texts
from rounds.benchmark.models import Shape
from rounds.benchmark.texts import Texts
from rounds.config.recipe import Recipe
from rounds.encoding import prefix_cache
from rounds.encoding.batching import Layout
from rounds.encoding.tokenization import tokenize
from rounds.retrieval import vectors

GIB = 2**30


@dataclass
class Bench:
    """One run's surroundings.

    Attributes:
        small: the same work on tiny shapes, for a CPU.
        scratch: a folder that is removed at the end.
        metrics: a process that compiles the metrics (`whole_round.compile_metrics`); None: nobody does.
    """

    device: str
    small: bool
    scratch: Path
    metrics: subprocess.Popen | None = None
    raw: Path = field(init=False)

    def __post_init__(self) -> None:
        self.raw = texts.generate(self.scratch, self.small)

    @property
    def on_card(self) -> bool:
        """Whether a GPU computes."""
        return self.device.startswith("cuda")

    def shape(self, wanted: Shape) -> Shape:
        """The shape to measure: tiny where the run is small."""
        return models.TINY if self.small else wanted

    def texts(self, recipe: Recipe, number: int | None = None) -> Texts:
        """Queries, examples and passages; the first `number` of each."""
        found = texts.of(self.raw, recipe, self.small)
        return found.first(min(number, 8) if self.small else number) if number else found

    def folder(self, name: str) -> Path:
        """A new folder's path."""
        return self.scratch / name

    def wait(self) -> None:
        """Let the card finish what it was given."""
        if self.on_card:
            torch.cuda.synchronize()

    def time(self, work: Callable[[], object]) -> tuple[float, object]:
        """Seconds of one call, and its result."""
        self.wait()
        start = time.perf_counter()
        result = work()
        self.wait()
        return time.perf_counter() - start, result

    def peak_gib(self) -> float:
        """GiB of the card held at most since `models.free`; 0 on a CPU."""
        return torch.cuda.max_memory_allocated() / GIB if self.on_card else 0.0

    def matrix_rate(self, dtype: torch.dtype) -> float:
        """TFLOP/s of a large product of random matrices, the best of ten."""
        size = 256 if self.small else 8192
        one, other = (torch.randn(size, size, device=self.device, dtype=dtype) for _ in range(2))
        torch.matmul(one, other)
        seconds = min(self.time(lambda: torch.matmul(one, other))[0] for _ in range(10))
        return 2 * size**3 / seconds / 1e12


@dataclass(frozen=True)
class Load:
    """Tokens of some texts.

    Attributes:
        whole: of all texts with prompt and examples.
        computed: with what texts share at their start counted once for each group.
    """

    whole: int
    computed: int

    @classmethod
    def of(
        cls, embedder: SentenceTransformer, recipe: Recipe, given: Sequence[str], kind: str, before: list | None
    ) -> "Load":
        """Count as `encoding.encode_ids` computes."""
        ids = tokenize(embedder.tokenizer, given, recipe.prompts, kind, before, report=False)
        whole = sum(map(len, ids))
        longest = max(map(len, ids))
        if not (recipe.prompts.share_prefix and prefix_cache.can_share(embedder, longest)):
            return cls(whole, whole)
        groups = prefix_cache.group_by_prefix(ids, Layout.for_model(embedder, longest))
        return cls(whole, whole - sum(shared * (len(rows) - 1) for shared, rows in groups))


def unshared(recipe: Recipe) -> Recipe:
    """The recipe with every text computed from its first token on."""
    return dataclasses.replace(recipe, prompts=dataclasses.replace(recipe.prompts, share_prefix=False))


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Cosine of each row with the other's row: (rows, dim) twice -> (rows,) float64."""
    return vectors.cosines(one.astype(np.float64), other.astype(np.float64))


def spread(embeddings: np.ndarray) -> float:
    """Mean cosine of neighbouring rows, which are different texts: how much a cosine near 1 says."""
    return float(cosines(embeddings[:-1], embeddings[1:]).mean())
