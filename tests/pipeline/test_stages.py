"""Stages: their commands and what each needs, and what their state says of an output."""

import io
from dataclasses import replace

import pytest
from helpers.tiny_task import refused
from rich.console import Console

from rounds.artifacts import store
from rounds.artifacts.manifests import CollectionManifest, SampleManifest
from rounds.errors import UserError
from rounds.pipeline import candidate_stages, freshness, keys, settings, stages, status, task_defaults
from rounds.pipeline.freshness import FRESH, MISSING, STALE


def outputs(*targets) -> list[str]:
    return [stage.name for stage in freshness.in_order(targets)]


def test_a_round_needs_the_rounds_before_it(experiment):
    """Each stage comes after its inputs and once; any number of rounds is a chain."""
    names = outputs(stages.round_end(experiment(), 2))
    assert names[:2] == ["data", "round 0: evaluate"]
    assert names[2:] == [f"round {number}: {step}" for number in (1, 2) for step in ("mine", "finetune", "evaluate")]
    assert len(outputs(stages.round_end(experiment(), 60))) == 2 + 3 * 60


def test_everything_trains_without_evaluation(experiment):
    """SPLIT=submission has no validation queries: a round ends with its training, and evaluates nothing."""
    names = outputs(stages.round_end(experiment("SPLIT=submission"), 2))
    assert names == ["data", "round 1: mine", "round 1: finetune", "round 2: mine", "round 2: finetune"]


def test_a_sample_is_generated_where_there_are_no_data(session):
    """Without RAW the generator is a stage; a folder that does not exist is one line."""
    assert outputs(stages.data(session("RAW=").experiment))[0] == "sample"
    with pytest.raises(UserError, match="RAW=nowhere: no such folder"):
        stages.data(session("RAW=nowhere").experiment)


def test_raw_is_a_folder_or_a_file_as_the_task_wants_it(experiment, project):
    """The line says that RAW is a file and what the task takes, and the other way round for pairs."""
    (project / "train.csv").touch()
    with pytest.raises(UserError, match="RAW=train.csv: is a file; task eedi takes the folder with train.csv"):
        stages.data(experiment("RAW=train.csv"))
    with pytest.raises(UserError, match="RAW=raw: is a folder; task pairs takes a CSV"):
        stages.data(experiment("TASK=pairs", "RAW=raw"))


def test_the_last_round_is_no_deep_recursion(experiment):
    """The longest chain that ROUND allows is put in order."""
    last = settings.LAST_ROUND
    assert len(outputs(stages.round_end(experiment(), last))) == 2 + 3 * last
    assert len(outputs(stages.round_end(experiment("SPLIT=submission"), last))) == 1 + 2 * last


def test_a_sample_keeps_its_parameters(session, project):
    """A sample of other questions is not regenerated because the default differs; QUESTIONS=N says otherwise."""

    def questions(*arguments: str, anew: bool = False) -> tuple[str, str]:
        call = stages.sample(session("RAW=", *arguments).experiment, anew).command
        return call.value("questions"), call.value("seed")

    assert questions() == ("1100", "42") == questions("SEED=7")
    with store.writing(project / "data" / "sample", SampleManifest(config={"questions": 150, "seed": 3})):
        pass
    assert questions() == ("150", "3") and questions("QUESTIONS=90") == ("90", "3")
    assert questions("SEED=7", anew=True) == ("1100", "7")


def test_flags_reach_the_scripts_that_take_them(experiment):
    """EPOCHS, DEVICE, NPROC, TRACK, MINE_FLAGS and TUNE_FLAGS stand in the calls of the stages that they are for."""
    arguments = ["EPOCHS=3", "DEVICE=cuda:0,cuda:1", "NPROC=2", "TRACK=wandb", "SEED=0", "FOLD=2"]
    given = experiment(*arguments, "MINE_FLAGS=--negative_number 3", "TUNE_FLAGS=--group_size 4")
    _, first, second = stages.rounds(given, 2)
    assert first.mine.command.value("devices") == "cuda:0,cuda:1"
    assert first.mine.command.value("negative_number") == "3"
    assert first.train.command.value("device") == "cuda:0" and first.train.command.processes == 2
    assert first.train.command.value("epochs") == "3" and first.train.command.value("track") == "wandb"
    assert first.train.command.value("group_size") == "4" and not first.train.command.value("model_name_or_path")
    assert second.train.command.value("model_name_or_path") == second.mine.command.value("embedder_name_or_path")
    assert second.train.command.value("seed") == "0" and stages.data(given).command.value("fold") == "2"


def test_machines_multiply_processes_and_name_no_folder(experiment):
    """HOSTS=a,b NPROC=2 trains what NPROC=4 trains."""
    spread, alone = experiment("HOSTS=a,b", "NPROC=2"), experiment("NPROC=4")
    call = stages.training(spread, 1).command
    assert (call.processes, call.hosts) == (4, ("a", "b"))
    assert spread.train(1) == alone.train(1)
    assert stages.training(alone, 1).command == replace(call, hosts=())


def test_a_sharded_recipe_takes_all_gpus_of_each_machine(experiment, project):
    """Its script starts the processes, so NPROC is refused before anything runs, with the way out."""
    recipe = "extends: tiny-mistral\ntraining: {sharding: fsdp, micro_batch_tokens: 512}\n"
    (project / "r.yaml").write_text(recipe, encoding="utf-8")
    call = stages.training(experiment("HOSTS=a,b"), 1).command
    assert call.is_sharded and call.processes == 2
    with pytest.raises(UserError, match="NPROC=4: training.sharding fsdp of MODEL=r.yaml .* say NPROC=1"):
        stages.training(experiment("HOSTS=a,b", "NPROC=4"), 1)


def test_the_training_seed_reaches_training_alone(experiment):
    """TRAIN_SEED seeds what trains; the split and the mining keep SEED."""
    given = experiment("SEED=5", "TRAIN_SEED=0", "SPLIT=v5")
    seeds = {stage.name: stage.command.value("seed") for stage in freshness.in_order([stages.round_end(given, 1)])}
    assert (seeds["data"], seeds["round 1: mine"], seeds["round 1: finetune"]) == ("5", "5", "0")
    others = (candidate_stages.rerank(given, ()), stages.baseline(given).inputs[0])
    assert [stage.command.value("seed") for stage in others] == ["0", "0"]


def test_pairs_name_their_columns(experiment, project):
    """FIELDS=a,b,c are the columns of queries, passages and groups; the group may be left out."""
    (project / "pairs.csv").touch()
    call = stages.data(experiment("TASK=pairs", "RAW=pairs.csv", "FIELDS=a,b,c")).command
    assert [call.value(f"{name}_column") for name in ("query", "positive", "group")] == ["a", "b", "c"]
    assert stages.data(experiment("TASK=pairs", "RAW=pairs.csv", "FIELDS=a,b")).command.value("group_column") == ""


def test_changed_explanations_make_every_stage_stale(session, project):
    """Explanations count by the content of their file, from the data to the last evaluation."""
    (project / "r.yaml").write_text('extends: tiny-mistral\nprompts: {passage: "{name} {explanation}"}\n')
    (project / "e.csv").write_text("one", encoding="utf-8")
    given = session("EXPLANATIONS=e.csv")
    stage = stages.round_end(given.experiment, 1)
    given.ensure(stage)
    first = given.runner.scripts
    assert not session("EXPLANATIONS=e.csv").ensure(stage)
    (project / "e.csv").write_text("two", encoding="utf-8")
    again = session("EXPLANATIONS=e.csv")
    again.ensure(stage)
    assert again.runner.scripts == first


def test_explanations_that_no_passage_would_hold_are_refused(experiment, project):
    """EXPLANATIONS and the recipe's `prompts.passage` belong together, for every target that needs data."""
    with refused("e.csv", "prompts.passage", "does not use explanations"):
        stages.data(experiment("EXPLANATIONS=e.csv"))


def test_missing_explanations_are_named_before_anything_runs(experiment, project):
    """The line says which variable is wrong."""
    (project / "r.yaml").write_text('extends: tiny-mistral\nprompts: {passage: "{name} {explanation}"}\n')
    with refused("EXPLANATIONS=no.csv: no such file"):
        stages.data(experiment("EXPLANATIONS=no.csv"))


def test_names_of_columns_may_have_blanks(experiment, project):
    """Blanks within a name belong to it, those beside a comma do not, and both spellings are one experiment."""
    (project / "pairs.csv").write_text("Question Text,Answer\nwhat,that\n", encoding="utf-8")
    spellings = ("FIELDS=Question Text,Answer", "FIELDS=Question Text , Answer")
    calls = [stages.data(experiment("TASK=pairs", "RAW=pairs.csv", fields)).command for fields in spellings]
    assert calls[0].value("query_column") == "Question Text" and calls[0].value("positive_column") == "Answer"
    assert calls[0] == calls[1]


def test_outside_questions_join_the_data_alone(experiment, project):
    """EXTRA names its files to the data stage; without it, the call has no such flag."""
    for name in ("a.csv", "b.jsonl"):
        (project / name).touch()
    call = stages.data(experiment("EXTRA=a.csv, b.jsonl")).command
    assert dict(call.flags)["extra_files"] == ("a.csv", "b.jsonl")
    assert "extra_files" not in dict(stages.data(experiment()).command.flags)


def test_outside_questions_that_are_no_file_are_one_line(experiment):
    """A missing file and a folder are named before anything runs."""
    with pytest.raises(UserError, match="EXTRA=no.csv: no.csv: no such file"):
        stages.data(experiment("EXTRA=no.csv"))
    with pytest.raises(UserError, match="EXTRA=raw: raw: is a folder; name files"):
        stages.data(experiment("EXTRA=raw"))


def test_the_sample_of_outside_questions_is_generated(experiment):
    """Before the data, a third as many questions as the sample's; SEED and QUESTIONS shape it when it is made anew."""
    given = experiment("RAW=data/sample", f"EXTRA={task_defaults.SAMPLE_OUTSIDE}", "SEED=7", "QUESTIONS=60")
    assert outputs(stages.data(given)) == ["sample", "outside questions", "data"]
    call = stages.outside_sample(given, anew=True).command
    assert [call.value(name) for name in ("task", "questions", "seed")] == ["outside", "20", "7"]
    assert call.value("output_dir") == "data/sample-outside"


def test_there_are_a_third_as_many_outside_questions_as_the_sample_has(experiment, project):
    """Also where the sample is one of an earlier QUESTIONS."""
    with store.writing(project / "data" / "sample", SampleManifest(config={"questions": 300, "seed": 42})):
        pass
    given = experiment("RAW=data/sample", f"EXTRA={task_defaults.SAMPLE_OUTSIDE}")
    assert stages.outside_sample(given).command.value("questions") == "100"


def test_generated_outside_questions_join_generated_data_alone(experiment):
    """Their labels are ids of the sample's misconceptions, which are others in other data."""
    extra = f"EXTRA={task_defaults.SAMPLE_OUTSIDE}"
    with pytest.raises(UserError, match="labelled with the sample's misconceptions, whose ids mean others in RAW=raw"):
        stages.extra(experiment(extra))
    for raw in ("data/sample", "data/private-sample"):
        assert len(stages.extra(experiment(f"RAW={raw}", extra))) == 1


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ("training: {average: last}", "training.average_epochs is 2 and training.epochs 1"),
        ("training: {epochs: 3}\noutside: {first: 1}", "outside.first is 1 and training.epochs 1"),
    ],
)
def test_epochs_that_the_recipe_cannot_train_for_are_refused(keys, says, experiment, project):
    """The line names EPOCHS before anything runs, rather than after the mining; enough epochs pass."""
    (project / "r.yaml").write_text(f"extends: tiny-mistral\n{keys}\n", encoding="utf-8")
    with pytest.raises(UserError, match=f"EPOCHS=1: {says}"):
        stages.round_end(experiment("EPOCHS=1"), 1)
    assert stages.round_end(experiment("EPOCHS=2"), 1) and stages.round_end(experiment(), 1)


def test_a_recipe_that_sees_is_pretrained_first(experiment, project):
    """A vision model in model_output is made before anything looks at pictures; SEED is no part of it."""
    text = (
        "extends: tiny-mistral\nmodel: {name_or_path: 'random:bert', vision: {name_or_path: model_output/vision-x}}\n"
    )
    (project / "r.yaml").write_text(text, encoding="utf-8")
    names = outputs(stages.round_end(experiment(), 1))
    assert names.index("pretrain: vision") < names.index("round 0: evaluate")
    (vision,), (other,) = stages.vision(experiment()), stages.vision(experiment("SEED=7"))
    assert vision.command == other.command


def test_a_wrong_recipe_names_its_variable(experiment):
    """MODEL, RERANKER and RECIPES are named in the line about a recipe that is not there."""
    with pytest.raises(UserError, match="MODEL=nothing: no recipe"):
        stages.load_recipe("MODEL", "nothing")
    with pytest.raises(UserError, match="RERANKER=no.yaml: no recipe no.yaml"):
        candidate_stages.rerank(experiment("RERANKER=no.yaml"), ())


def test_a_reranker_learns_from_the_other_folds(experiment):
    """The fold that is scored is no input of the training."""
    folds = [experiment("SPLIT=v5", f"FOLD={fold}") for fold in (0, 1, 2)]
    stage = candidate_stages.rerank(folds[1], (folds[0], folds[2]))
    learned = dict(stage.command.flags)["folds"]
    assert str(folds[1].candidates(2)) not in learned and len(learned) == 2
    assert stage.command.value("table") == str(folds[1].candidates(2))


def test_siblings_of_a_fold_s_queries_are_read_from_the_raw_data(experiment, session):
    """Where the split leaves wrong answers out: not of the test queries, nor of other tasks."""
    fold = experiment("SPLIT=v5")
    assert candidate_stages.candidates(fold).command.value("raw_dir") == fold.settings.raw
    others = [experiment("SPLIT=submission"), session("RAW=", "TASK=pairs", "SPLIT=v5").experiment]
    assert not any(candidate_stages.candidates(each).command.has("raw_dir") for each in others)


def test_candidates_of_several_seeds_are_made_from_all_their_rounds(experiment):
    """Rounds go into the folders that TRAIN_SEED names; the candidates' folder and the reranker's name the seeds."""
    names = experiment("SPLIT=v5", "ROUND=2", "TRAIN_SEEDS=42 43")
    members = [experiment("SPLIT=v5"), experiment("SPLIT=v5", "TRAIN_SEED=43")]
    stage = candidate_stages.candidates(names)
    expected = [str(member.train(number)) for number in (1, 2) for member in members]
    assert dict(stage.command.flags)["model_paths"] == tuple(expected)
    assert [end.output for end in stage.inputs] == [member.evaluation(2) for member in members]
    assert stage.output == members[0].round(2) / "seeds-42-43" / "candidates"
    rerank = candidate_stages.rerank(names, (experiment("SPLIT=v5", "FOLD=1", "ROUND=2", "TRAIN_SEEDS=42 43"),))
    assert rerank.output == members[0].round(2) / "seeds-42-43" / "rerank"
    assert rerank.command.value("refined") == str(members[1].train(2))


def test_states_follow_from_keys(session, project):
    """Missing, then fresh; a changed recipe makes stale what reads the changed part, and says what changed."""
    end = stages.round_end(session().experiment, 1)
    assert {state.kind for _, state in freshness.states([end])} == {MISSING}
    session().runner.ensure([end])
    assert {state.kind for _, state in freshness.states([end])} == {FRESH}
    (project / "r.yaml").write_text("extends: tiny-mistral\ntraining: {epochs: 5}\n", encoding="utf-8")
    states = {stage.name: state for stage, state in freshness.states([end])}
    assert [name for name, state in states.items() if state.kind == STALE] == ["round 1: finetune", "round 1: evaluate"]
    assert states["round 1: finetune"].reasons == ("recipe.training.epochs: 2 -> 5",)


def test_a_touched_file_changes_nothing(session):
    """Dates are not looked at."""
    import os

    end = stages.round_end(session().experiment, 1)
    session().runner.ensure([end])
    for path in list(end.output.parent.rglob("*")):
        os.utime(path, (0, 0))
    assert all(state.is_fresh for _, state in freshness.states([end]))


def test_an_edited_or_removed_output_is_made_again(session):
    """A mined file that was edited is no artefact any more, nor is one without its manifest, or an empty folder."""
    given = session()
    mine = stages.rounds(given.experiment, 1)[1].mine
    given.runner.ensure([mine])
    mine.output.write_text("edited\n", encoding="utf-8")
    state = freshness.state(mine)
    assert state.kind == STALE and "was changed" in state.reasons[0]
    given.runner.ensure([mine])
    assert freshness.state(mine).is_fresh
    store.file_manifest(mine.output).unlink()
    assert freshness.state(mine).kind == MISSING


def test_an_output_of_unknown_origin_is_stale(experiment):
    """A folder that records nothing is not taken for the artefact."""
    stage = stages.data(experiment())
    with store.writing(stage.output, CollectionManifest(data="eedi", split="v1", config={})):
        pass
    assert freshness.state(stage).kind == STALE


def test_the_device_makes_nothing_stale(session):
    """Trained on one card, the checkpoint is fresh for a submission on two."""
    given = session()
    given.runner.ensure([stages.training(given.experiment, 1)])
    other = session("DEVICE=cuda:0,cuda:1", "TRACK=wandb").experiment
    assert all(state.is_fresh for _, state in freshness.states([stages.training(other, 1)]))


def test_status_shows_each_stage_with_its_reason(session, project):
    """`make status` has a row for each stage up to ROUND, and what changed from what to what, brackets included."""
    given = session("ROUND=1")
    given.runner.ensure([stages.round_end(given.experiment, 1)])
    (project / "r.yaml").write_text("extends: tiny-mistral\nmining: {negative_number: 9}\n", encoding="utf-8")
    shown = {name: (state, text) for name, state, text in rows_of(status.table(given.experiment))}
    assert "fresh" in shown["data"][0] and "stale" in shown["round 1: mine"][0]
    assert shown["round 1: mine"][1] == "recipe.mining.negative_number: 5 -> 9"
    assert "missing" in dict(row[:2] for row in rows_of(status.table(session("ROUND=2").experiment)))["round 2: mine"]
    (project / "r.yaml").write_text('extends: tiny-mistral\nprompts: {query_suffix: "[/INST]"}\n', encoding="utf-8")
    console = Console(width=200, record=True, file=io.StringIO())
    status.show(given.experiment, console)
    assert "[/INST]" in console.export_text()


def rows_of(table):
    return list(zip(*(map(str, column.cells) for column in table.columns), strict=True))


def test_keys_know_every_stages_script(experiment):
    """Each stage of each kind has an entry that says what its script reads."""
    given = experiment()
    second = [candidate_stages.candidates(given), candidate_stages.rerank(given, ())]
    listed = [stages.round_end(given, 1), *second, stages.baseline(given)]
    for stage in freshness.in_order(listed):
        assert stage.command.value(keys.SCRIPTS[stage.command.script].output) == str(stage.output)
        assert ("replace_stale", ()) in stage.command.flags
