"""Curves: how time and memory grow with the corpus, in tables of their own."""

import dataclasses
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rounds.benchmark import cluster_work, corpus_work, ray_nodes, round_work
from rounds.benchmark.contenders import OURS, Contender, Outcome
from rounds.config import loader
from rounds.config.recipe import Recipe

SIZES, DIMS, ASKING = (10_000, 100_000, 1_000_000), (384, 1024), 1000

Measure = Callable[..., Outcome]  # (work, contender, *arguments)

CONTENDER = Contender(OURS, "fp32")


@dataclass(frozen=True)
class Curve:
    """Outcomes of the same work on larger and larger corpora.

    Attributes:
        title: What was measured.
        sizes: Passages of each corpus.
        outcomes: Name of a row -> outcome for each size.
    """

    title: str
    sizes: tuple[int, ...]
    outcomes: dict[str, list[Outcome]]

    def lines(self) -> list[str]:
        """Return the lines of a Markdown table."""
        rows = [
            f"| {name} | {' | '.join(f'{figure(each.seconds)} s, {each.peak:.0f} MiB' for each in outcomes)} |"
            for name, outcomes in self.outcomes.items()
        ]
        header = f"| {self.title} | {' | '.join(f'{size:,} passages' for size in self.sizes)} |"
        return [header, "|---|" + "---:|" * len(self.sizes), *rows]


def figure(seconds: float) -> str:
    """Return seconds with three digits."""
    return f"{seconds:.0f}" if seconds >= 100 else f"{seconds:.3g}"


def measure_search(measure: Measure) -> Curve:
    """Search and mine for `ASKING` queries in random vectors."""
    outcomes = {
        f"{dim} dimensions": [measure(round_work.search_corpus, CONTENDER, ASKING, size, dim) for size in SIZES]
        for dim in DIMS
    }
    return Curve(f"mine for {ASKING:,} queries", SIZES, outcomes)


def measure_stages(measure: Measure, sizes: tuple[int, ...] = SIZES) -> Curve:
    """Make the collection of random passages, and encode, mine and evaluate it with a tiny random model."""
    recipe = stage_recipe()
    outcomes: dict[str, list[Outcome]] = {}
    for size in sizes:
        with tempfile.TemporaryDirectory() as scratch:
            raw, folder = Path(scratch, "raw"), Path(scratch, "collection")
            corpus_work.write_beir(raw, size)
            works = {
                "data": (corpus_work.make_collection, (raw, folder)),
                "encode": (round_work.encode_corpus, (folder,)),
                "mine": (round_work.mine_encoded, (folder,)),
                "evaluate": (round_work.evaluate_encoded, (folder,)),
            }
            for name, (work, arguments) in works.items():
                outcomes.setdefault(name, []).append(measure(work, CONTENDER, recipe, *arguments))
    return Curve(f"stage, passages of {corpus_work.PASSAGE_WORDS} words", sizes, outcomes)


def measure_worker(measure: Measure, sizes: tuple[int, ...]) -> Curve:
    """Search random vectors on a cluster of one worker, each time a new one, whose memory is what counts."""
    outcomes: dict[str, list[Outcome]] = {"its own memory": [], "with the shared memory of its node": []}
    with ray_nodes.started() as nodes:
        nodes.add()
        for size in sizes:
            outcome = measure(cluster_work.search_by_worker, CONTENDER, size, nodes.address)
            memory = outcome.result
            for part, peak in zip(outcomes.values(), (memory.own, memory.own + memory.shared), strict=True):
                part.append(dataclasses.replace(outcome, peak=peak))
    title = f"(r) exact search for {cluster_work.QUERIES:,} queries by one Ray worker, {cluster_work.DIM} dimensions"
    return Curve(title, sizes, outcomes)


def stage_recipe() -> Recipe:
    """Return the recipe of a random Mistral that reads plain queries and whole passages."""
    recipe = loader.load("tiny-mistral").replace("prompts", query="{question}", passage_max_length=256)
    return dataclasses.replace(recipe.replace("mining", candidates="corpus"), name="tiny")
