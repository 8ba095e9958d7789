"""Sweep: one row per recipe with the cost of its round; unfinished rounds are refused."""

from pathlib import Path

import pandas as pd
import pytest
from helpers.manifests import finetune_manifest
from helpers.result_rows import make_row
from helpers.tiny_task import refused

from rounds.artifacts import store
from rounds.artifacts.manifests import Epoch, EvaluationManifest
from rounds.evaluation import ledger, results, sweep
from rounds.evaluation.sweep import SweepEntry
from rounds.evaluation.table import Table


def finished_round(folder: Path, recipe: str, seed: int) -> Path:
    """Write a trained and evaluated round, with a best epoch that is not in the chain."""
    last = make_row("round 1, epoch 2 (last)", seed, recipe=recipe)
    best = make_row("round 1, epoch 1 (best)", seed + 100, recipe=recipe, in_chain=False)
    with store.writing(folder / "eval", EvaluationManifest(config={})) as temporary:
        results.save([last, best], temporary)
    epochs = [Epoch(folder=f"epoch_{n}", metrics={"train loss": 2.0 / n}) for n in (1, 2)]
    (folder / "train").mkdir(parents=True)
    manifest = finetune_manifest(trainable_parameters=7680, seconds=61.2, peak_mib=1500.4, epochs=epochs)
    store.write_manifest(folder / "train" / store.MANIFEST, manifest)
    return folder


def test_a_row_holds_cost_and_scores_of_a_recipe(tmp_path):
    """Trained parameters, seconds, memory, training loss and the ledger's LB score stand in the recipe's row."""
    folder = finished_round(tmp_path / "one", "prompt", 1)
    ledger_row = {**dict.fromkeys(ledger.COLUMNS, ""), "recipe": "prompt", "LB public": "0.31"}
    name = "round 1, epoch 2 (last)1"
    ledger.record(tmp_path / "ledger.csv", [{**ledger_row, "fingerprint": name}])
    (entry,) = sweep.read(folder, tmp_path / "ledger.csv")
    assert entry.row.label == "prompt"
    ledger.record(tmp_path / "ledger.csv", [{**ledger_row, "data": "other", "LB public": "0.99", "fingerprint": name}])
    ledger.record(tmp_path / "ledger.csv", [{"data": "", "split": "v2", "fingerprint": name, "MAP@25": 0.5}])
    (entry,) = sweep.read(folder, tmp_path / "ledger.csv")  # not of other data, nor lost behind a row without a score
    table = sweep.sweep_table([entry], sweep.compare([entry]))
    assert table.rows[0][:6] == ["a", "prompt", "7.7k", "61", "1500", "1.000"] and table.rows[0][-1] == "0.31"


def test_a_run_without_training_has_empty_costs():
    """Baselines have no parameters, seconds, memory or losses."""
    entries = [SweepEntry(make_row("BM25", 5))]
    (row,) = sweep.sweep_table(entries, sweep.compare(entries)).rows
    assert row[:2] == ["a", "BM25"] and row[2:7] == [""] * 5


def test_the_table_is_written_beside_all_metrics(tmp_path):
    """Markdown to read, CSV with unrounded figures, JSON for the report, and the comparison's three files."""
    entries = sweep.read(finished_round(tmp_path / "one", "lora", 1), tmp_path / "none.csv")
    comparison = sweep.compare(entries)
    files = sweep.write(entries, comparison, tmp_path / "out" / "sweep")
    assert [file.name for file in files] == [
        "sweep.md",
        "sweep.csv",
        "sweep.json",
        "sweep-metrics.md",
        "sweep-metrics.tex",
        "sweep-metrics.csv",
    ]
    assert files[0].read_text(encoding="utf-8").startswith(sweep.sweep_table(entries, comparison).markdown())
    assert Table.load(files[2]).lines == sweep.sweep_table(entries, comparison).lines
    figures = pd.read_csv(files[1])
    assert figures["run"].tolist() == ["lora"] and figures["trained"].tolist() == [7680]
    assert figures["MAP@25"].tolist() == pytest.approx([entries[0].row.metrics["MAP@25"]])


@pytest.mark.parametrize("missing", ["train", "eval"])
def test_an_unfinished_round_is_refused(missing, tmp_path):
    """A round without a finished training or evaluation is named."""
    folder = finished_round(tmp_path / "one", "lora", 1)
    (folder / missing / store.MANIFEST).unlink()
    with refused(folder, "run the round first"):
        sweep.read(folder, tmp_path / "ledger.csv")
