"""Compiling: whether torch.compile makes the encoder faster on the card, what it costs, and whether it agrees."""

import torch

from rounds.benchmark import models
from rounds.benchmark.bench import Bench, cosines
from rounds.benchmark.report import Section, Skipped
from rounds.encoding.encoder import encode

QUERIES = 1000
LEAST_COSINE = 0.99


def run(bench: Bench, section: Section) -> None:
    """torch.compile of a decoder of 8 layers as encoder: seconds before and after, and of compiling"""
    if not bench.on_card:
        raise Skipped("torch.compile is measured on a card; on CPUs it needs a C++ compiler and was no faster")
    models.free()
    recipe = models.recipe_for("random:mistral", "bf16")
    shape = bench.shape(models.SHALLOW)  # each layer more is compiled for longer
    embedder = models.embedder(shape, recipe, "bf16", bench.device)
    given = bench.texts(recipe, QUERIES)

    def embed():
        return encode(embedder, given.queries, recipe.prompts, "query", "bf16", examples=given.before)

    embed()
    plain, wanted = bench.time(embed)
    section.note(f"{shape.name}: {len(given.queries)} queries as they are", seconds=plain)
    embedder[0].model.compile(dynamic=True)
    first, _ = bench.time(embed)
    compiled, found = bench.time(embed)
    torch.compiler.reset()
    section.note("compiled", seconds=compiled, first_pass_seconds=first, times_as_fast=plain / compiled)
    least = float(cosines(wanted, found).min())
    section.check(f"cosine of compiled to plain, at least {LEAST_COSINE}", least, least >= LEAST_COSINE)
