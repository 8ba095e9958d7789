import numpy as np
import pytest
from tiny_task import refused

from rounds import ranking
from rounds.ranking import Run


def slow_rank(queries: np.ndarray, passages: np.ndarray, depth: int) -> tuple[list, list]:
    """Row numbers and scores, sorted by rounded score and then by corpus order, in plain Python."""
    rows, scores = [], []
    for query in queries.astype(np.float64):
        products = [round(float(query @ passage), ranking.DECIMALS) for passage in passages.astype(np.float64)]
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
    run = ranking.rank(names(9, "q"), queries, names(corpus), passages, depth)
    rows, scores = slow_rank(queries, passages, depth)
    assert run.queries == names(9, "q")
    assert run.passages.tolist() == [[names(corpus)[number] for number in row] for row in rows]
    assert run.scores == pytest.approx(np.array(scores), abs=2e-6)


def test_a_tie_wider_than_any_margin_keeps_corpus_order():
    """Where 300 passages share the best score, the first ten of the corpus are the top ten."""
    passages = np.zeros((400, 2), dtype=np.float32)
    passages[100:, 0] = 1.0
    run = ranking.rank(["q"], np.array([[1.0, 0.0]], dtype=np.float32), names(400), passages, 10)
    assert run.passages.tolist() == [names(400)[100:110]]


def test_copies_of_one_passage_stay_in_corpus_order():
    """Passages of one text tie wherever they stand in the corpus, so the lower one always comes first."""
    rng = np.random.default_rng(5)
    passages = unit(rng.normal(size=(100, 384)))
    passages[[3, 41, 97]] = passages[3]
    run = ranking.rank(names(64, "q"), unit(rng.normal(size=(64, 384))), names(100), passages, 100)
    places = [[row.index(names(100)[number]) for number in (3, 41, 97)] for row in run.passages.tolist()]
    assert all(b - a == 1 and c - b == 1 for a, b, c in places)


def test_scores_fall_along_each_row():
    """A row's scores never rise."""
    run = ranking.rank(names(9, "q"), *_named(np.random.default_rng(1), 9, 90), 50)
    assert (np.diff(run.scores, axis=1) <= 0).all()


def _named(rng, queries: int, corpus: int) -> tuple[np.ndarray, list[str], np.ndarray]:
    one, other = random_vectors(rng, queries, corpus)
    return one, names(corpus), other


def test_the_order_of_the_queries_changes_nothing():
    """Each query has the same passages and scores however the queries are shuffled."""
    rng = np.random.default_rng(2)
    queries, corpus, passages = _named(rng, 40, 120)
    ids, order = names(40, "q"), rng.permutation(40)
    run = ranking.rank(ids, queries, corpus, passages, 30)
    shuffled = ranking.rank([ids[row] for row in order], queries[order], corpus, passages, 30)
    for query in ids:
        assert (
            run.passages[run.queries.index(query)].tolist() == shuffled.passages[shuffled.queries.index(query)].tolist()
        )
        assert run.scores[run.queries.index(query)].tolist() == shuffled.scores[shuffled.queries.index(query)].tolist()


def test_inputs_of_other_layouts_rank_alike():
    """Float64, Fortran-ordered or read-only vectors give the same run."""
    queries, corpus, passages = _named(np.random.default_rng(3), 5, 40)
    run = ranking.rank(names(5, "q"), queries, corpus, passages, 10)
    other = ranking.rank(names(5, "q"), np.asfortranarray(queries, np.float64), corpus, np.asfortranarray(passages), 10)
    assert run.passages.tolist() == other.passages.tolist()


def test_top_is_a_prefix():
    """`top` keeps the first passages and scores of each row."""
    run = ranking.rank(names(5, "q"), *_named(np.random.default_rng(4), 5, 40), 20)
    top = run.top(7)
    assert top.passages.tolist() == [row[:7] for row in run.passages.tolist()]
    assert top.scores.tolist() == [row[:7] for row in run.scores.tolist()]


@pytest.mark.parametrize("scale", [1.0, -1.0, 20.0])
def test_trec_round_trip(tmp_path, scale):
    """A run read back has the same queries, passages and order, and scores equal to 6 decimals."""
    queries, corpus, passages = _named(np.random.default_rng(6), 12, 60)
    run = ranking.rank(names(12, "q"), queries, corpus, (passages * scale).astype(np.float32), 25)
    ranking.write_trec(run, tmp_path / "run.trec", "tag")
    again = ranking.read_trec(tmp_path / "run.trec")
    assert again.queries == run.queries
    assert again.passages.tolist() == run.passages.tolist()
    assert again.scores.dtype == np.float32
    assert [[f"{s:.6f}" for s in row] for row in again.scores] == [[f"{s:.6f}" for s in row] for row in run.scores]


@pytest.mark.parametrize("identifier", ["007", "1e5", "NA", "null", '"quoted', "1.0"])
def test_trec_round_trip_of_ids(tmp_path, identifier):
    """Ids are texts: none is read as a number, a missing value or a quotation."""
    ids = np.array([[identifier, "7"]], dtype=object)
    run = Run([identifier], ids, np.array([[0.5, 0.25]], dtype=np.float32))
    ranking.write_trec(run, tmp_path / "run.trec", "tag")
    again = ranking.read_trec(tmp_path / "run.trec")
    assert (again.queries, again.passages.tolist()) == ([identifier], ids.tolist())


def test_trec_lines(tmp_path):
    """A run file has trec_eval's six columns, ranks from 1."""
    run = Run(["5_B"], np.array([["7", "9"]], dtype=object), np.array([[0.5, -0.25]], dtype=np.float32))
    ranking.write_trec(run, tmp_path / "run.trec", "abc")
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
    ],
)
def test_malformed_runs_are_refused(tmp_path, text):
    """A file that is not six columns, or in which queries have unequally many passages, is named."""
    path = tmp_path / "run.trec"
    path.write_text(text)
    with refused(path):
        ranking.read_trec(path)


def test_a_missing_run_is_refused(tmp_path):
    """A run file that is not there is named."""
    with refused(tmp_path / "run.trec", "no such file"):
        ranking.read_trec(tmp_path / "run.trec")
