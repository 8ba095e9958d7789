"""The reference of recipe keys agrees with the schema."""

from pathlib import Path

import pytest

from rounds.config import reference, schema
from rounds.config.recipe import Recipe

FILE = Path(__file__).parents[2] / "docs" / "recipes-reference.md"


def test_the_reference_is_up_to_date():
    """`docs/recipes-reference.md` is what the schema generates today."""
    assert FILE.read_text(encoding="utf-8") == reference.build_reference(), (
        "stale; run python -m rounds.config.reference docs/recipes-reference.md"
    )


@pytest.mark.parametrize(("path", "section"), schema.walk_sections(Recipe), ids=str)
def test_every_key_has_a_description(path, section):
    """Each key of each section, and each section itself, is described."""
    keys = {key for key, field in schema.fields(section).items() if not schema.is_section(field)}
    assert keys <= schema.descriptions(section).keys()
    assert section.__doc__
