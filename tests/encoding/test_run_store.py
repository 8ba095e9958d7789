"""Run store: vectors and runs are computed once, and only what they depend on decides which folder they are in."""

import dataclasses
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from helpers.tiny_task import refused

from rounds.artifacts.manifests import FingerprintManifest
from rounds.config import loader
from rounds.encoding import fingerprint, run_store
from rounds.encoding.checkpoint_encoder import CheckpointEncoder
from rounds.encoding.run_store import RunStore, content_key
from rounds.models import checkpoint
from rounds.models.checkpoint import Checkpoint
from rounds.models.dual_encoder import KINDS
from rounds.models.weights import locate_model
from rounds.retrieval.tokens import Tokens

QUERIES = {"q1": "one half plus one third", "q2": "the angles of a kite"}

PASSAGES = {"p1": "Adds the denominators", "p2": "Adds the numerators", "p3": "Takes a kite for a rhombus"}


@pytest.fixture(scope="module")
def source() -> Checkpoint:
    return checkpoint.resolve(None, loader.load("tiny-mistral"), "cpu", "fp32")


@pytest.fixture
def no_encoding(monkeypatch):
    """Fail if anything is encoded."""

    def fail(*_):
        raise AssertionError("encodes again")

    return lambda: monkeypatch.setattr(CheckpointEncoder, "encode", fail)


def with_prompts(source: Checkpoint, **prompts) -> Checkpoint:
    return dataclasses.replace(source, recipe=source.recipe.replace("prompts", **prompts))


def test_stored_vectors_are_not_encoded_again(source, tmp_path, no_encoding):
    """Another store of the same checkpoint reads the file, in the order of the texts."""
    texts = list(PASSAGES.values())
    vectors, folder = run_store.open_store(source, tmp_path).vectors(texts, "passage", "corpus")
    no_encoding()
    stored, same_folder = run_store.open_store(source, tmp_path).vectors(texts, "passage", "corpus")
    assert folder == same_folder
    np.testing.assert_array_equal(stored, vectors)


def test_of_two_at_once_one_encodes(source, tmp_path, monkeypatch):
    """The second waits until the vectors are there, and reads them."""
    calls, encode = [], CheckpointEncoder.encode

    def encode_slowly(self, *arguments):
        calls.append(arguments)
        time.sleep(0.3)  # the other has come to the lock by then
        return encode(self, *arguments)

    monkeypatch.setattr(CheckpointEncoder, "encode", encode_slowly)
    stores = [run_store.open_store(source, tmp_path) for _ in range(2)]  # each takes the lock for itself
    with ThreadPoolExecutor() as pool:
        first, second = pool.map(lambda store: store.vectors(list(PASSAGES.values()), "passage", "corpus"), stores)
    assert len(calls) == 1 and first[1] == second[1]
    np.testing.assert_array_equal(first[0], second[0])
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_store_says_whether_it_has_vectors(source, tmp_path, no_encoding):
    """Of these very texts, examples included, without encoding any."""
    texts = list(QUERIES.values())
    store = run_store.open_store(source, tmp_path)
    assert not store.has_vectors(texts, "query", "train")
    store.vectors(texts, "query", "train")
    no_encoding()
    assert store.has_vectors(texts, "query", "train")
    assert not store.has_vectors(texts[:1], "query", "train")
    assert not store.has_vectors(texts, "query", "train", [["one example"]] * len(texts))


def test_a_deeper_run_than_the_stored_one_is_ranked_from_stored_vectors(source, tmp_path, no_encoding):
    """The stored run is cut if it is deep enough; otherwise the texts are ranked, but not encoded, again."""
    store = run_store.open_store(source, tmp_path)
    shallow, path = store.run("test", QUERIES, PASSAGES, depth=2)
    no_encoding()
    deep, same_path = store.run("test", QUERIES, PASSAGES, depth=3)
    assert path == same_path and deep.scores.shape == (2, 3)
    assert deep.passages[:, :2].tolist() == shallow.passages.tolist()
    cut, _ = store.run("test", QUERIES, PASSAGES, depth=1)
    assert cut.passages.tolist() == deep.passages[:, :1].tolist()


def test_a_run_leads_to_its_vectors(source, tmp_path):
    """The vectors that a run was ranked by are found by the run's path, also for a truncated run."""
    store = run_store.open_store(source.with_options(truncate_dim=8), tmp_path)
    _, path = store.run("test", QUERIES, PASSAGES)
    queries, corpus = run_store.load_run_vectors(path)
    assert (queries.shape, corpus.shape) == ((2, 64), (3, 64))


def test_a_run_whose_vectors_were_deleted_has_none(source, tmp_path):
    """The run file alone is kept, for instance to save space."""
    _, path = run_store.open_store(source, tmp_path).run("test", QUERIES, PASSAGES)
    for file in tmp_path.rglob(run_store.VECTORS_FILE):
        file.unlink()
    assert run_store.load_run_vectors(path) is None


def test_other_passage_ids_are_another_run(source, tmp_path):
    """Equal texts under other ids share their vectors, but a run names ids."""
    store = run_store.open_store(source, tmp_path)
    _, path = store.run("test", QUERIES, PASSAGES)
    renamed, other_path = store.run("test", QUERIES, {f"new-{key}": text for key, text in PASSAGES.items()})
    assert path != other_path and path.parent.parent == other_path.parent.parent
    assert all(passage.startswith("new-") for passage in renamed.passages.ravel())


@pytest.fixture(scope="module")
def token_source() -> Checkpoint:
    """A checkpoint that embeds tokens."""
    return checkpoint.resolve(None, loader.load("tiny-tokens"), "cpu", "fp32")


def test_token_vectors_are_stored_and_ranked(token_source, tmp_path, no_encoding):
    """Texts keep their own vectors, also where they repeat, and a deeper run is ranked from the stored ones."""
    store = run_store.open_store(token_source, tmp_path)
    texts = [*PASSAGES.values(), PASSAGES["p1"]]
    vectors, folder = store.vectors(texts, "passage", "corpus")
    assert len(vectors) == 4 and vectors[0].tolist() == vectors[3].tolist()
    shallow, path = store.run("test", QUERIES, PASSAGES, depth=2)
    no_encoding()
    deep, _ = store.run("test", QUERIES, PASSAGES, depth=3)
    assert deep.passages[:, :2].tolist() == shallow.passages.tolist()
    queries, corpus = run_store.load_run_vectors(path)
    assert (len(queries), len(corpus)) == (2, 3)
    assert len(fingerprint.read(path.with_name(fingerprint.FILE)).probes["passages"]) == 3


def test_a_killed_encoding_of_tokens_is_made_anew(token_source, tmp_path, monkeypatch):
    """Nothing that was written halfway counts: no vectors without their offsets."""
    store, texts = run_store.open_store(token_source, tmp_path), list(PASSAGES.values())
    monkeypatch.setattr(Tokens, "write_rest", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        store.vectors(texts, "passage", "corpus")
    monkeypatch.undo()
    vectors, folder = store.vectors(texts, "passage", "corpus")
    assert len(vectors) == 3 and [path.name for path in store.root.glob("corpus-*")] == [folder.name]


def test_query_prompts_leave_the_passages_stored_vectors_alone(source):
    """Another query prefix changes the key of queries only."""
    texts, other = ["a text"], with_prompts(source, query_prefix="Find: ")
    assert content_key(source, texts, "query") != content_key(other, texts, "query")
    assert content_key(source, texts, "passage") == content_key(other, texts, "passage")


def test_vectors_are_stored_before_truncation(source):
    """A checkpoint with fewer dimensions reads the same vectors."""
    texts = ["a text"]
    assert content_key(source, texts, "query") == content_key(source.with_options(truncate_dim=8), texts, "query")


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "config.json"])
def test_the_tokenizer_and_configuration_are_part_of_the_key(source, tmp_path, name):
    """The same weights with another tokenizer, as a later revision may bring it, do not read vectors of before."""
    folder = shutil.copytree(locate_model(source.recipe.model), tmp_path / "model")
    copied = dataclasses.replace(source, recipe=source.recipe.replace("model", name_or_path=str(folder)))
    keys = [content_key(copied, ["a text"], kind) for kind in KINDS]
    assert keys == [content_key(source, ["a text"], kind) for kind in KINDS]
    (folder / name).write_text((folder / name).read_text() + "\n")
    assert all(content_key(copied, ["a text"], kind) != key for kind, key in zip(KINDS, keys, strict=True))


def test_an_adapter_s_scale_is_part_of_the_key(source, tmp_path):
    """It stands in adapter_config.json, beside weights that are the same; so does the base model's tokenizer."""
    (tmp_path / "adapter_config.json").write_text('{"lora_alpha": 16}')
    adapter = dataclasses.replace(source, folder=tmp_path, is_adapter=True)
    before = content_key(adapter, ["a text"], "query")
    assert content_key(source, ["a text"], "query")["settings"][0] in before["settings"]
    (tmp_path / "adapter_config.json").write_text('{"lora_alpha": 64}')
    assert content_key(adapter, ["a text"], "query") != before


@pytest.mark.parametrize(
    ("texts", "kind", "examples"),
    [(["b", "a"], "query", None), (["a", "b"], "passage", None), (["a", "b"], "query", [[], []])],
)
def test_order_kind_and_examples_are_part_of_the_key(source, texts, kind, examples):
    """Vectors of other texts, in another order or with examples are not read."""
    assert content_key(source, ["a", "b"], "query") != content_key(source, texts, kind, examples)


def test_a_base_model_has_its_store_under_the_output_folder(source, tmp_path):
    """The folder holds the model's name, for people, and a hash of its weights."""
    store = run_store.open_store(source, tmp_path)
    assert isinstance(store, RunStore) and store.root.parent == tmp_path / "base"
    assert store.root.name.endswith(source.weights_digest[:8])


def fingerprint_of(source: Checkpoint, folder, queries, examples=None) -> FingerprintManifest:
    _, path = run_store.open_store(source, folder).run("test", queries, PASSAGES, examples=examples)
    return fingerprint.read(path.with_name(fingerprint.FILE))


def test_a_fingerprint_covers_what_the_model_read(source, tmp_path):
    """Cut texts and examples count as far as they were read: another ending is no difference."""
    short = with_prompts(source, query_max_length=60, examples_max_length=20, examples="fixed", examples_number=3)
    start = "one half plus one third and many more words " * 12
    examples = [["fits", "does not fit " * 20, "fits too"]]
    one = fingerprint_of(short, tmp_path, {"q1": f"{start} and an end"}, examples)
    other = fingerprint_of(short, tmp_path, {"q1": f"{start} or another one"}, [["fits", "neither " * 30, "fits too"]])
    assert one.queries.texts == other.queries.texts
    text = one.probes["queries"]["q1"].text
    assert "does not fit" not in text and text.startswith("fits\n\nfits too\n\n")
    assert start[:20] in text and len(text) < len(start)
    changed = fingerprint_of(short, tmp_path, {"q1": f"another {start}"}, examples)
    assert changed.queries.texts != one.queries.texts


def test_a_fingerprint_from_stored_vectors_is_that_of_fresh_ones(source, tmp_path):
    """What was read is kept beside the vectors, and found again by tokenizing where an earlier version left nothing."""
    short = with_prompts(source, query_max_length=60)
    queries = {"q1": "one half plus one third " * 20, "q2": "x"}
    store = run_store.open_store(short, tmp_path)
    _, path = store.run("test", queries, PASSAGES, depth=1)
    first = path.with_name(fingerprint.FILE).read_text()
    for changes in ((), ("cuts.json",)):
        for name in ("run.trec", "fingerprint.json", *changes):
            for file in tmp_path.rglob(name):
                file.unlink()
        run_store.open_store(short, tmp_path).run("test", queries, PASSAGES, depth=1)
        assert path.with_name(fingerprint.FILE).read_text() == first


def test_a_text_filter_counts_for_the_fingerprint(source, tmp_path):
    """Without pictures the model reads the words alone, and the fingerprint says so."""
    marker = "<image:a.png#0123456789abcdef>\n"
    words = fingerprint_of(source.with_options(modality="without"), tmp_path, {"q1": f"{marker}Whose?"})
    assert words.queries.texts == fingerprint_of(source, tmp_path, {"q1": "Whose?"}).queries.texts


def test_a_query_without_finite_numbers_is_refused_before_the_corpus_is_encoded(source, tmp_path):
    """The line names the query's id; neither its vectors nor the corpus's are stored."""
    embedder = source.load()
    with torch.no_grad():
        embedder[0].model.norm.weight.fill_(torch.nan)
    with refused("no finite numbers", "q1, q2"):
        run_store.open_store(source, tmp_path, embedder).run("test", QUERIES, PASSAGES)
    assert not list(tmp_path.rglob("*.npy"))


def test_stored_vectors_without_finite_numbers_are_refused(source, tmp_path):
    """A passage of an earlier version's file does not vanish from the rankings: its id and the folders are named."""
    store = run_store.open_store(source, tmp_path)
    _, folder = store.vectors(list(PASSAGES.values()), "passage", "corpus")
    vectors = np.load(folder / run_store.VECTORS_FILE)
    vectors[1, 5] = np.nan
    np.save(folder / run_store.VECTORS_FILE, vectors)
    with refused("passage p2", "delete", folder):
        store.run("test", QUERIES, PASSAGES)
    assert not list(tmp_path.rglob("run.trec"))


PROGRAM = """
import resource, sys
from rounds.artifacts.manifests import FingerprintManifest
from rounds.config import loader
from rounds.encoding import fingerprint, run_store
from rounds.errors import UserError
from rounds.models import checkpoint
source = checkpoint.resolve(None, loader.load("tiny-mistral"), "cpu", "fp32")
embedder = source.load()
store = run_store.open_store(source, __import__("pathlib").Path(sys.argv[1]), embedder)
if sys.argv[2] == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (24_000, resource.RLIM_INFINITY))
try:
    store.vectors([f"text {number}" for number in range(200)], "passage", "corpus")
except UserError as error:
    print(f"error: {error}")
"""


@pytest.mark.parametrize("bound", ["limit", "disk"])
def test_a_full_disk_is_one_line(bound, tmp_path, small_disk, cache):
    """Vectors that find no space end in a line that names their folder, and leave nothing."""
    folder = small_disk if bound == "disk" else tmp_path
    # -B: Python renames a bytecode file that the limit cut, and no process could import its module afterwards.
    result = subprocess.run([sys.executable, "-B", "-c", PROGRAM, str(folder), bound], capture_output=True, text=True)
    assert (result.returncode, result.stdout.count("\n")) == (0, 1), result.stderr
    assert result.stdout.startswith(f"error: {folder}") and "no space left" in result.stdout
    assert not [path for path in folder.rglob("*corpus*")]
