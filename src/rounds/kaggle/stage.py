"""Submission stage: rank the test queries, write the checked CSV and record it in the ledger."""

import os
from pathlib import Path

from rounds.artifacts import hashing, store
from rounds.artifacts.store import file_manifest
from rounds.data import collection
from rounds.data.collection import Collection
from rounds.encoding import run_store
from rounds.errors import UserError
from rounds.evaluation import ledger
from rounds.kaggle import submission
from rounds.models.checkpoint import Checkpoint
from rounds.reranking import cross_validation, fusion


def submit_fused(folds: list[Path], table: Path, sample: Path, output: Path) -> str:
    """Learn on the folds' candidates, rank the test queries', and write the checked CSV; returns the line to print.

    Args:
        folds: folders of candidates whose labels are known.
        table: folder of the test queries' candidates.
        sample: the competition's sample_submission.csv.

    Raises:
        UserError: the folders' members differ, or a fold's queries are the ones to rank.
    """
    manifests = [cross_validation.manifest_of(folder) for folder in (*folds, table)]
    if any(each["members"] != manifests[-1]["members"] for each in manifests):
        raise UserError(f"{table}: has other members than {folds[0]}; make both with the same rounds of one recipe")
    data = collection.read(table / manifests[-1]["collection"])
    if data.validation:
        raise UserError(f"{table}: ranks the validation queries of split {data.split}; take SPLIT=submission's")
    learned, found = [cross_validation.table_of(folder) for folder in folds], cross_validation.table_of(table)
    views = cross_validation.views(manifests[-1]["members"])[-1][1]
    run = found.run(fusion.fit(learned, views).score(found))
    rows = submission.write(run, data.passages, sample, output)
    about = {"members": manifests[-1]["members"], "folds": [each["config"] for each in manifests[:-1]]}
    store.write_json(store.file_manifest(output), {"kind": "submission", "fused": True, **about})
    return f"{output}: {rows} rows, checked"


def submit(source: Checkpoint, data: Collection, sample: Path, output: Path, model_output: Path) -> int:
    """Rank the test queries, write the checked CSV and note it in the ledger; returns its number of rows."""
    if not data.test:
        raise UserError(f"{data.folder}: the data has no test.csv, so there is nothing to submit")
    before = run_store.few_shot_examples(source, data, data.test)
    run, path = run_store.open_store(source, model_output).run("test", data.test, data.passages, examples=before)
    rows = submission.write(run, data.passages, sample, output)
    config = {"model": source.key, "queries": hashing.sha256_json(data.test), "sample": hashing.sha256_file(sample)}
    about = {"checkpoint": source.name, "run": os.path.relpath(path.parent, model_output), "config": config}
    store.write_json(file_manifest(output), {"kind": "submission", **about})
    name_submission(source, data, output.stem, model_output)
    return rows


def name_submission(source: Checkpoint, data: Collection, name: str, model_output: Path) -> None:
    """Note in the ledger which submission the checkpoint makes."""
    manifest = source.manifest or {}
    about = {
        "data": data.data, "split": data.split, "recipe": source.recipe.name, "precision": source.precision,
        "round": manifest.get("round"), "epoch": manifest.get("epoch"), "weights": source.weights_digest,
        "fingerprint": hashing.sha256_json(source.key)[:12],
        "checkpoint": os.path.relpath(source.folder, model_output) if source.folder else source.name,
    }  # fmt: skip
    ledger.name_submission(model_output / "ledger.csv", about, name)
