"""Sparse vectors: their files, and a search that equals dense products."""

import functools
import tracemalloc

import numpy as np
import pytest
from helpers import slow_clock
from helpers.tiny_task import refused
from scipy import sparse

from rounds.retrieval import representations, search, sparse_search
from rounds.retrieval.representation import VECTORS_FILE
from rounds.retrieval.run import DECIMALS
from rounds.retrieval.sparse import BUCKETS, FLOOR, ROWS_FILE, sparsity

SPARSE = representations.KINDS["sparse"]

WORDS = 2000

IN_MEMORY = functools.partial(np.empty, dtype=np.float32)


def random_vectors(rows: int, seed: int, density: float = 0.02) -> sparse.csr_array:
    """Few words a text, some texts without any, and weights on a grid: many scores tie."""
    vectors = sparse.random_array((rows, WORDS), density=density, format="csr", dtype=np.float32, rng=seed)
    vectors.data = np.ceil(vectors.data * 3) / np.float32(4)
    return vectors


def names(count: int, kind: str = "p") -> list[str]:
    """Ids whose order as texts is not their order in the corpus."""
    return [f"{kind}{(number * 7919) % 100_003}" for number in range(count)]


def slow_rank(queries: sparse.csr_array, passages: sparse.csr_array, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and scores by dense float64 products, ties in the corpus's order."""
    products = np.round(queries.toarray().astype(np.float64) @ passages.toarray().astype(np.float64).T, DECIMALS)
    order = np.argsort(-products, axis=1, kind="stable")[:, :depth]
    return order, np.take_along_axis(products, order, axis=1)


@pytest.mark.parametrize("block_size", [2**24, 4096, 8])
@pytest.mark.parametrize(("corpus", "depth"), [(300, 1), (300, 40), (300, 300), (300, 500), (1, 3)])
def test_ranking_equals_dense_products(corpus, depth, block_size):
    """Blocks of any size give dense products' ranking, filled up in the corpus's order where nothing is shared."""
    queries, passages = random_vectors(17, 0), random_vectors(corpus, 1)
    run = search.rank(names(17, "q"), queries, names(corpus), passages, depth, block_size=block_size)
    rows, scores = slow_rank(queries, passages, depth)
    assert (scores > 0).any() and ((scores == 0).any() or depth < 300)
    assert run.passages.tolist() == [[names(corpus)[row] for row in row_list] for row_list in rows]
    np.testing.assert_allclose(run.scores, scores, atol=1e-6)


def test_a_query_without_words_ranks_the_first_passages():
    """A vector of zeros gets the corpus's first passages, with score 0."""
    run = search.rank(["q"], sparse.csr_array((1, WORDS), dtype=np.float32), names(9), random_vectors(9, 0), 4)
    assert run.passages.tolist() == [names(4)] and run.scores.tolist() == [[0.0] * 4]


def test_the_search_holds_no_dense_corpus():
    """Memory stays far below the corpus as a dense array (80 MB)."""
    queries, passages = random_vectors(20, 0), random_vectors(10_000, 1)
    tracemalloc.start()
    try:
        sparse_search.search(queries, passages, 50, block_size=2**16)
        assert tracemalloc.get_traced_memory()[1] < 12_000_000
    finally:
        tracemalloc.stop()


def test_other_vocabularies_are_refused():
    """Vectors of two models are not compared."""
    with refused("2000 words", "1000", "one checkpoint"):
        search.rank(["q"], random_vectors(1, 0), ["p"], random_vectors(1, 0)[:, :1000], 1)


def test_dense_and_sparse_vectors_are_not_compared():
    """Queries and passages of two kinds are told apart."""
    with refused("one sparse vector", "one checkpoint"):
        search.rank(["q"], random_vectors(1, 0), ["p"], np.ones((1, WORDS), np.float32), 1)


def build(vectors: sparse.csr_array, allocate=IN_MEMORY) -> sparse.csr_array:
    """Encode in batches of three that come in another order."""
    builder, rows = SPARSE.builder([1] * vectors.shape[0], allocate), np.random.default_rng(0).permutation(10)
    for start in range(0, 10, 3):
        builder.put(rows[start : start + 3], vectors[rows[start : start + 3]])
    return builder.finish()


def equal(one: sparse.csr_array, other: sparse.csr_array) -> bool:
    return one.shape == other.shape and np.array_equal(one.toarray(), other.toarray())


@pytest.mark.parametrize("density", [0.02, 0.0])
def test_batches_end_in_order(density):
    """Vectors of batches that come in any order are put in order; all of them may be empty."""
    assert equal(build(random_vectors(10, 0, density)), random_vectors(10, 0, density))


def test_entries_wait_in_a_file(monkeypatch):
    """Batches beyond the spool's memory give the same vectors."""
    monkeypatch.setattr("rounds.retrieval.sparse.SPOOL_BYTES", 64)
    assert equal(build(random_vectors(10, 0)), random_vectors(10, 0))


def test_taken_rows_may_repeat():
    """Texts that came more than once get their vector as often."""
    vectors, rows = random_vectors(10, 0), [3, 1, 3, 9]
    assert equal(SPARSE.take(vectors, rows, IN_MEMORY), vectors[rows])


def write(vectors: sparse.csr_array, folder) -> None:
    """Write vectors as an encoding does."""
    allocate = functools.partial(np.lib.format.open_memmap, folder / VECTORS_FILE, "w+", np.float32)
    SPARSE.write_rest(build(vectors, allocate), folder)


@pytest.mark.parametrize("density", [0.02, 0.0])
def test_files_come_back_mapped(density, tmp_path):
    """What a folder holds is read back without a copy in memory, and is known by its files."""
    write(random_vectors(10, 0, density), tmp_path)
    loaded = representations.load(tmp_path)
    assert representations.find(tmp_path) is SPARSE and equal(loaded, random_vectors(10, 0, density))
    assert not (loaded.data.flags.owndata or loaded.indices.flags.owndata)


@pytest.mark.parametrize("damage", ["weights", "rows", "rows cut", "other vectors"])
def test_damaged_files_are_refused(damage, tmp_path):
    """A file that was cut, is gone or belongs to other vectors is named by its folder, with the way out."""
    write(random_vectors(10, 0), tmp_path)
    if damage in ("weights", "rows cut"):
        file = tmp_path / (VECTORS_FILE if damage == "weights" else ROWS_FILE)
        file.write_bytes(file.read_bytes()[:-8])
    elif damage == "rows":
        (tmp_path / ROWS_FILE).unlink()
    else:
        SPARSE.write_rest(random_vectors(10, 5, 0.03), tmp_path)
    with refused(tmp_path, "delete it to encode anew"):
        SPARSE.load(tmp_path)


def test_numbers_that_are_not_finite_are_found():
    """Texts are named by their rows, whatever blocks are read."""
    vectors = random_vectors(10, 0)
    vectors.data[vectors.indptr[4]], vectors.data[vectors.indptr[10] - 1] = np.nan, np.inf
    assert SPARSE.find_not_finite(vectors).tolist() == SPARSE.find_not_finite(vectors, 7).tolist() == [4, 9]
    with refused("not numbers", names(10)[4], names(10)[9]):
        search.rank(["q"], random_vectors(1, 0), names(10), vectors, 1)


def test_comparisons_equal_dense_ones():
    """Scores of pairs, of all, cosines and mean cosines are those of the dense vectors."""
    queries, passages = random_vectors(10, 0), random_vectors(10, 1)
    products = queries.toarray().astype(np.float64) @ passages.toarray().T
    np.testing.assert_allclose(SPARSE.training_scores(queries, passages), products)
    np.testing.assert_allclose(SPARSE.pair_scores(queries, passages), np.diag(products))
    np.testing.assert_allclose(SPARSE.cosines(queries, queries), 1, rtol=1e-6)
    pooled = SPARSE.pooled(queries)
    np.testing.assert_allclose(pooled @ pooled.T, queries.toarray() @ queries.toarray().T, rtol=1e-6)


def test_texts_without_words_are_the_same():
    """Two vectors of zeros have cosine 1, one of them and another vector 0."""
    empty, other = sparse.csr_array((2, WORDS), dtype=np.float32), random_vectors(2, 0)
    assert SPARSE.cosines(empty, empty).tolist() == [1, 1] and SPARSE.cosines(empty, other).tolist() == [0, 0]


def test_a_probe_is_the_vector_folded():
    """Words of equal remainder share a bucket, so that machines compare 1024 numbers and not a vocabulary."""
    vectors = random_vectors(10, 0)
    padded = np.zeros(2 * BUCKETS)
    padded[:WORDS] = vectors.toarray()[3]
    expected = [*padded.reshape(2, BUCKETS).sum(axis=0), FLOOR]
    np.testing.assert_allclose(SPARSE.probe(vectors, 3), expected, rtol=1e-6)


def test_sparsity_equals_a_slow_count():
    """Mean entries of both sides, and the mean number of words that a query and a passage share."""
    queries, passages = random_vectors(10, 0), random_vectors(12, 1)
    counted = sparsity(queries, passages)
    has_query_word, has_passage_word = (vectors.toarray() > 0 for vectors in (queries, passages))
    shared = [(one & other).sum() for one in has_query_word for other in has_passage_word]
    assert counted.query == pytest.approx(has_query_word.sum() / 10)
    assert counted.passage == pytest.approx(has_passage_word.sum() / 12)
    assert counted.flops == pytest.approx(np.mean(shared))


def test_an_approximate_index_is_refused():
    """Approximate indexes are for dense vectors."""
    with refused("index hnsw", "mining.index: exact"):
        SPARSE.build_index("hnsw", None)


def test_a_long_search_tells_how_long_it_takes(monkeypatch, capsys):
    """The first of two blocks of passages, with all queries, is half of the work."""
    monkeypatch.setattr(sparse_search, "BLOCK_PASSAGES", 20)
    slow_clock.use(monkeypatch)
    search.rank(names(4, "q"), random_vectors(4, 0), names(40), random_vectors(40, 1), 5)
    assert slow_clock.lines(capsys) == ["search 40 passages: about 20 min (4 queries, 12 queries/h)"]
