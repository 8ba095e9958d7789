"""Training rows: halves of the prompts, and rows grouped by family and prompt."""

import pytest

from rounds.config.generator import Training
from rounds.errors import UserError
from rounds.generation import training_rows
from rounds.generation.rows import PromptRow, prompt_key

# Prompts 0, 1, 2, 0, 1, ... of two families; case and blanks make no other prompt.
ROWS = [
    PromptRow(str(number), "a", "b", (f"Prompt {number % 6}", f" prompt  {number % 6}")[number % 2], f"f{number % 2}")
    for number in range(30)
]


def choose(**training):
    return training_rows.choose(ROWS, Training(**training))


def test_the_halves_divide_the_prompts():
    """Each row is in one half, the rows of a prompt are in the same one, and each half has as many prompts."""
    first, second = choose(prompts="first_half"), choose(prompts="second_half")
    assert sorted([*first, *second], key=lambda row: int(row.id)) == ROWS
    prompts = [{prompt_key(row.rewrite_prompt) for row in half} for half in (first, second)]
    assert list(map(len, prompts)) == [3, 3] and not prompts[0] & prompts[1]
    assert first == [row for row in ROWS if row in first]


def test_one_prompt_has_no_half():
    """The line says why there is nothing to divide."""
    with pytest.raises(UserError, match="2 training rows have one prompt alone"):
        training_rows.choose([ROWS[0], ROWS[6]], Training(prompts="first_half"))


def test_grouped_rows_change_family_and_prompt_as_seldom_as_they_can():
    """Two families of three prompts each make six runs; no row is lost."""
    rows = choose(order="grouped")
    keys = [(row.family, prompt_key(row.rewrite_prompt)) for row in rows]
    assert len([key for key, before in zip(keys, [None, *keys], strict=False) if key != before]) == 6
    assert [row.family for row in rows] == ["f0"] * 15 + ["f1"] * 15
    assert sorted(row.id for row in rows) == sorted(row.id for row in ROWS)


def test_short_trainings_on_grouped_rows_meet_all_prompts():
    """Six rows of thirty are one of each prompt, in the groups' order."""
    rows = choose(order="grouped", steps=3, batch_size=2)
    assert len(rows) == 6 == len({prompt_key(row.rewrite_prompt) for row in rows})
    assert [row.family for row in rows] == ["f0"] * 3 + ["f1"] * 3


def test_other_orders_leave_the_rows_as_they_stand():
    """Shuffling is the sampler's work."""
    assert choose() == choose(order="file") == ROWS
