"""Memory: no stage holds the texts, tokens or vectors of a corpus that is larger than its blocks."""

from pathlib import Path

import pytest

from rounds.benchmark import contenders, corpus_work, curves, round_work
from rounds.benchmark.contenders import OURS, Contender
from rounds.config.recipe import Recipe
from rounds.data import passage_pool
from rounds.encoding import text_blocks
from rounds.evaluation import metrics

BLOCK = 4000

MAX_GROWTH = 750  # bytes a passage, and what the allocator keeps; texts alone would add 500, tokens 2000


def all_stages(contender: Contender, recipe: Recipe, folder: Path) -> tuple[float, int]:
    """Make a collection, and encode, mine and evaluate it, as if a few thousand passages were a large corpus."""
    passage_pool.IN_MEMORY_BYTES = 0
    text_blocks.BLOCK_TEXTS = metrics.LOSS_BLOCK = BLOCK
    raw, collection = folder / "raw", folder / "collection"
    _, passages = corpus_work.make_collection(contender, recipe, raw, collection)
    for work in (round_work.encode_corpus, round_work.mine_encoded, round_work.evaluate_encoded):
        work(contender, recipe, collection)
    return 0.0, passages


@pytest.mark.slow
def test_stages_take_hardly_more_memory_for_a_larger_corpus(tmp_path):
    """From 10,000 to 40,000 passages, the peak grows by the ids and places of passages only."""
    peaks = []
    for size in (10_000, 40_000):
        corpus_work.write_beir(tmp_path / str(size) / "raw", size)
        outcome = contenders.run_alone(all_stages, Contender(OURS, "fp32"), curves.stage_recipe(), tmp_path / str(size))
        assert outcome.result == size
        peaks.append(outcome.peak * 2**20)
    print(f"{(peaks[1] - peaks[0]) / 30_000:.0f} bytes a passage")
    assert (peaks[1] - peaks[0]) / 30_000 < MAX_GROWTH
