"""Evaluation stage: rank a split's validation queries with a checkpoint and measure the ranking."""

import os
from dataclasses import replace
from itertools import chain
from pathlib import Path

from sentence_transformers import SentenceTransformer

from rounds.artifacts import hashing, store
from rounds.artifacts.manifests import FinetuneManifest
from rounds.config.recipe import Recipe
from rounds.config.sections.mining import BM25
from rounds.data import lineage
from rounds.data.collection import Collection
from rounds.data.passage_pool import ids_of, rows_of, texts_of
from rounds.encoding import run_store
from rounds.encoding.run_store import RunStore
from rounds.errors import UserError
from rounds.evaluation import ledger
from rounds.evaluation.metrics import MAIN_METRIC, mean_cosine, per_query, random_run, retrieval_loss, summarize
from rounds.evaluation.results import ResultRow, RowKind
from rounds.models import checkpoint
from rounds.models.checkpoint import Checkpoint
from rounds.models.precision import resolve_precision
from rounds.retrieval import bm25, representations
from rounds.retrieval.run import Run
from rounds.retrieval.vectors import truncate_vectors


def evaluate_checkpoint(
    source: Checkpoint,
    data: Collection,
    model_output: Path,
    allow_leak: bool,
    embedder: SentenceTransformer | None = None,
) -> ResultRow:
    """Rank the validation queries with a checkpoint, or read the cached run, and return its metrics.

    Args:
        source: the checkpoint.
        data: the collection whose validation queries are ranked.
        model_output: the folder under which base models cache their runs; paths in the row are relative to it.
        allow_leak: evaluate a checkpoint that was trained on validation queries, and mark the row POLLUTED.
        embedder: the checkpoint's loaded weights; None loads them if a text has no vector yet.

    Raises:
        UserError: the split has no validation queries, or the checkpoint was trained on some of them.
    """
    require_validation(data)
    lineage_status = lineage.guard(source.name, source.lineage, data.questions["validation"], allow_leak)
    runs = run_store.open_store(source, model_output, embedder)
    examples = run_store.few_shot_examples(source, data, data.validation)
    run, path = runs.run("validation", data.validation, data.passages, examples=examples, identical=data.identical)
    row, manifest = _measured_row(_label(source), run, data, lineage_status), source.manifest
    return replace(
        row,
        kind=_kind(source),
        round=manifest.round if manifest else 0 if source.is_base else None,
        epoch=manifest.epoch if manifest else None,
        metrics={**row.metrics, **_vector_metrics(source, runs, data, examples)},
        run=os.path.relpath(path.parent, model_output),
        weights=source.weights_digest,
        fingerprint=hashing.sha256_json(source.key)[:12],
        precision=source.precision,
        recipe=source.recipe.name,
        checkpoint=os.path.relpath(source.folder, model_output) if source.folder else source.name,
    )


def _kind(source: Checkpoint) -> RowKind:
    if source.is_base or source.is_initialization:
        return RowKind.ZERO_SHOT if source.is_base else RowKind.START
    trained_in_round = source.manifest is not None and source.manifest.title is None
    return RowKind.ROUND if trained_in_round else RowKind.CHECKPOINT


def _label(source: Checkpoint) -> str:
    """Return the row's label without its mark and lineage."""
    kind, dim = _kind(source), source.options.truncate_dim
    dimensions = "" if dim is None else f", {dim} dimensions"
    if kind == RowKind.ROUND:
        merged = ", merged" if source.manifest.merged else ""
        return f"round {source.manifest.round}, epoch {source.manifest.epoch}{merged}{dimensions}"
    if kind == RowKind.CHECKPOINT:
        title = source.folder.name if source.manifest is None else source.manifest.title
        return f"{title}{dimensions}"
    return f"{'zero-shot' if kind == RowKind.ZERO_SHOT else 'start'}{dimensions}"


def _vector_metrics(
    source: Checkpoint, runs: RunStore, data: Collection, examples: list[list[str]] | None
) -> dict[str, float]:
    """Return the metrics that need vectors: the validation loss, the mean cosine between passages, and sparsity."""
    queries, _ = runs.vectors(list(data.validation.values()), "query", "validation", examples)
    corpus, _ = runs.vectors(texts_of(data.passages), "passage", "corpus")
    dim = source.options.truncate_dim
    queries, corpus = (truncate_vectors(vectors, dim, source.normalizes) for vectors in (queries, corpus))
    judged = (ids for each in (data.qrels, data.identical) for ids in each.values())
    corpus_rows = rows_of(data.passages, chain.from_iterable(judged))
    relevant, identical = (
        [[corpus_rows[passage] for passage in passages.get(query, ())] for query in data.validation]
        for passages in (data.qrels, data.identical)
    )
    loss = retrieval_loss(queries, corpus, relevant, source.recipe.training.temperature, left_out=identical)
    statistics = representations.of(corpus).statistics(queries, corpus)
    return {"validation loss": round(loss, 6), "mean cosine": round(mean_cosine(corpus), 6), **statistics}


def _measured_row(label: str, run: Run, data: Collection, lineage_status: str) -> ResultRow:
    """Measure a run; the label and the metrics of a lineage that is not clean say so."""
    scores = per_query(run, data.qrels, grades=data.grades)
    metrics = summarize(scores, run.queries, data.unseen, data.qrels)
    if lineage_status != lineage.CLEAN:
        label = f"{label} [{lineage_status}]"
        metrics["lineage"] = lineage_status
    return ResultRow(
        label=label,
        metrics=metrics,
        per_query=scores[MAIN_METRIC],
        queries=run.queries,
        scores=scores,
        lineage=lineage_status,
        data=data.data,
        split=data.split,
        validation=data.validation_digest,
        labels=data.labels_digest,
    )


def require_validation(data: Collection) -> None:
    """Refuse a collection without validation queries.

    Raises:
        UserError: the split has none.
    """
    if not data.validation:
        raise UserError(f"{data.folder}: split {data.split} has no validation queries; evaluate on another split")


def bm25_row(data: Collection, parameters: BM25) -> ResultRow:
    """Return the row of the lexical baseline, with the recipe's `mining.bm25`."""
    require_validation(data)
    run = bm25.rank(data.validation, data.passages, run_store.DEPTH, parameters, left_out=data.identical)
    return _baseline_row("BM25", run, data, RowKind.BM25)


def chance_row(data: Collection) -> ResultRow:
    """Return the row of a random ranking."""
    require_validation(data)
    run = random_run(list(data.validation), ids_of(data.passages), left_out=data.identical)
    return _baseline_row("chance", run, data, RowKind.CHANCE)


def _baseline_row(label: str, run: Run, data: Collection, kind: RowKind) -> ResultRow:
    """Measure a run that no checkpoint ranked; its kind stands in the columns that identify a checkpoint."""
    names = dict.fromkeys(("weights", "fingerprint", "recipe", "checkpoint"), kind.value)
    return replace(_measured_row(label, run, data, lineage.CLEAN), kind=kind, precision="-", **names)


def resolve_epochs(path: str | None, recipe: Recipe | None, device: str) -> dict[str, Checkpoint]:
    """Return the checkpoints that a path stands for, keyed by the mark of their rows.

    Args:
        path: a finetune folder, a checkpoint, or None for the recipe's base model.
        recipe: for models without a manifest.
        device: to encode on.

    Returns:
        the `last` and the `best` epoch of a finetune folder, or one `last, best`; otherwise one checkpoint with an
        empty mark.
    """
    manifest = store.read_manifest(Path(path)) if path and Path(path).is_dir() else None
    if not isinstance(manifest, FinetuneManifest):
        return {"": checkpoint.resolve(path, recipe, device, takes_recipe=True)}
    last, best = manifest.last, manifest.best
    epochs = {"last, best": last} if last == best else {"last": last, "best": best}
    return {mark: checkpoint.resolve(str(Path(path) / name), recipe, device) for mark, name in epochs.items()}


def expand_variants(
    sources: dict[str, Checkpoint], precision: str | None, with_examples: bool | None, engine: str
) -> dict[str, Checkpoint]:
    """Return the variants of each checkpoint that an evaluation measures, keyed by the mark of their rows.

    Multimodal checkpoints are also evaluated text-only and image-only.

    Args:
        sources: checkpoints by mark, as `resolve_epochs` returns them.
        precision: measure each checkpoint in this precision as well; None measures it only in its own.
        with_examples: put few-shot examples before queries or leave them out; None follows the recipe.
        engine: the implementation that encodes, one of `inference_options.ENGINES`.

    Raises:
        UserError: examples are requested and the recipe has none.
    """
    variants: dict[str, Checkpoint] = {}
    for mark, source in sources.items():
        source, marks = source.with_options(engine=engine), [mark] if mark else []
        if with_examples is not None:
            source = _with_examples(source, with_examples)
            marks.append("examples" if with_examples else "no examples")
        if engine != "rounds":
            marks.append(engine)
        for variant_mark, variant in _precisions_or_modalities(source, precision).items():
            variants[", ".join([*marks, *([variant_mark] if variant_mark else [])])] = variant
    return variants


def _precisions_or_modalities(source: Checkpoint, precision: str | None) -> dict[str, Checkpoint]:
    """Return a checkpoint in its own and another precision, or with its single modalities if there is no other."""
    other = resolve_precision(precision, source.device) if precision else source.precision
    if other != source.precision:
        return {name: source.with_options(precision=name) for name in (source.precision, other)}
    if not source.recipe.model.vision.reads_images:
        return {"": source}
    return {
        "": source,
        "words only": source.with_options(modality="without"),
        "pictures only": source.with_options(modality="only"),
    }


def _with_examples(source: Checkpoint, wanted: bool) -> Checkpoint:
    prompts = source.recipe.prompts
    if wanted and prompts.examples == "none":
        raise UserError(
            f"{source.name}: recipe {source.recipe.name} has no examples; set prompts.examples and examples_number"
        )
    if not wanted:
        prompts = replace(prompts, examples="none", examples_number=0)
    return replace(source, recipe=replace(source.recipe, prompts=prompts))


def mark_row(row: ResultRow, mark: str, in_chain: bool) -> ResultRow:
    """Return the row with a mark in its label.

    Args:
        row: a row without a mark.
        mark: an empty mark leaves the label as it is.
        in_chain: whether later rows are tested against this one.
    """
    label = f"{row.label} ({mark})" if mark else row.label
    return replace(row, label=label, mark=mark, in_chain=in_chain)


def record(rows: list[ResultRow], path: Path) -> None:
    """Write rows to the ledger."""
    ledger.record(path, [row.ledger_entry for row in rows])
