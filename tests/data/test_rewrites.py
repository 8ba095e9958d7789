"""The generated rows of prompt recovery: many families in many wordings, no text twice, the same bytes each time."""

import random
from collections import Counter

import pytest

from rounds.data.synthetic import rewrites
from rounds.data.synthetic.rewrites import rules
from rounds.data.synthetic.rewrites.texts import Text
from rounds.generation import raw

TEXT = Text("note", ("Anna takes the red lamp to the park.", "The key is under it."), ("Anna", "Bruno"))


def test_rows_are_varied():
    """At least 60 families in equal numbers, several wordings of each, no text twice, no rewriting without effect."""
    rows = rewrites.draw_rows(1500, random.Random(1))
    families = Counter(row["family"] for row in rows)
    assert len(families) >= 60 and max(families.values()) - min(families.values()) <= 1
    wordings = {family: {row["rewrite_prompt"] for row in rows if row["family"] == family} for family in families}
    assert min(map(len, wordings.values())) >= 4
    assert len({row["original_text"] for row in rows}) == len(rows)
    assert all(row["original_text"] != row["rewritten_text"] for row in rows)


def test_no_prompt_asks_for_two_families():
    """A prompt's words say which rule is meant."""
    owners = Counter(prompt for family in rules.FAMILIES for prompt in set(rules.prompts(family)))
    assert max(owners.values()) == 1


def test_equal_seeds_give_equal_files(tmp_path):
    """The sample is reproducible, and the loader reads it, with test rows that have no prompt."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        rewrites.generate(tmp_path / name, rows=100, seed=3)
    for name in (rewrites.TRAIN, rewrites.TEST, rewrites.SAMPLE):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    train, test = raw.load(tmp_path / "a")
    assert len(train) == 100 and len(test) == rewrites.TEST_ROWS and not any(row.rewrite_prompt for row in test)


@pytest.mark.parametrize(
    ("family", "rewriting"),
    [
        ("past tense", "Anna took the red lamp to the park. The key was under it."),
        ("bullet points", "- Anna takes the red lamp to the park\n- The key is under it"),
        (
            "polite",
            "If you would be so kind as to note, Anna takes the red lamp to the park. "
            "If you would be so kind as to note, the key is under it.",
        ),
        ("dialogue", "Anna: Anna takes the red lamp to the park.\nBruno: The key is under it."),
        ("telegram", "ANNA TAKES RED LAMP PARK STOP KEY UNDER STOP"),
        ("redacted", "[redacted] takes the red lamp to the park. The key is under it."),
    ],
)
def test_rules_do_what_their_prompts_say(family, rewriting):
    """Some rewritings, written by hand."""
    assert rules.FAMILIES[family].rule(TEXT) == rewriting
