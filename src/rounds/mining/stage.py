"""Mining stage: fill in the negatives of a JSONL file with a checkpoint's ranking."""

import dataclasses
import functools
import os
import time
from collections import Counter
from pathlib import Path

import numpy as np

from rounds.artifacts import hashing, store
from rounds.config.recipe import VECTORS_PREFIX, Mining, parse_range
from rounds.data import collection, few_shot
from rounds.data.text import normalize_text
from rounds.encoding import run_store
from rounds.encoding.run_store import RunStore
from rounds.errors import UserError
from rounds.mining.sampling import Negatives
from rounds.mining.sources import MiningTask, mine, without_false
from rounds.models import cross_encoder
from rounds.models.checkpoint import Checkpoint
from rounds.models.weights import weights_digest
from rounds.retrieval import ann_index, search
from rounds.retrieval.run import Run

RECALL_QUERIES = 200


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
        "input": hashing.sha256_file(input_file),
        "candidate_pool": hashing.sha256_file(pool_file),
        "files": _digests(how),
    }
    if store.is_file_finished(output_file, config, overwrite):
        return f"{output_file}: up to date"
    start = time.perf_counter()
    rows = collection.read_rows(input_file, ("pos",))
    passages = collection.read_pool(pool_file)
    ann_index.check_index(how.index, len(passages))
    ids = [str(row.get("query_id", number)) for number, row in enumerate(rows)]
    if len(set(ids)) != len(ids):
        raise UserError(f"{input_file}: a query_id appears twice")
    queries = {identifier: row["query"] for identifier, row in zip(ids, rows, strict=True)}
    qrels = _positives(rows, ids, passages, "pos")
    excluded = _positives(rows, ids, passages, "excluded")
    task = MiningTask(queries, passages, qrels, _groups(rows, ids), excluded)
    encoder = run_store.open_store(source, model_output)
    bank = collection.example_bank(rows, source.recipe.prompts)
    before = bank and few_shot.select_examples(bank, [collection.query_metadata(row) for row in rows])
    used: list[tuple[Run, Path]] = []

    def dense(depth: int, shown: str = "with") -> Run:
        if shown != "with":
            own = dataclasses.replace(encoder, checkpoint=source.with_options(modality=shown))
            return own.run(f"train-{shown}", queries, passages, depth)[0]
        used.append(encoder.run("train", queries, passages, depth, before, how.index))
        return used[-1][0]

    depth = max(run_store.DEPTH, parse_range(how.range_for_sampling)[1])
    wider = dataclasses.replace(how, negative_number=how.negative_number * (2 if how.reranker else 1))
    found = mine(task, dense, wider, seed, depth)
    if how.reranker:
        score = functools.partial(cross_encoder.score, how.reranker, device=source.device)
        found = without_false(found, task, score, how.negative_number)
    exact = how.index == "exact" or not used
    recall = {} if exact else _recall(used[-1][0], encoder, queries, passages, before, seed)
    about = {
        "lineage": source.lineage,
        "queries": len(rows),
        "deepened": len(found.deepened),
        "short": len(found.short),
        "sources": dict(Counter(each for own in found.sources.values() for each in own)),
        "run": os.path.relpath(used[-1][1], output_file.parent) if used else None,
        "recall": recall,
        "seconds": round(time.perf_counter() - start, 2),
    }
    store.write_file_artifact(
        output_file, _mined_rows(rows, ids, found, passages), {"kind": "mined", "config": config, **about}
    )
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
    paths = [Path(source.removeprefix(VECTORS_PREFIX)) for source in how.negatives if source.startswith(VECTORS_PREFIX)]
    store.require_files(*paths)
    found = {str(path): hashing.sha256_file(path) for path in paths}
    return found | ({"reranker": weights_digest(how.reranker)} if how.reranker else {})


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
    run: Run, encoder: RunStore, queries: dict[str, str], passages: dict[str, str],
    before: list[list[str]] | None, seed: int,
) -> dict[str, float]:  # fmt: skip
    """Recall of an approximate run against exact search, on a sample of its queries."""
    vectors, _ = encoder.vectors(list(queries.values()), "query", "train", before)
    corpus, _ = encoder.vectors(list(passages.values()), "passage", "corpus")
    rows = np.random.default_rng(seed).permutation(len(queries))[:RECALL_QUERIES]
    depth = run.scores.shape[1]
    exact = search.rank([run.queries[row] for row in rows], vectors[rows], list(passages), corpus, depth)
    sampled = Run(exact.queries, run.passages[rows], run.scores[rows])
    found = {f"recall@{each}": ann_index.recall(sampled, exact, each) for each in sorted({min(25, depth), depth})}
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
