"""Tables of predicted prompts: one row for each file of predictions, all by one embedder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rounds.artifacts import store
from rounds.data import lineage
from rounds.evaluation.significance import fisher_p_value
from rounds.evaluation.table import Column, Table, files_of
from rounds.generation import metrics
from rounds.generation.predictions import Predictions
from rounds.generation.rows import PromptRow, row_digests


@dataclass(frozen=True)
class Scored:
    """Predictions with their scores.

    Attributes:
        title: name of the row.
        scores: (rows,) sharpened cosines.
        exact: share of predictions that are the prompt.
        validation_loss: of the generator; None of others.
        status: `clean`, or `lineage unknown`.
    """

    title: str
    scores: np.ndarray
    exact: float
    validation_loss: float | None
    status: str


def score(predictions: Sequence[Predictions], rows: list[PromptRow], embed: metrics.Embed) -> list[Scored]:
    """Score predictions of the same rows.

    Raises:
        Refused: a generator was trained on some of the rows.
    """
    truths = [row.rewrite_prompt for row in rows]
    held_out = row_digests(rows)
    statuses = [lineage.guard(each.title, each.lineage, held_out, None, "rows") for each in predictions]
    truth_vectors = embed(truths)
    return [
        Scored(
            title=each.title,
            scores=metrics.sharpened_cosines(truth_vectors, embed(each.texts)),
            exact=float(metrics.exact_matches(truths, each.texts).mean()),
            validation_loss=each.validation_loss,
            status=status,
        )
        for each, status in zip(predictions, statuses, strict=True)
    ]


def main_table(scored: Sequence[Scored], embedder: str, rows: int) -> Table:
    """Return the table of the mean scores, each with its p-value against the row above.

    The name of the embedder stands in the title and the column, since scores of two embedders do not compare.
    """
    has_loss = any(each.validation_loss is not None for each in scored)
    columns = [Column("", is_text=True, wraps=True), Column(f"SCS {embedder}"), Column("exact"), Column("p")]
    body = []
    for place, each in enumerate(scored):
        p_value = fisher_p_value(scored[place - 1].scores, each.scores) if place else None
        mark = f" ({each.status})" if each.status != lineage.CLEAN else ""
        loss = "" if each.validation_loss is None else f"{each.validation_loss:.4f}"
        cells = [f"{each.title}{mark}", f"{each.scores.mean():.4f}", f"{each.exact:.4f}"]
        body.append([*cells, "" if p_value is None else f"{p_value:.4f}", *([loss] if has_loss else [])])
    caption = "SCS: mean of the cubed cosine; p: Fisher's randomization test of it against the row above"
    title = f"{rows} rows, embedder {embedder}"
    return Table([*columns, *([Column("val loss")] if has_loss else [])], body, title, caption)


def family_table(scored: Sequence[Scored], rows: list[PromptRow], embedder: str) -> Table | None:
    """Return the mean score of each family under each of the predictions; None where no row names a family."""
    families = [row.family for row in rows]
    means = [metrics.family_means(families, each.scores) for each in scored]
    if not means or not means[0]:
        return None
    columns = [Column("family", is_text=True), Column("rows"), *(Column(f"{each.title} {embedder}") for each in scored)]
    body = [[family, families.count(family), *(f"{mean[family]:.4f}" for mean in means)] for family in means[0]]
    return Table(columns, body)


def save(table: Table, families: Table | None, path: Path) -> list[Path]:
    """Write the table as JSON, CSV and Markdown, and the families' as CSV; return the files.

    Args:
        path: without suffix; its name holds the embedder's.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    files = files_of(path, ".json", ".csv", ".md")
    table.save(files[0])
    store.write_text(files[1], table.csv())
    store.write_text(files[2], f"{table.title}\n\n{table.markdown()}\n{table.caption}\n")
    if families:
        files.append(path.with_name(f"{path.name}-families.csv"))
        store.write_text(files[-1], families.csv())
    return files
