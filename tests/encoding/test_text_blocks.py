"""Large corpora are encoded block by block: the vectors, and what is told of them, are those of one block."""

import functools
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import slow_clock
from helpers.tiny_embedders import make_numbers_overflow, model
from helpers.tiny_task import refused

from rounds.data import passage_pool
from rounds.data.passage_pool import ids_of, read_pool, texts_of
from rounds.encoding import batching, run_store, text_blocks
from rounds.encoding.encoder import EncodingOptions, encode
from rounds.encoding.text_blocks import TextBlocks
from rounds.encoding.tokenization import Cuts, report_once, tokenize
from rounds.models import checkpoint
from rounds.retrieval import representations

WORDS = ["two thirds", "an angle", "a kite", "three", "x", "unlike denominators of fractions " * 20, ""]

TEXTS = [f"{WORDS[number % 7]} {number}" * (number % 7 < 6) for number in range(60)] + ["an angle 1", "a kite 2", "x"]


@pytest.fixture
def small_blocks(monkeypatch):
    """Return what sets the number of texts in a block; the tokenizer gets fewer at once."""

    def use(size: int) -> None:
        monkeypatch.setattr(text_blocks, "BLOCK_TEXTS", size)
        monkeypatch.setattr(text_blocks, "TOKENIZED_AT_ONCE", 3)
        report_once.cache_clear()

    return use


def encode_all(name: str, examples=None) -> tuple[np.ndarray, Cuts]:
    """Encode `TEXTS` with a tiny model."""
    cuts: list[Cuts] = []
    embedder, prompts = model(name)
    vectors = encode(
        embedder,
        TEXTS,
        prompts,
        "query" if examples else "passage",
        "fp32",
        examples,
        EncodingOptions(on_cuts=cuts.append),
    )
    (told,) = cuts
    return vectors, told


@pytest.mark.parametrize("size", [1, 7, 50, 59])
@pytest.mark.parametrize("name", ["mistral", "bert"])
def test_blocks_give_the_vectors_of_one_block(small_blocks, name, size, capsys):
    """Vectors are the same within rounding in the same order, repeats included, and cuts and lines are the same."""
    report_once.cache_clear()
    expected, expected_cuts = encode_all(name)
    lines = capsys.readouterr().out
    small_blocks(size)
    vectors, cuts = encode_all(name)
    np.testing.assert_allclose(vectors, expected, atol=2e-6)
    assert (vectors[[60, 61]] == vectors[[1, 2]]).all()  # also across blocks
    assert cuts == expected_cuts and len(cuts.characters) == 8
    assert capsys.readouterr().out == lines and "8 of 54 passage texts are longer" in lines


def peak_of_encoding(count: int, file: Path) -> int:
    """Return the most bytes held at once while texts get vectors of 16 KB, which go to a file."""
    embedder, prompts = model("mistral")
    texts = [f"two thirds {number}" for number in range(count)]
    options = EncodingOptions(allocate=functools.partial(np.lib.format.open_memmap, file, "w+", np.float32))

    def backend(embedder, ids, *_) -> np.ndarray:
        return np.ones((len(ids), 4096), np.float32)

    tracemalloc.start()
    try:
        encode(embedder, texts, prompts, "passage", "fp32", options=options, backend=backend)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_grows_by_what_is_known_of_a_text_not_by_its_vector(small_blocks, tmp_path):
    """A corpus of four times as many texts takes less than 1 KB more for each, of vectors that have 16."""
    small_blocks(50)
    peaks = [peak_of_encoding(count, tmp_path / f"{count}.npy") for count in (200, 200, 800)]  # the first warms up
    assert peaks[2] - peaks[1] < 600 * 1024
    assert np.load(tmp_path / "800.npy", mmap_mode="r").shape == (800, 4096)


def test_a_corpus_of_one_block_is_encoded_as_ever(small_blocks):
    """Up to the size of a block, batches and so the bytes of the vectors do not depend on it."""
    expected, _ = encode_all("mistral")
    small_blocks(len(TEXTS))
    np.testing.assert_array_equal(encode_all("mistral")[0], expected)


@pytest.mark.parametrize("name", ["tokens", "splade"])
def test_other_representations_are_encoded_in_blocks_too(small_blocks, name):
    """Vectors of tokens, whose number the tokens decide, and sparse ones come in the same order."""
    expected, _ = encode_all(name)
    small_blocks(7)
    vectors, _ = encode_all(name)
    representation = representations.of(expected)
    assert representations.of(vectors) is representation and representation.count(vectors) == len(TEXTS)
    for row in range(len(TEXTS)):
        np.testing.assert_allclose(representation.probe(vectors, row), representation.probe(expected, row), atol=2e-5)


def test_examples_are_part_of_a_text(small_blocks):
    """A text with other examples is another text; with the same ones it is encoded once."""
    examples = [[f"example {row % 3}"] for row in range(len(TEXTS))]
    expected, _ = encode_all("mistral", examples)
    small_blocks(8)
    np.testing.assert_allclose(encode_all("mistral", examples)[0], expected, atol=2e-6)
    blocks = list(TextBlocks(["a", "b", "a", "a"], [["x"], ["x"], ["y"], ["x"]]))
    assert [block.texts for block in blocks] == [["a", "b", "a"]]
    assert blocks[0].rows.tolist() == [0, 3, 1, 2] and blocks[0].places.tolist() == [0, 0, 1, 2]


def test_vectors_that_overflow_are_counted_over_all_blocks(small_blocks, capsys):
    """One line counts the texts of all blocks that were computed in a wider precision."""
    embedder, prompts = model("bert")
    texts = [f"{number} {'zzz' if number % 3 == 0 else 'kites'}" for number in range(20)]
    expected = encode(embedder, texts, prompts, "passage", "fp32")
    make_numbers_overflow(embedder, "zzz")
    small_blocks(6)
    vectors = encode(embedder, texts, prompts, "passage", "fp16")
    assert (vectors * expected).sum(axis=1).min() > 0.999
    (line,) = capsys.readouterr().out.splitlines()
    assert "fp16 overflows in 7 of 20 texts; these are computed in bf16" in line


def test_a_text_without_finite_numbers_is_named_by_its_id(small_blocks):
    """In a later block as well."""
    embedder, prompts = model("bert")
    make_numbers_overflow(embedder, "zzz", (torch.float16, torch.bfloat16, torch.float32))
    small_blocks(2)
    texts = ["a", "a", "b", "c", "d", "zzz"]
    with refused("no finite numbers", "p5"):
        encode(embedder, texts, prompts, "passage", "fp32", options=EncodingOptions(names=[f"p{n}" for n in range(6)]))


def write_pool(path, texts: list[str]) -> None:
    path.write_text("".join(json.dumps({"_id": f"p{n}", "text": text}) + "\n" for n, text in enumerate(texts)))


def test_a_stored_corpus_is_found_whether_in_memory_or_on_disk(tiny, tmp_path, small_blocks, monkeypatch):
    """The folder's name and the run's fingerprint do not tell where the texts were, nor how they were divided."""
    write_pool(tmp_path / "pool.jsonl", TEXTS)
    queries = {"q1": "how many kites?", "q2": "x"}
    folders, prints, runs = [], [], []
    for limit in (passage_pool.IN_MEMORY_BYTES, 0):
        monkeypatch.setattr(passage_pool, "IN_MEMORY_BYTES", limit)
        passages = read_pool(tmp_path / "pool.jsonl")
        store = run_store.open_store(checkpoint.resolve(None, tiny, "cpu"), tmp_path / str(limit))
        folders.append(store.vectors(texts_of(passages), "passage", "corpus", names=ids_of(passages))[1])
        run, path = store.run("validation", queries, passages, depth=5)
        runs.append(run.passages.tolist())
        prints.append(json.loads((path.parent / "fingerprint.json").read_text()))
        small_blocks(9)
    assert folders[0].name == folders[1].name and runs[0] == runs[1]
    assert (folders[0] / "cuts.json").read_bytes() == (folders[1] / "cuts.json").read_bytes()
    for side in ("corpus", "queries"):
        assert prints[0][side] == prints[1][side]
    texts = [{key: probe["text"] for key, probe in each["probes"]["passages"].items()} for each in prints]
    assert texts[0] == texts[1] and list(texts[0]) == list(texts[1])


def test_a_corpus_whose_encoding_ends_in_the_middle_leaves_nothing(tiny, tmp_path, small_blocks):
    """What was encoded before is not taken for the vectors, and the next call makes them."""
    small_blocks(10)
    source = checkpoint.resolve(None, tiny, "cpu")
    store = run_store.open_store(source, tmp_path)
    embedder = source.load()
    store.encoder.embedder, blocks = embedder, []

    def stop(*_):
        blocks.append(None)
        if len(blocks) == 4:
            raise KeyboardInterrupt

    handle = embedder.register_forward_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        store.vectors(TEXTS, "passage", "corpus")
    handle.remove()
    assert [path.name for path in store.root.iterdir()] == [".lock"]
    vectors, folder = store.vectors(TEXTS, "passage", "corpus")
    assert np.isfinite(vectors).all() and vectors.shape[0] == len(TEXTS) and (folder / "manifest.json").is_file()


def test_one_line_tells_how_long_all_blocks_take(small_blocks, monkeypatch, capsys):
    """The first block's tokens stand for those of all 60 distinct texts."""
    embedder, prompts = model("bert")
    monkeypatch.setattr(batching, "TOKEN_BUDGET", 64)
    small_blocks(20)
    slow_clock.use(monkeypatch)
    texts = [f"a kite {number:03d}" for number in range(60)]
    encode(embedder, [*texts, texts[0]], prompts, "passage", "fp32", options=EncodingOptions("encode corpus"))
    (line,) = slow_clock.lines(capsys)
    total = sum(map(len, tokenize(embedder.tokenizer, texts, prompts, "passage")))
    assert line.startswith("encode corpus, 60 passages: about ")
    assert slow_clock.amount(line) == pytest.approx(total, rel=0.02)
