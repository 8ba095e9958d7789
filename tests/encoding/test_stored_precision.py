"""Passages kept in fp16: half the bytes, ranked as exactly as rounded vectors can be, and never mistaken for fp32's."""

import numpy as np
import pytest
from helpers.tiny_task import refused

from rounds.cluster import ray_cluster
from rounds.cluster import search as cluster_search
from rounds.config import loader
from rounds.encoding import fingerprint, run_store
from rounds.models import checkpoint
from rounds.models.checkpoint import Checkpoint
from rounds.retrieval import ann_index, exact_search, representations
from rounds.retrieval.vectors import truncate_vectors, unit_vectors

PRECISIONS = ("fp32", "fp16")

QUERIES = {f"q{number}": f"add {number} and {number + 1}" for number in range(4)}

PASSAGES = {f"p{number}": f"the sum of {number % 20} and {number % 20 + 1}" for number in range(30)}  # 20 distinct


def base(stored: str) -> Checkpoint:
    recipe = loader.load("tiny-mistral").replace("model", stored_precision=stored)
    return checkpoint.resolve(None, recipe, "cpu", "fp32")


def rows(count: int, dim: int = 32) -> np.ndarray:
    return unit_vectors(np.random.default_rng(count).standard_normal((count, dim))).astype(np.float32)


def test_passages_take_half_the_bytes_in_a_folder_of_their_own(tmp_path, capsys):
    """Queries stay in fp32; the run is that of the rounded vectors, and a line says so."""
    whole, half = (run_store.open_store(base(stored), tmp_path) for stored in PRECISIONS)
    vectors, folder = whole.vectors(list(PASSAGES.values()), "passage", "corpus")
    rounded, rounded_folder = half.vectors(list(PASSAGES.values()), "passage", "corpus")
    assert folder != rounded_folder and isinstance(rounded, np.memmap)
    np.testing.assert_array_equal(rounded, vectors.astype(np.float16), strict=True)
    queries, query_folder = half.vectors(list(QUERIES.values()), "query", "test")
    assert query_folder == whole.vectors(list(QUERIES.values()), "query", "test")[1]
    capsys.readouterr()
    run, _ = half.run("test", QUERIES, PASSAGES, depth=10)
    assert "test: ranks passages rounded to fp16 (model.stored_precision)" in capsys.readouterr().out
    scores, _ = exact_search.search(queries, rounded.astype(np.float32), 10)
    np.testing.assert_array_equal(run.scores, scores.astype(np.float32))
    whole.run("test", QUERIES, PASSAGES, depth=10)
    assert "rounded" not in capsys.readouterr().out


def test_search_adds_up_in_wider_precision(monkeypatch):
    """Exact search, search by parts on a cluster, and IVF-PQ's scores are those of the same values in fp32."""

    class InThisProcess:
        share = staticmethod(lambda value: value)
        map = staticmethod(lambda function, jobs: (function(*job) for job in jobs))

    monkeypatch.setattr(ray_cluster, "join", lambda address: InThisProcess)
    monkeypatch.setattr(cluster_search, "PART_NUMBERS", 900 * 32)
    queries, passages = rows(20), rows(2000).astype(np.float16)
    expected = exact_search.search(queries, passages.astype(np.float32), 25)
    for found in (exact_search.search(queries, passages, 25), cluster_search.search("auto", queries, passages, 25)):
        np.testing.assert_array_equal(found, expected)
    scores, places = ann_index.search(queries, passages, 25, ann_index.build("ivfpq", passages))
    exact = exact_search.inner_products(queries, passages.astype(np.float32), places)
    np.testing.assert_array_equal(scores, exact_search.select_best(exact, places, 25)[0])


def test_metrics_add_up_in_wider_precision():
    """Cosines, truncated vectors and selected rows have fp32's accuracy."""
    vectors = rows(500, 384)
    kind, rounded = representations.DENSE, vectors.astype(np.float16)
    values = rounded.astype(np.float32)
    np.testing.assert_array_equal(kind.cosines(rounded, rounded[::-1]), kind.cosines(values, values[::-1]))
    np.testing.assert_array_equal(kind.pair_scores(rounded, rounded), kind.pair_scores(values, values))
    np.testing.assert_array_equal(truncate_vectors(rounded, 64, True), truncate_vectors(values, 64, True), strict=True)
    np.testing.assert_array_equal(kind.select(rounded, [3, 1]), values[[3, 1]], strict=True)


def test_the_fingerprint_of_a_run_says_so(tmp_path):
    """So that `make parity` names the setting; that of fp32 is what it was before there was a choice."""
    paths = [run_store.open_store(base(stored), tmp_path).run("test", QUERIES, PASSAGES)[1] for stored in PRECISIONS]
    whole, half = (fingerprint.read(path.with_name(fingerprint.FILE)).model for path in paths)
    assert half == {**whole, "stored_precision": "fp16"}


@pytest.mark.parametrize("keys", [{"normalize": False}, {"pooling": "tokens"}])
def test_other_vectors_are_refused(keys):
    """Vectors of any length may overflow, and those of tokens are stored otherwise."""
    with refused("model.stored_precision fp16: rounds dense vectors of unit length"):
        loader.load("tiny-mistral").replace("model", stored_precision="fp16", **keys)
