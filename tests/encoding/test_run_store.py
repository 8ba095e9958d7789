"""Run store: vectors and runs are computed once, and only what they depend on decides which folder they are in."""

import dataclasses

import numpy as np
import pytest

from rounds.config import loader
from rounds.encoding import run_store
from rounds.encoding.checkpoint_encoder import CheckpointEncoder
from rounds.encoding.run_store import RunStore, content_key
from rounds.models import checkpoint
from rounds.models.checkpoint import Checkpoint

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


def test_query_prompts_leave_the_passages_stored_vectors_alone(source):
    """Another query prefix changes the key of queries only."""
    texts, other = ["a text"], with_prompts(source, query_prefix="Find: ")
    assert content_key(source, texts, "query") != content_key(other, texts, "query")
    assert content_key(source, texts, "passage") == content_key(other, texts, "passage")


def test_vectors_are_stored_before_truncation(source):
    """A checkpoint with fewer dimensions reads the same vectors."""
    texts = ["a text"]
    assert content_key(source, texts, "query") == content_key(source.with_options(truncate_dim=8), texts, "query")


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
