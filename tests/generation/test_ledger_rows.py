"""The ledger's rows on prompts: one for each predictor and embedder, where CV and LB meet."""

from pathlib import Path

import numpy as np
import pytest
from helpers.tiny_generator import make_recipe, make_rows

from rounds.artifacts import hashing, store
from rounds.artifacts.prompt_manifests import PromptBaselinesManifest, PromptSplitManifest
from rounds.evaluation import ledger
from rounds.generation import baselines, generator, ledger_rows, predicting, predictions, rows
from rounds.generation.predicting import PredictionJob
from rounds.generation.predictions import Predictions
from rounds.generation.rows import Split
from rounds.generation.tables import Scored
from rounds.generation.tuning import TuningJob, tune

ROWS, TEST = make_rows(3, 6), make_rows(2, 20)


@pytest.fixture
def data(tmp_path) -> Path:
    """Return a split's folder."""
    manifest = PromptSplitManifest(data="raw", split="v6", config={})
    rows.write_split(Split(make_rows(4), [], TEST), tmp_path / "data", manifest)
    return tmp_path / "data"


def make_predictions(name: str, **columns: str) -> Predictions:
    """Return predictions of a predictor of which the ledger knows a fingerprint."""
    return Predictions(name, ["a"] * len(ROWS), {}, columns={"recipe": name, "fingerprint": name, **columns})


def record(data: Path, listed: list[Predictions], embedder: str = "minilm") -> list[dict]:
    """Record predictions that all score 0.5, and return the ledger's rows."""
    scored = [Scored(each.title, np.full(len(ROWS), 0.5), 0.25, None, "clean") for each in listed]
    ledger_rows.record(listed, scored, ROWS, embedder, data, data.parent)
    return ledger.read(data.parent / "ledger.csv")


def test_scores_stand_under_their_metric_and_embedder(data):
    """SCS has a column of its own, two embedders have two rows, and scoring again adds none."""
    listed = [make_predictions("copy")]
    record(data, listed, "t5")
    first, second = record(data, listed), record(data, listed)
    assert first == second and [row["embedder"] for row in first] == ["t5", "minilm"]
    assert {(row["MAP@25"], row["SCS"], row["exact"], row["queries"]) for row in first} == {("", "0.5", "0.25", "3")}


def test_predictions_of_unknown_origin_have_no_row(data):
    """No later submission could be told to be theirs."""
    assert record(data, [Predictions("x", ["a"] * 3, None)]) == []


@pytest.mark.parametrize("first", ["evaluate", "submit"])
def test_cv_and_lb_meet_in_one_row_in_either_order(first, data):
    """The submission's score goes to the evaluated predictor."""
    steps = {
        "evaluate": lambda: record(data, [make_predictions("gen")]),
        "submit": lambda: ledger_rows.name_submission(make_predictions("gen").columns, "s", data, data.parent),
    }
    for step in sorted(steps, key=lambda name: name != first):
        steps[step]()
    ledger.score(data.parent / "ledger.csv", {"s": ("0.6", "0.7")})
    (row,) = ledger.read(data.parent / "ledger.csv")
    assert (row["SCS"], row["LB public"], row["submission"], row["lineage"]) == ("0.5", "0.6", "s", "clean")


def test_correlations_never_mix_embedders(data):
    """Three rows of one embedder and one of another are two groups; a ledger without prompts has no such columns."""
    path = data.parent / "ledger.csv"
    ranked = {"data": "raw", "split": "v6", "fingerprint": "f", "lineage": "clean", "MAP@25": 0.3, "LB public": 0.3}
    ledger.record(path, [ranked])
    assert list(ledger.read(path)[0]) == ledger.COLUMNS
    for place in range(3):
        record(data, [make_predictions(f"gen{place}")])
        ledger_rows.name_submission({"fingerprint": f"gen{place}"}, f"s{place}", data, data.parent)
    read = record(data, [make_predictions("other")], "t5")
    assert len(read) == 5
    ledger.score(path, {f"s{place}": (str(0.1 * place), "") for place in range(3)})
    assert [each["n"] for each in ledger.correlations(ledger.read(path))] == [1, 3]


def test_a_generator_is_the_same_whatever_it_predicts(tmp_path):
    """Validation rows, test rows and a bundle without rows give one fingerprint; other weights give another."""
    prints = set()
    for steps in (1, 2):
        tune(TuningJob(make_recipe(steps=steps), make_rows(4), [], tmp_path / f"train{steps}", "cpu"))
        source = generator.find_checkpoint(tmp_path / f"train{steps}")
        own = {predicting.columns(source, "minilm", 42)["fingerprint"]}
        for side, listed in (("validation", ROWS), ("test", TEST)):
            title = predicting.title(source.recipe, steps)
            output = tmp_path / f"{side}{steps}"
            predicting.predict(PredictionJob(source, listed, output, "cpu", source.recipe, title))
            own.add(predictions.read(output, listed).columns["fingerprint"])
        assert len(own) == 1
        prints |= own
    assert len(prints) == 2


def test_a_baseline_is_known_by_its_rows_and_embedder(tmp_path):
    """Joined predictions have a row of their own; a single one stays what it is."""
    prints = {}
    for embedder in ("minilm", "t5"):
        config = {"embedder": embedder, "data": {"train.jsonl": hashing.sha256_json([])}}
        manifest = PromptBaselinesManifest(titles=baselines.TITLES, config=config)
        with store.writing(tmp_path / embedder, manifest) as folder:
            for name in ("fixed", "nearest"):
                predictions.write(folder / name, ROWS, ["a"] * len(ROWS))
        parts = [predictions.read(tmp_path / embedder / name, ROWS) for name in ("fixed", "nearest")]
        for each in (*parts, predictions.join(parts)):
            prints[embedder, each.title] = each.columns["fingerprint"]
        assert predictions.join(parts[:1]) == parts[0]
    assert len(set(prints.values())) == 6
