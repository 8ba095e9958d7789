"""Stages of prompt recovery: its data, in folders that no recipe shapes, since every generator reads the same rows."""

import re
from pathlib import Path

from rounds.data import remote_files
from rounds.errors import UserError
from rounds.pipeline import keys, stages
from rounds.pipeline.experiment import Experiment, tag
from rounds.pipeline.settings import Settings
from rounds.pipeline.stages import Stage

PREDICTIONS = "predictions.jsonl"
BASELINES = ("copy", "fixed", "nearest", "joined")  # folders that scripts/prompt_baselines.py leaves


def _tag(given: Settings) -> str:
    """The end of folders' names, where SEED, FOLD or ROWS are not the default."""
    drawn = f"{given.seed}-{given.fold}" + ("" if given.rows is None else f"-{given.rows}")
    return tag([] if drawn == "42-0" else [drawn])


def data_folder(names: Experiment) -> Path:
    """The rows of the split."""
    given = names.settings
    split = f"validation_{given.split}" if given.is_validated else "submission"
    return Path("data") / f"prompts-{names.data_name}{_tag(given)}" / split


def home(names: Experiment) -> Path:
    """What is made from the split: predictions in folders of any depth, and tables of their scores."""
    return Path("model_output") / f"prompts-{names.data_name}-{names.settings.split}{_tag(names.settings)}"


def data(names: Experiment) -> Stage:
    """Training, validation and test rows.

    Raises:
        UserError: RAW names nothing.
    """
    given, output = names.settings, data_folder(names)
    if not given.is_sample and not remote_files.local_path(given.raw).exists():
        raise UserError(f"RAW={given.raw}: no such file or folder; docs/prompt-recovery.md says what it holds")
    call = keys.command(
        "gen_prompt_data",
        raw_dir=given.raw,
        validation_version=given.split,
        seed=given.seed,
        fold=given.fold,
        validation_rows=given.rows,
        output_dir=output,
        replace_stale=True,
    )
    return Stage("data", output, call, (stages.sample(names),) if given.is_sample else (), home=output)


def baselines(names: Experiment) -> Stage:
    """Predictions without a generator, by the embedder of the metric."""
    given = names.settings
    output = home(names) / f"baselines-{label(given)}"
    call = keys.command(
        "prompt_baselines",
        data_dir=data_folder(names),
        embedder=given.embedder,
        device=given.first_device,
        output_dir=output,
        replace_stale=True,
    )
    return Stage("baselines", output, call, (data(names),), home=home(names))


def predicted(names: Experiment) -> list[Path]:
    """The folders with predictions of validation rows: this embedder's baselines, then generators' by their names."""
    own = [baselines(names).output / name for name in BASELINES]
    found = sorted(file.parent for file in home(names).rglob(PREDICTIONS))
    others = [folder for folder in found if not folder.parent.name.startswith("baselines-")]
    return own + [folder for folder in others if folder.name != "test" and not folder.name.endswith(".partial")]


def table(names: Experiment, kind: str = "scores") -> Path:
    """A table of predictions (`scores`: all of them), without its suffix; its name ends with the embedder's."""
    return home(names) / f"{kind}-{label(names.settings)}"


def report(names: Experiment) -> Path:
    """Folder of the report on the sweep."""
    return Path("model_output") / f"report-{home(names).name}-{label(names.settings)}"


def fixed_name(names: Experiment) -> str:
    """The name of the fixed prompt's submission; the embedder chose the prompt."""
    return f"{home(names).name}-fixed-{label(names.settings)}"


def label(given: Settings) -> str:
    """The embedder's name as a part of file names, so that tables of two embedders never have one name.

    >>> label(Settings(embedder="minilm")), label(Settings(embedder="./models/e5 small/"))
    ('minilm', 'e5_small')
    """
    return re.sub(r"[^\w.-]", "_", Path(given.embedder).name)
