"""Distillation in the pipeline: the order of its stages, what makes them stale, and what takes the student's place."""

import pytest

from rounds.errors import UserError
from rounds.pipeline import status, targets
from rounds.pipeline.runner import Failed

FOLDED = ("ROUND=1", "FOLDS=0 1")
AFTER = ["student_table", "make_submission"]  # the submission is written anew each time


def calls(make_session, target: str, *arguments: str, is_dry: bool = False) -> list:
    """Return the calls that a target makes."""
    session = make_session(*arguments, target=target, is_dry=is_dry)
    targets.run(target, session)
    return session.runner.calls


def scripts(make_session, target: str, *arguments: str) -> list[str]:
    """Return the names of the scripts that a target calls."""
    return [command.script for command in calls(make_session, target, *arguments)]


def test_the_second_stage_comes_first_and_nothing_twice(session):
    """Rounds of the folds and of all of train, teacher, student, table, submission; again, the submission alone."""
    first = scripts(session, "distil", *FOLDED)
    assert first.count("candidates") == 2 and first.count("finetune") == 3
    assert first[-4:] == ["teach", "distil", *AFTER]
    assert scripts(session, "distil", *FOLDED) == AFTER[1:]


def test_what_best_left_is_used(session):
    """After `make best`, only teacher, student and submission are to be made."""
    scripts(session, "best", *FOLDED)
    assert scripts(session, "distil", *FOLDED) == ["teach", "distil", *AFTER]


@pytest.mark.parametrize("ended", ["teach", "distil"])
def test_a_killed_run_goes_on_where_it_was(ended, session, monkeypatch):
    """What was finished before the kill is not made again."""
    killed = session(*FOLDED, target="distil")
    call = killed.runner.call

    def end(command, is_quiet=False):
        if command.script == ended:
            raise Failed(-9)
        call(command, is_quiet)

    monkeypatch.setattr(killed.runner, "call", end)
    with pytest.raises(Failed):
        targets.run("distil", killed)
    left = ["teach", "distil", *AFTER]
    assert scripts(session, "distil", *FOLDED) == left[left.index(ended) :]


def test_keys_of_the_student_leave_teacher_and_rounds_as_they_are(session, project):
    """Another weight of the labels trains the student anew; another number of candidates the teacher as well."""
    scripts(session, "distil", *FOLDED)
    recipe = project / "r.yaml"
    recipe.write_text("extends: tiny-mistral\ndistillation: {label_weight: 0.5}\n", encoding="utf-8")
    assert scripts(session, "distil", *FOLDED) == ["distil", *AFTER]
    recipe.write_text("extends: tiny-mistral\ndistillation: {candidates: 8}\n", encoding="utf-8")
    assert scripts(session, "distil", *FOLDED) == ["teach", "distil", *AFTER]


def test_the_student_trains_in_as_many_processes_as_rounds(session):
    """NPROC is for the student as well."""
    made = {command.script: command for command in calls(session, "distil", *FOLDED, "NPROC=2")}
    assert made["finetune"].processes == made["distil"].processes == 2 and made["teach"].processes == 1


def test_the_teacher_reads_siblings_from_the_raw_data(session):
    """Those of rows of no fold; the folds' candidates have theirs."""
    made = {command.script: command for command in calls(session, "distil", *FOLDED)}
    assert made["teach"].value("raw_dir") == session().settings.raw


def test_other_folds_are_another_student(session):
    """Each set of folds has a folder of its own, and a submission of its own name."""
    one, other = (calls(session, "distil", "ROUND=1", f"FOLDS={folds}") for folds in ("0 1", "0 1 2"))
    for place, flag in ((-3, "output_dir"), (-1, "output_file")):
        assert one[place].value(flag) != other[place].value(flag)


def test_another_ensemble_teaches_another_student(session, project):
    """It stands beside the first, with a table of its own, so that both can be submitted and scored."""
    (project / "extra.csv").touch()
    students = []
    for key in ("", "ensemble: {boosted_trees: false}", "ensemble: {outside_votes: false}"):
        (project / "r.yaml").write_text(f"extends: tiny-mistral\n{key}\n", encoding="utf-8")
        made = calls(session, "distil", *FOLDED, "EXTRA=extra.csv")
        assert [call.script for call in made[-4:]] == ["teach", "distil", *AFTER]
        students.append((made[-3].value("output_dir"), made[-2].value("output_file"), made[-1].value("output_file")))
    assert all(len(set(names)) == len(students) for names in zip(*students, strict=True))


def test_a_dry_run_prints_each_call_once(session, capsys):
    """The folds' stages are printed as they are made first, and not again as what the teacher needs."""
    calls(session, "distil", *FOLDED, is_dry=True)
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("#")]
    assert len(lines) == len(set(lines)) and "make_submission.py" in lines[-1]


@pytest.mark.parametrize(
    ("target", "script"), [("submit", "make_submission"), ("bundle", "bundle"), ("publish", "publish")]
)
def test_the_student_leaves_in_the_round_s_place(target, script, session):
    """RUNS names it: nothing is averaged, and submission and bundle have its name."""
    submitted = calls(session, "distil", *FOLDED)[-1]
    run = "/".join(submitted.value("model_path").split("/")[1:3])
    (call,) = calls(session, target, f"RUNS={run}", "SPLIT=submission", "REPO=you/name")
    assert call.script == script and call.value("model_path") == submitted.value("model_path")
    if target == "submit":
        assert call.value("output_file") == submitted.value("output_file")


def test_student_and_teacher_are_scored_on_questions_held_out(session, project):
    """On a private leaderboard's data both have a submission, and one call scores both."""
    (project / "data").mkdir(exist_ok=True)
    (project / "data" / "private-raw").symlink_to(project / "raw")
    private = ("RAW=data/private-raw", *FOLDED)
    made = calls(session, "distil", *private)
    student, teacher = (call.value("output_file") for call in made if call.script in ("make_submission", "fuse"))
    assert teacher == student.replace(".csv", "-teacher.csv")
    for file in (student, teacher):
        (project / file).parent.mkdir(exist_ok=True)
        (project / file).touch()
    run = f"RUNS={'/'.join(made[-3].value('model_path').split('/')[1:3])}"
    scored = calls(session, "private_lb", private[0], "SPLIT=submission", run)
    assert dict(scored[-1].flags)["submission"] == (student, teacher) and scored[-1].script == "private_lb"


def test_a_single_run_is_evaluated_and_not_averaged(session):
    """Its row stands below zero-shot, in a folder beside the rounds; `make average` wants two."""
    run = f"RUNS={session().experiment.folder.name}/round1"
    scripts(session, "round1")
    (call,) = calls(session, "evaluate", run)
    assert call.script == "eval_llm_embedder" and "/run-" in call.value("output_dir")
    with pytest.raises(UserError, match="RUNS: name two rounds or more"):
        scripts(session, "average", run)


def test_status_lists_what_was_distilled(session):
    """Teacher, student and their table stand behind the rounds on all of train, once they are made."""
    arguments = ("SPLIT=submission", *FOLDED)
    assert not [stage for stage in status.listed(session(*arguments).experiment) if "distil" in stage.name]
    scripts(session, "distil", *FOLDED)
    listed = [stage.name for stage in status.listed(session(*arguments).experiment)]
    assert listed[-3:] == ["distil: teacher", "distil: finetune", "distil: table"]


@pytest.mark.parametrize(
    ("recipe", "part"),
    [
        ("training: {epochs: 0}", "training.epochs is 0"),
        ("outside: {first: 1}\ndistillation: {epochs: 1}", "outside.first is 1 and training.epochs 1"),
        ("model: {vision: {name_or_path: some/tower}}", "distil: reads words only"),
    ],
)
def test_a_recipe_that_cannot_be_distilled_runs_nothing(recipe, part, session, project):
    """One line names the key, before data are made or a round is trained."""
    (project / "r.yaml").write_text(f"extends: tiny-mistral\n{recipe}\n", encoding="utf-8")
    made = session(*FOLDED, target="distil")
    with pytest.raises(UserError, match=part):
        targets.run("distil", made)
    assert made.runner.calls == []
