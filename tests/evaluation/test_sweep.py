"""Sweep: a row of each recipe's round, with what it cost; what was not finished is named."""

from pathlib import Path

import pandas as pd
import pytest
from helpers.result_rows import full
from helpers.tiny_task import refused

from rounds.artifacts import store
from rounds.evaluation import ledger, results, sweep
from rounds.evaluation.sweep import Entry


def finished(folder: Path, name: str, seed: int) -> Path:
    """A round's folder as the stages leave it, with a row beside the chain that no table wants."""
    row = full("round 1, epoch 2 (last)", seed, recipe=name, validation="v")
    beside = full("round 1, epoch 1 (best)", seed + 100, recipe=name, beside=True)
    with store.writing(folder / "eval", {"kind": "evaluation"}) as temporary:
        results.save([row, beside], temporary)
    epochs = [{"folder": f"epoch_{n}", "metrics": {"train loss": 2.0 / n}} for n in (1, 2)]
    manifest = {"trainable_parameters": 7680, "seconds": 61.2, "peak_mib": 1500.4, "epochs": epochs, "last": "epoch_2"}
    store.write_json(folder / "train" / store.MANIFEST, {"kind": "finetune", **manifest})
    return folder


def test_a_row_says_what_its_recipe_cost(tmp_path):
    """Trained parameters, seconds, memory, losses and the ledger's LB stand beside the score."""
    (tmp_path / "one" / "train").mkdir(parents=True)
    folder = finished(tmp_path / "one", "prompt", 1)
    kept = {**dict.fromkeys(ledger.COLUMNS, "x"), "fingerprint": "round 1, epoch 2 (last)1", "LB public": "0.31"}
    ledger.record(tmp_path / "ledger.csv", [kept])
    (entry,) = sweep.read(folder, tmp_path / "ledger.csv")
    found = sweep.report([Entry(full("BM25", 5)), entry])
    bare, line = sweep.cells([Entry(full("BM25", 5)), entry], found)
    assert line[:6] == ["b", "prompt", "7.7k", "61", "1500", "1.000"] and line[-1] == "0.31"
    assert bare[2:7] == [""] * 5


def test_the_table_is_written_with_all_metrics_beside(tmp_path):
    """Markdown to read, CSV with plain figures, and the report's three files."""
    (tmp_path / "one" / "train").mkdir(parents=True)
    entries = sweep.read(finished(tmp_path / "one", "lora", 1), tmp_path / "none.csv")
    files = sweep.write(entries, sweep.report(entries), tmp_path / "out" / "sweep")
    assert [file.name for file in files] == [
        "sweep.md", "sweep.csv", "sweep-metrics.md", "sweep-metrics.tex", "sweep-metrics.csv",
    ]  # fmt: skip
    table = pd.read_csv(files[1])
    assert table["run"].tolist() == ["lora"] and table["trained"].tolist() == [7680]


@pytest.mark.parametrize("missing", ["train", "eval"])
def test_an_unfinished_round_is_named(missing, tmp_path):
    """Neither half a training nor half an evaluation makes a row."""
    (tmp_path / "one" / "train").mkdir(parents=True)
    folder = finished(tmp_path / "one", "lora", 1)
    (folder / missing / store.MANIFEST).unlink()
    with refused(folder, "run the round first"):
        sweep.read(folder, tmp_path / "ledger.csv")
