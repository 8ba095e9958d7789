"""Evaluation stage: rank a split's validation queries with a checkpoint and measure the ranking."""

import dataclasses
import os
from pathlib import Path

from sentence_transformers import SentenceTransformer

from rounds.artifacts import hashing, store
from rounds.config.recipe import Recipe
from rounds.data import collection, lineage
from rounds.data.collection import Collection
from rounds.encoding import run_store
from rounds.errors import UserError
from rounds.evaluation import ledger
from rounds.evaluation.metrics import MAIN_METRIC, chance, mean_cosine, per_query, retrieval_loss, summarize
from rounds.evaluation.results import ResultRow
from rounds.models import checkpoint
from rounds.models.checkpoint import Checkpoint
from rounds.models.precision import resolve_precision
from rounds.retrieval import bm25
from rounds.retrieval.run import Run
from rounds.retrieval.vectors import truncate_vectors


def evaluate_checkpoint(
    source: Checkpoint,
    data: Collection,
    model_output: Path,
    allow_leak: bool,
    embedder: SentenceTransformer | None = None,
) -> ResultRow:
    """One row of the table: encode (or read) the validation run and measure it.

    Raises:
        UserError: the split has no validation queries, or the checkpoint was trained on some of them.
    """
    if not data.validation:
        raise UserError(f"{data.folder}: split {data.split} has no validation queries")
    status = lineage.guard(source.name, source.lineage, data.questions["validation"], allow_leak)
    encoder = run_store.open_store(source, model_output, embedder)
    before = run_store.few_shot_examples(source, data, data.validation)
    run, path = encoder.run("validation", data.validation, data.passages, examples=before)
    about = {
        "run": os.path.relpath(path.parent, model_output),
        "weights": source.weights_digest,
        "fingerprint": hashing.sha256_json(source.key)[:12],
        "precision": source.precision,
        "recipe": source.recipe.name,
        "checkpoint": os.path.relpath(source.folder, model_output) if source.folder else source.name,
        "round": (source.manifest or {}).get("round", 0 if source.is_base else None),
        "epoch": (source.manifest or {}).get("epoch"),
    }
    row = _row(_label(source), run, data, {**about, "lineage": status})
    vectors, _ = encoder.vectors(list(data.validation.values()), "query", "validation", before)
    corpus, _ = encoder.vectors(list(data.passages.values()), "passage", "corpus")
    dim = source.options.truncate_dim
    vectors, corpus = (truncate_vectors(each, dim, source.normalizes) for each in (vectors, corpus))
    place = {passage: number for number, passage in enumerate(data.passages)}
    relevant = [[place[passage] for passage in data.qrels[query]] for query in data.validation]
    loss = retrieval_loss(vectors, corpus, relevant, source.recipe.training.temperature)
    more = {"validation loss": round(loss, 6), "mean cosine": round(mean_cosine(corpus), 6)}
    return dataclasses.replace(row, metrics={**row.metrics, **more})


def _label(source: Checkpoint) -> str:
    cut = "" if source.options.truncate_dim is None else f", {source.options.truncate_dim} dimensions"
    if source.is_base or source.is_initialization:
        return f"{'zero-shot' if source.is_base else 'start'}{cut}"
    if source.manifest is None:
        return source.folder.name + cut
    if "title" in source.manifest:
        return source.manifest["title"] + cut
    merged = ", merged" if "merged" in source.manifest else ""
    return f"round {source.manifest['round']}, epoch {source.manifest['epoch']}{merged}{cut}"


def _row(label: str, run: Run, data: Collection, about: dict) -> ResultRow:
    scores = per_query(run, data.qrels)
    metrics = summarize(scores, run.queries, data.unseen)
    if about["lineage"] != lineage.CLEAN:
        label = f"{label} [{about['lineage']}]"
        metrics["lineage"] = about["lineage"]
    about = {**about, "data": data.data, "split": data.split, "validation": collection.validation_digest(data)}
    return ResultRow(label, metrics, scores[MAIN_METRIC], run.queries, about, scores)


def bm25_row(data: Collection) -> ResultRow:
    """The lexical baseline's row."""
    run = bm25.rank(data.validation, data.passages, run_store.DEPTH)
    about = {
        "weights": "bm25",
        "fingerprint": "bm25",
        "precision": "-",
        "recipe": "bm25",
        "checkpoint": "bm25",
        "lineage": lineage.CLEAN,
    }
    return _row("BM25", run, data, about)


def chance_row(data: Collection) -> ResultRow:
    """What ranking at random gives."""
    run = chance(list(data.validation), list(data.passages))
    names = dict.fromkeys(("weights", "fingerprint", "recipe", "checkpoint"), "chance")
    return _row("chance", run, data, {**names, "precision": "-", "lineage": lineage.CLEAN})


def epochs_of(folder: str | None, recipe: Recipe | None, device: str) -> dict[str, Checkpoint]:
    """What a name stands for, by mark: a finetune folder's `last` epoch and its `best` (or `last, best`), else one."""
    manifest = store.read_manifest(Path(folder)) if folder and Path(folder).is_dir() else None
    if manifest is None or manifest.get("kind") != "finetune":
        return {"": checkpoint.resolve(folder, recipe, device)}
    last, best = manifest["last"], manifest["best"]
    names = {"last, best": last} if last == best else {"last": last, "best": best}
    return {mark: checkpoint.resolve(str(Path(folder) / name), recipe, device) for mark, name in names.items()}


def variants(
    sources: dict[str, Checkpoint], precision: str | None, with_examples: bool | None, engine: str
) -> dict[str, Checkpoint]:
    """The same checkpoints by another engine, with or without examples in the query, and in a second precision; those
    that see also on words and on pictures alone.

    Args:
        sources: by mark, as `epochs_of` returns them, in their own precision.
        precision: adds a row in this precision beside each checkpoint's own.
    """
    found = {}
    for mark, source in sources.items():
        source, notes = source.with_options(engine=engine), [mark] if mark else []
        if with_examples is not None:
            source = _with_examples(source, with_examples)
            notes.append("examples" if with_examples else "no examples")
        if engine != "rounds":
            notes.append(engine)
        computed = resolve_precision(precision, source.device) if precision else source.precision
        if computed == source.precision:
            found[", ".join(notes)] = source
            if source.recipe.model.vision.reads_images:
                for shown, note in (("without", "words only"), ("only", "pictures only")):
                    found[", ".join([*notes, note])] = source.with_options(modality=shown)
            continue
        for each in (source.precision, computed):
            found[", ".join([*notes, each])] = source.with_options(precision=each)
    return found


def _with_examples(source: Checkpoint, wanted: bool) -> Checkpoint:
    prompts = source.recipe.prompts
    if wanted and prompts.examples == "none":
        raise UserError(
            f"{source.name}: recipe {source.recipe.name} has no examples; set prompts.examples and examples_number"
        )
    if not wanted:
        prompts = dataclasses.replace(prompts, examples="none", examples_number=0)
    return dataclasses.replace(source, recipe=dataclasses.replace(source.recipe, prompts=prompts))


def marked(row: ResultRow, mark: str, beside: bool) -> ResultRow:
    """The row with its mark in the label; what is `beside` the chain of rounds is not compared with later rows."""
    label = f"{row.label} ({mark})" if mark else row.label
    return dataclasses.replace(row, label=label, about={**row.about, "label": mark, "beside": beside})


def record(rows: list[ResultRow], path: Path) -> None:
    """Put rows into the ledger."""
    ledger.record(path, [{**row.metrics, **row.about} for row in rows])
