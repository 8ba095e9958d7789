"""Tasks of `mteb`: find them by name, evaluate a checkpoint on them, and list their main scores.

`mteb` is an extra, so it is imported inside the functions.
"""

import difflib
import importlib
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from rounds.errors import UserError, install_command
from rounds.evaluation.mteb_encoder import MtebModel
from rounds.evaluation.table import Column, Table

if TYPE_CHECKING:
    from mteb import ResultCache
    from mteb.abstasks import AbsTask
    from mteb.models import ModelMeta
    from mteb.results import TaskResult


def import_mteb(name: str = "mteb") -> ModuleType:
    """Return a module of mteb.

    Raises:
        UserError: the extra is not installed, or does not fit the other libraries.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"mteb cannot be imported ({error}); install it with {install_command('mteb')}") from None


def find_tasks(names: Iterable[str]) -> list["AbsTask"]:
    """Return mteb's tasks of these names.

    Raises:
        UserError: there is no task of a name, or it is not on text alone.
    """
    mteb = import_mteb()
    known = {task.metadata.name for task in import_mteb("mteb.get_tasks").TASK_LIST}
    for name in names:
        if name not in known:
            raise UserError(f"{name}: mteb has no task of that name{_hint(name, known)}")
    tasks = [mteb.get_task(name) for name in names]
    for task in tasks:
        if further := set(task.metadata.modalities) - {"text"}:
            raise UserError(f"{task.metadata.name}: is on {', '.join(sorted(further))}; choose tasks on text alone")
    return tasks


def _hint(name: str, known: Iterable[str]) -> str:
    """Name the nearest task, whatever the case of its letters."""
    lowered = {other.lower(): other for other in sorted(known)}
    near = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.5)
    return f"; did you mean {lowered[near[0]]}?" if near else "; mteb.get_tasks() lists them"


def evaluate(model: MtebModel, tasks: Sequence["AbsTask"], folder: Path) -> list["TaskResult"]:
    """Evaluate a checkpoint on tasks; results that it has already are read.

    Args:
        folder: mteb's cache: `results/MODEL/REVISION/TASK.json`. Each task is written as soon as it is done, and one
            that was killed goes on behind its last subset.

    Raises:
        UserError: the model cannot do one of the tasks, or the data of a task cannot be fetched.
    """
    _refuse_unsupported(model, tasks)
    cache = import_mteb().ResultCache(folder)
    import datasets

    datasets.disable_progress_bars()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # each try without a network would be a line
    return [_evaluate_task(model, task, cache) for task in tasks]


def _refuse_unsupported(model: MtebModel, tasks: Iterable["AbsTask"]) -> None:
    """Raise a `UserError` if a model that only ranks passages is to do something else."""
    if hasattr(model, "encode"):
        return
    retrieval = import_mteb("mteb.abstasks").AbsTaskRetrieval
    for task in tasks:
        if parts := getattr(task, "tasks", ()):
            _refuse_unsupported(model, parts)
        elif not isinstance(task, retrieval):
            raise UserError(
                f"{task.metadata.name}: is a task of {task.metadata.type}, and {model.checkpoint.name} has a vector "
                "for each token, by which mteb compares texts in retrieval and reranking only; leave it out"
            )


def _evaluate_task(model: MtebModel, task: "AbsTask", cache: "ResultCache") -> "TaskResult":
    """Return a task's result from the cache, or evaluate it; the tasks that an aggregate joins come first."""
    mteb, meta = import_mteb(), model.mteb_model_meta
    kept = _kept_result(task, meta, cache)
    if kept is not None and not kept.get_missing_evaluations(task):
        return kept
    parts = getattr(task, "tasks", ())
    for part in parts:
        _evaluate_task(model, part, cache)
    if not parts:
        _fetch(task)
    strategy = "always" if kept is None and not parts else "only-missing"
    results = mteb.evaluate(
        model, task, cache=cache, co2_tracker=False, overwrite_strategy=strategy, show_progress_bar=False
    )
    if not parts:
        task.unload_data()
    return results.task_results[0]


def _kept_result(task: "AbsTask", meta: "ModelMeta", cache: "ResultCache") -> "TaskResult | None":
    """Return what the cache has of a task; None if it is of other data, or a killed process left half of it."""
    try:
        kept = cache.load_task_result(task.metadata.name, meta)
    except (ValueError, KeyError):
        return None
    return kept if kept is not None and kept.is_mergeable(task) else None


def _fetch(task: "AbsTask") -> None:
    """Load a task's data, which mteb fetches from a hub where they are not in its cache."""
    try:
        task.load_data()
    except MemoryError:
        raise
    except Exception as error:  # of several libraries, each with kinds of its own for network, access and format
        source, reason = task.metadata.dataset.get("path", ""), " ".join(str(error).split())
        raise UserError(
            f"{task.metadata.name}: its data ({source}) could not be fetched ({type(error).__name__}: {reason[:200]})"
        ) from None


def score_table(results: Sequence["TaskResult"], tasks: Sequence["AbsTask"], meta: "ModelMeta") -> Table:
    """Return the main score of each task, the mean over its splits and subsets."""
    rows = [
        [task.metadata.name, task.metadata.type, task.metadata.main_score, f"{result.get_score():.5f}"]
        for task, result in zip(tasks, results, strict=True)
    ]
    columns = [Column("task", is_text=True), Column("type", is_text=True), Column("metric", is_text=True)]
    return Table([*columns, Column("score")], rows, title=meta.name)
