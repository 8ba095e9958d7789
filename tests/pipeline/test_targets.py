"""Targets: which scripts each runs and in which order, what it refuses, and that it goes on where it was."""

import dataclasses
import importlib
import shutil

import pytest
from helpers import slow_clock
from helpers.fold_experiments import FoldedProject
from helpers.scripts import SCRIPTS
from transformers import HfArgumentParser

from rounds.errors import UserError
from rounds.evaluation.table import files_of
from rounds.pipeline import __main__, freshness, script_flags, status, targets
from rounds.pipeline.launch import command_line
from tests.helpers.target_runs import last_call, ran

ROUND = ["hn_mine", "finetune", "eval_llm_embedder"]


def test_rounds_run_once_and_in_order(session):
    """Round 2 after round 1 repeats nothing; a finished round runs nothing."""
    assert ran(session, "round1") == ["gen_data_for_hn_mine", "eval_llm_embedder", *ROUND]
    assert ran(session, "round2") == ROUND
    assert ran(session, "round2") == []


def test_any_number_of_rounds(session):
    """There is no last round."""
    assert ran(session, "round7").count("finetune") == 7
    assert ran(session, "evaluate", "ROUND=7") == []
    assert not targets.is_known("round0") and not targets.is_known("roundx") and targets.is_known("round12")


def test_round_zero_evaluates_the_base_model_alone(session):
    """`make evaluate ROUND=0` trains nothing; what needs a trained checkpoint refuses round 0."""
    assert ran(session, "evaluate", "ROUND=0") == ["gen_data_for_hn_mine", "eval_llm_embedder"]
    assert ran(session, "evaluate", "ROUND=0") == []
    for target in ("submit", "report", "candidates", "bundle", "publish", "dims"):
        with pytest.raises(UserError, match=f"{target}: ROUND=0 is the base model"):
            ran(session, target, "ROUND=0")


@pytest.mark.parametrize("recipe", ["tiny-tokens", "tiny-splade"])
@pytest.mark.parametrize("target", ["dims", "candidates", "rerank", "cv", "best", "distil", "baseline", "bench"])
def test_what_needs_dense_vectors_runs_nothing_for_others(recipe, target, session):
    """Before data are made or a round is trained, one line names target, recipe and pooling."""
    made = session(f"MODEL={recipe}", target=target)
    with pytest.raises(UserError, match=f"{target}: needs one dense vector for each text, and {recipe} has"):
        targets.run(target, made)
    assert made.runner.scripts == []


IMAGELESS = ["bundle", "publish", "demo", "candidates", "rerank", "cv", "best", "distil", "baseline"]


@pytest.mark.parametrize("target", IMAGELESS)
def test_what_cannot_read_images_trains_nothing_for_a_recipe_that_does(target, session):
    """The line comes before data are made or a round is trained."""
    made = session("MODEL=kbvqa", "REPO=you/name", target=target)
    with pytest.raises(UserError, match=f"{target}: reads words only, and kbvqa has model.vision"):
        targets.run(target, made)
    assert made.runner.scripts == []


def test_a_round_of_no_epochs_runs_nothing(session, tmp_path):
    """Rerankers alone may have `training.epochs: 0`; the base model can still be evaluated, and EPOCHS counts."""
    recipe = tmp_path / "untrained.yaml"
    recipe.write_text("training: {epochs: 0}\n")
    made = session(f"MODEL={recipe}", target="round1")
    with pytest.raises(UserError, match="recipe untrained: training.epochs is 0, which only a reranker may have"):
        targets.run("round1", made)
    assert made.runner.scripts == []
    assert ran(session, "evaluate", "ROUND=0", f"MODEL={recipe}")[-1] == "eval_llm_embedder"
    assert "finetune" in ran(session, "round1", "EPOCHS=1", f"MODEL={recipe}")


def test_mteb_needs_no_data_for_the_base_model(session):
    """The tasks have data of their own: nothing is made before, and nothing trained."""
    assert ran(session, "mteb", "ROUND=0", "TASKS=SciFact") == ["run_mteb"]
    assert ran(session, "mteb", "ROUND=1", "TASKS=SciFact")[-2:] == ["finetune", "run_mteb"]


def test_mteb_takes_the_round_s_checkpoint_and_the_base_model_s_recipe(session):
    """Results lie beside the round's own, in the precision that PRECISION names."""
    base = last_call(session, "mteb", "ROUND=0", "TASKS=SciFact NFCorpus", "PRECISION=fp32")
    assert (base.value("recipe"), base.value("model_path"), base.value("precision")) == ("r.yaml", "", "fp32")
    assert dict(base.flags)["tasks"] == ("SciFact", "NFCorpus") and base.value("output_dir").endswith("round0/mteb")
    trained = last_call(session, "mteb", "ROUND=1", "TASKS=SciFact")
    assert trained.value("recipe") == "" and trained.value("model_path").endswith("round1/train")


def test_mteb_has_the_rows_of_fixed_examples(session, project):
    """The recipe's few-shot examples come from the split's training rows, which are made first."""
    (project / "r.yaml").write_text(
        "extends: tiny-mistral\nprompts: {examples: fixed, examples_number: 1}\n", encoding="utf-8"
    )
    assert ran(session, "mteb", "ROUND=0", "TASKS=SciFact") == ["gen_data_for_hn_mine", "run_mteb"]
    assert last_call(session, "mteb", "ROUND=0", "TASKS=SciFact").value("data_dir").endswith("validation_v1")


def test_mteb_without_tasks_is_refused(session):
    """The line says how to name them."""
    with pytest.raises(UserError, match="TASKS='SciFact NFCorpus'"):
        ran(session, "mteb", "ROUND=0")


@pytest.fixture
def gradio_is_there(monkeypatch):
    """Let the target find gradio, whatever is installed."""
    monkeypatch.setattr(targets, "find_spec", lambda name: name)


def test_demo_serves_the_round_s_checkpoint_or_the_base_model(session, gradio_is_there):
    """Evaluations are not needed; the competition's CSVs hold the parts of its questions."""
    assert ran(session, "demo", "ROUND=0") == ["gen_data_for_hn_mine", "demo"]
    base = last_call(session, "demo", "ROUND=0", "PORT=1")
    assert [base.value(name) for name in ("recipe", "model_path", "raw_dir", "port")] == ["r.yaml", "", "raw", "1"]
    trained = last_call(session, "demo", "ROUND=1", "SPLIT=submission")
    assert trained.value("recipe") == "" and trained.value("model_path").endswith("round1/train")


def test_demo_computes_as_the_variables_say(session, gradio_is_there):
    """PRECISION and ENGINE reach the script; a task's own PRECISION is that of its evaluation alone."""
    call = last_call(session, "demo", "ROUND=0", "PRECISION=bf16", "ENGINE=flagembedding")
    assert (call.value("precision"), call.value("engine")) == ("bf16", "flagembedding")
    call = last_call(session, "demo", "ROUND=0", "TASK=beir")
    assert (call.value("precision"), call.value("engine")) == ("", "rounds")


def test_demo_refuses_before_it_trains(session, monkeypatch, gradio_is_there):
    """Questions about images, and a missing extra, whose name the line says; a dry run needs none."""
    with pytest.raises(UserError, match="TASK=kbvqa: .* about images"):
        ran(session, "demo", "TASK=kbvqa")
    monkeypatch.setattr(targets, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"gradio is not installed; .* pip install -e '\.\[demo\]'"):
        ran(session, "demo", "ROUND=1")
    dry = session("ROUND=0", target="demo", is_dry=True)
    targets.run("demo", dry)
    assert dry.runner.scripts[-1] == "demo"


def test_round_zero_prints_its_table_each_time(session, capsys):
    """The script's own table is hidden, so that round 1's is the first; asked for alone, it is shown."""
    for _ in range(2):
        ran(session, "evaluate", "ROUND=0")
        assert capsys.readouterr().out.count("MAP@25") == 1


@pytest.mark.parametrize("arguments", [("compare", "RUNS=a/round1"), ("sweep", "RECIPES=tiny-mistral"), ("tune_bm25",)])
def test_every_bm25_row_has_the_recipes_parameters(session, arguments):
    """Tables name the recipe whose BM25 stands in round 0's table, so one experiment has one BM25."""
    assert last_call(session, *arguments, "MODEL=tiny-qwen2").value("recipe") == "tiny-qwen2"


def test_runs_of_several_folds_are_compared_over_all_of_them(session, project):
    """Their split names the table, whatever SPLIT is, and no data are made."""
    folders = [FoldedProject(project).round("plain", fold) for fold in (1, 2)]
    runs = " ".join(str(folder.parent.relative_to(project / "model_output")) for folder in folders)
    made = session(f"RUNS={runs}", target="compare")
    targets.run("compare", made)
    (call,) = made.runner.calls
    assert ("folds", ()) in call.flags and dict(call.flags)["runs"] == tuple(
        str(folder.relative_to(project)) for folder in folders
    )
    assert call.value("output").startswith("model_output/compared-folds-raw-") and call.value("output").endswith("-v5")


def test_a_finished_round_says_so_and_prints_its_table(session, capsys):
    """`make round1` again is not silent: it names the folder and shows the results."""
    ran(session, "round1")
    capsys.readouterr()
    ran(session, "round1")
    printed = capsys.readouterr().out
    assert "round1: up to date" in printed and "MAP@25" in printed and "==" not in printed


def test_submitting_on_other_cards_trains_nothing(session):
    """DEVICE is recorded by the script, and is no part of what a checkpoint is."""
    ran(session, "round2")
    assert ran(session, "submit", "DEVICE=cuda:0,cuda:1") == ["make_submission"]


@pytest.mark.parametrize(
    "target",
    ["evaluate", "baseline", "report", "dims", "sweep", "compare", "tune_bm25", "dashboard", "brittle"],
)
def test_what_needs_validation_queries_refuses_a_split_without(target, session):
    """SPLIT=submission is one line that says why not, and nothing runs."""
    given = session("SPLIT=submission", target=target)
    with pytest.raises(UserError, match=f"{target}: SPLIT=submission .* no validation queries"):
        targets.run(target, given)
    assert given.runner.calls == []


def test_recipes_and_data_of_one_name_leave_each_other_alone(session, project):
    """MODEL=a/r.yaml and MODEL=b/r.yaml, and RAW=x/raw and RAW=y/raw, are finished side by side."""
    for place in ("a", "b"):
        (project / place).mkdir()
        (project / place / "r.yaml").write_text("extends: tiny-mistral\n", encoding="utf-8")
        (project / place / "raw").symlink_to(project / "raw")
    variants = [("MODEL=a/r.yaml",), ("MODEL=b/r.yaml",), ("RAW=a/raw",), ("RAW=b/raw",)]
    for variant in variants:
        assert "finetune" in ran(session, "round1", *variant)
    for variant in variants:
        assert ran(session, "round1", *variant) == []


def test_a_changed_parent_recipe_is_noticed_however_it_is_written(session, project):
    """Flow style, a comment behind `extends`, a parent that is a file: training runs again."""
    for text in ("{extends: ./parent.yaml}", "extends: ./parent.yaml  # base", "extends: ./parent.yaml"):
        (project / "r.yaml").write_text(text, encoding="utf-8")
        for epochs in (3, 4):
            (project / "parent.yaml").write_text(f"model: {{}}\ntraining: {{epochs: {epochs}}}\n", encoding="utf-8")
            assert "finetune" in ran(session, "round1")
            assert ran(session, "round1") == []


def test_changed_data_run_anew_through_a_link(session, project):
    """RAW is a link to a folder: a file that changes in it is noticed, whatever the task."""
    (project / "store").mkdir()
    (project / "store" / "rows.csv").write_text("1", encoding="utf-8")
    (project / "linked").symlink_to(project / "store")
    arguments = ("TASK=beir", "RAW=linked")
    assert ran(session, "data", *arguments) == ["gen_data_for_hn_mine"]
    assert ran(session, "data", *arguments) == []
    (project / "store" / "rows.csv").write_text("2", encoding="utf-8")
    assert ran(session, "data", *arguments) == ["gen_data_for_hn_mine"]


def test_best_goes_on_where_it_was(session, capsys):
    """Folds and all of train first, then the table and the submission; a second call shows the table and says so."""
    arguments = ("ROUND=1", "FOLDS=0 1")
    first = ran(session, "best", *arguments)
    assert first.count("candidates") == 3 and first[-2:] == ["cv", "fuse"] and first.count("finetune") == 3
    capsys.readouterr()
    assert ran(session, "best", *arguments) == []
    shown = capsys.readouterr().out
    assert "a row" in shown and shown.count("up to date") == 2


def test_the_table_of_cv_is_made_once_and_kept_by_best(session, project):
    """It has all rows of make best's, which is made anew only where candidates or a reranker are others."""
    arguments = ("ROUND=1", "FOLDS=0 1", "RERANKER=r.yaml")
    ran(session, "best", *arguments[:2])
    assert ran(session, "cv", *arguments) == ["rerank", "rerank", "cv"]
    assert ran(session, "cv", *arguments) == [] == ran(session, "best", *arguments[:2])
    names = session(*arguments, target="cv").on(split="v5", fold=1).experiment
    (markdown,) = files_of(names.cross_validation, ".md")
    markdown.unlink()
    assert ran(session, "best", *arguments[:2]) == ["cv"] and markdown.exists()
    shutil.rmtree(names.reranker(1))
    assert ran(session, "best", *arguments[:2]) == ["cv"]
    assert ran(session, "cv", *arguments) == ["rerank", "cv"]
    (project / "r.yaml").write_text("extends: tiny-mistral\nmining: {bm25: {k1: 0.9}}\n", encoding="utf-8")
    assert ran(session, "best", *arguments[:2])[-2:] == ["cv", "fuse"]


def test_status_lists_second_stages_that_were_made(session, project):
    """A fold's reranker behind its rounds, the submission behind those on all of train, the table behind both."""
    folded = ("ROUND=1", "FOLDS=0 1")

    def listed(*place: str) -> dict[str, str]:
        stages = status.listed(session(*folded, "RERANKER=r.yaml", *place).experiment)
        return {stage.name: freshness.state(stage).kind for stage in stages[1:]}

    assert listed("SPLIT=v5", "FOLD=1") == listed("SPLIT=submission") == {}
    ran(session, "best", *folded)
    assert listed("SPLIT=v5", "FOLD=1") == dict.fromkeys(["candidates", "cv"], "fresh")
    assert listed("SPLIT=submission") == dict.fromkeys(["candidates", "fuse", "cv"], "fresh")
    ran(session, "cv", *folded, "RERANKER=r.yaml")
    assert listed("SPLIT=v5", "FOLD=1") == dict.fromkeys(["candidates", "rerank", "cv"], "fresh")
    assert listed("SPLIT=v1") == {} and listed("SPLIT=v5", "FOLDS=1") == {"candidates": "fresh"}
    (project / "r.yaml").write_text("extends: tiny-mistral\nensemble: {boosted_trees: false}\n", encoding="utf-8")
    assert listed("SPLIT=v5", "FOLD=1")["cv"] == "stale"
    assert listed("SPLIT=submission") == {"candidates": "fresh", "cv": "stale"}


def test_the_scripts_of_best_and_distil_take_the_flags_that_they_get(session, monkeypatch, project):
    """As argparse reads them: a flag without its values, or an unknown one, would end a run behind all its rounds."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    (project / "extra.csv").touch()
    (project / "r.yaml").write_text("extends: tiny-mistral\nensemble: {outside_votes: false}\n", encoding="utf-8")
    for target in ("best", "distil", "cv"):
        made = session("ROUND=1", "FOLDS=0 1", "EXTRA=extra.csv", "RERANKER=r.yaml", target=target)
        targets.run(target, made)
        for call in made.runner.calls:
            flags_class = importlib.import_module(call.script).Flags
            _, unknown = HfArgumentParser(flags_class).parse_args_into_dataclasses(
                call.arguments(), return_remaining_strings=True
            )
            assert unknown == []


def test_the_ensemble_learns_from_folds_of_v6(session):
    """SPLIT=v6: its folds have rounds of their own, those on all of train are v5's, the submission is another file."""
    plain = last_call(session, "best", "ROUND=1", "FOLDS=0 1")
    made = session("ROUND=1", "FOLDS=0 1", "SPLIT=v6", target="best")
    targets.run("best", made)
    scripts, fused = made.runner.scripts, made.runner.calls[-1]
    assert (scripts.count("finetune"), scripts.count("candidates"), scripts[-2:]) == (2, 2, ["cv", "fuse"])
    assert all("-v6" in folder for folder in dict(fused.flags)["folds"])
    assert fused.value("output_file") != plain.value("output_file")


def _best_with_key(session, project, key: str, flag: str, *arguments: str) -> list[str]:
    """Run make best before and after a recipe gets a key of `ensemble`; return the submissions' names.

    Nothing is trained anew, and the table and the submission alone are made with the key's flag.
    """
    plain = session(*arguments, target="best")
    targets.run("best", plain)
    (project / "r.yaml").write_text(f"extends: tiny-mistral\nensemble: {{{key}}}\n", encoding="utf-8")
    changed = session(*arguments, target="best")
    targets.run("best", changed)
    assert changed.runner.scripts == ["cv", "fuse"]
    flags = [[flag in dict(call.flags) for call in made.runner.calls[-2:]] for made in (plain, changed)]
    assert flags == [[False, False], [True, True]]
    return [made.runner.calls[-1].value("output_file") for made in (plain, changed)]


@pytest.mark.parametrize("target", ["best", "cv", "distil"])
def test_vectors_of_any_length_are_refused_before_rounds_are_trained(session, project, target):
    """Second stages vote by cosine; a recipe that does not normalize is named before anything runs."""
    (project / "r.yaml").write_text("extends: tiny-mistral\nmodel: {normalize: false}\n", encoding="utf-8")
    made = session("ROUND=1", "FOLDS=0 1", target=target)
    with pytest.raises(UserError, match="second stages: .*recipe r .*model.normalize"):
        targets.run(target, made)
    assert not made.runner.calls


def test_a_recipe_asks_for_the_unseen_prior(session, project):
    """Then make best measures it, submits by it under another name and trains nothing anew; make cv always does."""
    arguments = ("ROUND=1", "FOLDS=0 1 2")
    plain, shifted = _best_with_key(session, project, "unseen_prior: true", "unseen_prior", *arguments)
    assert shifted == plain.replace(".csv", "-unseen-prior.csv")
    measured = last_call(session, "cv", *arguments, "RERANKER=r.yaml")
    assert "unseen_prior" in dict(measured.flags)
    refused = session("ROUND=1", "FOLDS=0 1", target="best")
    with pytest.raises(UserError, match="FOLDS=0 1: ensemble.unseen_prior needs 3 folds or more"):
        targets.run("best", refused)
    assert refused.runner.calls == []


def test_a_recipe_leaves_out_outside_votes(session, project):
    """Then make best and make cv read none, and train nothing anew; without outside questions the key says nothing."""
    (project / "extra.csv").touch()
    arguments = ("ROUND=1", "FOLDS=0 1")
    key = ("outside_votes: false", "without_outside")
    plain, silent = _best_with_key(session, project, *key, *arguments, "EXTRA=extra.csv")
    assert silent == plain.replace(".csv", "-no-outside-votes.csv")
    assert "no-outside" not in last_call(session, "best", *arguments).value("output_file")


def test_a_recipe_leaves_out_boosted_trees(session, project):
    """Then make best, make cv and make distil fit none, and train nothing anew."""
    plain, changed = _best_with_key(session, project, "boosted_trees: false", "without_trees", "ROUND=1", "FOLDS=0 1")
    assert changed == plain.replace(".csv", "-no-boosted-trees.csv")
    distilled = session("ROUND=1", "FOLDS=0 1", target="distil")
    targets.run("distil", distilled)
    calls = {call.script: dict(call.flags) for call in distilled.runner.calls}
    assert calls["teach"]["recipe"] == ("r.yaml",) and not {"finetune", "candidates"} & calls.keys()
    measured = last_call(session, "cv", "ROUND=1", "FOLDS=0 1", "RERANKER=r.yaml")
    assert measured.script == "cv" and "without_trees" in dict(measured.flags)


def test_a_sweep_goes_on_where_it_was(session, project):
    """Recipes that were trained are not trained again; each has folders of its own."""
    (project / "other.yaml").write_text("extends: tiny-mistral\ntuning: {method: bottleneck}\n", encoding="utf-8")
    ran(session, "round1")
    assert ran(session, "sweep", "RECIPES=r.yaml other.yaml").count("finetune") == 1
    assert ran(session, "sweep", "RECIPES=r.yaml other.yaml") == ["sweep"]


def test_a_private_leaderboard_is_held_out_then_scored(session, project):
    """With plain data, questions are held out; with such a folder, the round is submitted and scored."""
    call = last_call(session, "private_lb", "HELD_OUT=0.3")
    assert call.value("raw_dir") == "raw" and call.value("size") == "0.3"
    (project / "data").mkdir(exist_ok=True)
    (project / "data" / "private-raw").symlink_to(project / "raw")
    scripts = ran(session, "private_lb", "RAW=data/private-raw", "ROUND=1")
    assert scripts[-2:] == ["make_submission", "private_lb"]


def test_an_ensemble_is_scored_on_held_out_questions(session, project):
    """make best names its submission there, also again; make private_lb scores it beside the round on all of train."""
    (project / "data").mkdir(exist_ok=True)
    (project / "data" / "private-raw").symlink_to(project / "raw")
    arguments = ("RAW=data/private-raw", "ROUND=1", "FOLDS=0 1")
    for _ in range(2):
        fused = last_call(session, "best", *arguments)
        assert fused.script == "fuse" and fused.has("named")
    scored = last_call(session, "private_lb", *arguments, "SPLIT=submission")
    assert scored.script == "private_lb"
    assert dict(scored.flags)["submission"][1:] == (fused.value("output_file"),)
    assert len(dict(last_call(session, "private_lb", *arguments).flags)["submission"]) == 1
    assert not last_call(session, "best", *arguments[1:]).has("named")
    (project / "r.yaml").write_text("extends: tiny-mistral\nmining: {bm25: {k1: 0.9}}\n", encoding="utf-8")
    assert len(dict(last_call(session, "private_lb", *arguments, "SPLIT=submission").flags)["submission"]) == 1


def test_runs_are_scored_on_held_out_questions_alone(session):
    """Holding questions out reads no RUNS, which would be ignored without a word."""
    with pytest.raises(UserError, match=r"RUNS=some-v1/round1: .*RAW=raw has none held out.*RAW=data/private-raw"):
        ran(session, "private_lb", "RUNS=some-v1/round1")


@pytest.mark.parametrize(
    ("target", "flags"),
    [
        ("bundle", {"hours": "3.0", "owner": "me", "everything": "", "python": "3.11"}),
        ("parity", {"a": "x@fp32", "b": "y"}),
        ("tokens", {"probe": "tokens", "recipe": "r.yaml"}),
        ("fit_batch", {"probe": "fit_batch"}),
        ("brittle", {"probe": "brittle"}),
        ("bench", {"only": "a", "document": ""}),
        ("report", {"output_dir": "model_output/report-"}),
        ("lb", {"competition": "eedi-mining-misconceptions-in-mathematics"}),
        ("compare", {"runs": "model_output/x/round1/eval"}),
        ("dims", {"recipe": "r.yaml"}),
        ("dashboard", {"port": "1"}),
        ("ledger", {}),
        ("tune_bm25", {}),
        ("download", {"output_dir": "data/raw", "competition": "eedi-mining-misconceptions-in-mathematics"}),
    ],
)
def test_calls_carry_their_settings(target, flags, session):
    """Each target that leaves no stage's artefact passes its variables on to its script."""
    arguments = ["HOURS=3", "OWNER=me", "A=x@fp32", "B=y", "ONLY=a", "PORT=1", "ROUND=1"]
    runs = ["RUNS=x/round1"] if target == "compare" else []  # others take the average of RUNS
    call = last_call(session, target, *arguments, *runs)
    for name, value in flags.items():
        assert call.value(name).startswith(value) and bool(call.value(name)) == bool(value)


def test_missing_variables_are_one_line(session):
    """RUNS, A and B are asked for with an example."""
    for target, parts in (("compare", "RUNS"), ("parity", "A and B"), ("pretrain", "vision")):
        with pytest.raises(UserError, match=parts):
            targets.run(target, session(target=target))


def test_each_seed_of_training_has_its_rounds_on_each_fold(session):
    """Missing rounds run first, again nothing does; the table's name carries the seeds."""
    arguments = ("FOLDS=0 1", "ROUND=1", "TRAIN_SEEDS=42 43")
    scripts = ran(session, "best", *arguments)
    assert (scripts.count("finetune"), scripts.count("candidates")) == (6, 3)
    made = session(*arguments, target="cv")
    targets.run("cv", made)
    assert made.runner.scripts == ["rerank", "rerank", "cv"]
    assert all("seeds-42-43" in path for path in dict(made.runner.calls[-1].flags)["folds"])
    plain = session("FOLDS=0 1", "ROUND=1", target="best")
    assert plain.experiment.cross_validation != made.experiment.cross_validation


def test_training_seeds_are_refused_where_one_is_meant(session):
    """Beside TRAIN_SEED, a single one, and for the one embedder of make distil."""
    with pytest.raises(UserError, match="TRAIN_SEEDS=7: name two seeds or more; a single one is TRAIN_SEED"):
        session("TRAIN_SEEDS=7", target="cv")
    with pytest.raises(UserError, match="TRAIN_SEED=7: TRAIN_SEEDS names all seeds"):
        session("TRAIN_SEED=7", "TRAIN_SEEDS=7 8", target="cv")
    with pytest.raises(UserError, match="TRAIN_SEEDS: make distil teaches by the rounds of one seed"):
        targets.run("distil", session("TRAIN_SEEDS=7 8", target="distil"))


@pytest.mark.parametrize("target", ["rerank", "cv", "best", "distil"])
def test_second_stages_want_two_folds_before_they_train(target, session):
    """One fold has no other to learn from: refused before anything runs."""
    given = session("FOLDS=1", target=target)
    with pytest.raises(UserError, match="FOLDS=1: name two folds or more"):
        targets.run(target, given)
    assert given.runner.calls == []


@pytest.mark.parametrize(
    ("argument", "part"),
    [
        ("TUNE_FLAGS=--group_sze 4", "scripts/finetune.py takes no --group_sze"),
        (
            "TUNE_FLAGS=--warmup_ratio 0.2",
            "training.warmup_ratio is a key of the recipe; set it in r.yaml (MODEL=FILE)",
        ),
        ("TUNE_FLAGS=--max-grad-norm 1", "training.max_grad_norm is a key of the recipe"),
        ("MINE_FLAGS=--candidates labelled", "mining.candidates is a key of the recipe"),
        ("TUNE_FLAGS=--group_size 0", "training.group_size is 0"),
        ("TUNE_FLAGS=--group_size four", "training.group_size must be of type int"),
        ("TUNE_FLAGS=--group_size", "--group_size takes one value"),
        ("TUNE_FLAGS=4", "'4' is no flag"),
        ("TUNE_FLAGS=--output_dir x", "--output_dir is set by make"),
        ("TUNE_FLAGS=--output-dir=x", "--output_dir is set by make"),
        ("TUNE_FLAGS=--epochs 3", "--epochs is set by make; say EPOCHS= instead"),
        ("MINE_FLAGS=--range_for_sampling 200", "range_for_sampling"),
        ("MINE_FLAGS=--seed 1", "--seed is set by make; say SEED= instead"),
        ("MINE_FLAGS=--group_size 4", "scripts/hn_mine.py takes no --group_size"),
    ],
)
def test_extra_flags_are_checked_before_any_stage(argument, part, session):
    """A wrong flag or value, and one that make sets, is one line that names the variable; nothing runs."""
    given = session(argument)
    with pytest.raises(UserError) as caught:
        targets.run("round1", given)
    assert str(caught.value).startswith(f"{argument}: ") and part in str(caught.value)
    assert "\n" not in str(caught.value) and given.runner.calls == []


def test_extra_flags_that_scripts_take_pass(session):
    """Keys of the recipe and other flags of a script reach its call, in both spellings."""
    flags = ["MINE_FLAGS=--range_for_sampling 2-50 --overwrite", "TUNE_FLAGS=--learning_rate=1e-5 --group-size 4"]
    given = session(*flags)
    targets.run("round1", given)
    calls = {call.script: call for call in given.runner.calls}
    assert calls["hn_mine"].value("range_for_sampling") == "2-50"
    assert calls["finetune"].value("learning_rate") == "1e-5" and calls["finetune"].value("group-size") == "4"


@pytest.mark.parametrize("script", script_flags.FLAGS)
def test_extra_flags_are_those_of_the_scripts(script, monkeypatch):
    """The pipeline, which loads no script, knows each flag that it has."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    module, listed = importlib.import_module(script), script_flags.FLAGS[script]
    assert {field.name for field in dataclasses.fields(module.Flags) if field.init} == {
        *listed.overrides,
        *listed.others,
        *listed.variables,
    }
    assert set(module.OVERRIDES) == {*listed.overrides, *({"epochs"} & set(module.OVERRIDES))}


def test_push_rehearses_with_dry(session):
    """DRY=1 lets the script print Kaggle's commands; make -n prints the script's call."""
    assert ("dry", ()) in last_call(session, "push", "DRY=1").flags
    assert last_call(session, "push").flags == ()


def test_publishing_ends_the_round_and_names_its_evaluations(session):
    """The model, its data and every row of its table; the folder is of this experiment and round."""
    given = session("REPO=you/name", "ROUND=1", "LICENSE=mit", "PUBLIC=1", "MERGED=1", target="publish")
    targets.run("publish", given)
    assert given.runner.scripts[-2:] == ["eval_llm_embedder", "publish"]
    call, names = given.runner.calls[-1], given.experiment
    assert dict(call.flags)["evaluations"] == (str(names.evaluation(0)), str(names.evaluation(1)))
    assert call.value("model_path") == str(names.train(1)) and call.value("raw_dir") == "raw"
    assert call.value("repo") == "you/name" and call.value("license") == "mit"
    assert call.value("output_dir") == f"submissions/publish/{names.submission}"
    assert {("public", ()), ("merged", ())} <= set(call.flags) and ("dry", ()) not in call.flags


def test_publishing_all_of_train_has_no_evaluations(session):
    """SPLIT=submission ends with the training."""
    given = session("REPO=you/name", "ROUND=1", "SPLIT=submission", target="publish")
    targets.run("publish", given)
    assert given.runner.scripts[-2:] == ["finetune", "publish"]
    assert "evaluations" not in dict(given.runner.calls[-1].flags)


def test_publishing_rehearses_with_dry(session):
    """DRY=1 lets the script write the folder; make -n prints the script's call."""
    assert ("dry", ()) in last_call(session, "publish", "REPO=you/name", "DRY=1").flags
    dry = session("REPO=you/name", target="publish", is_dry=True)
    targets.run("publish", dry)
    assert dry.runner.is_dry and ("dry", ()) not in dry.runner.calls[-1].flags


def test_publishing_needs_a_repository(session):
    """It is asked for before anything runs, also in a rehearsal, since the card names it."""
    given = session("DRY=1", target="publish")
    with pytest.raises(UserError, match="REPO: name the repository on the hub, such as REPO=you/name"):
        targets.run("publish", given)
    assert given.runner.calls == []


def test_blanks_survive_in_values(session):
    """FOLDS, RECIPES and RUNS are lists; paths with blanks are one word of a call."""
    call = last_call(session, "compare", "RUNS=a/round1 b/round1")
    assert dict(call.flags)["runs"] == ("model_output/a/round1/eval", "model_output/b/round1/eval")
    assert "model_output/a/round1/eval" in command_line(call)


@pytest.mark.parametrize(
    ("arguments", "flags", "part"),
    [
        (["roundx"], "", "roundx: no such target"),
        (["reprot"], "", "did you mean report"),
        (["round0"], "", "round0: no such target"),
        ([], "", "name one target"),
        (["ledger", "SPLT=v1"], "", "did you mean SPLIT"),
        (["ledger"], " -- SPLT=v1", "did you mean SPLIT"),
        (["ledger", "SPLIT=v9"], "", "SPLIT=v9"),
        (["round1"], "t", "make -t"),
        (["round1200", "RAW=raw"], "", "ROUND=1200: must be at most 100"),
        (["ledger", "DEVICE=cudda"], "", "DEVICE=cudda"),
        (["publish", "REPO=name"], "", "REPO=name: must be OWNER/NAME"),
    ],
)
def test_what_a_person_got_wrong_is_one_line_and_exit_two(arguments, flags, part, project, capsys):
    """Unknown targets and variables, and wrong values, are named with the nearest right one."""
    assert __main__.main(arguments, {"MAKEFLAGS": flags}) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and part in error


@pytest.mark.parametrize(
    ("text", "flags", "names"),
    [
        ("", "", []),
        ("n", "n", []),
        ("kn -j2 --jobserver-auth=3,4 -- RUNS=a\\ b=c SPLIT=v1", "kn", ["RUNS", "SPLIT"]),
        (" --no-print-directory", "", []),
        (" -- FOLDS=0\\ 1", "", ["FOLDS"]),
    ],
)
def test_makes_flags_are_read(text, flags, names):
    """-n and the names on make's command line, whose blanks are escaped."""
    assert __main__.make_flags(text) == (flags, names)


def test_the_first_fold_that_runs_tells_how_long_all_take(session, monkeypatch, capsys):
    """Folds that are up to date do not count, and a dry run says nothing."""
    slow_clock.use(monkeypatch)
    given = ("ROUND=1", "FOLDS=0 1 2")
    targets.run("cv", session(*given, "DRY=1", target="cv", is_dry=True))
    assert slow_clock.lines(capsys) == []
    targets.run("candidates", session("ROUND=1", "SPLIT=v5", "FOLD=0", target="candidates"))
    targets.run("best", session(*given, target="best"))
    assert slow_clock.lines(capsys) == ["2 folds: about 20 min (2 folds, 6.0 folds/h)"]
