"""Sparse encoding: batches become one CSR matrix, which is stored, found again and refused where it was damaged."""

import dataclasses

import numpy as np
import pytest
import torch
from helpers.tiny_task import refused
from helpers.tuned_models import build_tuned_model, save_checkpoint
from scipy import sparse

from rounds.config import loader
from rounds.encoding import canary, fingerprint, run_store
from rounds.encoding.batching import Layout
from rounds.encoding.checkpoint_encoder import CheckpointEncoder
from rounds.encoding.encoder import encode
from rounds.models import checkpoint, splade
from rounds.models.checkpoint import Checkpoint
from rounds.models.random_models import VOCABULARY
from rounds.retrieval.representation import VECTORS_FILE
from rounds.retrieval.sparse import ROWS_FILE

QUERIES = {"q1": "one half plus one third", "q2": "the angles of a kite", "q3": ""}

PASSAGES = {"p1": "Adds the denominators", "p2": "Adds the numerators", "p3": "Takes a kite for a rhombus"}

RECIPE = loader.load("tiny-splade")


@pytest.fixture(scope="module")
def source() -> Checkpoint:
    return checkpoint.resolve(None, RECIPE, "cpu", "fp32")


@pytest.fixture(scope="module")
def embedder(source):
    return source.load()


def alone(embedder, text: str) -> np.ndarray:
    """Embed a text in a batch of its own."""
    with torch.inference_mode():
        return embedder(embedder.preprocess([text]))["sentence_embedding"][0].numpy()


def test_vectors_are_those_of_single_texts(embedder):
    """Batches of packed texts, sorted by length and with repeats, give each text's own vector."""
    texts = [*PASSAGES.values(), "kite " * 5, "Adds the numerators"]
    vectors = encode(embedder, texts, RECIPE.prompts, "passage", "fp32")
    assert sparse.issparse(vectors) and vectors.shape == (5, VOCABULARY) and vectors.dtype == np.float32
    for row, text in enumerate(texts):
        np.testing.assert_allclose(vectors.toarray()[row], alone(embedder, text), atol=1e-5)


def test_no_batch_holds_more_logits_than_the_bound(embedder, monkeypatch):
    """A large vocabulary makes batches small."""
    assert Layout.for_model(embedder, 64).token_budget == 4096
    monkeypatch.setattr(embedder[0].model.config, "vocab_size", 30_522)
    assert Layout.for_model(embedder, 64).token_budget == 2**25 // 30_522


def test_numbers_that_are_not_finite_are_refused_by_name(source):
    """A text whose logits are not finite in any precision is named."""
    broken = source.load()
    token = broken.tokenizer("kite")["input_ids"][1]
    with torch.no_grad():
        broken[0].model.get_input_embeddings().weight[token] = torch.nan
    with refused("text 1"):
        encode(broken, ["kite"], RECIPE.prompts, "passage", "fp32")


def test_a_stored_run_is_found_again(source, tmp_path, monkeypatch):
    """Another store reads vectors and run; the fingerprint has numbers of each probe, and the run leads to vectors."""
    store = run_store.open_store(source, tmp_path)
    run, path = store.run("test", QUERIES, PASSAGES, depth=2)
    vectors, _ = store.vectors(list(PASSAGES.values()), "passage", "corpus")
    monkeypatch.setattr(CheckpointEncoder, "encode", None)
    deep, _ = run_store.open_store(source, tmp_path).run("test", QUERIES, PASSAGES, depth=3)
    assert deep.top(2).passages.tolist() == run.passages.tolist()
    queries, corpus = run_store.load_run_vectors(path)
    assert queries.shape == (3, VOCABULARY) and np.array_equal(corpus.toarray(), vectors.toarray())
    probes = fingerprint.read(path.with_name(fingerprint.FILE)).probes
    assert set(probes["passages"]) == set(PASSAGES) and any(probes["passages"]["p1"].vector)


def test_sparsity_is_printed_with_the_run(source, tmp_path, capsys):
    """The line says how many words queries and passages have, and what comparing them costs."""
    run_store.open_store(source, tmp_path).run("test", QUERIES, PASSAGES)
    output = capsys.readouterr().out
    assert all(figure in output for figure in ("test: query words", "passage words", "FLOPS"))


@pytest.mark.parametrize("file", [VECTORS_FILE, ROWS_FILE])
def test_a_cut_file_is_refused(file, source, tmp_path):
    """A file that lost its end is named by its folder, with the way out."""
    store = run_store.open_store(source, tmp_path)
    _, folder = store.vectors(list(PASSAGES.values()), "passage", "corpus")
    (folder / file).write_bytes((folder / file).read_bytes()[:-16])
    with refused(folder, "delete it to encode anew"):
        store.run("test", QUERIES, PASSAGES)


def test_dense_options_are_refused(source):
    """Truncation and FlagEmbedding's engine are for dense vectors."""
    with refused("truncate_dim", "model.pooling splade"):
        source.with_options(truncate_dim=64)
    with refused("engine flagembedding", "model.pooling splade"):
        source.with_options(engine="flagembedding")


def test_a_lost_head_is_noticed(tmp_path):
    """Canaries of a sparse checkpoint show when another head stands in the place of the trained one."""
    recipe = dataclasses.replace(RECIPE, tuning=dataclasses.replace(RECIPE.tuning, method="bottleneck"))
    trained = build_tuned_model(recipe).eval()
    proof = canary.embed_canaries(trained, recipe.prompts, "fp32")
    folder = save_checkpoint(trained, recipe, tmp_path / "checkpoint", proof=proof)
    source = checkpoint.resolve(str(folder), device="cpu")
    embedder = source.load()
    canary.check(source, embedder)
    splade.start_head(embedder[0].model)
    with refused("query encoder's vectors"):
        canary.check(source, embedder)
