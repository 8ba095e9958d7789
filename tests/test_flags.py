"""Flags that scripts share: what they say of the ensemble, and of the file of a table."""

from pathlib import Path

import pytest
from helpers.tiny_task import refused

from rounds.config.sections.ensemble import Ensemble
from rounds.flags import OfEnsemble, TableFile


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, Ensemble()),
        ({"without_outside": True}, Ensemble(outside_votes=False)),
        ({"without_trees": True}, Ensemble(boosted_trees=False)),
    ],
)
def test_flags_of_an_ensemble_are_the_recipe_s_keys(flags, expected):
    """Each flag is one key; the prior is added by those that rank with it."""
    assert OfEnsemble(**flags).ensemble() == expected
    assert OfEnsemble(**flags).ensemble(unseen_prior=True).unseen_prior


def test_choices_are_the_keys_that_change_the_ensemble_s_models():
    """Each as it is, so that a default that changes is no default in what was made before; never the prior."""
    assert Ensemble(unseen_prior=True).choices() == {"outside_votes": True, "boosted_trees": True}
    chosen = Ensemble(unseen_prior=True, outside_votes=False, boosted_trees=False).choices()
    assert chosen == {"outside_votes": False, "boosted_trees": False}


def test_a_table_is_kept_as_json():
    """Another suffix is refused before anything is computed; without a name it is only printed."""
    assert TableFile().table_file() is None
    assert TableFile(output_file="a/cv.json").table_file() == Path("a/cv.json")
    with refused("--output_file cv.md", "name it NAME.json"):
        TableFile(output_file="cv.md").table_file()
