"""Bench: parties do the same work, results are compared before times, and nobody types a figure."""

import dataclasses

import numpy as np
import pytest
from helpers.tiny_task import refused

from rounds.benchmark import table, workloads
from rounds.benchmark.table import Row, Task
from rounds.benchmark.workloads import OURS, STOCK, UNSHARED, Contender, Outcome
from rounds.config import loader
from rounds.training.dataset import read_groups


@pytest.fixture
def tiny_full(tiny):
    """The tiny recipe with all weights trained, as in the bench, and no text cut: peers cut elsewhere."""
    full = dataclasses.replace(tiny, tuning=dataclasses.replace(tiny.tuning, method="full"))
    return full.replace("prompts", query_max_length=400, passage_max_length=400)


def task(recipe, mined, folder, lines=None) -> Task:
    return Task(recipe, mined, folder, (lines if lines is not None else []).append)


def test_parties_encode_the_same(tiny_full, tiny_mined):
    """Ours with and without a shared prefix, and the stock library: the same vectors behind examples."""
    recipe = tiny_full.replace("prompts", examples="fixed", examples_number=3)
    rows = read_groups(tiny_mined, 42, recipe).queries
    before = [[f"<instruct>x\n<query>{rows[-1]}\n<response>y"] * 2] * 12
    found = [
        workloads.encode_texts(Contender(name, "fp32"), recipe, rows[:12], before, ["a passage", "b"])[1]
        for name in (OURS, UNSHARED, STOCK)
    ]
    for other in found[1:]:
        assert (found[0] * other).sum(axis=1).min() > 0.9999
        assert table._overlap(other, found[0], 12) == 1


def test_training_steps_lose_the_same(tiny_full, tiny_mined):
    """With masking off, our loss is the stock loss at every step, repeated passages included."""
    recipe = tiny_full.replace("training", batch_size=2)
    ours, stock = (workloads.steps(Contender(name, "fp32"), recipe, tiny_mined, 10)[1] for name in (OURS, STOCK))
    assert len(ours) == len(stock) == 10
    np.testing.assert_allclose(ours, stock, atol=1e-3)


def test_steps_behind_examples_give_the_same_vectors(tiny_full, tiny_mined):
    """Shared, not shared and stock: one forward pass."""
    recipe = tiny_full.replace("prompts", examples="fixed", examples_number=3)
    rows = read_groups(tiny_mined, 42, recipe).queries
    before = [[f"<instruct>x\n<query>{rows[-1]}\n<response>y"] * 2] * 8
    found = [
        workloads.examples_step(Contender(name, "fp32"), recipe, rows[:8], before)[1]
        for name in (OURS, UNSHARED, STOCK)
    ]
    for other in found[1:]:
        np.testing.assert_allclose(found[0], other, atol=1e-5)


@pytest.mark.slow
def test_whole_rounds_end_near_each_other(tiny_full, tiny_collection):
    """Both sides mine, train an epoch and evaluate with the same metric."""
    scores = [workloads.whole_round(Contender(name, "fp32"), tiny_full, tiny_collection)[1] for name in (OURS, STOCK)]
    assert all(0 < score <= 1 for score in scores)


def test_the_scale_curve_finds_all_negatives():
    """Mining over a memory-mapped corpus leaves no query short."""
    seconds, short = workloads.search_corpus(Contender(OURS, "fp32"), 20, 3000, 16)
    assert seconds > 0 and short == 0


@pytest.mark.slow
def test_work_alone_reports_time_memory_and_result():
    """A process of its own does the work; what it returns comes back with its memory."""
    outcome = workloads.run_alone(workloads.search_corpus, Contender(OURS, "fp32"), 5, 1000, 8)
    assert outcome.seconds > 0 and outcome.peak > 50 and outcome.result == 0


def outcomes(fp32: float, bf16: float) -> dict[str, Outcome]:
    return {"fp32": Outcome(fp32, 100, None), "bf16": Outcome(bf16, 90, None)}


ROW = Row("(b) encode", STOCK, outcomes(20, 10), outcomes(8, 4), "cosine 1.00000")


def test_a_peer_without_bf16_is_compared_with_our_bf16_by_its_fp32():
    """What it did not do is a dash, in the table as in what was compared; nothing is counted twice."""
    theirs = {"fp32": Outcome(20, 100, np.eye(3))}
    ours = {name: dataclasses.replace(each, result=np.eye(3)) for name, each in outcomes(8, 4).items()}
    agreement = table._vectors_agree(3)("(b) encode", workloads.FLAG, theirs, ours)
    assert agreement == "cosine 1.00000; bf16 keeps - / 1.000"
    cells = table.table([Row("(b) encode", workloads.FLAG, theirs, ours, agreement)], {}).splitlines()[-1].split(" | ")
    assert cells[2:8] == ["20 / 8", "2.5x", "- / 4", "-", "5.0x", "100 / 90"]


def test_the_table_says_ratios_within_and_across_precisions():
    """fp32 beside fp32, bf16 beside bf16, and their default beside ours."""
    lines = table.table([ROW], {}).splitlines()
    assert lines[-1] == (
        "| (b) encode | sentence-transformers | 20 / 8 | 2.5x | 10 / 4 | 2.5x | 5.0x | 90 / 90 | cosine 1.00000 |"
    )


def test_the_table_goes_between_its_markers(tmp_path):
    """What stands around the markers stays, and writing again changes nothing."""
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    for _ in range(2):
        table.write("new", readme)
        assert readme.read_text() == f"before\n{table.BEGIN}\nnew\n{table.END}\nafter\n"
    readme.write_text("nothing")
    with refused(readme, table.BEGIN):
        table.write("new", readme)


def test_unknown_rows_are_refused(tiny, tiny_mined, tiny_collection):
    """A letter that is no row is named with those that are."""
    with refused("ONLY=x", "a, b, c, d, e, s"):
        table.run(task(tiny, tiny_mined, tiny_collection), "x")


def test_results_that_differ_are_not_timed():
    """Vectors of another model end the run."""
    generator = np.random.default_rng(0)
    one, other = (generator.standard_normal((40, 8)).astype(np.float32) for _ in range(2))
    one, other = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (one, other))
    sides = [{"fp32": Outcome(1, 1, each), "bf16": Outcome(1, 1, each)} for each in (one, other)]
    with refused("differ", "cosine"):
        table._vectors_agree(10)("title", STOCK, *sides)
    assert "cosine 1.0" in table._vectors_agree(10)("title", STOCK, sides[0], sides[0])


def test_overlap_forgives_ties_only():
    """Two passages of one score may change places at the edge; others may not."""
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((60, 8)).astype(np.float32)
    assert table._overlap(vectors, vectors, 10) == 1
    assert table._overlap(rng.standard_normal((60, 8)).astype(np.float32), vectors, 10) < 0.9


def test_recipe_of_the_decoders_is_sound(tiny, tiny_mined, tiny_collection):
    """The random decoder's queries share the examples' tokens and keep their own."""
    with table._decoder(table.DECODERS["tiny decoder"]) as recipe:
        queries, before, shared, own = table._shared_texts(task(tiny, tiny_mined, tiny_collection), recipe, 6)
    assert len(queries) == len(before) == 6 and shared <= table.PREFIX + 64 and own > 5
    assert loader.load("tiny-mistral").prompts.examples == "none"
