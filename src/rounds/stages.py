"""Stages: what the scripts of a round call. Each reads files, calls the library, and leaves one artefact."""

import dataclasses
import functools
import os
import time
from collections import Counter
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

from rounds import (
    artefact,
    bm25,
    collection,
    evaluation,
    examples,
    ledger,
    lineage,
    negatives,
    ranking,
    reranker,
    runs,
    submission,
    training,
)
from rounds.collection import Collection
from rounds.comparison import Row
from rounds.errors import UserError
from rounds.mining import Negatives
from rounds.model import backbone, checkpoint
from rounds.model.checkpoint import Checkpoint
from rounds.prompts import normalize_text
from rounds.ranking import Run
from rounds.recipe import VECTORS, Mining, Recipe, parse_range

RECALL_QUERIES = 200


def file_manifest(path: Path) -> Path:
    """The manifest of an artefact that is a single file: `NAME.manifest.json` beside `NAME.jsonl`."""
    return path.with_name(f"{path.stem}.manifest.json")


def mine_file(
    source: Checkpoint, how: Mining, input_file: Path, pool_file: Path, output_file: Path, seed: int,
    model_output: Path, overwrite: bool,
) -> str:  # fmt: skip
    """Fill in `neg` of a JSONL file; returns the line to print.

    The run is deepened until every query has its negatives or the corpus ends.
    """
    config = {
        "model": source.key,
        "mining": dataclasses.asdict(how),
        "seed": seed,
        "input": artefact.sha256_file(input_file),
        "candidate_pool": artefact.sha256_file(pool_file),
        "files": _digests(how),
    }
    if _file_is_finished(output_file, config, overwrite):
        return f"{output_file}: up to date"
    start = time.perf_counter()
    rows = collection.read_rows(input_file, ("pos",))
    passages = collection.read_pool(pool_file)
    ranking.check_index(how.index, len(passages))
    ids = [str(row.get("query_id", number)) for number, row in enumerate(rows)]
    if len(set(ids)) != len(ids):
        raise UserError(f"{input_file}: a query_id appears twice")
    queries = {identifier: row["query"] for identifier, row in zip(ids, rows, strict=True)}
    qrels = _positives(rows, ids, passages, "pos")
    excluded = _positives(rows, ids, passages, "excluded")
    task = negatives.Task(queries, passages, qrels, _groups(rows, ids), excluded)
    encoder = runs.encoder(source, model_output)
    bank = collection.bank(rows, source.recipe.prompts)
    before = bank and examples.before(bank, [collection.asked(row) for row in rows])
    used: list[tuple[Run, Path]] = []

    def dense(depth: int, shown: str = "with") -> Run:
        if shown != "with":
            own = dataclasses.replace(encoder, checkpoint=dataclasses.replace(source, shown=shown))
            return own.run(f"train-{shown}", queries, passages, depth)[0]
        used.append(encoder.run("train", queries, passages, depth, before, how.index))
        return used[-1][0]

    depth = max(runs.DEPTH, parse_range(how.range_for_sampling)[1])
    wider = dataclasses.replace(how, negative_number=how.negative_number * (2 if how.reranker else 1))
    found = negatives.mine(task, dense, wider, seed, depth)
    if how.reranker:
        score = functools.partial(reranker.score, how.reranker, device=source.device)
        found = negatives.without_false(found, task, score, how.negative_number)
    exact = how.index == "exact" or not used
    recall = {} if exact else _recall(used[-1][0], encoder, queries, passages, before, seed)
    about = {
        "lineage": source.trained,
        "queries": len(rows),
        "deepened": len(found.deepened),
        "short": len(found.short),
        "sources": dict(Counter(each for own in found.sources.values() for each in own)),
        "run": os.path.relpath(used[-1][1], output_file.parent) if used else None,
        "recall": recall,
        "seconds": round(time.perf_counter() - start, 2),
    }
    _write_file(output_file, _mined_rows(rows, ids, found, passages), {"kind": "mined", "config": config, **about})
    return _mined_lines(output_file, how, about)


def _mined_rows(rows: list[dict], ids: list[str], found: Negatives, passages: dict[str, str]) -> list[dict]:
    """The rows with their negatives, where each comes from, and a reranker's scores of the positives."""
    return [
        row | {
            "neg": [passages[passage] for passage in found.ids[identifier]],
            "neg_id": found.ids[identifier],
            "neg_scores": found.scores[identifier],
            "neg_source": found.sources[identifier],
            **({"pos_scores": found.positives[identifier]} if found.positives else {}),
        }
        for identifier, row in zip(ids, rows, strict=True)
    ]  # fmt: skip


def _digests(how: Mining) -> dict[str, str]:
    """Of what a recipe names by path alone: precomputed vectors and a reranker's weights."""
    paths = [Path(source.removeprefix(VECTORS)) for source in how.negatives if source.startswith(VECTORS)]
    artefact.require_files(*paths)
    found = {str(path): artefact.sha256_file(path) for path in paths}
    return found | ({"reranker": reranker.digest(how.reranker)} if how.reranker else {})


def _groups(rows: list[dict], ids: list[str]) -> dict[str, list[str]]:
    """Each row's construct and subject, where it has them."""
    kinds = ("construct", "subject")
    return {
        identifier: [f"{kind} {row[kind]}" for kind in kinds if row.get(kind)]
        for identifier, row in zip(ids, rows, strict=True)
    }


def _mined_lines(output: Path, how: Mining, about: dict) -> str:
    lines = [
        f"{output}: {how.negative_number} negatives from ranks {how.range_for_sampling} "
        f"for {about['queries']} queries; {about['deepened']} took deeper ranks, {about['short']} fell short"
    ]
    if len(about["sources"]) > 1:
        lines.append("from " + ", ".join(f"{source} {count}" for source, count in about["sources"].items()))
    if recall := dict(about["recall"]):
        asked = recall.pop("queries")
        scores = ", ".join(f"{name} {value:.4f}" for name, value in recall.items())
        lines.append(f"index {how.index}: {scores} against exact search on {asked} queries")
    return "\n".join(lines)


def _recall(
    run: Run, encoder: runs.Encoder, queries: dict[str, str], passages: dict[str, str],
    before: list[list[str]] | None, seed: int,
) -> dict[str, float]:  # fmt: skip
    """Recall of an approximate run against exact search, on a sample of its queries."""
    vectors, _ = encoder.vectors(list(queries.values()), "query", "train", before)
    corpus, _ = encoder.vectors(list(passages.values()), "passage", "corpus")
    rows = np.random.default_rng(seed).permutation(len(queries))[:RECALL_QUERIES]
    depth = run.scores.shape[1]
    exact = ranking.rank([run.queries[row] for row in rows], vectors[rows], list(passages), corpus, depth)
    sampled = Run(exact.queries, run.passages[rows], run.scores[rows])
    found = {f"recall@{each}": ranking.recall(sampled, exact, each) for each in sorted({min(25, depth), depth})}
    return {**found, "queries": len(rows)}


def _positives(rows: list[dict], ids: list[str], passages: dict[str, str], key: str) -> dict[str, list[str]]:
    """Each row's passage ids under a key, by text, so that twins of a positive under another id count too."""
    by_text: dict[str, list[str]] = {}
    for passage, text in passages.items():
        by_text.setdefault(normalize_text(text), []).append(passage)
    return {
        identifier: [passage for text in row.get(key, ()) for passage in by_text.get(normalize_text(text), [])]
        for identifier, row in zip(ids, rows, strict=True)
    }


def _file_is_finished(path: Path, config: dict, overwrite: bool) -> bool:
    manifest = file_manifest(path)
    if overwrite or not manifest.is_file() or not path.is_file():
        return False
    changed = artefact.differences(artefact.read_json(manifest).get("config"), config)
    if changed:
        raise UserError(
            f"{path}: made from another configuration ({'; '.join(changed[:3])}); name another file or pass --overwrite"
        )
    return True


def _write_file(path: Path, rows: list[dict], manifest: dict) -> None:
    """Write a JSONL artefact; its manifest, the stamp, comes last."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file_manifest(path).unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        artefact.write_jsonl(temporary, rows)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    artefact.write_json(file_manifest(path), manifest)


def finetune(
    start: Checkpoint, recipe: Recipe, train_data: Path, output: Path, *, validation: Collection | None,
    round_number: int, seed: int, processes: int, tracker: str, allow_leak: bool, overwrite: bool, model_output: Path,
) -> str:  # fmt: skip
    """Train one round; returns the lines to print.

    Args:
        start: the previous round's checkpoint, or the base model.
        validation: evaluates each epoch on its validation queries (where it has any).
    """
    recipe = _on_top_of(start, recipe)
    _check_continued(start, recipe)
    trained = _trained_questions(train_data, start)
    status = lineage.CLEAN
    if validation is not None and validation.validation:
        status = lineage.guard(str(train_data), trained, validation.questions["validation"], allow_leak)
    config = {
        "recipe": recipe.to_dict(),
        "start": start.key,
        "train_data": artefact.sha256_file(train_data),
        "validation": validation and validation_digest(validation),
        "round": round_number,
        "seed": seed,
        "processes": processes,
    }
    if artefact.is_finished(output, config, overwrite):
        return f"{output}: up to date"
    about = {
        "round": round_number,
        "data": validation.data if validation else None,
        "split": validation.split if validation else None,
        "parent": {
            "name": os.path.relpath(start.folder, output.parent) if start.folder else start.name,
            "weights": start.weights,
            "base": start.is_base,
            "kind": start.kind,
        },
        "lineage_status": status,
        "lineage": trained,
    }
    plan = training.Plan(start, recipe, train_data, output, config, about, seed, tracker, model_output / "base")
    evaluate = None
    if validation is not None and validation.validation:

        def evaluate(embedder: SentenceTransformer, folder: Path) -> dict:
            source = checkpoint.resolve(str(folder), device=start.device)
            return evaluate_checkpoint(source, validation, model_output, allow_leak, embedder).metrics

    manifest = training.finetune(plan, evaluate)
    return _finetune_lines(output, manifest)


def _finetune_lines(output: Path, manifest: dict) -> str:
    lines = []
    for label in ("last", "best"):
        folder = manifest[label]
        metrics = next(each["metrics"] for each in manifest["epochs"] if each["folder"] == folder)
        scores = "  ".join(f"{name} {metrics[name]:.4f}" for name in evaluation.APART if name in metrics)
        if scores or label == "last":
            lines.append(f"{output / folder}  ({label} epoch)  {scores}".rstrip())
    return "\n".join([*lines, f"{output}: {manifest['seconds']:.0f} s of training"])


def _on_top_of(start: Checkpoint, recipe: Recipe) -> Recipe:
    """An adapter over a whole checkpoint takes that checkpoint as its base model."""
    if recipe.tuning.method != "full" and not start.adapter and start.folder is not None:
        model = dataclasses.replace(recipe.model, name_or_path=str(start.folder.resolve()), sha256=None, revision=None)
        return dataclasses.replace(recipe, model=model)
    return dataclasses.replace(recipe, model=start.recipe.model)


def _check_continued(start: Checkpoint, recipe: Recipe) -> None:
    """An adapter goes on as it is: another rank or other targets need a new one."""
    if start.adapter and start.manifest is not None and recipe.tuning.method != "full":
        shapes = [start.manifest["recipe"]["tuning"], dataclasses.asdict(recipe.tuning)]
        changed = artefact.differences(*({**shape, "init_from": None} for shape in shapes), "tuning.")
        if changed:
            raise UserError(
                f"{start.name}: {'; '.join(changed)}; keep the adapter's shape or set training.start_from: base"
            )


def _trained_questions(train_data: Path, start: Checkpoint) -> dict[str, str] | None:
    """The union of the start's lineage, the miner's and the rows' own questions; None where one is unknown."""
    parts = [start.trained]
    for row in collection.read_rows(train_data, ("pos", "neg")):
        known = "question_id" in row and "question_digest" in row
        parts.append({str(row["question_id"]): str(row["question_digest"])} if known else None)
    if file_manifest(train_data).is_file():
        parts.append(artefact.read_json(file_manifest(train_data)).get("lineage"))
    return lineage.union(*parts)


def validation_digest(data: Collection) -> str:
    """Short digest of a validation set: its queries, labels and corpus."""
    return artefact.sha256_json([data.validation, data.qrels, data.passages, sorted(data.unseen)])[:12]


def evaluate_checkpoint(
    source: Checkpoint,
    data: Collection,
    model_output: Path,
    allow_leak: bool,
    embedder: SentenceTransformer | None = None,
) -> Row:
    """One row of the table: encode (or read) the validation run and measure it.

    Raises:
        UserError: the split has no validation queries, or the checkpoint was trained on some of them.
    """
    if not data.validation:
        raise UserError(f"{data.folder}: split {data.split} has no validation queries")
    status = lineage.guard(source.name, source.trained, data.questions["validation"], allow_leak)
    encoder = runs.encoder(source, model_output, embedder)
    before = examples_before(source, data, data.validation)
    run, path = encoder.run("validation", data.validation, data.passages, before=before)
    about = {
        "run": os.path.relpath(path.parent, model_output),
        "weights": source.weights,
        "fingerprint": artefact.sha256_json(source.key)[:12],
        "precision": source.precision,
        "recipe": source.recipe.name,
        "checkpoint": os.path.relpath(source.folder, model_output) if source.folder else source.name,
        "round": (source.manifest or {}).get("round", 0 if source.is_base else None),
        "epoch": (source.manifest or {}).get("epoch"),
    }
    row = _row(_label(source), run, data, {**about, "lineage": status})
    vectors, _ = encoder.vectors(list(data.validation.values()), "query", "validation", before)
    corpus, _ = encoder.vectors(list(data.passages.values()), "passage", "corpus")
    vectors, corpus = (runs.cut(each, source.dim, source.normalizes) for each in (vectors, corpus))
    place = {passage: number for number, passage in enumerate(data.passages)}
    relevant = [[place[passage] for passage in data.qrels[query]] for query in data.validation]
    loss = evaluation.retrieval_loss(vectors, corpus, relevant, source.recipe.training.temperature)
    more = {"validation loss": round(loss, 6), "mean cosine": round(evaluation.mean_cosine(corpus), 6)}
    return dataclasses.replace(row, metrics={**row.metrics, **more})


def run_folder(source: Checkpoint, data: Collection, model_output: Path) -> Path:
    """The folder of the checkpoint's run of the validation queries, or of the test queries where there are none."""
    name, queries = ("validation", data.validation) if data.validation else ("test", data.test)
    before = examples_before(source, data, queries)
    return runs.encoder(source, model_output).run(name, queries, data.passages, before=before)[1].parent


def examples_before(source: Checkpoint, data: Collection, queries: dict[str, str]) -> list[list[str]] | None:
    """Each query's examples, from the collection's training rows."""
    if source.recipe.prompts.examples == "none":
        return None
    rows = collection.read_rows(data.folder / collection.FINETUNE, ("pos",))
    return examples.before(collection.bank(rows, source.recipe.prompts), [data.asked[query] for query in queries])


def _label(source: Checkpoint) -> str:
    cut = "" if source.dim is None else f", {source.dim} dimensions"
    if source.is_base or source.is_start:
        return f"{'zero-shot' if source.is_base else 'start'}{cut}"
    if source.manifest is None:
        return source.folder.name + cut
    if "title" in source.manifest:
        return source.manifest["title"] + cut
    merged = ", merged" if "merged" in source.manifest else ""
    return f"round {source.manifest['round']}, epoch {source.manifest['epoch']}{merged}{cut}"


def _row(label: str, run: Run, data: Collection, about: dict) -> Row:
    scores = evaluation.per_query(run, data.qrels)
    metrics = evaluation.summarize(scores, run.queries, data.unseen)
    if about["lineage"] != lineage.CLEAN:
        label = f"{label} [{about['lineage']}]"
        metrics["lineage"] = about["lineage"]
    about = {**about, "data": data.data, "split": data.split, "validation": validation_digest(data)}
    return Row(label, metrics, scores[evaluation.MAIN], run.queries, about, scores)


def bm25_row(data: Collection) -> Row:
    """The lexical baseline's row."""
    run = bm25.rank(data.validation, data.passages, runs.DEPTH)
    about = {
        "weights": "bm25",
        "fingerprint": "bm25",
        "precision": "-",
        "recipe": "bm25",
        "checkpoint": "bm25",
        "lineage": lineage.CLEAN,
    }
    return _row("BM25", run, data, about)


def chance_row(data: Collection) -> Row:
    """What ranking at random gives."""
    run = evaluation.chance(list(data.validation), list(data.passages))
    names = dict.fromkeys(("weights", "fingerprint", "recipe", "checkpoint"), "chance")
    return _row("chance", run, data, {**names, "precision": "-", "lineage": lineage.CLEAN})


def epochs_of(folder: str | None, recipe: Recipe | None, device: str) -> dict[str, Checkpoint]:
    """What a name stands for, by mark: a finetune folder's `last` epoch and its `best` (or `last, best`), else one."""
    manifest = artefact.read_manifest(Path(folder)) if folder and Path(folder).is_dir() else None
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
        source, notes = source.by(engine), [mark] if mark else []
        if with_examples is not None:
            source = _with_examples(source, with_examples)
            notes.append("examples" if with_examples else "no examples")
        if engine != "rounds":
            notes.append(engine)
        computed = backbone.resolve_precision(precision, source.device) if precision else source.precision
        if computed == source.precision:
            found[", ".join(notes)] = source
            if source.recipe.model.vision.sees:
                for shown, note in (("without", "words only"), ("only", "pictures only")):
                    found[", ".join([*notes, note])] = dataclasses.replace(source, shown=shown)
            continue
        for each in (source.precision, computed):
            found[", ".join([*notes, each])] = dataclasses.replace(source, precision=each)
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


def marked(row: Row, mark: str, beside: bool) -> Row:
    """The row with its mark in the label; what is `beside` the chain of rounds is not compared with later rows."""
    label = f"{row.label} ({mark})" if mark else row.label
    return dataclasses.replace(row, label=label, about={**row.about, "label": mark, "beside": beside})


def record(rows: list[Row], path: Path) -> None:
    """Put rows into the ledger."""
    ledger.record(path, [{**row.metrics, **row.about} for row in rows])


def submit(source: Checkpoint, data: Collection, sample: Path, output: Path, model_output: Path) -> int:
    """Rank the test queries, write the checked CSV and note it in the ledger; returns its number of rows."""
    if not data.test:
        raise UserError(f"{data.folder}: the data has no test.csv, so there is nothing to submit")
    before = examples_before(source, data, data.test)
    run, path = runs.encoder(source, model_output).run("test", data.test, data.passages, before=before)
    rows = submission.write(run, data.passages, sample, output)
    config = {"model": source.key, "queries": artefact.sha256_json(data.test), "sample": artefact.sha256_file(sample)}
    about = {"checkpoint": source.name, "run": os.path.relpath(path.parent, model_output), "config": config}
    artefact.write_json(file_manifest(output), {"kind": "submission", **about})
    name_submission(source, data, output.stem, model_output)
    return rows


def name_submission(source: Checkpoint, data: Collection, name: str, model_output: Path) -> None:
    """Note in the ledger which submission the checkpoint makes."""
    manifest = source.manifest or {}
    about = {
        "data": data.data, "split": data.split, "recipe": source.recipe.name, "precision": source.precision,
        "round": manifest.get("round"), "epoch": manifest.get("epoch"), "weights": source.weights,
        "fingerprint": artefact.sha256_json(source.key)[:12],
        "checkpoint": os.path.relpath(source.folder, model_output) if source.folder else source.name,
    }  # fmt: skip
    ledger.name_submission(model_output / "ledger.csv", about, name)
