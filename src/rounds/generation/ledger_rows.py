"""Rows of the ledger on predicted prompts: who predicted, SCS by a named embedder, and the submission's name."""

from collections.abc import Sequence
from pathlib import Path

from rounds.data import lineage
from rounds.evaluation import ledger
from rounds.generation.predictions import Predictions
from rounds.generation.rows import PromptRow, read_split_manifest, row_digests
from rounds.generation.tables import Scored

LEDGER = "ledger.csv"


def record(
    predictions: Sequence[Predictions],
    scored: Sequence[Scored],
    rows: Sequence[PromptRow],
    embedder: str,
    data_dir: Path,
    model_output: Path,
) -> None:
    """Write the scores of predictions into the ledger; those of unknown origin have no row.

    Args:
        predictions: what was scored.
        scored: its scores, in the same order.
        rows: the validation rows.
        embedder: what the scores are by.
        data_dir: the split's folder.
        model_output: the ledger's folder.
    """
    validation = lineage.questions_digest(row_digests(rows))
    about = {**_split_columns(data_dir), "validation": validation, "queries": len(rows), "embedder": embedder}
    entries = [
        {**about, **each.columns, "lineage": score.status, "SCS": float(score.scores.mean()), "exact": score.exact}
        for each, score in zip(predictions, scored, strict=True)
        if each.columns
    ]
    ledger.record(model_output / LEDGER, entries)


def name_submission(columns: dict[str, str], name: str, data_dir: Path, model_output: Path) -> None:
    """Write a submission's name into the rows of what predicts it.

    Args:
        columns: the ledger's columns that say what predicts; nothing is written where there are none.
        name: the submission's name.
        data_dir: the split's folder.
        model_output: the ledger's folder.
    """
    if columns:
        ledger.name_submission(model_output / LEDGER, {**_split_columns(data_dir), **columns}, name)


def _split_columns(data_dir: Path) -> dict[str, str]:
    manifest = read_split_manifest(data_dir)
    return {"data": manifest.data, "split": manifest.split}
