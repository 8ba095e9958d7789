"""Mining stage: fill in the negatives of a JSONL file with a checkpoint's ranking."""

import dataclasses
import functools
import os
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rounds.artifacts import hashing, store
from rounds.artifacts.manifests import MinedManifest
from rounds.config.recipe import Mining, parse_range
from rounds.data import collection, few_shot
from rounds.data.cells import read_id
from rounds.data.passage_pool import ids_of, read_pool, texts_of
from rounds.data.text import normalize_text
from rounds.encoding import pair_scores, run_store
from rounds.errors import UserError
from rounds.mining.sampling import Negatives, labelled_passages
from rounds.mining.sources import MiningTask, drop_false_negatives, find_source, mine_negatives
from rounds.models.checkpoint import Checkpoint
from rounds.models.weights import weights_digest
from rounds.retrieval import ann_index, representations, search
from rounds.retrieval.run import Run
from rounds.retrieval.vectors import list_names

RECALL_QUERIES = 200


@dataclass(frozen=True)
class MiningJob:
    """A file to mine negatives for, and how.

    Attributes:
        checkpoint: ranks the corpus.
        recipe: the recipe's section `mining`.
        input_file: JSONL with `query` and `pos`; keys `query_id`, `construct`, `subject` and `excluded` are optional.
        candidate_pool: JSONL with the corpus, `text` and (optional) `_id`.
        output_file: becomes the input file with `neg` filled in.
        seed: of the sample.
        model_output: folder under which base models keep their runs.
        overwrite: replace an output file that was mined in another way.
        made_from: what the pipeline makes the file from, which then decides whether it is kept; None without one.
    """

    checkpoint: Checkpoint
    recipe: Mining
    input_file: Path
    candidate_pool: Path
    output_file: Path
    seed: int
    model_output: Path
    overwrite: bool = False
    made_from: dict | None = None

    def config(self) -> dict:
        """Return everything that shapes the mined file, for its manifest."""
        recipe = dataclasses.asdict(self.recipe)
        if self.recipe.unlabelled_share is None:  # the key is younger than manifests that are compared with this
            del recipe["unlabelled_share"]
        return {
            "model": self.checkpoint.key,
            "mining": recipe,
            "seed": self.seed,
            "input": hashing.sha256_file(self.input_file),
            "candidate_pool": hashing.sha256_file(self.candidate_pool),
            "files": _hash_referenced_files(self.recipe),
        }


def mine_file(job: MiningJob) -> str:
    """Fill in `neg` of a JSONL file and return the lines to print.

    Raises:
        UserError: a broken input file, a source that does not fit the data, or an output file of another
            configuration.
    """
    config = job.config()
    if store.is_file_finished(job.output_file, config, job.overwrite, job.made_from):
        return f"{job.output_file}: up to date"
    start = time.perf_counter()
    rows, task = _read_task(job)
    ranker = _CheckpointRanker(job, rows, task)
    negatives = _mine(job, task, ranker)
    manifest = MinedManifest(
        config=config,
        lineage=job.checkpoint.lineage,
        queries=len(rows),
        deepened=len(negatives.deepened),
        short=len(negatives.short),
        sources=dict(Counter(source for sources in negatives.sources.values() for source in sources)),
        **({} if job.recipe.unlabelled_share is None else {"kinds": _count_kinds(task, negatives)}),
        run=os.path.relpath(ranker.run_file, job.output_file.parent) if ranker.run_file else None,
        recall=ranker.recall(),
        seconds=round(time.perf_counter() - start, 2),
        made_from=job.made_from,
    )
    store.write_file_artifact(job.output_file, _mined_rows(rows, task, negatives), manifest)
    return _describe(job, manifest)


def _read_task(job: MiningJob) -> tuple[list[dict], MiningTask]:
    """Return the input rows, and their queries, corpus and labels by id."""
    rows = collection.read_rows(job.input_file, ("pos",))
    passages = read_pool(job.candidate_pool)
    ann_index.check_index(job.recipe.index, len(passages))
    by_id: dict[str, dict] = {}
    for number, row in enumerate(rows):
        place = f"{job.input_file} line {number + 1}"
        by_id[read_id(row.get("query_id", number), place, "query_id", by_id)] = row
    # Match by text, so that duplicates of a passage under other ids count as well.
    texts = (text for row in rows for text in (*row["pos"], *_excluded_texts(row)))
    by_text: dict[str, list[str]] = {normalize_text(text): [] for text in texts}
    for passage, text in passages.items():
        if (same := by_text.get(normalize_text(text))) is not None:
            same.append(passage)

    def find(texts: Iterable[str]) -> list[str]:
        return [passage for text in texts for passage in by_text[normalize_text(text)]]

    task = MiningTask(
        queries={identifier: row["query"] for identifier, row in by_id.items()},
        passages=passages,
        qrels={identifier: find(row["pos"]) for identifier, row in by_id.items()},
        groups={identifier: _groups(row) for identifier, row in by_id.items()},
        excluded={identifier: find(_excluded_texts(row)) for identifier, row in by_id.items()},
    )
    if job.recipe.reranker and (without := [query for query, positives in task.qrels.items() if not positives]):
        raise UserError(
            f"{job.input_file}: {job.candidate_pool.name} holds no positive of {list_names(without)}, with which "
            "mining.reranker compares negatives; add them to the file, or leave the key out"
        )
    return rows, task


def _excluded_texts(row: dict) -> list[str]:
    """Return the texts that must not become a row's negatives: those that it names, and its query.

    An empty list under `identical` says that the query's own text may be a negative.
    """
    return [*row.get("excluded", ()), *([] if row.get("identical") == [] else [row["query"]])]


def _groups(row: dict) -> list[str]:
    """Return a row's construct and subject, if it has them."""
    return [f"{kind} {row[kind]}" for kind in ("construct", "subject") if row.get(kind)]


class _CheckpointRanker:
    """Ranks the corpus with a checkpoint, and remembers the last run of whole texts.

    Attributes:
        run: the last run of whole texts; None before the first.
        run_file: its TREC file.
    """

    def __init__(self, job: MiningJob, rows: list[dict], task: MiningTask) -> None:
        self.job, self.task = job, task
        self.runs = run_store.open_store(job.checkpoint, job.model_output)
        bank = collection.example_bank(rows, job.checkpoint.recipe.prompts)
        self.examples = bank and few_shot.select_examples(bank, [collection.query_metadata(row) for row in rows])
        self.run: Run | None = None
        self.run_file: Path | None = None

    def __call__(self, depth: int, modality: str = "with") -> Run:
        queries, passages = self.task.queries, self.task.passages
        if modality != "with":
            checkpoint = self.job.checkpoint.with_options(modality=modality)
            encoder = dataclasses.replace(self.runs.encoder, checkpoint=checkpoint)  # keeps the loaded weights
            runs = dataclasses.replace(self.runs, encoder=encoder)
            return runs.run(f"train-{modality}", queries, passages, depth)[0]
        self.run, self.run_file = self.runs.run("train", queries, passages, depth, self.examples, self.job.recipe.index)
        return self.run

    def recall(self) -> dict[str, float]:
        """Return the recall of an approximate run against exact search, on a sample of its queries; else nothing."""
        if self.run is None or self.job.recipe.index == "exact":
            return {}
        queries, passages = self.task.queries, self.task.passages
        vectors, _ = self.runs.vectors(list(queries.values()), "query", "train", self.examples)
        corpus, _ = self.runs.vectors(texts_of(passages), "passage", "corpus")
        sample = np.random.default_rng(self.job.seed).permutation(len(queries))[:RECALL_QUERIES]
        depth = self.run.scores.shape[1]
        sampled = representations.of(vectors).select(vectors, sample)
        exact = search.rank([self.run.queries[row] for row in sample], sampled, ids_of(passages), corpus, depth)
        approximate = Run(exact.queries, self.run.passages[sample], self.run.scores[sample])
        cutoffs = sorted({min(25, depth), depth})
        recalls = {f"recall@{cutoff}": ann_index.recall(approximate, exact, cutoff) for cutoff in cutoffs}
        return {**recalls, "queries": len(sample)}


def _mine(job: MiningJob, task: MiningTask, ranker: _CheckpointRanker) -> Negatives:
    """Mine the negatives; with a reranker, twice as many, from which it drops false ones."""
    recipe = job.recipe
    depth = max(run_store.DEPTH, parse_range(recipe.range_for_sampling)[1])
    if not recipe.reranker:
        return mine_negatives(task, ranker, recipe, job.seed, depth)
    doubled = dataclasses.replace(recipe, negative_number=2 * recipe.negative_number)
    negatives = mine_negatives(task, ranker, doubled, job.seed, depth)
    score = functools.partial(pair_scores.score, recipe.reranker, device=job.checkpoint.device)
    return drop_false_negatives(negatives, task, score, recipe.negative_number)


def _count_kinds(task: MiningTask, negatives: Negatives) -> dict[str, int]:
    """Count the negatives that some row labels, the others, and the queries that lack one kind."""
    labelled = labelled_passages(task.qrels)
    counts = Counter(passage in labelled for ids in negatives.ids.values() for passage in ids)
    return {"unlabelled": counts[False], "labelled": counts[True], "refilled": len(negatives.refilled)}


def _mined_rows(rows: list[dict], task: MiningTask, negatives: Negatives) -> list[dict]:
    """Return the rows with their negatives, the negatives' sources, and a reranker's scores of the positives."""
    mined = []
    for identifier, row in zip(task.queries, rows, strict=True):
        columns = {
            "neg": [task.passages[passage] for passage in negatives.ids[identifier]],
            "neg_id": negatives.ids[identifier],
            "neg_scores": negatives.scores[identifier],
            "neg_source": negatives.sources[identifier],
        }
        if negatives.positive_scores:
            columns["pos_scores"] = negatives.positive_scores[identifier]
        mined.append(row | columns)
    return mined


def _hash_referenced_files(recipe: Mining) -> dict[str, str]:
    """Hash the files that the recipe references only by path: those of sources, and a reranker's weights."""
    paths = [path for name in recipe.negatives if (path := find_source(name)[1])]
    store.require_files(*paths)
    digests = {str(path): hashing.sha256_file(path) for path in paths}
    return digests | ({"reranker": weights_digest(recipe.reranker)} if recipe.reranker else {})


def _describe(job: MiningJob, manifest: MinedManifest) -> str:
    """Return the lines that say what was mined."""
    lines = [
        f"{job.output_file}: {job.recipe.negative_number} negatives from ranks {job.recipe.range_for_sampling} "
        f"for {manifest.queries} queries; {manifest.deepened} took deeper ranks, {manifest.short} fell short"
    ]
    if len(manifest.sources) > 1:
        lines.append("from " + ", ".join(f"{source} {count}" for source, count in manifest.sources.items()))
    if kinds := manifest.kinds:
        lines.append(
            f"unlabelled {kinds['unlabelled']}, labelled {kinds['labelled']}; {kinds['refilled']} queries took the "
            "other kind, for want of one"
        )
    if recalls := dict(manifest.recall):
        queries = recalls.pop("queries")
        scores = ", ".join(f"{name} {value:.4f}" for name, value in recalls.items())
        lines.append(f"index {job.recipe.index}: {scores} against exact search on {queries} queries")
    return "\n".join(lines)
