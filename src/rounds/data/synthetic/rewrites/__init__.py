"""Generate rows of prompt recovery: texts, the rules that rewrite them, and prompts in many wordings."""

import csv
import random
from pathlib import Path

from rounds.data.synthetic.rewrites import rules, texts

TRAIN, TEST, SAMPLE = "train.csv", "test.csv", "sample_submission.csv"
COLUMNS = ("id", "original_text", "rewrite_prompt", "rewritten_text", "family")
REPLACE = "replace"  # the family whose prompts name words of their text
WORDINGS = 8  # prompts of a family, so that some come again with other texts
TEST_ROWS = 100


def generate(folder: Path, rows: int = 1500, seed: int = 42) -> dict[str, int]:
    """Write `train.csv`, `test.csv` (no prompts) and `sample_submission.csv`; return numbers of rows by file.

    Equal arguments give equal bytes. No text comes twice, and each family has as many rows as any other, give or take
    one.

    Args:
        folder: an existing folder.
        rows: training rows; the test rows are further ones of the same families.
        seed: of the texts and of the choice of wordings.
    """
    rng = random.Random(seed)
    drawn = draw_rows(rows + TEST_ROWS, rng)
    train, test = drawn[:rows], drawn[rows:]
    _write(folder / TRAIN, COLUMNS, train)
    _write(folder / TEST, ("id", "original_text", "rewritten_text"), test)
    _write(folder / SAMPLE, ("id", "rewrite_prompt"), [row | {"rewrite_prompt": "Improve the text."} for row in test])
    return {TRAIN: len(train), TEST: len(test)}


def draw_rows(count: int, rng: random.Random) -> list[dict[str, str]]:
    """Return rows as dicts with `COLUMNS`, in random order."""
    families = [*rules.FAMILIES, REPLACE]
    wordings = {family: rng.sample(rules.prompts(family), WORDINGS) for family in rules.FAMILIES}
    order = [families[number % len(families)] for number in range(count)]
    rng.shuffle(order)
    used: set[str] = set()
    rows = []
    for number, family in enumerate(order):
        prompt, text, rewriting = _rewrite(family, wordings.get(family, []), rng, used)
        values = (f"r{number:05d}", text.text, prompt, rewriting, family)
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def _rewrite(family: str, wordings: list[str], rng: random.Random, used: set[str]) -> tuple[str, texts.Text, str]:
    """Return a prompt, an unused text that it changes, and the rewriting."""
    while True:
        text = texts.draw(rng)
        if family == REPLACE:
            prompt, rewriting = rules.replacement_prompt(text, rng)
        else:
            prompt, rewriting = rng.choice(wordings), rules.FAMILIES[family].rule(text)
        if text.text not in used and rewriting != text.text:
            used.add(text.text)
            return prompt, text, rewriting


def _write(path: Path, columns: tuple[str, ...], rows: list[dict[str, str]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
