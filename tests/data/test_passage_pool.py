"""A corpus that stays on disk answers as a dict of all its texts does."""

import gzip
import json

import pytest
from helpers.tiny_task import refused

from rounds.artifacts import hashing, store
from rounds.data import passage_pool
from rounds.data.loaders import beir
from rounds.data.passage_pool import LazyTexts, PassagePool, Spool, ids_of, read_pool, rows_of, texts_of

PASSAGES = {f"p{number}": f'passage "{number}" é\u2028\n' * (number % 5) for number in range(1000)}


@pytest.fixture(autouse=True)
def on_disk(monkeypatch):
    """Take every corpus for a large one, and read it in many blocks."""
    monkeypatch.setattr(passage_pool, "IN_MEMORY_BYTES", 100)
    monkeypatch.setattr(passage_pool, "READ_AT_ONCE", 300)


@pytest.fixture
def path(tmp_path):
    """A pool file of `PASSAGES`."""
    store.write_jsonl(tmp_path / "pool.jsonl", [{"_id": key, "text": text} for key, text in PASSAGES.items()])
    return tmp_path / "pool.jsonl"


def spooled() -> PassagePool:
    """`PASSAGES`, as a loader collects them."""
    spool = Spool()
    for item in PASSAGES.items():
        spool.add(*item)
    assert len(spool) == len(PASSAGES)
    return spool.finish(lambda row, identifier: f"{identifier} in row {row} repeats")


@pytest.mark.parametrize("source", ["file", "spool"])
def test_a_mapping_like_a_dict(path, source):
    """Items, order, membership and texts by id are those of the dict."""
    pool = read_pool(path) if source == "file" else spooled()
    assert isinstance(pool, PassagePool)
    assert list(pool.items()) == list(PASSAGES.items()) and pool == PASSAGES
    assert list(pool) == list(PASSAGES) and list(pool.values()) == list(PASSAGES.values())
    assert len(pool) == len(pool.items()) == len(PASSAGES)
    assert all(pool[key] == text for key, text in PASSAGES.items())
    assert "p7" in pool and "x" not in pool and 7 not in pool and pool.get("x") is None
    assert list(pool.sorted_items()) == sorted(PASSAGES.items())
    with pytest.raises(KeyError):
        pool["x"]


def test_parts_of_a_corpus(path):
    """Ids, texts and rows are the same whether the corpus is on disk or a dict."""
    pool = read_pool(path)
    for part in (ids_of, texts_of):
        one, other = part(pool), part(PASSAGES)
        assert len(one) == len(other) and list(one) == other
        assert one[3:9] == other[3:9] and one[::100] == other[::100] and one[-1] == other[-1]
    names = ["p999", "x", "p0", "p0"]
    assert rows_of(pool, names) == rows_of(PASSAGES, names) == {"p999": 999, "p0": 0}


def test_converted_texts_know_their_rows(path):
    """A conversion gets the row's number, in slices and single texts too."""
    texts = read_pool(path).texts.map(lambda row, text: f"{row} {len(text)}")
    expected = [f"{row} {len(text)}" for row, text in enumerate(PASSAGES.values())]
    assert isinstance(texts, LazyTexts) and list(texts) == expected
    assert texts[5:8] == expected[5:8] and texts[-3] == expected[-3]


def test_hashes_are_those_of_a_dict(path):
    """Digests of texts and of JSON values do not tell a corpus on disk from a dict, so stored folders stay valid."""
    pool = read_pool(path)
    assert hashing.sha256_texts(pool.texts) == hashing.sha256_texts(list(PASSAGES.values()))
    for further in ([], [{"a": 1}, ["é"]]):
        values = ([{"q": "text"}, corpus, ["x"], *further] for corpus in (pool, PASSAGES))
        assert len(set(map(hashing.sha256_json, values))) == 1


def test_a_byte_order_mark_and_windows_line_ends(tmp_path):
    """The places of lines are those of the file's bytes."""
    rows = [json.dumps({"text": text}, ensure_ascii=False) for text in PASSAGES.values()]
    (tmp_path / "pool.jsonl").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(rows).encode() + b"\r\n\r\n")
    pool = read_pool(tmp_path / "pool.jsonl")
    assert isinstance(pool, PassagePool)
    assert dict(pool) == {str(number): text for number, text in enumerate(PASSAGES.values())}


def test_a_gzipped_pool(path):
    """What cannot be read by place is unpacked into a temporary file."""
    packed = path.with_name("pool.jsonl.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    pool = read_pool(packed)
    assert isinstance(pool, PassagePool) and dict(pool) == PASSAGES


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz"])
@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"_id": "p7", "text": "again"}', "'p7' repeats"),
        ('{"_id": "x"', "not JSON"),
        ('{"_id": "x"}', "key 'text' is missing"),
        ('{"_id": "x", "text": 5}', "text is not a string"),
        ('{"_id": "a b", "text": ""}', "blank"),
    ],
    ids=["repeats", "broken", "no text", "a number", "a blank"],
)
def test_a_broken_line_far_down_is_named(path, line, says, ending):
    """The message is one line with the number of the broken one."""
    content = path.read_bytes() + line.encode() + b'\n{"_id": "last", "text": ""}\n'
    path = path.with_name(f"broken{ending}")
    path.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    with refused(f"{path} line {len(PASSAGES) + 1}", says):
        read_pool(path)


def write_beir(folder, rows: list[dict]) -> None:
    """A folder in BEIR's layout with one query, which passage p0 answers."""
    (folder / "qrels").mkdir(parents=True)
    store.write_jsonl(folder / "corpus.jsonl", rows)
    store.write_jsonl(folder / "queries.jsonl", [{"_id": "q", "text": "body  3"}, {"_id": "p9", "text": "which?"}])
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\tp0\t1\n")


def test_a_large_beir_corpus_is_loaded_as_a_small_one(tmp_path, monkeypatch):
    """Passages, labels and a query's own passages are the same with the corpus in a temporary file."""
    rows = [
        {"_id": f"p{number}", "title": f"T{number % 2}" * (number % 3), "text": f"body {number}"}
        for number in range(50)
    ]
    write_beir(tmp_path / "data", rows)
    large = beir.load(tmp_path / "data")
    monkeypatch.setattr(passage_pool, "IN_MEMORY_BYTES", 2**20)
    small = beir.load(tmp_path / "data")
    assert isinstance(large.passages, PassagePool) and isinstance(small.passages, dict)
    assert large == small and large.identical == {"q": ["p3"], "p9": ["p9"]}


def test_an_id_that_repeats_in_a_large_beir_corpus(tmp_path):
    """The line is named although the earlier id is no longer in memory."""
    rows = [{"_id": f"p{number}", "text": "words " * 9} for number in (*range(40), 3, 41)]
    write_beir(tmp_path / "data", rows)
    with refused(f"{tmp_path / 'data' / 'corpus.jsonl'} line 41", "'p3' appears twice"):
        beir.load(tmp_path / "data")
