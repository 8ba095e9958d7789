"""Compile section: measure whether torch.compile makes the encoder faster on a GPU, and what compiling costs."""

import numpy as np
import torch

from rounds.benchmark.gpu import random_decoders
from rounds.benchmark.gpu.harness import Harness, row_cosines
from rounds.benchmark.gpu.results import SectionResults, SectionSkipped
from rounds.encoding.encoder import encode

QUERIES = 1000
MIN_COSINE = 0.99


def run(harness: Harness, results: SectionResults) -> None:
    """Embed queries with a decoder of 8 layers before and after torch.compile, and compare time and vectors.

    Raises:
        SectionSkipped: The models run on a CPU.
    """
    if not harness.uses_gpu:
        raise SectionSkipped("torch.compile is measured on a card; on CPUs it needs a C++ compiler and was no faster")
    random_decoders.free_memory()
    recipe = random_decoders.recipe_for("random:mistral", "bf16")
    shape = harness.shape(random_decoders.SHALLOW)  # compile time grows with the number of layers
    embedder = random_decoders.build_embedder(shape, recipe, "bf16", harness.device)
    texts = harness.texts(recipe, QUERIES)

    def embed() -> np.ndarray:
        return encode(embedder, texts.queries, recipe.prompts, "query", "bf16", examples=texts.examples)

    embed()
    eager_seconds, eager_vectors = harness.time(embed)
    results.note(f"{shape.name}: {len(texts.queries)} queries as they are", seconds=eager_seconds)
    embedder[0].model.compile(dynamic=True)
    first_seconds, _ = harness.time(embed)
    seconds, vectors = harness.time(embed)
    torch.compiler.reset()
    results.note("compiled", seconds=seconds, first_pass_seconds=first_seconds, times_as_fast=eager_seconds / seconds)
    cosine = float(row_cosines(eager_vectors, vectors).min())
    results.check(f"cosine of compiled to plain, at least {MIN_COSINE}", cosine, cosine >= MIN_COSINE)
