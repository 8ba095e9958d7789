"""Load the explanations of misconceptions, which `prompts.passage` may join to their names."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from rounds.artifacts import store
from rounds.data.cells import is_missing, read_name, read_text
from rounds.data.dataset import RetrievalDataset
from rounds.data.loaders import tables
from rounds.data.loaders.eedi import read_label
from rounds.errors import UserError

COLUMNS = ("MisconceptionId", "Explanation")


def explain(dataset: RetrievalDataset, path: Path) -> tuple[RetrievalDataset, list[str]]:
    """Return the dataset with the explanations of a file, and messages about misconceptions that it leaves out.

    Raises:
        UserError: as `read` does.
    """
    explanations = read(path, dataset.passages)
    missing = [passage for passage in dataset.passages if passage not in explanations]
    messages = []
    if missing:
        messages.append(
            f"{path}: {len(missing)} of {len(dataset.passages)} misconceptions have no explanation, such as "
            f"{', '.join(missing[:3])}; their passages are the name alone"
        )
    return dataclasses.replace(dataset, explanations=explanations), messages


def write(path: Path, explanations: Mapping[str, str]) -> None:
    """Write explanations, by the id of their misconception, as a JSONL file that `read` reads."""
    store.write_jsonl(path, (dict(zip(COLUMNS, item, strict=True)) for item in explanations.items()))


def read(path: Path, passages: Mapping[str, str]) -> dict[str, str]:
    """Read a CSV, JSONL or parquet file with the columns MisconceptionId and Explanation.

    Args:
        passages: the corpus, passage id -> name.

    Returns:
        Passage id -> explanation, without white space around it, in the corpus's order; empty ones and `nan` are left
        out.

    Raises:
        UserError: the file is missing, broken or empty, a column is missing, or an id is unknown or appears twice. The
            message names the file and the row.
    """
    rows = tables.read_table(path)
    present = dict.fromkeys(column for _, row in rows for column in row)
    for column in COLUMNS:
        if column not in present:
            raise UserError(f"{path}: column {column} is missing (found: {', '.join(list(present)[:20])})")
    places: dict[str, str] = {}
    explanations: dict[str, str] = {}
    for place, row in rows:
        identifier, explanation = (row.get(column) for column in COLUMNS)
        passage = read_label(read_name(identifier, place, COLUMNS[0]), f"{place}: {COLUMNS[0]}", passages)
        if passage is None:
            raise UserError(f"{place}: column {COLUMNS[0]} is empty")
        if passage in places:
            raise UserError(f"{place}: {COLUMNS[0]} {passage} appears already in {places[passage]}")
        places[passage] = place.removeprefix(f"{path} ")
        if not is_missing(explanation):
            explanations[passage] = read_text(explanation, place, COLUMNS[1]).strip()
    if not explanations:
        raise UserError(f"{path}: all explanations are empty")
    return {passage: explanations[passage] for passage in passages if passage in explanations}
