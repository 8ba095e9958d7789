"""Averages in the pipeline: which checkpoints RUNS names, and which targets take their average."""

import pytest
from helpers.manifests import checkpoint_manifest, finetune_manifest

from rounds.artifacts import store
from rounds.config import loader
from rounds.errors import UserError
from rounds.pipeline import targets


@pytest.fixture
def runs(session) -> str:
    """RUNS of two rounds that are trained."""
    made = session()
    targets.run("round2", made)
    return f"RUNS={made.experiment.folder.name}/round1 {made.experiment.folder.name}/round2"


def calls(make_session, target: str, *arguments: str) -> dict:
    """Return the calls that a target makes, by script."""
    session = make_session(*arguments, target=target)
    targets.run(target, session)
    return {command.script: command for command in session.runner.calls}


def test_rounds_are_averaged_and_evaluated_once(session, runs):
    """The average of the rounds' folders stands below zero-shot; again, nothing runs but the table."""
    made = calls(session, "average", runs)
    experiment = session(runs).experiment
    assert list(made) == ["average", "eval_llm_embedder"]
    assert dict(made["average"].flags)["model_paths"] == (str(experiment.train(1)), str(experiment.train(2)))
    assert made["eval_llm_embedder"].value("model_path") == made["average"].value("output_dir")
    assert made["eval_llm_embedder"].value("compare") == str(experiment.evaluation(0))
    assert calls(session, "average", runs) == {} == calls(session, "evaluate", runs)


def test_another_method_is_another_average(session, runs):
    """Each has a folder of its own."""
    mean, slerp = (calls(session, "average", runs, f"METHOD={name}")["average"] for name in ("mean", "slerp"))
    assert mean.value("output_dir") != slerp.value("output_dir")
    assert (mean.value("method"), slerp.value("method")) == ("mean", "slerp")


def test_a_round_that_was_trained_again_is_averaged_again(session, runs, project):
    """The average is made from the content of its parents."""
    calls(session, "average", runs)
    (project / "r.yaml").write_text("extends: tiny-mistral\ntraining: {epochs: 3}\n", encoding="utf-8")
    targets.run("round2", session())
    assert "average" in calls(session, "average", runs)


@pytest.mark.parametrize(
    ("target", "script"), [("submit", "make_submission"), ("bundle", "bundle"), ("publish", "publish")]
)
def test_what_leaves_takes_the_average(target, script, session, runs):
    """Submission, bundle and hub get the average and a name of its own; without RUNS they get the round."""
    made = calls(session, target, runs, "REPO=you/name")
    average = made["average"].value("output_dir")
    assert made[script].value("model_path") == average and "/average-" in average
    assert calls(session, target, "REPO=you/name")[script].value("model_path").endswith("round2/train")
    assert session(runs).experiment.submission != session().experiment.submission


def test_without_validation_queries_the_average_is_not_evaluated(session):
    """SPLIT=submission has none."""
    made = session("SPLIT=submission")
    targets.run("round2", made)
    name = made.experiment.folder.name
    scripts = calls(session, "average", "SPLIT=submission", f"RUNS={name}/round1 {name}/round2")
    assert list(scripts) == ["average"]


def test_a_checkpoint_s_own_folder_is_taken(session, runs, project):
    """RUNS may name an epoch below model_output, or any folder with a checkpoint."""
    name = session().experiment.folder.name
    made = calls(session, "average", f"RUNS={name}/round1/train model_output/{name}/round2/train")
    assert len(dict(made["average"].flags)["model_paths"]) == 2


@pytest.mark.parametrize("kind", ["round", "checkpoint"])
@pytest.mark.parametrize(
    ("name", "trained"), [("query", "{question} {wrong}"), ("passage", "{name}\n{explanation}"), ("latex", "words")]
)
def test_runs_that_read_other_texts_than_model_makes_are_refused(name, trained, kind, session, runs):
    """They would be evaluated and submitted on texts that they were not trained on; MODEL's own texts pass."""
    folder, prompts = session().experiment.train(2), loader.load("tiny-mistral").to_dict()["prompts"]

    def retrain(prompts: dict) -> None:
        recipe = {"prompts": prompts}
        manifest = finetune_manifest(config={"recipe": recipe})
        store.write_manifest(
            folder / store.MANIFEST, manifest if kind == "round" else checkpoint_manifest(recipe=recipe)
        )

    retrain({**prompts, name: trained})
    with pytest.raises(UserError, match=f"round2 was trained with prompts.{name} .*, and MODEL=r.yaml makes"):
        calls(session, "average", runs)
    retrain(prompts)
    assert "average" in calls(session, "average", runs)


def test_missing_runs_are_refused(session):
    """Without RUNS, or with one that has no checkpoint, one line says what to name."""
    with pytest.raises(UserError, match="RUNS: name two rounds or more, such as RUNS="):
        calls(session, "average")
    with pytest.raises(UserError, match="RUNS: nothing/round1 has no checkpoint: there is no model_output/nothing"):
        calls(session, "average", "RUNS=nothing/round1 nothing/round2")
