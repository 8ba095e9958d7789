"""Stages: the steps of an experiment, each with its command, its inputs and its output."""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from rounds.artifacts import store
from rounds.config import loader
from rounds.config.recipe import Recipe
from rounds.data import remote_files
from rounds.data.prompts import check_passage_format
from rounds.data.source import IDENTICAL_TASKS, PROMPT_TASK, check_source
from rounds.errors import UserError
from rounds.pipeline import fold_choice, keys
from rounds.pipeline.experiment import RECIPE_SUFFIXES, Experiment
from rounds.pipeline.keys import Command
from rounds.pipeline.settings import Settings
from rounds.pipeline.task_defaults import SAMPLE_OUTSIDE, SAMPLE_PER_OUTSIDE, SAMPLES

VISION = "model_output/vision"  # a recipe whose vision model is in such a folder has it pretrained
SAMPLE_NOTES = {
    "eedi": "no competition data: generating a sample in {folder} "
    "(for the real data, make download, or RAW=DIR with the competition's CSVs)",
    "pairs": "no pairs: generating French ones in {folder} (for your own, RAW=FILE FIELDS=query,positive,group)",
    "kbvqa": "no questions on pictures: generating some in {folder} (for your own, RAW=DIR)",
    PROMPT_TASK: "no rewritten texts: generating some in {folder} (for your own, RAW=FILE or RAW=DIR)",
}


@dataclass(frozen=True)
class Stage:
    """One step: a script that makes one artefact.

    Attributes:
        name: how `make status` calls it.
        output: folder or file that the script leaves.
        command: the script's call.
        inputs: stages that must be fresh before it.
        note: line to print before it runs.
        is_quiet: whether the script's standard output is left out.
        home: folder that is locked while the stage runs.
    """

    name: str
    output: Path
    command: Command
    inputs: tuple["Stage", ...] = ()
    note: str = ""
    is_quiet: bool = False
    home: Path = Path()


def load_recipe(variable: str, name: str) -> Recipe:
    """The recipe that a variable names.

    Raises:
        UserError: there is no such recipe; the line names the variable.
    """
    if name.endswith(RECIPE_SUFFIXES) and not Path(name).is_file():
        raise UserError(f"{variable}={name}: no recipe {name}")
    if not name.endswith(RECIPE_SUFFIXES) and name not in loader.names():
        raise UserError(f"{variable}={name}: no recipe of that name; there are {', '.join(loader.names())}")
    return loader.load(name)


def sample(experiment: Experiment, anew: bool = False) -> Stage:
    """Generated data. A sample that is there keeps its parameters unless QUESTIONS is given, or `anew` is set."""
    given = experiment.settings
    folder = Path(SAMPLES[given.task])
    folder = folder.parent if folder.suffix else folder
    options = _size(given, folder, anew) if given.task == "eedi" else {"task": given.task}
    call = keys.command("make_sample", output_dir=folder, **options, replace_stale=True)
    note = "" if anew else SAMPLE_NOTES[given.task].format(folder=folder)
    return Stage("sample", folder, call, note=note, home=folder)


def _size(given: Settings, folder: Path, anew: bool) -> dict[str, int]:
    """Number of questions and seed of generated maths questions."""
    manifest = None if anew else store.read_manifest(folder)
    present = (manifest.config if manifest else None) or {}
    is_asked = anew or "questions" in given.given
    return {
        "questions": given.questions if is_asked else present.get("questions", given.questions),
        "seed": given.seed if anew else present.get("seed", Settings.seed),
    }


def outside_sample(experiment: Experiment, anew: bool = False) -> Stage:
    """Generated outside questions, other ones than those of the sample, and a third as many."""
    folder, size = Path(SAMPLE_OUTSIDE).parent, _size(experiment.settings, Path(SAMPLES["eedi"]), anew)
    size["questions"] = max(size["questions"] // SAMPLE_PER_OUTSIDE, 1)
    call = keys.command("make_sample", output_dir=folder, task="outside", **size, replace_stale=True)
    note = "" if anew else f"generating outside questions in {folder}"
    return Stage("outside questions", folder, call, note=note, home=folder)


def extra(experiment: Experiment) -> tuple[Stage, ...]:
    """What makes the outside questions: the generator where EXTRA names its file.

    Raises:
        UserError: EXTRA names something that is no file, or generated questions beside data that are not generated.
    """
    given = experiment.settings
    if SAMPLE_OUTSIDE in given.extra_files and not (given.is_sample or experiment.is_private_sample):
        raise UserError(
            f"EXTRA={given.extra}: {SAMPLE_OUTSIDE} is labelled with the sample's misconceptions, whose ids mean "
            f"others in RAW={given.raw}; leave it out, or say RAW={SAMPLES[given.task]}"
        )
    for name in given.extra_files:
        path = remote_files.local_path(name)
        if name != SAMPLE_OUTSIDE and not path.is_file():
            reason = "is a folder; name files" if path.is_dir() else "no such file"
            raise UserError(f"EXTRA={given.extra}: {name}: {reason} of outside questions, CSV or JSONL")
    return (outside_sample(experiment),) if SAMPLE_OUTSIDE in given.extra_files else ()


def raw(experiment: Experiment) -> tuple[Stage, ...]:
    """What makes the raw data: a generator, or nothing.

    Raises:
        UserError: RAW names nothing, or a file where the task takes a folder, or the other way round.
    """
    given = experiment.settings
    if given.is_sample:
        return (sample(experiment),)
    check_source(given.task, remote_files.local_path(given.raw), f"RAW={given.raw}")
    return ()


def data(experiment: Experiment) -> Stage:
    """Queries, corpus and qrels of the split.

    Raises:
        UserError: EXPLANATIONS names no file, or does not go with the recipe's `prompts.passage` or the task.
    """
    given, output = experiment.settings, experiment.data
    check_passage_format(load_recipe("MODEL", given.model).prompts, given.task, given.explanations)
    if given.explanations and not remote_files.local_path(given.explanations).is_file():
        raise UserError(f"EXPLANATIONS={given.explanations}: no such file")
    query, positive, group = (*given.fields.split(","), "", "", "")[:3] if given.task == "pairs" else ("", "", "")
    call = keys.command(
        "gen_data_for_hn_mine",
        raw_dir=given.raw,
        recipe=given.model,
        seed=given.seed,
        fold=given.fold,
        n_folds=fold_choice.flag(given),
        mode="validation" if given.is_validated else "submission",
        validation_version=given.split if given.is_validated else "",
        task="" if given.task == "eedi" else given.task,
        query_column=query,
        positive_column=positive,
        group_column=group,
        identical=given.identical if given.task in IDENTICAL_TASKS else "",
        explanations=given.explanations,
        extra_files=given.extra_files or None,
        output_dir=output,
        replace_stale=True,
    )
    return Stage("data", output, call, (*raw(experiment), *extra(experiment)), home=output)


def vision(experiment: Experiment) -> tuple[Stage, ...]:
    """The vision model that the recipe names, where it is one that `make pretrain` makes.

    Neither SEED nor the split shapes it: it belongs to the recipe, whose experiments share it.
    """
    given = experiment.settings
    folder = load_recipe("MODEL", given.model).model.vision.name_or_path
    if not folder.startswith(VISION):
        return ()
    call = keys.command(
        "pretrain_vision",
        raw_dir=given.raw,
        recipe=given.model,
        output_dir=folder,
        device=given.first_device,
        replace_stale=True,
    )
    title = "== pretrain: vision"
    return (Stage("pretrain: vision", Path(folder), call, raw(experiment), title, home=Path(folder)),)


@dataclass(frozen=True)
class Round:
    """The stages of a round; round 0, the base model, is only evaluated."""

    mine: Stage | None
    train: Stage | None
    evaluation: Stage


def rounds(experiment: Experiment, last: int) -> list[Round]:
    """All rounds up to the last, each made from the one before.

    Raises:
        UserError: the recipe trains for no epoch, or does not go with EPOCHS.
    """
    if last:
        _check_epochs(experiment.settings)
    chain = [Round(None, None, _first_evaluation(experiment))]
    for number in range(1, last + 1):
        mine = _mine(experiment, number, chain[-1].train)
        train = _train(experiment, number, mine)
        chain.append(Round(mine, train, _evaluation(experiment, number, train, chain[-1].evaluation)))
    return chain


def training(experiment: Experiment, number: int) -> Stage:
    """The stage that leaves a round's checkpoints."""
    return rounds(experiment, number)[-1].train


def round_end(experiment: Experiment, number: int) -> Stage:
    """The stage that a round ends with: its evaluation, or its training where the split has no validation queries."""
    end = rounds(experiment, number)[-1]
    return end.evaluation if experiment.settings.is_validated else end.train or data(experiment)


def _check_epochs(given: Settings) -> None:
    """Refuse a number of epochs that the recipe cannot train for, before anything runs."""
    recipe = load_recipe("MODEL", given.model)
    try:
        recipe = recipe.replace("training", epochs=given.epochs)
    except UserError as error:
        raise UserError(f"EPOCHS={given.epochs}: {str(error).removeprefix('flags: ')}") from None
    recipe.require_epochs()


def _is_sharded(given: Settings) -> bool:
    """Whether the recipe is sharded over all GPUs that there are, which NPROC must leave to it."""
    kind = load_recipe("MODEL", given.model).training.sharding
    if kind != "none" and given.nproc > 1:
        raise UserError(
            f"NPROC={given.nproc}: training.sharding {kind} of MODEL={given.model} starts a process for each GPU of "
            "each machine; say NPROC=1"
        )
    return kind != "none"


def _mine(experiment: Experiment, number: int, parent: Stage | None) -> Stage:
    """Hard negatives, mined with the round before."""
    given = experiment.settings
    call = keys.command(
        "hn_mine",
        shlex.split(given.mine_flags),
        recipe="" if parent else given.model,
        embedder_name_or_path=parent and parent.output,
        input_file=experiment.data / "finetune_data.jsonl",
        output_file=experiment.mined(number),
        devices=given.device,
        cluster=given.cluster,
        shards=given.shards,
        engine=given.engine,
        seed=given.seed,
        replace_stale=True,
    )
    inputs = (data(experiment), *((parent,) if parent else vision(experiment)))
    return _round_stage(experiment, number, "mine", experiment.mined(number), call, *inputs)


def _train(experiment: Experiment, number: int, mined: Stage) -> Stage:
    """A round's checkpoints, continued from the round before."""
    given = experiment.settings
    is_sharded = _is_sharded(given)
    call = keys.command(
        "finetune",
        shlex.split(given.tune_flags),
        given.processes,
        recipe=given.model,
        round=number,
        train_data=mined.output,
        data_dir=experiment.data,
        model_name_or_path=experiment.train(number - 1) if number > 1 else "",
        epochs=given.epochs,
        device=given.first_device,
        seed=given.training_seed,
        track=given.track,
        output_dir=experiment.train(number),
        replace_stale=True,
    )
    call = replace(call, hosts=given.host_names, launch_by=given.launch_by, is_sharded=is_sharded)
    return _round_stage(experiment, number, "finetune", experiment.train(number), call, mined)


def _first_evaluation(experiment: Experiment) -> Stage:
    """The base model's metrics, beside BM25's; they stand in every later table."""
    given, output = experiment.settings, experiment.evaluation(0)
    call = keys.command(
        "eval_llm_embedder",
        recipe=given.model,
        data_dir=experiment.data,
        bm25=True,
        precision=given.precision,
        engine=given.engine,
        device=given.device,
        cluster=given.cluster,
        shards=given.shards,
        output_dir=output,
        replace_stale=True,
    )
    inputs = (data(experiment), *vision(experiment))
    return Stage("round 0: evaluate", output, call, inputs, is_quiet=True, home=experiment.folder)


def _evaluation(experiment: Experiment, number: int, trained: Stage, before: Stage) -> Stage:
    """A round's metrics, and their table beside the rounds before."""
    output, earlier = experiment.evaluation(number), [experiment.evaluation(each) for each in range(number)]
    call = evaluation_command(experiment, trained.output, earlier, output)
    return _round_stage(experiment, number, "evaluate", output, call, before, trained)


def evaluation_command(experiment: Experiment, trained: Path, compare: list[Path], output: Path) -> Command:
    """The script call that evaluates a trained checkpoint, with the rows of earlier evaluations above its own."""
    given = experiment.settings
    return keys.command(
        "eval_llm_embedder",
        model_path=trained,
        data_dir=experiment.data,
        engine=given.engine,
        device=given.device,
        cluster=given.cluster,
        shards=given.shards,
        compare=compare,
        output_dir=output,
        replace_stale=True,
    )


def baseline(experiment: Experiment) -> Stage:
    """The stock sentence-transformers trainer on the same split, query text and epochs, evaluated."""
    given, folder = experiment.settings, experiment.folder / "baseline"
    call = keys.command(
        "baseline",
        recipe=given.model,
        data_dir=experiment.data,
        epochs=given.epochs,
        device=given.first_device,
        seed=given.training_seed,
        output_dir=folder / "train",
        replace_stale=True,
    )
    title = "== baseline: sentence-transformers as it comes"
    trained = Stage("baseline: finetune", folder / "train", call, (data(experiment),), title, home=experiment.folder)
    call = keys.command(
        "eval_llm_embedder",
        model_path=folder / "train",
        data_dir=experiment.data,
        device=given.device,
        cluster=given.cluster,
        shards=given.shards,
        output_dir=folder / "eval",
        replace_stale=True,
    )
    return Stage("baseline: evaluate", folder / "eval", call, (trained,), is_quiet=True, home=experiment.folder)


def _round_stage(experiment: Experiment, number: int, step: str, output: Path, call: Command, *inputs: Stage) -> Stage:
    name, seed = f"round {number}: {step}", experiment.settings.train_seed
    note = f"== {name}" if seed is None else f"== {name}, TRAIN_SEED={seed}"
    return Stage(name, output, call, inputs, note, home=experiment.folder)
