"""Sweep: recipes trained on one split with one budget, one row each, with the cost of training and the scores."""

from dataclasses import dataclass, replace
from pathlib import Path

from rounds.artifacts import store
from rounds.artifacts.manifests import FinetuneManifest
from rounds.errors import UserError
from rounds.evaluation import ledger, results, tables
from rounds.evaluation.metrics import MAIN_METRIC
from rounds.evaluation.results import ResultRow
from rounds.evaluation.table import Column, Table, files_of
from rounds.evaluation.tables import Comparison

FIGURES = ("trained", "s", "peak MiB", "train loss", "valid. loss", MAIN_METRIC, "LB")


@dataclass(frozen=True)
class SweepEntry:
    """A row of the sweep's table.

    Attributes:
        row: the evaluated run, labelled with its recipe's name.
        trainable: the number of parameters that were trained; None for runs without training, as below.
        seconds: training time, with the evaluation after each epoch.
        peak_mib: peak memory of training in MiB.
        train_loss: mean training loss of the last epoch.
        lb: public leaderboard score from the ledger; empty if there is none.
    """

    row: ResultRow
    trainable: int | None = None
    seconds: float | None = None
    peak_mib: float | None = None
    train_loss: float | None = None
    lb: str = ""


def read(folder: Path, ledger_file: Path) -> list[SweepEntry]:
    """Read the last epoch of a round; the best epoch was chosen on the validation queries and is left out.

    Args:
        folder: the round's folder with `train/` and `eval/`.
        ledger_file: the ledger, for the leaderboard score.

    Raises:
        UserError: the training or the evaluation of the round is not finished.
    """
    manifest = store.read_manifest(folder / "train")
    if not isinstance(manifest, FinetuneManifest) or store.read_manifest(folder / "eval") is None:
        raise UserError(f"{folder}: has no finished train and eval; run the round first")
    last_metrics = next((epoch.metrics for epoch in manifest.epochs if epoch.folder == manifest.last), {})
    entries = [entry for entry in ledger.read(ledger_file) if entry["LB public"]]
    lb_scores = {(entry["data"], entry["fingerprint"]): entry["LB public"] for entry in entries}
    return [
        SweepEntry(
            row=replace(row, label=row.recipe),
            trainable=manifest.trainable_parameters,
            seconds=manifest.seconds,
            peak_mib=manifest.peak_mib,
            train_loss=last_metrics.get("train loss"),
            lb=lb_scores.get((row.data, row.fingerprint), ""),
        )
        for row in results.load(folder / "eval")
        if row.in_chain
    ]


def compare(entries: list[SweepEntry]) -> Comparison:
    """Compare the runs on all metrics (`tables.compare`)."""
    return tables.compare([entry.row for entry in entries])


def sweep_table(entries: list[SweepEntry], comparison: Comparison) -> Table:
    """Return cost and MAP@25 of each entry; superscripts are those of `comparison`."""
    compared_rows = tables.comparison_table(comparison)
    main = compared_rows.header.index(MAIN_METRIC)
    body = []
    for entry, compared in zip(entries, compared_rows.rows, strict=True):
        costs = ["" if value is None else f"{value:.0f}" for value in (entry.seconds, entry.peak_mib)]
        losses = [
            "" if loss is None else f"{loss:.3f}"
            for loss in (entry.train_loss, entry.row.metrics.get("validation loss"))
        ]
        trainable = "" if entry.trainable is None else _short_count(entry.trainable)
        body.append([*compared[:2], trainable, *costs, *losses, compared[main], entry.lb])
    return Table([Column("#", is_text=True), Column("", is_text=True), *map(Column, FIGURES)], body)


def _short_count(count: int) -> str:
    """Return a number of parameters in thousands or millions.

    >>> _short_count(7680), _short_count(22_565_376)
    ('7.7k', '22.6M')
    """
    return f"{count / 1e6:.1f}M" if count >= 1e6 else f"{count / 1e3:.1f}k"


def write(entries: list[SweepEntry], comparison: Comparison, path: Path) -> list[Path]:
    """Write the table as Markdown, CSV and JSON, and the comparison of all metrics beside it; return the files.

    The CSV holds the unrounded figures of all metrics; the JSON file is what the report reads.
    """
    markdown, csv, json = files_of(path, ".md", ".csv", ".json")
    table = sweep_table(entries, comparison)
    path.parent.mkdir(parents=True, exist_ok=True)
    store.write_text(markdown, f"{table.markdown()}\n{tables.note(comparison)}\n")
    store.write_text(csv, _figures(entries).csv())
    table.save(json)
    return [markdown, csv, json, *tables.write_comparison(comparison, path.with_name(f"{path.name}-metrics"))]


def _figures(entries: list[SweepEntry]) -> Table:
    """Return all figures of all entries, unrounded."""
    rows = [
        {
            "run": entry.row.label,
            "trained": entry.trainable,
            "seconds": entry.seconds,
            "peak_mib": entry.peak_mib,
            "train loss": entry.train_loss,
            **entry.row.metrics,
            "LB public": entry.lb,
        }
        for entry in entries
    ]
    names = list(dict.fromkeys(name for row in rows for name in row))
    return Table([Column(name) for name in names], [[row.get(name) for name in names] for row in rows])
