import tracemalloc

import faiss
import numpy as np
import pytest
from helpers import slow_clock
from helpers.tiny_task import refused

from rounds.retrieval import ann_index, exact_search, search
from rounds.retrieval.run import DECIMALS, Run, read_trec, write_trec
from rounds.retrieval.vectors import find_not_finite


def slow_rank(queries: np.ndarray, passages: np.ndarray, depth: int) -> tuple[list, list]:
    """Row numbers and scores, sorted by rounded score and then by corpus order, in plain Python."""
    rows, scores = [], []
    for query in queries.astype(np.float64):
        products = [round(float(query @ passage), DECIMALS) for passage in passages.astype(np.float64)]
        order = sorted(range(len(products)), key=lambda number: (-products[number], number))[:depth]
        rows.append(order)
        scores.append([products[number] for number in order])
    return rows, scores


def names(count: int, kind: str = "p") -> list[str]:
    """Ids whose order as texts is not their order in the corpus."""
    return [f"{kind}{(number * 7919) % 100_003}" for number in range(count)]


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def random_vectors(rng, queries: int, corpus: int) -> tuple[np.ndarray, np.ndarray]:
    return unit(rng.normal(size=(queries, 8))), unit(rng.normal(size=(corpus, 8)))


def grid_vectors(rng, queries: int, corpus: int) -> tuple[np.ndarray, np.ndarray]:
    """Few distinct small integers: exact products, and most passages tie."""
    return tuple(rng.integers(-1, 2, size=(count, 3)).astype(np.float32) for count in (queries, corpus))


def equal_vectors(rng, queries: int, corpus: int) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.ones((count, 4), dtype=np.float32) for count in (queries, corpus))


@pytest.mark.parametrize("vectors", [random_vectors, grid_vectors, equal_vectors])
@pytest.mark.parametrize(("corpus", "depth"), [(200, 1), (200, 10), (200, 150), (200, 200), (200, 500), (7, 5), (1, 3)])
def test_ranking_equals_a_slow_sort(vectors, corpus, depth):
    """The top equals a slow sort with ties in corpus order, also where ties run over its edge or depth over all."""
    queries, passages = vectors(np.random.default_rng(corpus + depth), 9, corpus)
    run = search.rank(names(9, "q"), queries, names(corpus), passages, depth)
    rows, scores = slow_rank(queries, passages, depth)
    assert run.queries == names(9, "q")
    assert run.passages.tolist() == [[names(corpus)[number] for number in row] for row in rows]
    assert run.scores == pytest.approx(np.array(scores), abs=2e-6)


def test_a_tie_wider_than_any_margin_keeps_corpus_order():
    """Where 300 passages share the best score, the first ten of the corpus are the top ten."""
    passages = np.zeros((400, 2), dtype=np.float32)
    passages[100:, 0] = 1.0
    run = search.rank(["q"], np.array([[1.0, 0.0]], dtype=np.float32), names(400), passages, 10)
    assert run.passages.tolist() == [names(400)[100:110]]


def test_copies_of_one_passage_stay_in_corpus_order():
    """Passages of one text tie wherever they stand in the corpus, so the lower one always comes first."""
    rng = np.random.default_rng(5)
    passages = unit(rng.normal(size=(100, 384)))
    passages[[3, 41, 97]] = passages[3]
    run = search.rank(names(64, "q"), unit(rng.normal(size=(64, 384))), names(100), passages, 100)
    places = [[row.index(names(100)[number]) for number in (3, 41, 97)] for row in run.passages.tolist()]
    assert all(b - a == 1 and c - b == 1 for a, b, c in places)


@pytest.mark.parametrize("vectors", [random_vectors, grid_vectors, equal_vectors])
@pytest.mark.parametrize("numbers", [1, 100, 999, 5000])
@pytest.mark.parametrize("depth", [1, 20, 150, 300])
def test_blocks_of_any_size_give_one_run(vectors, numbers, depth):
    """A run is the same in one block or many, of queries and of corpus, and that of a slow sort."""
    queries, passages = vectors(np.random.default_rng(7), 30, 300)
    whole = search.rank(names(30, "q"), queries, names(300), passages, depth)
    run = search.rank(names(30, "q"), queries, names(300), passages, depth, block_size=numbers)
    rows, _ = slow_rank(queries, passages, depth)
    assert run.passages.tolist() == whole.passages.tolist()
    assert run.passages.tolist() == [[names(300)[number] for number in row] for row in rows]
    assert run.scores.tolist() == whole.scores.tolist()


def test_a_tie_over_blocks_keeps_corpus_order():
    """Equal passages of which each stands in a block of its own come in corpus order."""
    passages = unit(np.random.default_rng(8).normal(size=(200, 8)))
    passages[[5, 60, 130, 199]] = passages[5]
    run = search.rank(["q"], passages[[5]], names(200), passages, 3, block_size=64)
    assert run.passages.tolist() == [[names(200)[number] for number in (5, 60, 130)]]


def test_many_equal_scores_take_no_more_memory_than_a_block():
    """Where the whole corpus ties, memory is of the order of a block, far below queries x corpus."""
    queries, passages = np.ones((300, 4), np.float32), np.ones((20_000, 4), np.float32)
    ids, corpus = names(300, "q"), names(20_000)
    tracemalloc.start()
    run = search.rank(ids, queries, corpus, passages, 10, block_size=2**14)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert set(map(tuple, run.passages.tolist())) == {tuple(corpus[:10])}
    assert peak < 300 * 20_000 / 4


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_memory_mapped_vectors_are_read_in_blocks(monkeypatch, tmp_path, dtype):
    """A memory-mapped file ranks as the array does, and never more than a block of it is converted."""
    queries, corpus, passages = _named(np.random.default_rng(9), 20, 400)
    np.save(tmp_path / "passages.npy", passages.astype(dtype))
    expected = search.rank(names(20, "q"), queries, corpus, passages.astype(dtype), 30)
    sizes, convert = [], exact_search.to_float32
    monkeypatch.setattr(exact_search, "to_float32", lambda vectors: sizes.append(vectors.size) or convert(vectors))
    mapped = np.load(tmp_path / "passages.npy", mmap_mode="r")
    run = search.rank(names(20, "q"), queries, corpus, mapped, 30, block_size=256)
    assert run.passages.tolist() == expected.passages.tolist()
    assert max(sizes) <= 256


def test_the_number_of_threads_changes_nothing():
    """One thread and several give the same passages and scores, to the last bit."""
    queries, passages = (unit(np.random.default_rng(n).normal(size=(n, 96))) for n in (70, 3000))
    passages[1500:1600] = passages[7]
    before, found = faiss.omp_get_max_threads(), []
    for threads in (1, 4):
        faiss.omp_set_num_threads(threads)
        found.append(search.rank(names(70, "q"), queries, names(3000), passages, 50))
    faiss.omp_set_num_threads(before)
    assert found[0].passages.tolist() == found[1].passages.tolist()
    assert found[0].scores.tolist() == found[1].scores.tolist()


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
@pytest.mark.parametrize("of", ["queries", "passages"])
def test_vectors_that_are_not_numbers_are_refused(of, value, kind):
    """One number that cannot be ranked, in float64 or in float32, is refused with the id of its row."""
    queries, passages = random_vectors(np.random.default_rng(0), 5, 1000)
    index = None if kind == "exact" else ann_index.build(kind, passages)
    vectors = {"queries": queries.astype(np.float64), "passages": passages.astype(np.float64)}
    vectors[of][3, 2] = value
    ids = {"queries": names(5, "q"), "passages": names(1000)}
    with refused("vectors", "not numbers", ids[of][3]):
        search.rank(ids["queries"], vectors["queries"], ids["passages"], vectors["passages"], 10, index)


def test_products_that_overflow_are_refused():
    """Scores of infinity would tie, and the ranking would be the corpus's order."""
    with refused("inner products", "fp32", "normalize"):
        search.rank(["q"], np.full((1, 4), 3e38, "f4"), ["a", "b"], np.full((2, 4), 3e38, "f4"), 2)


def test_an_index_of_vectors_that_are_not_numbers_is_refused():
    """An approximate index is not built of them either."""
    passages = clustered(np.random.default_rng(0), 700, 16)
    passages[[3, 9]] = np.nan
    for kind in ("hnsw", "ivfpq"):
        with refused("not numbers", "row 3, 9"):
            ann_index.build(kind, passages)


def test_large_numbers_whose_sum_overflows_are_ranked():
    """A row is refused for its numbers, not for their sum."""
    passages = np.full((3, 8), 3e38, np.float32)
    assert find_not_finite(passages).tolist() == []


def clustered(rng, count: int, dim: int) -> np.ndarray:
    centres = np.random.default_rng(0).normal(size=(50, dim))
    return unit(centres[rng.integers(0, 50, count)] + 0.5 * rng.normal(size=(count, dim)))


@pytest.mark.parametrize("kind", ["hnsw", "ivfpq"])
@pytest.mark.parametrize("dim", [16, 37])
def test_an_approximate_index_finds_most_with_true_scores(kind, dim):
    """An index of any dimension finds over 9 of 10 passages of the exact run; what it finds has the exact score."""
    rng = np.random.default_rng(3)
    passages, queries = clustered(rng, 2000, dim), clustered(rng, 40, dim)
    exact = search.rank(names(40, "q"), queries, names(2000), passages, 1000)
    run = search.rank(names(40, "q"), queries, names(2000), passages, 50, ann_index.build(kind, passages))
    assert ann_index.recall(run, exact, 50) > 0.9
    for row in range(40):
        scores = dict(zip(exact.passages[row].tolist(), exact.scores[row].tolist(), strict=True))
        assert run.scores[row].tolist() == [scores[passage] for passage in run.passages[row].tolist()]
        assert len(set(run.passages[row])) == 50


@pytest.mark.parametrize("kind", ["hnsw", "ivfpq"])
def test_queries_with_too_few_hits_are_searched_exactly(kind):
    """A row that the index leaves short of the depth is the exact row: here it knows half the depth's passages."""
    queries, corpus, passages = _named(np.random.default_rng(4), 6, 2000)
    index = ann_index.build(kind, passages[:700])
    run = search.rank(names(6, "q"), queries, corpus, passages, 1400, index)
    assert run.passages.tolist() == search.rank(names(6, "q"), queries, corpus, passages, 1400).passages.tolist()


def test_the_whole_corpus_is_ranked_exactly_by_any_index():
    """At the depth of the corpus nothing is left out."""
    queries, corpus, passages = _named(np.random.default_rng(5), 6, 700)
    for kind in ("hnsw", "ivfpq"):
        run = search.rank(names(6, "q"), queries, corpus, passages, 700, ann_index.build(kind, passages))
        assert run.passages.tolist() == search.rank(names(6, "q"), queries, corpus, passages, 700).passages.tolist()


def test_a_corpus_too_small_to_train_on_is_refused():
    """IVF-PQ on a small corpus names the key and the sizes, with 624 passages it works."""
    passages = clustered(np.random.default_rng(6), 624, 16)
    assert ann_index.build("ivfpq", passages).ntotal == 624
    with refused("mining.index ivfpq", "624", "623"):
        ann_index.build("ivfpq", passages[:623])


def test_scores_fall_along_each_row():
    """A row's scores never rise."""
    run = search.rank(names(9, "q"), *_named(np.random.default_rng(1), 9, 90), 50)
    assert (np.diff(run.scores, axis=1) <= 0).all()


def _named(rng, queries: int, corpus: int) -> tuple[np.ndarray, list[str], np.ndarray]:
    one, other = random_vectors(rng, queries, corpus)
    return one, names(corpus), other


def test_the_order_of_the_queries_changes_nothing():
    """Each query has the same passages and scores however the queries are shuffled."""
    rng = np.random.default_rng(2)
    queries, corpus, passages = _named(rng, 40, 120)
    ids, order = names(40, "q"), rng.permutation(40)
    run = search.rank(ids, queries, corpus, passages, 30)
    shuffled = search.rank([ids[row] for row in order], queries[order], corpus, passages, 30)
    for query in ids:
        assert (
            run.passages[run.queries.index(query)].tolist() == shuffled.passages[shuffled.queries.index(query)].tolist()
        )
        assert run.scores[run.queries.index(query)].tolist() == shuffled.scores[shuffled.queries.index(query)].tolist()


def test_inputs_of_other_layouts_rank_alike():
    """Float64, Fortran-ordered or read-only vectors give the same run."""
    queries, corpus, passages = _named(np.random.default_rng(3), 5, 40)
    run = search.rank(names(5, "q"), queries, corpus, passages, 10)
    other = search.rank(names(5, "q"), np.asfortranarray(queries, np.float64), corpus, np.asfortranarray(passages), 10)
    assert run.passages.tolist() == other.passages.tolist()


def test_top_is_a_prefix():
    """`top` keeps the first passages and scores of each row."""
    run = search.rank(names(5, "q"), *_named(np.random.default_rng(4), 5, 40), 20)
    top = run.top(7)
    assert top.passages.tolist() == [row[:7] for row in run.passages.tolist()]
    assert top.scores.tolist() == [row[:7] for row in run.scores.tolist()]


@pytest.mark.parametrize("scale", [1.0, -1.0, 20.0])
def test_trec_round_trip(tmp_path, scale):
    """A run read back has the same queries, passages and order, and scores equal to 6 decimals."""
    queries, corpus, passages = _named(np.random.default_rng(6), 12, 60)
    run = search.rank(names(12, "q"), queries, corpus, (passages * scale).astype(np.float32), 25)
    write_trec(run, tmp_path / "run.trec", "tag")
    again = read_trec(tmp_path / "run.trec")
    assert again.queries == run.queries
    assert again.passages.tolist() == run.passages.tolist()
    assert again.scores.dtype == np.float32
    assert [[f"{s:.6f}" for s in row] for row in again.scores] == [[f"{s:.6f}" for s in row] for row in run.scores]


@pytest.mark.parametrize("identifier", ["007", "1e5", "NA", "null", '"quoted', "1.0"])
def test_trec_round_trip_of_ids(tmp_path, identifier):
    """Ids are texts: none is read as a number, a missing value or a quotation."""
    ids = np.array([[identifier, "7"]], dtype=object)
    run = Run([identifier], ids, np.array([[0.5, 0.25]], dtype=np.float32))
    write_trec(run, tmp_path / "run.trec", "tag")
    again = read_trec(tmp_path / "run.trec")
    assert (again.queries, again.passages.tolist()) == ([identifier], ids.tolist())


def test_trec_lines(tmp_path):
    """A run file has trec_eval's six columns, ranks from 1."""
    run = Run(["5_B"], np.array([["7", "9"]], dtype=object), np.array([[0.5, -0.25]], dtype=np.float32))
    write_trec(run, tmp_path / "run.trec", "abc")
    assert (tmp_path / "run.trec").read_text() == "5_B Q0 7 1 0.500000 abc\n5_B Q0 9 2 -0.250000 abc\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "{}\n",
        "q Q0 a 1\n",
        "q Q0 a 1 0.5\n",
        "q Q0 a 1 0.5 tag more\n",
        "q Q0 a first 0.5 tag\n",
        "q Q0 a 1 high tag\n",
        "q Q0 a 1 nan tag\n",
        "q Q0 a 1 0.5 tag\nq Q0 b 2 0.4 tag\nr Q0 a 1 0.5 tag\n",
        "q Q0 a 1 0.5 tag\nq Q0 b 2 0.4 tag\nq Q0 c 3 0.3 tag\nr Q0 a 1 0.5 tag\n",
        "q Q0 b 2 0.4 tag\nr Q0 a 2 0.5 tag\n",
        "q Q0 a 1 0.5 tag\nr Q0 a 1 0.5 tag\nq Q0 b 2 0.4 tag\nr Q0 b 2 0.4 tag\n",
        "q Q0 a 1 0.5 tag\nr Q0 a 1 0.5 tag\nq Q0 a 1 0.5 tag\nr Q0 a 1 0.5 tag\n",
        "q Q0 a 1 0.5 tag\nq Q0 b 3 0.4 tag\nq Q0 c 2 0.3 tag\n",
        "q Q0 a 1 0.5 tag\nq Q0 a 2 0.4 tag\n",
        "q Q0 a 1 0.4 tag\nq Q0 b 2 0.5 tag\n",
        "q Q0 a 1 inf tag\n",
        "q Q0 a 99999999999999999999 0.5 tag\n",
        "q Q0  a 1 0.5 tag\n",
    ],
)
def test_malformed_runs_are_refused(tmp_path, text):
    """A file that is not six columns, or in which a query's passages are not each once, by rank and score, is named."""
    path = tmp_path / "run.trec"
    path.write_text(text)
    with refused(path):
        read_trec(path)


def test_a_missing_run_is_refused(tmp_path):
    """A run file that is not there is named."""
    with refused(tmp_path / "run.trec", "no such file"):
        read_trec(tmp_path / "run.trec")


def test_a_long_search_tells_how_long_it_takes(monkeypatch, capsys):
    """After the first block of 10 passages of 40, a quarter of the first 2 of 4 queries is done."""
    vectors = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)
    ids = [str(row) for row in range(40)]
    slow_clock.use(monkeypatch)
    search.rank(ids[:4], vectors[:4], ids, vectors, depth=5, block_size=80)
    assert slow_clock.lines(capsys) == ["search 40 passages: about 80 min (4 queries, 3.0 queries/h)"]


def test_building_an_index_tells_how_long_it_takes(monkeypatch, capsys):
    """Vectors are added in blocks."""
    vectors = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)
    blocks = exact_search.float32_blocks
    monkeypatch.setattr(exact_search, "float32_blocks", lambda rows, size=80: blocks(rows, size))
    slow_clock.use(monkeypatch)
    ann_index.build("hnsw", vectors)
    assert slow_clock.lines(capsys) == ["build the index hnsw: about 40 min (40 vectors, 1.0 vectors/min)"]
