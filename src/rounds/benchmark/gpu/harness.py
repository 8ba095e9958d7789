"""Harness: the device, the sample texts, the scratch folder and the measurements that all sections share."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from rounds.benchmark.gpu import random_decoders, sample_texts
from rounds.benchmark.gpu.random_decoders import DecoderShape
from rounds.benchmark.gpu.sample_texts import SampleTexts
from rounds.config.recipe import Recipe
from rounds.encoding import encoding_speed
from rounds.encoding.tokenization import tokenize
from rounds.models import token_bound
from rounds.retrieval import vectors

GIB = 2**30
SMALL_TEXTS = 8  # limit of a section that embeds a part of the texts, in a small run
MATRIX_SIZE, SMALL_MATRIX_SIZE = 8192, 256


@dataclass
class Harness:
    """Hold what the sections of one run share.

    Attributes:
        device: Device of the models, `cuda` or `cpu`.
        small: Use tiny models and few texts, for a CPU.
        scratch: Folder for temporary files, removed at the end of the run.
        sample_folder: CSV files of the generated sample.
    """

    device: str
    small: bool
    scratch: Path
    sample_folder: Path = field(init=False)

    def __post_init__(self) -> None:
        self.sample_folder = sample_texts.generate(self.scratch, self.small)

    @property
    def uses_gpu(self) -> bool:
        """Return whether the models run on a GPU."""
        return self.device.startswith("cuda")

    def shape(self, full_size: DecoderShape) -> DecoderShape:
        """Return the decoder shape to measure: `full_size`, or the tiny one in a small run."""
        return random_decoders.TINY if self.small else full_size

    def texts(self, recipe: Recipe, limit: int | None = None) -> SampleTexts:
        """Return queries with their examples, and passages; with `limit`, only the first of each."""
        texts = sample_texts.read(self.sample_folder, recipe, self.small)
        if limit is None:
            return texts
        return texts.first(min(limit, SMALL_TEXTS) if self.small else limit)

    def folder(self, name: str) -> Path:
        """Return the path of a scratch folder, which is not created."""
        return self.scratch / name

    def synchronize(self) -> None:
        """Wait until the GPU has finished all queued work."""
        if self.uses_gpu:
            torch.cuda.synchronize()

    def time(self, work: Callable[[], object]) -> tuple[float, object]:
        """Call `work` once and return its duration in seconds and its result."""
        self.synchronize()
        start = time.perf_counter()
        result = work()
        self.synchronize()
        return time.perf_counter() - start, result

    def peak_gib(self) -> float:
        """Return the peak GPU memory in GiB since `random_decoders.free_memory`; 0 on a CPU."""
        return torch.cuda.max_memory_allocated() / GIB if self.uses_gpu else 0.0

    def matrix_rate(self, dtype: torch.dtype) -> float:
        """Return the TFLOP/s of a large matrix product, the best of ten runs."""
        size = SMALL_MATRIX_SIZE if self.small else MATRIX_SIZE
        return token_bound.matrix_rate(torch.device(self.device), dtype, size)


@dataclass(frozen=True)
class TokenCounts:
    """Count the tokens of a list of texts.

    Attributes:
        total: Tokens of all texts, with prompt and examples.
        computed: Tokens that the encoder computes, with a shared prefix counted once per group.
    """

    total: int
    computed: int

    @classmethod
    def count(
        cls,
        embedder: SentenceTransformer,
        recipe: Recipe,
        texts: Sequence[str],
        kind: str,
        examples: list[list[str]] | None,
    ) -> "TokenCounts":
        """Count the tokens that `encoding.encoder.encode_ids` computes for `texts`.

        Args:
            kind: `query` or `passage`.
            examples: Few-shot examples of each text; None for passages.
        """
        ids = tokenize(embedder.tokenizer, texts, recipe.prompts, kind, examples, report=False)
        return cls(sum(map(len, ids)), encoding_speed.count_computed_tokens(embedder, ids, recipe.prompts.share_prefix))


def without_shared_prefix(recipe: Recipe) -> Recipe:
    """Return the recipe with every text computed from its first token."""
    return dataclasses.replace(recipe, prompts=dataclasses.replace(recipe.prompts, share_prefix=False))


def row_cosines(embeddings: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Return the cosine similarity of corresponding rows, computed in float64.

    Args:
        embeddings: (rows, dim).
        references: (rows, dim).

    Returns:
        (rows,) float64.
    """
    return vectors.cosines(embeddings.astype(np.float64), references.astype(np.float64))


def neighbour_cosine(embeddings: np.ndarray) -> float:
    """Return the mean cosine of neighbouring rows, which belong to different texts.

    It is the baseline for agreement: the nearer to 1 it is, the less a high cosine between two libraries proves.
    """
    return float(row_cosines(embeddings[:-1], embeddings[1:]).mean())
