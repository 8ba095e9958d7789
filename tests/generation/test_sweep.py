"""The sweep's table and findings: figures are the entries', and no verdict stands without its difference."""

import numpy as np

from rounds.artifacts.prompt_manifests import BrittlenessManifest, PromptChange
from rounds.evaluation.robustness import CHANGES
from rounds.generation import sweep
from rounds.generation.sweep import Entry, Tuned
from rounds.generation.tables import Scored

ROWS = 40


def make_entry(mean: float, title: str = "t", spread: float = 0.0, **tuned: object) -> Entry:
    scores = mean + spread * np.random.default_rng(0).normal(size=ROWS)
    values = {"way": "prompt 8 tokens", "tokens": 8, "order": "shuffled", "steps": 10, "validation_loss": 1.0, **tuned}
    shared = {"base_model": "m", "train_loss": 0.5, "weights": 512, "minutes": 2.0, "starts_tuned": False}
    shared |= {"prompts": "all", "batch_size": 16}
    return Entry(Scored(title, scores, 0.25, None, "clean"), Tuned(**{**shared, **values}) if tuned else None)


def make_brittle(changed: float) -> BrittlenessManifest:
    effects = [PromptChange(change=sweep.SPACE, changed=changed, mean=0.5, least=0.1)]
    return BrittlenessManifest(title="m, prompt 8 tokens", rows=8, effects=effects, config={})


def find(entries, joined=None, parts=(), changed=0.5):
    parts = parts or [make_entry(0.2, "fixed")]
    return sweep.findings(entries, joined or make_entry(0.3, "joined"), parts, make_brittle(changed))


SHUFFLED, ORDERED = (
    make_entry(0.4, steps=10),
    make_entry(0.3, way="prompt 8 tokens, grouped by prompt", order="grouped"),
)
LONGER = make_entry(0.2, steps=40, validation_loss=0.8)


def test_findings_that_hold_name_their_figures():
    """Each line has the figures of the rows that differ in one thing, whatever their order."""
    lines = find([LONGER, ORDERED, SHUFFLED])
    assert lines[0].startswith("shuffled rows are better than rows grouped by prompt: holds (prompt 8 tokens, 10 ")
    assert "10 steps of 16 rows: SCS 0.4000 shuffled, 0.3000 grouped by prompt" in lines[0]
    assert "both the loss and the score: holds (prompt 8 tokens, 10 to 40 steps: val loss 1.000 to 0.800" in lines[1]
    assert "SCS 0.4000 to 0.2000" in lines[1]
    assert "one added space changes answers: holds (m, prompt 8 tokens: 50.0% of 8 answers changed" in lines[2]
    assert "joined predictions beat single ones: holds (1 joined: SCS 0.3000" in lines[3]


def test_findings_fail_on_the_other_direction():
    """A difference of the other sign, an unchanged answer or a higher loss refutes a finding."""
    worse = make_entry(0.2, steps=40, validation_loss=1.2)
    better_parts = [make_entry(0.2, "fixed"), make_entry(0.5, "nearest")]
    swapped = [make_entry(0.2, steps=10), make_entry(0.3, way=ORDERED.tuned.way, order="grouped"), worse]
    lines = find(swapped, parts=better_parts, changed=0.0)
    assert all(": does not hold (" in line for line in lines)
    assert "the best of them, nearest: 0.5000" in lines[3]


def test_a_difference_without_significance_does_not_hold():
    """Scores that differ by chance show nothing, and p says so."""
    noisy = make_entry(0.41, spread=0.5, steps=10)
    other = make_entry(0.40, way=ORDERED.tuned.way, order="grouped")
    line = find([noisy, other])[0]
    assert "does not hold" in line and float(line.partition("p = ")[2][:6]) > sweep.SIGNIFICANT


def test_the_space_is_a_change_that_is_measured():
    """The finding reads one of the changes that brittleness measures."""
    assert sweep.SPACE in CHANGES


def test_without_a_pair_nothing_is_said():
    """Where no two rows differ in one thing alone, no verdict is given."""
    lines = find([SHUFFLED, make_entry(0.1, way="lora r=1", tokens=None, steps=40)])
    assert "not measured" in lines[0] and "not measured" in lines[1]


def test_the_table_has_the_columns_of_the_note():
    """Baselines have a score alone; tuned rows their tokens, steps, losses, weights and minutes."""
    tuned = make_entry(0.4, steps=10, starts_tuned=True, prompts="second_half")
    table = sweep.table([make_entry(0.1, "copy"), tuned], "minilm")
    assert table.header[:6] == ["base_model", "predictions", "virtual tokens", "train steps", "train loss", "val loss"]
    assert table.lines[1] == ["", "copy", "", "", "", "", "0.1000", "", ""]
    assert table.lines[2] == ["m", "prompt 8 tokens", "8", "10", "0.500", "1.000", "0.4000", "512", "2.0"]
    assert "full is the base model of the other ways, tuned on the first half of the training prompts" in table.caption
