"""Rows of prompt recovery: a text, its rewriting, and the prompt that a language model was given with the text."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rounds.artifacts import hashing, jsonl, store
from rounds.artifacts.prompt_manifests import PromptSplitManifest
from rounds.data import lineage
from rounds.data.cells import is_empty, read_id, read_name, read_text
from rounds.data.loaders.tables import read_table
from rounds.data.text import normalize_text
from rounds.errors import Refused, UserError

SIDES = ("train", "validation", "test")
COLUMNS = ("id", "original_text", "rewritten_text")


@dataclass(frozen=True)
class PromptRow:
    """A text and its rewriting.

    Attributes:
        id: the row's name, without blanks.
        original_text: the text before.
        rewritten_text: the text that the language model wrote.
        rewrite_prompt: what it was told to do; empty for a test row.
        family: the kind of rewriting, for scores by family; empty where the data name none.
    """

    id: str
    original_text: str
    rewritten_text: str
    rewrite_prompt: str = ""
    family: str = ""


@dataclass(frozen=True)
class Split:
    """The rows of a split's folder.

    Attributes:
        train, validation: rows with prompts; no validation rows where training takes everything.
        test: rows without prompts, for a submission; none where the data have none.
    """

    train: list[PromptRow] = field(default_factory=list)
    validation: list[PromptRow] = field(default_factory=list)
    test: list[PromptRow] = field(default_factory=list)


def read_rows(path: Path, is_test: bool = False, without_text: list[str] | None = None) -> list[PromptRow]:
    """Read a CSV, JSONL or parquet file with `id`, `original_text`, `rewritten_text`, `rewrite_prompt`, `family`.

    Args:
        path: the file; further columns are ignored.
        is_test: whether the rows may lack `rewrite_prompt`, which the others need. `family` is always optional.
        without_text: gets the ids of rows with an empty text, which are then left out; None refuses them.

    Raises:
        UserError: the file or a column is missing, a cell is empty or not a text, or an id has a blank or comes
            twice. The message names the row.
    """
    table = read_table(Path(path))
    present = dict.fromkeys(column for _, row in table for column in row)
    for column in COLUMNS if is_test else (*COLUMNS, "rewrite_prompt"):
        if column not in present:
            raise UserError(f"{path}: column {column} is missing (found: {', '.join(list(present)[:20])})")
    rows: dict[str, PromptRow] = {}
    for place, cells in table:
        if without_text is not None and any(is_empty(cells.get(column)) for column in COLUMNS[1:]):
            without_text.append(read_id(cells.get("id"), place, "id", {*rows, *without_text}))
            continue
        row = _read_row(cells, place, is_test, rows)
        rows[row.id] = row
    return list(rows.values())


def _read_row(cells: dict, place: str, is_test: bool, rows: dict[str, PromptRow]) -> PromptRow:
    prompt, family = cells.get("rewrite_prompt"), cells.get("family")
    return PromptRow(
        id=read_id(cells.get("id"), place, "id", rows),
        original_text=read_text(cells.get("original_text"), place, "original_text"),
        rewritten_text=read_text(cells.get("rewritten_text"), place, "rewritten_text"),
        rewrite_prompt="" if is_test and is_empty(prompt) else read_text(prompt, place, "rewrite_prompt"),
        family="" if is_empty(family) else read_name(family, place, "family"),
    )


def write_split(split: Split, folder: Path, manifest: PromptSplitManifest) -> None:
    """Write `train.jsonl`, `validation.jsonl`, `test.jsonl` and the manifest, whole or not at all."""
    with store.writing(folder, manifest) as temporary:
        for side in SIDES:
            store.write_jsonl(temporary / f"{side}.jsonl", map(asdict, getattr(split, side)))


def read_split(folder: Path) -> Split:
    """Read the rows that `make data TASK=prompt_recovery` wrote.

    Raises:
        UserError: the folder is no such split, or a file of it is missing or broken.
        Refused: a split by prompt has a prompt on both sides.
    """
    version = read_split_manifest(folder).split
    sides = {}
    for side in SIDES:
        path = Path(folder) / f"{side}.jsonl"
        try:
            sides[side] = [PromptRow(**row) for _, row in jsonl.read_lines(path)]
        except TypeError:
            raise UserError(f"{path}: has other columns than make data writes; run it again") from None
    split = Split(**sides)
    check_prompts(split, version)
    return split


def read_validation(folder: Path, number: int | None = None) -> list[PromptRow]:
    """Read the validation rows of a split, or so many of them, evenly spaced.

    Raises:
        UserError: the number is below 1, the split has no validation rows, or as `read_split` says.
    """
    if number is not None and number < 1:
        raise UserError(f"rows {number}: must be at least 1")
    held_out = read_split(folder).validation
    if not held_out:
        raise UserError(f"{folder}: has no validation rows; choose SPLIT=v1 or v6")
    return held_out if number is None else spread(held_out, number)


def prompt_key(prompt: str) -> str:
    """Return the prompt without differences of white space and case, which make no other prompt.

    >>> prompt_key("  Write it\\n as a POEM ")
    'write it as a poem'
    """
    return normalize_text(prompt).casefold()


def shared_prompts(split: Split) -> list[PromptRow]:
    """Return the validation rows whose prompt, without case and white space, is a training row's as well."""
    known = {prompt_key(row.rewrite_prompt) for row in split.train}
    return [row for row in split.validation if prompt_key(row.rewrite_prompt) in known]


def repeated_texts(split: Split) -> list[PromptRow]:
    """Return the validation rows whose two texts are also those of a training row."""
    known, digests = set(row_digests(split.train).values()), row_digests(split.validation)
    return [row for row in split.validation if digests[row.id] in known]


def check_prompts(split: Split, version: str) -> None:
    """Check that a split by prompt has no prompt on both sides.

    Raises:
        Refused: training rows of split v6 have prompts of validation rows; the line counts these.
    """
    if version == "v6" and (shared := shared_prompts(split)):
        raise Refused(
            f"split v6: {len(shared)} of {len(split.validation)} validation rows (such as {shared[0].id}) have a "
            "prompt that training rows have as well; make data writes the split anew"
        )


def spread(rows: Sequence[PromptRow], count: int) -> list[PromptRow]:
    """Return so many of some rows, evenly spaced, in their order; all of them where there are no more.

    >>> spread(list("abcdefg"), 3), spread(list("ab"), 3)
    (['a', 'c', 'e'], ['a', 'b'])
    """
    count = min(count, len(rows))
    return [rows[place * len(rows) // count] for place in range(count)]


def texts_digest(rows: Sequence[PromptRow]) -> str:
    """Return the digest of what a generator reads of rows: their ids and texts, in this order."""
    return hashing.sha256_texts(text for row in rows for text in (row.id, row.original_text, row.rewritten_text))


def row_digests(rows: Sequence[PromptRow]) -> dict[str, str]:
    """Return the lineage of training on rows: id -> digest of its texts."""
    return {row.id: lineage.digest(f"{row.original_text}\n{row.rewritten_text}") for row in rows}


def read_split_manifest(folder: Path) -> PromptSplitManifest:
    """Read the manifest of a split's folder.

    Raises:
        UserError: the folder is missing or holds something else.
    """
    manifest = store.read_manifest(Path(folder)) if Path(folder).is_dir() else None
    if not isinstance(manifest, PromptSplitManifest):
        raise UserError(f"{folder}: no split of prompts; make data TASK=prompt_recovery writes one")
    return manifest
