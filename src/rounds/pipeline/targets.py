"""Targets: what each name after `make` brings up to date and runs."""

import re
from importlib.util import find_spec
from pathlib import Path

from rounds.data.source import PROMPT_TASK
from rounds.errors import UserError, install_command
from rounds.pipeline import (
    averages,
    distillation,  # noqa: F401  registers its targets
    freshness,
    prompt_targets,
    pseudo_labels,  # noqa: F401  registers its target
    script_flags,
    second_stages,
    settings,
    stages,
    task_defaults,
    uploads,
)
from rounds.pipeline.experiment import Experiment
from rounds.pipeline.registry import DENSE, TARGETS, TEXT_ONLY, VALIDATED, target
from rounds.pipeline.runner import up_to_date
from rounds.pipeline.session import Session

ZERO_SHOT = ("evaluate", "mteb", "demo", "status")  # targets that take the base model, ROUND=0


def run(name: str, session: Session) -> None:
    """Run a target.

    Raises:
        UserError: the target needs validation queries and the split has none, or dense vectors or texts alone and the
            recipe has others; or a setting is missing or wrong.
        Failed: a script ended with an error.
    """
    if session.settings.task == PROMPT_TASK:
        prompt_targets.run(name, session)
        return
    if name in VALIDATED and not session.settings.is_validated:
        raise UserError(
            f"{name}: SPLIT=submission trains on everything and has no validation queries; choose one of v1 to v6"
        )
    if not session.settings.round and name not in ZERO_SHOT:
        raise UserError(f"{name}: ROUND=0 is the base model, which {settings.listed(ZERO_SHOT, 'and')} alone take")
    recipe = stages.load_recipe("MODEL", session.settings.model)
    if name in DENSE:
        recipe.require_dense(name)
    if name in TEXT_ONLY:
        recipe.require_text_only(name)
    script_flags.check(session.settings)
    if match := re.fullmatch(r"round(\d+)", name):
        finish_round(session, settings.read([f"ROUND={match[1]}"], {}).round)
    else:
        TARGETS[name](session)


def is_known(name: str) -> bool:
    """Whether there is such a target."""
    return name in TARGETS or bool(re.fullmatch(r"round[1-9]\d*", name))


# ---- data and rounds ------------------------------------------------------------------------------------------------


@target()
def sample(session: Session) -> None:
    """Generate the sample anew if QUESTIONS or SEED are others, and outside questions where EXTRA names their file."""
    names = session.on(task="eedi").experiment
    session.finish(stages.sample(names, anew=True))
    if task_defaults.SAMPLE_OUTSIDE in names.settings.extra_files:
        session.finish(stages.outside_sample(names, anew=True))


@target()
def download(session: Session) -> None:
    """Fetch the CSVs of COMPETITION."""
    competition = session.settings.competition
    if competition not in task_defaults.COMPETITIONS:
        known = settings.listed(task_defaults.COMPETITIONS)
        raise UserError(f"COMPETITION={competition}: make download knows the files of {known}")
    folder = task_defaults.COMPETITIONS[competition]
    session.call("download", output_dir=folder, competition=competition)


@target()
def data(session: Session) -> None:
    """Write the split's queries, corpus and qrels."""
    session.finish(stages.data(session.experiment))


@target()
def pretrain(session: Session) -> None:
    """Pretrain the vision model that the recipe names."""
    vision = stages.vision(session.experiment)
    if not vision:
        raise UserError(f"MODEL={session.settings.model}: its recipe names no vision model in {stages.VISION}*")
    session.finish(*vision)


def finish_round(session: Session, number: int) -> None:
    """Mine, fine-tune and evaluate a round and those before it; a finished round prints its table again."""
    end = stages.round_end(session.experiment, number)
    if not session.runner.ensure([end]):
        session.runner.say(up_to_date([session.experiment.round(number)]))
    if session.settings.is_validated and (number == 0 or end.name not in session.runner.ran):
        session.runner.show_table(end)


@target(is_validated=True)
def evaluate(session: Session) -> None:
    """Print the table of the chosen round, or of the average of RUNS."""
    if session.settings.runs:
        averages.evaluate_runs(session)
    else:
        finish_round(session, session.settings.round)


# ---- Kaggle ---------------------------------------------------------------------------------------------------------


@target()
def private_lb(session: Session) -> None:
    """Hold questions out of the data; on data that have some held out, submit and score once."""
    given, names = session.settings, session.experiment
    if names.is_private:
        session.ensure(averages.last_stage(names) if given.runs else stages.round_end(names, given.round))
        uploads.submit(session)
        submission = uploads.submitted(names)
        beside = uploads.of_teacher(submission)
        scored = [submission, *([beside] if beside.exists() else []), *_fresh_ensemble(session)]
        session.call("private_lb", folder=given.raw, submission=scored)
        return
    if given.runs:
        raise UserError(
            f"RUNS={' '.join(given.runs)}: data with held-out questions alone score them, and RAW={given.raw} has none "
            f"held out; make them (make private_lb without RUNS), then RAW={names.private}"
        )
    session.ensure(*stages.raw(names))
    session.call(
        "private_lb",
        raw_dir=given.raw,
        folder=names.private,
        size=given.held_out,
        unseen=given.unseen,
        seed=given.seed,
    )
    session.runner.say(
        f"next: make round1 RAW={names.private}, then make private_lb RAW={names.private} ROUND=1 (submits and scores)"
    )


def _fresh_ensemble(session: Session) -> list[Path]:
    """Return the CSV of `make best`, for SPLIT=submission; none, with a line, where it would be another one now."""
    names = session.experiment
    file = second_stages.submission_file(names)
    if names.settings.is_validated or not file.exists():
        return []
    if freshness.are_fresh([second_stages.submission(names)]):
        return [file]
    session.runner.say(f"{file}: not scored, since something changed that it is made from; run make best again")
    return []


@target()
def parity(session: Session) -> None:
    """Compare two runs and name the setting that sets them apart."""
    given, names = session.settings, session.experiment
    if not (given.a and given.b):
        raise UserError("A and B: name two runs, such as A=minilm@fp32 B=minilm@bf16")
    session.ensure(stages.data(names))
    session.call("parity", a=given.a, b=given.b, data_dir=names.data, device=given.first_device)


# ---- measuring ------------------------------------------------------------------------------------------------------


@target(is_validated=True, is_dense=True, is_text_only=True)
def baseline(session: Session) -> None:
    """Compare the stock trainer with round 1, and round 2 where it was made."""
    names = session.experiment
    stock = stages.baseline(names)
    session.ensure(stock, stages.round_end(names, 1))
    later = [names.evaluation(2)] if names.evaluation(2).exists() else []
    session.call("compare", runs=[names.evaluation(0), stock.output, names.evaluation(1), *later])


@target(is_validated=True)
def compare(session: Session) -> None:
    """Compare all metrics of some evaluated rounds; of rounds on several folds, MAP@25 over all of them."""
    from rounds.evaluation import fold_runs  # it loads pandas, which the other targets do without

    given, names = session.settings, session.experiment
    if not given.runs:
        raise UserError(f"RUNS: name evaluated rounds, such as RUNS='{names.folder.name}/round1'")
    runs = [Path("model_output") / name / "eval" for name in given.runs]
    if (split := fold_runs.spanned_split(runs)) is not None:
        output = session.on(split=split).experiment.table("compared-folds")
        session.call("compare", recipe=given.model, runs=runs, folds=True, output=output)
        return
    session.ensure(stages.data(names))
    session.call("compare", recipe=given.model, runs=runs, data_dir=names.data, output=names.table("compared"))


@target(is_validated=True)
def sweep(session: Session) -> None:
    """Run round 1 of several recipes on one split, each in folders of its own, and print one table."""
    session.ensure(stages.data(session.experiment))
    swept = [session.on(model=recipe).experiment for recipe in session.settings.recipes]
    for names in swept:
        stages.load_recipe("RECIPES", names.settings.model)
        script_flags.check(names.settings)
    for names in swept:
        session.runner.say(f"== sweep: {names.settings.model}")
        session.ensure(stages.round_end(names, 1))
    recipe, output = session.settings.model, session.experiment.table("sweep")
    rounds = [names.round(1) for names in swept]
    session.call("sweep", recipe=recipe, data_dir=session.experiment.data, output=output, rounds=rounds)


@target(is_validated=True)
def tune_bm25(session: Session) -> None:
    """Search BM25's parameters on the training queries."""
    session.ensure(stages.data(session.experiment))
    session.call("tune_bm25", recipe=session.settings.model, data_dir=session.experiment.data)


@target(is_validated=True, is_dense=True)
def dims(session: Session) -> None:
    """Evaluate vectors cut to fewer dimensions, before and after training."""
    given, names = session.settings, session.experiment
    session.ensure(stages.round_end(names, given.round))
    checkpoint = names.train(given.round)
    session.call("dims", recipe=given.model, model_path=checkpoint, data_dir=names.data, device=given.first_device)


@target()
def mteb(session: Session) -> None:
    """Evaluate the chosen round's checkpoint, or the base model, on public tasks."""
    given, names = session.settings, session.experiment
    if not given.tasks:
        raise UserError("TASKS: name tasks of mteb, such as TASKS='SciFact NFCorpus'")
    has_fixed_examples = stages.load_recipe("MODEL", given.model).prompts.examples == "fixed"
    data_stages = [stages.data(names)] if has_fixed_examples else []
    session.ensure(*data_stages, *_model_stages(session))
    session.call(
        "run_mteb",
        tasks=given.tasks,
        recipe="" if given.round else given.model,
        model_path=names.train(given.round) if given.round else "",
        data_dir=names.data if has_fixed_examples else "",
        precision=given.precision,
        engine=given.engine,
        device=given.device,
        output_dir=names.mteb(given.round),
    )


def _model_stages(session: Session) -> tuple[stages.Stage, ...]:
    """What makes the chosen round's checkpoint, or what the base model needs."""
    names, number = session.experiment, session.settings.round
    return (stages.training(names, number),) if number else stages.vision(names)


@target(is_validated=True)
def report(session: Session) -> None:
    """Write the report on all rounds."""
    names = session.experiment
    session.ensure(stages.round_end(names, session.settings.round))
    session.call("report", **_reported(names), output_dir=names.report)


@target(is_validated=True)
def dashboard(session: Session) -> None:
    """Serve the report on this machine."""
    names = session.experiment
    session.ensure(stages.data(names))
    session.call("dashboard", **_reported(names), port=session.settings.port)


def _reported(names: Experiment) -> dict[str, object]:
    """Flags that say what a report is on."""
    tags = {"table_tag": names.table_tag, "cv_tag": names.cv_tag}
    return {"experiment": names.folder, "data_dir": names.data, **tags}


@target(is_text_only=True)
def demo(session: Session) -> None:
    """Serve a page where typed questions are ranked by the chosen round's checkpoint and by zero-shot."""
    given, names = session.settings, session.experiment
    if given.task == "kbvqa":
        raise UserError(f"TASK={given.task}: its queries are about images, and make demo ranks typed text only")
    if not session.runner.is_dry and find_spec("gradio") is None:  # said before a round is trained for it
        raise UserError(f"demo: gradio is not installed; install it with {install_command('demo')}")
    session.ensure(stages.data(names), *_model_stages(session))
    session.call(
        "demo",
        recipe="" if given.round else given.model,
        model_path=names.train(given.round) if given.round else "",
        data_dir=names.data,
        raw_dir=given.raw if given.task == "eedi" else "",
        precision=given.precision if "precision" in given.given else "",  # not the task's, which vectors are seldom in
        engine=given.engine,
        device=given.first_device,
        port=given.port,
    )


@target(is_validated=True)
def brittle(session: Session) -> None:
    """Show how vectors of queries change with a space, a newline or the case of a word."""
    given, names = session.settings, session.experiment
    session.ensure(stages.training(names, given.round))
    checkpoint = names.train(given.round)
    session.call("probe", probe="brittle", model_path=checkpoint, data_dir=names.data, device=given.first_device)


@target()
def tokens(session: Session) -> None:
    """Show what the recipe's tokenizer makes of the texts."""
    session.ensure(stages.data(session.experiment))
    session.call("probe", probe="tokens", recipe=session.settings.model, data_dir=session.experiment.data)


@target()
def fit_batch(session: Session) -> None:
    """Measure how many tokens of a training chunk fit into memory."""
    given, names = session.settings, session.experiment
    session.ensure(stages.data(names))
    session.call("probe", probe="fit_batch", recipe=given.model, data_dir=names.data, device=given.first_device)


@target(is_dense=True)
def bench(session: Session) -> None:
    """Measure speed and memory beside the peers'."""
    given, names = session.settings, session.experiment
    session.ensure(stages.rounds(names, 1)[1].mine)
    table = {"only": given.only} if given.only else {"document": "docs/benchmarks.md"}
    session.call("bench", recipe=given.model, data_dir=names.data, train_data=names.mined(1), **table)


@target()
def gpu_check(session: Session) -> None:
    """Measure what a GPU does with the 7B decoder."""
    given = session.settings
    session.call("gpu_check", minutes=given.minutes, sections=given.sections, small=given.small)
