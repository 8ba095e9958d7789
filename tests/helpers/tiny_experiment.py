"""A made-up experiment folder, as the stages write it; its random vectors rank better in each round."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from helpers.manifests import checkpoint_manifest, finetune_manifest, mined_manifest

from rounds.artifacts import store
from rounds.artifacts.manifests import Epoch, EvaluationManifest, Parent
from rounds.data import collection
from rounds.data.collection import Collection
from rounds.encoding import run_store
from rounds.evaluation import results
from rounds.evaluation.metrics import MAIN_METRIC, per_query, summarize
from rounds.evaluation.results import ResultRow, RowKind
from rounds.retrieval import search
from rounds.retrieval.run import Run

DIM = 64


@dataclass(frozen=True)
class Experiment:
    """The folders of an experiment, as `gather_facts` takes them."""

    folder: Path
    data_dir: Path
    model_output: Path


def make(model_output: Path, data_dir: Path, rounds: int = 2) -> Experiment:
    """Write round 0 and `rounds` more, each mined, trained for two epochs and evaluated."""
    data, folder = collection.read(data_dir), model_output / "tiny-v1"
    for number in range(rounds + 1):
        before = evaluate(data, model_output, folder / f"round{number}", number)
        if number:
            train(folder / f"round{number}", number, before.metrics)
            mine(data, folder, number)
    return Experiment(folder, data_dir, model_output)


def evaluate(data: Collection, model_output: Path, folder: Path, number: int) -> ResultRow:
    """Write a round's `eval/`, and the run and the vectors beside its checkpoint."""
    home = model_output / "base" / "tiny" if number == 0 else folder / "train" / "epoch_2" / "runs"
    queries, corpus = vectors(data, number)
    path = home / "validation-0" / "corpus-0-ids" / run_store.RUN_FILE
    run = search.rank(list(data.validation), queries, list(data.passages), corpus, min(100, len(corpus)))
    run_store.save_run(run, path, "tiny")
    np.save(path.parent.parent / run_store.VECTORS_FILE, queries)
    (home / "corpus-0").mkdir()
    np.save(home / "corpus-0" / run_store.VECTORS_FILE, corpus)
    row = replace(_row(run, data, number), run=path.parent.relative_to(model_output).as_posix())
    with store.writing(folder / "eval", EvaluationManifest(config={})) as temporary:
        results.save([row], temporary)
    return row


def vectors(data: Collection, number: int) -> tuple[np.ndarray, np.ndarray]:
    """(queries, 64) and (corpus, 64) of unit length; a query leans to its passage more in later rounds."""
    generator = np.random.default_rng(0)
    corpus = generator.normal(size=(len(data.passages), DIM))
    place = {passage: row for row, passage in enumerate(data.passages)}
    gold = corpus[[place[data.qrels[query][0]] for query in data.validation]]
    queries = generator.normal(size=gold.shape) + 0.2 * (number + 1) * gold
    return tuple((each / np.linalg.norm(each, axis=1, keepdims=True)).astype(np.float32) for each in (queries, corpus))


def _row(run: Run, data: Collection, number: int) -> ResultRow:
    scores = per_query(run, data.qrels)
    metrics = summarize(scores, run.queries, data.unseen)
    columns = {"weights": f"w{number}" * 8, "fingerprint": f"f{number}", "recipe": "tiny"}
    columns |= {"lineage": "clean", "data": data.data, "split": data.split, "checkpoint": f"tiny-v1/round{number}"}
    if number == 0:
        label, fields = "zero-shot", {"kind": RowKind.ZERO_SHOT, "round": 0}
    else:
        label = f"round {number}, epoch 2 (last, best)"
        fields = {"kind": RowKind.ROUND, "round": number, "epoch": 2, "mark": "last, best"}
    return ResultRow(label, metrics, scores[MAIN_METRIC], run.queries, scores, **columns, **fields)


def train(folder: Path, number: int, metrics: dict) -> None:
    """Write a round's `train/`: its manifest, and that of the checkpoint that it hands on."""
    name, weights = f"../round{number - 1}/train/epoch_2", f"w{number - 1}" * 8
    manifest = finetune_manifest(
        round=number,
        parent=Parent(name=name, weights=weights, base=number == 1),
        lineage={"5": "aa"},
        epochs=[Epoch(folder=f"epoch_{epoch}", metrics=metrics) for epoch in (1, 2)],
        peak_mib=900.5,
    )
    handed_on = checkpoint_manifest(weights=f"w{number}" * 8)
    store.write_manifest(folder / "train" / "epoch_2" / store.MANIFEST, handed_on)
    store.write_manifest(folder / "train" / store.MANIFEST, manifest)


def mine(data: Collection, experiment: Path, number: int) -> None:
    """Write a round's mined file, and the miner's query vectors beside the miner's run."""
    folder, rows = experiment / f"round{number}", collection.read_rows(data.folder / collection.FINETUNE, ("pos",))
    home = experiment.parent / "base" / "tiny" if number == 1 else experiment / f"round{number - 1}/train/epoch_2/runs"
    generator, ids = np.random.default_rng(number), list(data.passages)
    (home / "train-0").mkdir()
    queries = generator.normal(size=(len(rows), DIM)).astype(np.float32)
    np.save(home / "train-0" / run_store.VECTORS_FILE, queries)
    for row in rows:
        row["neg_id"] = [each for each in generator.choice(ids, 4, replace=False) if each not in row["pos_id"]]
        row["neg"] = [data.passages[each] for each in row["neg_id"]]
        row["neg_source"] = ["dense", *["bm25"] * (len(row["neg"]) - 1)]
    store.write_jsonl(folder / "finetune_data_minedHN.jsonl", rows)
    run = os.path.relpath(home / "train-0" / "corpus-0-ids" / run_store.RUN_FILE, folder)
    manifest = mined_manifest(run=run, seconds=3.5)
    store.write_manifest(folder / "finetune_data_minedHN.manifest.json", manifest)
