"""Mining stage: an index mines as exact search does and reports its recall; threads change nothing."""

import dataclasses
from pathlib import Path

import faiss
import pytest
from helpers.tiny_task import refused

from rounds.artifacts import store
from rounds.data import passage_pool
from rounds.mining.stage import MiningJob, mine_file
from rounds.models import checkpoint
from rounds.models.weights import locate_model


@pytest.fixture(scope="module")
def mined(tiny, tiny_collection, tmp_path_factory):
    """Mine the tiny collection by an index, into one folder; returns lines, rows, manifest and file."""
    folder = tmp_path_factory.mktemp("mined")

    def mine(kind: str, seed: int = 42) -> tuple[str, list[dict], dict, Path]:
        source, recipe = checkpoint.resolve(None, tiny, "cpu"), dataclasses.replace(tiny.mining, index=kind)
        rows, pool = tiny_collection / "finetune_data.jsonl", tiny_collection / "candidate_pool.jsonl"
        output = folder / f"{kind}-{seed}.jsonl"
        lines = mine_file(MiningJob(source, recipe, rows, pool, output, seed, folder, overwrite=True))
        return lines, store.read_jsonl(output), store.read_json(store.file_manifest(output)), output

    return mine


def test_a_reranker_needs_a_positive_of_each_query(tiny, tiny_collection, tmp_path):
    """A row whose positives are not in the pool, where negatives cannot be compared with them, is named at once."""
    first, *rows = store.read_jsonl(tiny_collection / "finetune_data.jsonl")
    store.write_jsonl(tmp_path / "rows.jsonl", [{**first, "pos": ["in no pool"]}, *rows])
    source = checkpoint.resolve(None, tiny, "cpu")
    recipe = dataclasses.replace(tiny.mining, reranker=str(locate_model(tiny.model)))
    pool, output = tiny_collection / "candidate_pool.jsonl", tmp_path / "mined.jsonl"
    with refused(tmp_path / "rows.jsonl", first["query_id"], "mining.reranker", "leave the key out"):
        mine_file(MiningJob(source, recipe, tmp_path / "rows.jsonl", pool, output, 42, tmp_path))


@pytest.mark.parametrize("kind", ["hnsw", "ivfpq"])
def test_an_approximate_index_mines_and_tells_its_recall(mined, kind):
    """Mining by an index gives each query its negatives, and prints and stores the recall against exact search."""
    exact_lines, exact_rows, exact, _ = mined("exact")
    lines, rows, manifest, _ = mined(kind)
    recall = manifest["recall"]
    assert all(len(row["neg"]) == 5 and not set(row["neg"]) & set(row["pos"]) for row in rows)
    assert recall["queries"] == len(rows) and 0.8 < recall["recall@200"] <= 1 and 0.8 < recall["recall@25"] <= 1
    assert lines.splitlines()[1] == (
        f"index {kind}: recall@25 {recall['recall@25']:.4f}, recall@200 {recall['recall@200']:.4f} "
        f"against exact search on {len(rows)} queries"
    )
    assert (exact["recall"], exact_lines.count("\n"), len(exact_rows)) == ({}, 0, len(rows))


def test_runs_of_each_index_stand_apart(mined):
    """Exact search never reads an approximate run, nor the other way; the same index reads its own again."""
    paths = {kind: mined(kind)[2]["run"] for kind in ("hnsw", "ivfpq", "exact")}
    assert len(set(paths.values())) == 3
    again = mined("hnsw", seed=7)[2]
    assert again["run"] == paths["hnsw"]


def test_threads_change_no_negative(mined):
    """One thread and several rank and mine the same rows."""
    threads_before, rows = faiss.omp_get_max_threads(), []
    for threads in (1, 4):
        _, _, manifest, output = mined("exact")
        (output.parent / manifest["run"]).unlink()
        faiss.omp_set_num_threads(threads)
        rows.append(mined("exact")[1])
    faiss.omp_set_num_threads(threads_before)
    assert rows[0] == rows[1]


def test_a_pool_too_small_for_an_index_is_refused_before_encoding(tiny, tiny_collection, tmp_path):
    """IVF-PQ over too few passages names the key, and nothing is written."""
    source, recipe = checkpoint.resolve(None, tiny, "cpu"), dataclasses.replace(tiny.mining, index="ivfpq")
    pool, output = tmp_path / "pool.jsonl", tmp_path / "mined" / "rows.jsonl"
    store.write_jsonl(pool, store.read_jsonl(tiny_collection / "candidate_pool.jsonl")[:600])
    with refused("mining.index ivfpq", "624", "600"):
        mine_file(MiningJob(source, recipe, tiny_collection / "finetune_data.jsonl", pool, output, 42, tmp_path))
    assert list(tmp_path.iterdir()) == [pool]


def test_a_pool_on_disk_mines_the_same_bytes(tiny, tiny_collection, tmp_path, monkeypatch):
    """All sources give the same negatives whether the corpus is in memory or stays in its file."""
    source = checkpoint.resolve(None, tiny, "cpu")
    recipe = dataclasses.replace(tiny.mining, negatives={"dense": 1, "bm25": 1, "random": 1, "same_group": 1})
    rows, pool = tiny_collection / "finetune_data.jsonl", tiny_collection / "candidate_pool.jsonl"
    files = []
    for limit in (passage_pool.IN_MEMORY_BYTES, 0):
        monkeypatch.setattr(passage_pool, "IN_MEMORY_BYTES", limit)
        assert isinstance(passage_pool.read_pool(pool), dict) == (limit > 0)
        files.append(tmp_path / f"{limit}.jsonl")
        mine_file(MiningJob(source, recipe, rows, pool, files[-1], 42, tmp_path))
    assert files[0].read_bytes() == files[1].read_bytes()
