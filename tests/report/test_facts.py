"""Report: the facts are those of the files, and what is missing leaves its place empty."""

import shutil

import numpy as np
import pytest
from helpers import tiny_experiment
from helpers.tiny_task import refused

from rounds.artifacts import refusals, store
from rounds.data import collection
from rounds.encoding import run_store
from rounds.evaluation import ledger, results
from rounds.mining.statistics import MINED, read_mined
from rounds.report.facts import Facts, gather_facts, ranks_of_positives
from rounds.retrieval.run import Run


@pytest.fixture
def experiment(tiny_collection, tmp_path):
    """Rounds 0 to 2."""
    return tiny_experiment.make(tmp_path, tiny_collection)


def gathered(made: tiny_experiment.Experiment) -> Facts:
    return gather_facts(made.folder, made.data_dir, made.model_output)


def test_facts_are_those_of_the_evaluations(experiment):
    """Recall@k of a run is the metric that its evaluation kept; so are the epochs' scores and the whole vectors'."""
    facts = gathered(experiment)
    assert [each.label for each in facts.ranked] == ["BM25", "zero-shot", "round 1", "round 2"]
    last = facts.rows[-1].metrics
    at = facts.recall.set_index(["run", "k"])["value"]
    for k in (25, 50, 100):
        assert at["round 2", k] == pytest.approx(last[f"Recall@{k}"], abs=1e-6)
    epochs = facts.epochs[(facts.epochs["series"] == "rounds") & (facts.epochs["part"] == "unseen")]
    assert epochs["epoch"].unique().tolist() == ["round 1 · 1", "round 1 · 2", "round 2 · 1", "round 2 · 2"]
    assert epochs[epochs["metric"] == "MAP@25"]["value"].iloc[-1] == last["MAP@25 unseen"]
    whole = facts.dims[(facts.dims["when"] == "round 2") & (facts.dims["dimensions"] == 64)].set_index("metric")
    assert whole.loc["MAP@25", "value"] == pytest.approx(last["MAP@25"], abs=1e-6)
    assert facts.dims["dimensions"].unique().tolist() == [64, 32]
    assert len(facts.compared) == 1 + len(facts.rows)


def test_ranks_are_of_the_best_relevant_passage():
    """From 1; 0 where the run holds none."""
    run = Run(["a", "b", "c"], np.array([["1", "2", "3"]] * 3), np.zeros((3, 3)))
    assert ranks_of_positives(run, {"a": ["3", "2"], "b": ["9"], "c": ["1"]}).tolist() == [2, 0, 1]


def test_costs_and_lineage_come_from_manifests(experiment):
    """Stages in their order, memory where it was measured; parents with the hashes they had."""
    facts = gathered(experiment)
    assert facts.costs["stage"].tolist()[1:4] == ["round 1: mine", "round 1: train", "round 1: evaluate"]
    assert facts.costs["peak"].dropna().tolist() == [900.5, 900.5]
    assert [(each["parent"], each["status"]) for each in facts.lineage][1] == ("round1/train/epoch_2", "clean")
    assert facts.flags == [] and facts.missing == []


def test_negatives_are_measured_by_their_miner(experiment):
    """Cosines to the positive and the share above it, against a slow loop."""
    data = collection.read(experiment.data_dir)
    file = experiment.folder / "round1" / MINED
    found = read_mined(file, list(data.passages))
    rows = store.read_jsonl(file)
    home = experiment.model_output / "base" / "tiny"
    queries, corpus = (np.load(home / name / run_store.VECTORS) for name in ("train-0", "corpus-0"))
    place = {passage: number for number, passage in enumerate(data.passages)}
    above = [
        queries[number] @ corpus[place[each]] > queries[number] @ corpus[place[row["pos_id"][0]]]
        for number, row in enumerate(rows)
        for each in row["neg_id"]
    ]
    assert found.false == pytest.approx(np.mean(above)) and found.similarity.sum() == found.negatives == len(above)
    assert found.sources["dense"] == len(rows)


@pytest.mark.parametrize("what", ["nothing", "round 1 only", "vectors", "runs"])
def test_what_is_missing_is_left_out(what, experiment):
    """No round at all, the first only, vectors or runs deleted: the rest is there, and lost runs are named."""
    if what == "nothing":
        shutil.rmtree(experiment.folder)
    elif what == "round 1 only":
        shutil.rmtree(experiment.folder / "round2")
    else:
        for file in experiment.model_output.rglob(run_store.VECTORS if what == "vectors" else run_store.RUN_FILE):
            file.unlink()
    facts = gathered(experiment)
    labels = {"nothing": [], "round 1 only": ["zero-shot", "round 1"], "vectors": ["zero-shot", "round 1", "round 2"]}
    assert [each.label for each in facts.dense] == labels.get(what, [])
    assert facts.dims.empty == (what != "round 1 only")
    assert bool(facts.missing) == (what == "runs")


def test_flags_are_gathered(experiment):
    """POLLUTED rows, unknown lineages, a parent that was trained anew, and refusals that name the experiment."""
    folder = experiment.folder / "round1"
    (row,) = results.load(folder / "eval")
    row.about["lineage"] = "POLLUTED"
    results.save([row], folder / "eval")
    manifest = store.read_json(folder / "train" / store.MANIFEST)
    store.write_json(folder / "train" / store.MANIFEST, {**manifest, "lineage": None, "lineage_status": "x"})
    store.write_json(folder / "train" / "epoch_2" / store.MANIFEST, {"weights": "others"})
    for name in ("tiny-v1", "tiny-v2"):
        refusals.note(experiment.model_output, "eval", ["--model_path", f"out/{name}/round1/train"], f"{name} leaks")
    found = "\n".join(gathered(experiment).flags)
    for part in (f"{row.label}: POLLUTED", "round 1, epoch 2: x", "has other weights now", "tiny-v1 leaks"):
        assert part in found
    assert "tiny-v2" not in found


def test_ledger_sweep_and_folds_are_read(experiment):
    """LB scores of the same split, a row a side, and the cells of the sweep's and the cross-validation's table."""
    data = collection.read(experiment.data_dir)
    row = {**dict.fromkeys(ledger.COLUMNS, "x"), "data": data.data, "split": data.split, "lineage": "clean"}
    scores = {"MAP@25": "0.5", "LB public": "0.4", "LB private": "0.3"}
    ledger.record(experiment.model_output / "ledger.csv", [{**row, **scores}])
    table = "| # |  | MAP@25 |\n| --- | --- | ---: |\n| a | lora | 0.4ᵇ |\n\nSuperscripts\n"
    (experiment.model_output / f"sweep-{data.data}-v1.md").write_text(table)
    (experiment.model_output / "cv-tiny.md").write_text("folds\n\n|  | MAP@25 |\n| --- | ---: |\n| fusion | 0.5 |\n")
    facts = gathered(experiment)
    assert facts.cv == [["", "MAP@25"], ["fusion", "0.5"]]
    assert facts.lb[["side", "LB"]].to_numpy().tolist() == [["public", 0.4], ["private", 0.3]]
    assert facts.sweep == [["#", "", "MAP@25"], ["a", "lora", "0.4ᵇ"]]
    assert facts.correlations[0] == "CV and LB public of 1 checkpoints: Pearson too few, Spearman too few"


def test_a_split_without_validation_is_refused(experiment, tmp_path):
    """There is nothing to report on."""
    folder = tmp_path / "submission"
    shutil.copytree(experiment.data_dir, folder)
    (folder / "validation_queries.jsonl").write_text("")
    with refused(folder, "no validation queries"):
        gather_facts(experiment.folder, folder, experiment.model_output)
