"""The benchmark: contenders do the same work, and their results are compared before their times."""

import dataclasses
import os

import numpy as np
import pytest
from helpers.answering_decoders import build
from helpers.tiny_task import refused

from rounds import process
from rounds.benchmark import contenders, document, encoding_work, round_work, table, training_work, vector_check
from rounds.benchmark.contenders import OURS, STOCK, UNSHARED, Contender, Outcome
from rounds.benchmark.random_decoder import SHAPES, random_decoder
from rounds.benchmark.table import BenchmarkInputs, Comparison
from rounds.config import loader
from rounds.training.dataset import read_training_groups


@pytest.fixture
def tiny_full(tiny):
    """The tiny recipe with all weights trained and no text truncated, since peers truncate elsewhere."""
    full = dataclasses.replace(tiny, tuning=dataclasses.replace(tiny.tuning, method="full"))
    return full.replace("prompts", query_max_length=400, passage_max_length=400)


def inputs(recipe, mined, folder) -> BenchmarkInputs:
    return BenchmarkInputs(recipe, mined, folder, log=print)


def spin_count(_contender: Contender) -> tuple[float, str]:
    """Return what a contender's process is told of waiting threads."""
    return 0.0, os.environ["GOMP_SPINCOUNT"]


def test_parties_encode_the_same(tiny_full, tiny_mined):
    """Rounds with and without a shared prefix and the stock library give the same vectors behind examples."""
    recipe = tiny_full.replace("prompts", examples="fixed", examples_number=3)
    rows = read_training_groups(tiny_mined, 42, recipe).queries
    before = [[f"<instruct>x\n<query>{rows[-1]}\n<response>y"] * 2] * 12
    found = [
        encoding_work.encode_texts(Contender(name, "fp32"), recipe, rows[:12], before, ["a passage", "b"])[1]
        for name in (OURS, UNSHARED, STOCK)
    ]
    for other in found[1:]:
        assert (found[0] * other).sum(axis=1).min() > 0.9999
        assert vector_check.top_overlap(other, found[0], 12) == 1


def test_training_steps_lose_the_same(tiny_full, tiny_mined):
    """With masking off, our loss is the stock loss at every step, repeated passages included."""
    recipe = tiny_full.replace("training", batch_size=2)
    ours, stock = (training_work.steps(Contender(name, "fp32"), recipe, tiny_mined, 10)[1] for name in (OURS, STOCK))
    assert len(ours) == len(stock) == 10
    np.testing.assert_allclose(ours, stock, atol=1e-3)


def test_steps_behind_examples_give_the_same_vectors(tiny_full, tiny_mined):
    """The forward pass of a training step gives the same vectors with a shared prefix, without one, and in stock."""
    recipe = tiny_full.replace("prompts", examples="fixed", examples_number=3)
    rows = read_training_groups(tiny_mined, 42, recipe).queries
    before = [[f"<instruct>x\n<query>{rows[-1]}\n<response>y"] * 2] * 8
    found = [
        training_work.examples_step(Contender(name, "fp32"), recipe, rows[:8], before)[1]
        for name in (OURS, UNSHARED, STOCK)
    ]
    for other in found[1:]:
        np.testing.assert_allclose(found[0], other, atol=1e-5)


def test_parties_score_pairs_the_same():
    """Rounds with and without a shared prefix and the stock library give the same log-odds."""
    pairs = [(f"what is {n} and {n} " * 20, f"joins digits {m}") for n in range(2) for m in range(5)]
    with random_decoder((32, 1, 2, 64), answers=True) as recipe:
        found = [
            encoding_work.score_pairs(Contender(name, "fp32"), recipe, pairs)[1] for name in (OURS, UNSHARED, STOCK)
        ]
    for other in found[1:]:
        np.testing.assert_allclose(found[0], other, atol=1e-5)


def test_a_decoder_that_changes_its_logits_is_refused(tmp_path):
    """Its score is no difference of two rows of the head, so row g has nothing to compare."""
    recipe = build(tmp_path, "gemma2")
    with refused(f"recipe {recipe.name}: its decoder changes its logits", "no beginning can be shared"):
        encoding_work.score_pairs(Contender(OURS, "fp32"), recipe, [("what is 1 and 1", "joins digits")])


@pytest.mark.slow
def test_a_recipe_s_own_decoder_and_examples_are_compared(tiny_full, tiny_mined, tiny_collection):
    """Row h embeds validation queries behind examples of their construct; a recipe without examples has no such row."""
    recipe = tiny_full.replace("prompts", examples="nearest", examples_number=2, examples_max_length=1000)
    rows, _ = table.run(inputs(recipe, tiny_mined, tiny_collection), "h")
    assert "behind 2 examples" in rows[0].work
    assert rows[0].peer == STOCK and rows[0].agreement.startswith("cosine 1.0000")
    assert table.run(inputs(tiny_full, tiny_mined, tiny_collection), "h") == ([], [])


@pytest.mark.slow
def test_whole_rounds_end_near_each_other(tiny_full, tiny_collection):
    """Both sides mine, train an epoch and evaluate; from one random model, their MAP@25 differ by less than 0.05."""
    ours, stock = [
        round_work.whole_round(Contender(name, "fp32"), tiny_full, tiny_collection)[1] for name in (OURS, STOCK)
    ]
    assert ours == pytest.approx(stock, abs=0.05)


def test_the_scale_curve_finds_all_negatives():
    """Mining over a memory-mapped corpus leaves no query short."""
    seconds, short = round_work.search_corpus(Contender(OURS, "fp32"), 20, 3000, 16)
    assert seconds > 0 and short == 0


@pytest.mark.slow
def test_work_alone_reports_time_memory_and_result():
    """The work runs in another process, and its result comes back with its seconds and memory."""
    outcome = contenders.run_alone(round_work.search_corpus, Contender(OURS, "fp32"), 5, 1000, 8)
    assert outcome.seconds > 0 and outcome.peak > 50 and outcome.result == 0


def outcomes(fp32: float, bf16: float) -> dict[str, Outcome]:
    return {"fp32": Outcome(fp32, 100, None), "bf16": Outcome(bf16, 90, None)}


ROW = Comparison("(b) encode", STOCK, outcomes(20, 10), outcomes(8, 4), "cosine 1.00000")


def test_a_peer_without_bf16_is_compared_with_our_bf16_by_its_fp32():
    """A precision that a peer lacks is a dash, in the table and in the agreement."""
    theirs = {"fp32": Outcome(20, 100, np.eye(3))}
    ours = {name: dataclasses.replace(each, result=np.eye(3)) for name, each in outcomes(8, 4).items()}
    agreement = vector_check.make_vector_check(3)("(b) encode", contenders.FLAG, theirs, ours)
    assert agreement == "cosine 1.00000; bf16 keeps - / 1.000"
    cells = (
        table.table([Comparison("(b) encode", contenders.FLAG, theirs, ours, agreement)], [])
        .splitlines()[-1]
        .split(" | ")
    )
    assert cells[2:8] == ["20 / 8", "2.5x", "- / 4", "-", "5.0x", "100 / 90"]


def test_the_table_says_ratios_within_and_across_precisions():
    """fp32 beside fp32, bf16 beside bf16, and their default beside ours."""
    lines = table.table([ROW], []).splitlines()
    assert lines[-1] == (
        "| (b) encode | sentence-transformers | 20 / 8 | 2.5x | 10 / 4 | 2.5x | 5.0x | 90 / 90 | cosine 1.00000 |"
    )


def test_the_table_goes_between_its_markers(tmp_path):
    """Text around the markers stays, and writing again changes nothing."""
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{document.BEGIN}\nold\n{document.END}\nafter\n")
    for _ in range(2):
        document.write("new", readme)
        assert readme.read_text() == f"before\n{document.BEGIN}\nnew\n{document.END}\nafter\n"
    readme.write_text("nothing")
    with refused(readme, document.BEGIN):
        document.write("new", readme)


def test_unknown_rows_are_refused(tiny, tiny_mined, tiny_collection):
    """The refusal names the unknown letter and lists the known ones."""
    with refused("ONLY=x", "a, b, c, d, e, f, g, h, s, m"):
        table.run(inputs(tiny, tiny_mined, tiny_collection), "x")


def test_results_that_differ_are_not_timed():
    """Vectors of another model are refused before any time is reported."""
    generator = np.random.default_rng(0)
    one, other = (generator.standard_normal((40, 8)).astype(np.float32) for _ in range(2))
    one, other = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (one, other))
    sides = [{"fp32": Outcome(1, 1, each), "bf16": Outcome(1, 1, each)} for each in (one, other)]
    with refused("differ", "cosine"):
        vector_check.make_vector_check(10)("title", STOCK, *sides)
    assert "cosine 1.0" in vector_check.make_vector_check(10)("title", STOCK, sides[0], sides[0])


def test_overlap_compares_the_top_passages():
    """Equal vectors overlap entirely, unrelated ones do not."""
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((60, 8)).astype(np.float32)
    assert vector_check.top_overlap(vectors, vectors, 10) == 1
    assert vector_check.top_overlap(rng.standard_normal((60, 8)).astype(np.float32), vectors, 10) < 0.9


def test_queries_of_the_random_decoder_share_their_examples(tiny, tiny_mined, tiny_collection):
    """The random decoder's queries share the examples' tokens and keep their own."""
    with random_decoder(SHAPES["tiny decoder"]) as recipe:
        queries, before, shared, own = table.make_shared_texts(inputs(tiny, tiny_mined, tiny_collection), recipe, 6)
    assert len(queries) == len(before) == 6 and shared <= table.PREFIX + 64 and own > 5
    assert loader.load("tiny-mistral").prompts.examples == "none"


def test_a_busy_core_is_busy_while_the_block_runs():
    """The other program of row f computes without a pause, and ends with the block."""
    with contenders.busy_core() as program:
        assert program.poll() is None
    assert program.poll() is not None


@pytest.mark.parametrize(("name", "spins"), [(OURS, process.SPINS), (STOCK, process.LIBRARY_WAITING["GOMP_SPINCOUNT"])])
def test_a_peer_s_threads_wait_as_its_libraries_do(name, spins, monkeypatch):
    """A peer is measured as it comes, ours with its own setting; the setting of this process stays."""
    monkeypatch.setenv("GOMP_SPINCOUNT", process.SPINS)
    assert contenders.run_alone(spin_count, Contender(name, "fp32")).result == spins
    assert os.environ["GOMP_SPINCOUNT"] == process.SPINS


def test_a_row_of_one_precision_has_its_place_in_the_table():
    """A comparison in fp32 alone leaves the columns of bf16 empty."""
    row = Comparison(
        "step beside a busy core / alone",
        "rounds itself",
        {"fp32": Outcome(2.0, 9, 0)},
        {"fp32": Outcome(1.0, 8, 0)},
        "loss",
    )
    line = table.table([row], []).splitlines()[-1]
    assert line == "| step beside a busy core / alone | rounds itself | 2 / 1 | 2.0x | - / - | - | - | 9 / 8 | loss |"
