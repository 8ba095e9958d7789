"""Facts agree with the files that the stages wrote, and what is missing leaves its table empty."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import tiny_experiment
from helpers.manifests import checkpoint_manifest
from helpers.tiny_task import refused

from rounds.artifacts import hashing, refusals, store
from rounds.data import collection
from rounds.data.source import MINED
from rounds.encoding import run_store
from rounds.evaluation import ledger, results
from rounds.evaluation.table import Column, Table
from rounds.mining.statistics import read_mined
from rounds.report.facts import Facts, gather_facts
from rounds.report.provenance import find_changed_folds
from rounds.report.ranked_runs import ranks_of_positives
from rounds.retrieval.run import Run


@pytest.fixture
def experiment(tiny_collection, tmp_path):
    """An experiment with rounds 0 to 2."""
    return tiny_experiment.make(tmp_path, tiny_collection)


def gather(experiment: tiny_experiment.Experiment) -> Facts:
    return gather_facts(experiment.folder, experiment.data_dir, experiment.model_output)


def test_frames_agree_with_the_stored_metrics(experiment):
    """Recall@k, the last epoch's scores and the scores of whole vectors equal the metrics that evaluation stored."""
    facts = gather(experiment)
    assert [ranked.label for ranked in facts.ranked] == ["BM25", "zero-shot", "round 1", "round 2"]
    last = facts.rows[-1].metrics
    recall = facts.recall.set_index(["run", "k"])["value"]
    for k in (25, 50, 100):
        assert recall["round 2", k] == pytest.approx(last[f"Recall@{k}"], abs=1e-6)
    epochs = facts.epochs[(facts.epochs["series"] == "rounds") & (facts.epochs["part"] == "unseen")]
    assert epochs["epoch"].unique().tolist() == ["round 1 · 1", "round 1 · 2", "round 2 · 1", "round 2 · 2"]
    assert epochs[epochs["metric"] == "MAP@25"]["value"].iloc[-1] == last["MAP@25 unseen"]
    last_round = facts.truncation[facts.truncation["when"] == "round 2"]
    whole = last_round[last_round["dimensions"] == 64].set_index("metric")
    assert whole.loc["MAP@25", "value"] == pytest.approx(last["MAP@25"], abs=1e-6)
    assert facts.truncation["dimensions"].unique().tolist() == [64, 32]
    assert len(facts.all_metrics) == 1 + len(facts.rows)


def test_a_querys_rank_is_that_of_its_best_relevant_passage():
    """Ranks count from 1; a run without any relevant passage gives 0."""
    run = Run(["a", "b", "c"], np.array([["1", "2", "3"]] * 3), np.zeros((3, 3)))
    assert ranks_of_positives(run, {"a": ["3", "2"], "b": ["9"], "c": ["1"]}).tolist() == [2, 0, 1]


def test_costs_and_lineage_come_from_manifests(experiment):
    """Stages keep their order, memory stands only where it was measured, and each checkpoint names its parent."""
    facts = gather(experiment)
    assert facts.costs["stage"].tolist()[1:4] == ["round 1: mine", "round 1: train", "round 1: evaluate"]
    assert facts.costs["peak"].dropna().tolist() == [900.5, 900.5]
    assert (facts.lineages[1].parent, facts.lineages[1].status) == ("round1/train/epoch_2", "clean")
    assert facts.warnings == [] and facts.missing == []


def test_negatives_are_measured_with_their_miners_vectors(experiment):
    """The share of negatives above the positive equals that of a slow loop over the mined file."""
    data = collection.read(experiment.data_dir)
    file = experiment.folder / "round1" / MINED
    statistics = read_mined(file, list(data.passages))
    rows = store.read_jsonl(file)
    home = experiment.model_output / "base" / "tiny"
    queries, corpus = (np.load(home / name / run_store.VECTORS_FILE) for name in ("train-0", "corpus-0"))
    place = {passage: number for number, passage in enumerate(data.passages)}
    above = [
        queries[number] @ corpus[place[negative]] > queries[number] @ corpus[place[row["pos_id"][0]]]
        for number, row in enumerate(rows)
        for negative in row["neg_id"]
    ]
    assert statistics.false == pytest.approx(np.mean(above))
    assert statistics.similarity.sum() == statistics.negatives == len(above)
    assert statistics.sources["dense"] == len(rows)


@pytest.mark.parametrize("case", ["no round", "one round", "no vectors", "no runs"])
def test_missing_files_leave_the_rest(case, experiment):
    """Without rounds, vectors or run files the other facts remain, and deleted runs are named."""
    if case == "no round":
        shutil.rmtree(experiment.folder)
    elif case == "one round":
        shutil.rmtree(experiment.folder / "round2")
    else:
        for file in experiment.model_output.rglob(
            run_store.VECTORS_FILE if case == "no vectors" else run_store.RUN_FILE
        ):
            file.unlink()
    facts = gather(experiment)
    labels = {"one round": ["zero-shot", "round 1"], "no vectors": ["zero-shot", "round 1", "round 2"]}
    assert [ranked.label for ranked in facts.checkpoint_runs] == labels.get(case, [])
    assert facts.truncation.empty == (case != "one round")
    assert bool(facts.missing) == (case == "no runs")


def test_warnings_name_what_must_not_be_trusted(experiment):
    """Polluted results, unknown lineages, retrained parents and the experiment's own refusals are all warned of."""
    folder = experiment.folder / "round1"
    (row,) = results.load(folder / "eval")
    results.save([dataclasses.replace(row, lineage="POLLUTED")], folder / "eval")
    manifest = store.read_manifest(folder / "train").with_values(lineage=None, lineage_status="x")
    store.write_manifest(folder / "train" / store.MANIFEST, manifest)
    retrained = checkpoint_manifest(weights="others")
    store.write_manifest(folder / "train" / "epoch_2" / store.MANIFEST, retrained)
    for name in ("tiny-v1", "tiny-v2"):
        refusals.record(experiment.model_output, "eval", ["--model_path", f"out/{name}/round1/train"], f"{name} leaks")
    warnings = "\n".join(gather(experiment).warnings)
    for part in (f"{row.label}: POLLUTED", "round 1, epoch 2: x", "has other weights now", "tiny-v1 leaks"):
        assert part in warnings
    assert "tiny-v2" not in warnings


def test_outside_questions_are_counted_by_source(experiment):
    """A round's training questions that are not the competition's stand apart, ancestors' included."""
    folder = experiment.folder / "round1" / "train"
    questions = {"5": "aa", "outside:a:bb": "bb", "outside:a:cc": "cc"}
    store.write_manifest(folder / store.MANIFEST, store.read_manifest(folder).with_values(lineage=questions))
    lineages = gather(experiment).lineages
    assert (lineages[0].questions, lineages[0].outside) == (3, {"a": 2}) and lineages[1].outside == {}


def test_tables_of_other_texts_are_left_alone(experiment):
    """A report on explanations or outside questions shows the tables of its own texts, and none of others."""
    data = collection.read(experiment.data_dir)
    folders = (experiment.folder, experiment.data_dir, experiment.model_output)
    own, other = (Table([Column("")], [[name]]) for name in ("own", "other"))
    for prefix in ("cv-tiny", f"sweep-{data.data}-v1"):
        own.save(experiment.model_output / f"{prefix}-12345678.json")
        other.save(experiment.model_output / f"{prefix}-87654321.json")
    facts = gather_facts(*folders, table_tag="12345678", cv_tag="12345678")
    assert facts.cross_validation == own and facts.sweep == own.lines
    facts = gather_facts(*folders, table_tag="00000000", cv_tag="00000000")
    assert facts.cross_validation is None and facts.sweep == []


def write_record(output: Path, **made_from) -> str:
    """Write a finished folder or file that was made from something; return the name by which others record it."""
    manifest = output / store.MANIFEST if output.suffix == "" else store.file_manifest(output)
    manifest.parent.mkdir(parents=True, exist_ok=True)
    output.touch() if output.suffix else None
    store.write_json(manifest, {"made_from": made_from})
    return hashing.made_from_digest(made_from)


def test_a_table_over_folds_of_before_is_told(tmp_path):
    """A table whose candidates, or their rounds, were made anew or removed is announced; one of today's is not."""
    table, numbers = tmp_path / "cv-tiny.json", (0, 1)
    rounds = [write_record(tmp_path / f"tiny-v5-{number}/round1/train", seed=number) for number in numbers]
    folders = [tmp_path / f"tiny-v5-{number}/round1/candidates" for number in numbers]
    folds = [write_record(folder, model_paths=key) for folder, key in zip(folders, rounds, strict=True)]
    write_record(table, folds=folds)
    assert find_changed_folds(table, tmp_path) == []
    write_record(tmp_path / "tiny-v5-1/round1/train", seed=7)
    (line,) = find_changed_folds(table, tmp_path)
    assert line.startswith("cv-tiny: candidates or rounds of 1 of its 2 folds were made anew or removed since")
    shutil.rmtree(folders[0])
    assert "of 2 of its 2 folds" in find_changed_folds(table, tmp_path)[0]
    epoch = hashing.sha256_json([rounds[0], "epoch_2"])[:16]
    (tmp_path / "tiny-v5-0/round1/train/epoch_2").mkdir()
    single = write_record(folders[0], model_paths=epoch)
    write_record(table, folds=single)
    assert find_changed_folds(table, tmp_path) == []
    write_record(table)  # by hand: it does not say from what
    assert find_changed_folds(table, tmp_path) == []


def test_ledger_sweep_and_folds_are_read(experiment):
    """LB scores of the split take one row a side; the tables of sweep and cross-validation keep their cells."""
    data = collection.read(experiment.data_dir)
    row = {**dict.fromkeys(ledger.COLUMNS, "x"), "data": data.data, "split": data.split, "lineage": "clean"}
    scores = {"MAP@25": "0.5", "LB public": "0.4", "LB private": "0.3"}
    ledger.record(experiment.model_output / "ledger.csv", [{**row, **scores}])
    sweep = Table([Column("#"), Column(""), Column("MAP@25")], [["a", "lora", "0.4ᵇ"]])
    sweep.save(experiment.model_output / f"sweep-{data.data}-v1.json")
    folds = Table([Column(""), Column("MAP@25")], [["fusion", "0.5"]], caption="over folds")
    folds.save(experiment.model_output / "cv-tiny.json")
    facts = gather(experiment)
    assert facts.cross_validation == folds
    assert facts.leaderboard[["side", "LB"]].to_numpy().tolist() == [["public", 0.4], ["private", 0.3]]
    assert facts.sweep == [["#", "", "MAP@25"], ["a", "lora", "0.4ᵇ"]]
    assert facts.correlations[0] == "CV and LB public of 1 checkpoints: Pearson too few, Spearman too few"


def test_a_split_without_validation_is_refused(experiment, tmp_path):
    """The refusal names the collection."""
    folder = tmp_path / "submission"
    shutil.copytree(experiment.data_dir, folder)
    (folder / "validation_queries.jsonl").write_text("")
    with refused(folder, "no validation queries"):
        gather_facts(experiment.folder, folder, experiment.model_output)
