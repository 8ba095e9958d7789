"""Published folders of late-interaction and sparse models: their classes load them, and their cards speak of these."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.published_models import REPO, card, make_checkpoint, make_job, metadata
from helpers.tiny_task import refused
from sentence_transformers import MultiVectorEncoder

from rounds.config import loader
from rounds.config.recipe import Recipe
from rounds.encoding.encoder import encode
from rounds.models import checkpoint
from rounds.publishing import stage
from rounds.retrieval import search
from rounds.retrieval.token_vectors import TokenVectors

QUERIES = ["What is 1/2 + 1/3?", "x", "2 + 2 = 5, so what is 3 + 3, and why is it not 7 but another number?"]

PASSAGES = ["Adds the denominators.", "Reads the axis, wrongly!", "Forgets the sign of a product of two numbers"]

KINDS = {"tokens": "MultiVectorEncoder", "splade": "SparseEncoder"}  # recipe -> sentence-transformers' class


def tiny_recipe(kind: str, method: str, **prompts: object) -> Recipe:
    """Return `tiny-tokens` or `tiny-splade` under a tuning method, with short limits."""
    recipe = loader.load(f"tiny-{kind}").replace("tuning", method=method)
    return recipe.replace("prompts", **{"query_max_length": 20, "passage_max_length": 8, **prompts})


def own_scores(folder: Path) -> np.ndarray:
    """Return the scores (queries, passages) by which this project ranks."""
    source = checkpoint.resolve(str(folder), device="cpu")
    embedder, sides = source.load(), ((QUERIES, "query"), (PASSAGES, "passage"))
    queries, passages = (encode(embedder, texts, source.recipe.prompts, side, "fp32") for texts, side in sides)
    run = search.rank(list("abc"), queries, list("012"), passages, 3)
    return np.take_along_axis(run.scores, run.passages.astype(int).argsort(axis=1), axis=1)


def card_scores(folder: Path) -> np.ndarray:
    """Run a card's code on its folder, and return the scores of the similarity that its model computes."""
    code = card(folder).split("```python\n")[1].split("```")[0].replace(f'"{REPO}"', json.dumps(str(folder)))
    names = {}
    exec(code, names)
    queries, passages = names["embed_queries"](QUERIES), names["embed_passages"](PASSAGES)
    scores = names["model"].similarity(queries, passages)
    return (scores.to_dense() if scores.is_sparse else scores).cpu().numpy()


@pytest.fixture
def untried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders are written without being tried in a process of their own, which takes seconds."""
    monkeypatch.setattr(stage, "try_folder", lambda *_: 0.9999)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("suffix", ["", " ?"])
def test_the_cards_code_gives_the_checkpoints_scores(kind, method, suffix, tiny_collection, tmp_path, untried, capsys):
    """Whole models and merged adapters, with prefixes, with suffixes, and with texts that are cut."""
    if suffix:  # sentence-transformers cuts it from long texts, as the card says
        prompts = {"query_suffix": suffix, "query_max_length": 64, "passage_max_length": 32}
    else:
        prompts = {"query_prefix": "query: ", "passage_prefix": "p: "}
    folder = make_checkpoint(tiny_recipe(kind, method, **prompts), tmp_path / "epoch_1")
    stage.write_folder(make_job(folder, tiny_collection, tmp_path / "out"))
    np.testing.assert_allclose(card_scores(tmp_path / "out"), own_scores(folder), rtol=1e-4, atol=1e-4)
    assert f"import {KINDS[kind]}" in card(tmp_path / "out")


def test_a_card_of_late_interaction_names_class_similarity_and_prompts(tiny_collection, tmp_path, untried):
    """Tags are those of sentence-transformers' own cards; the folder's prompts are those of the training."""
    recipe = tiny_recipe("tokens", "full", passage_prefix="passage: ")
    folder = make_checkpoint(recipe, tmp_path / "epoch_1")
    stage.write_folder(make_job(folder, tiny_collection, tmp_path / "out"))
    values, text = metadata(tmp_path / "out"), card(tmp_path / "out")
    assert values["library_name"] == "sentence-transformers" and values["pipeline_tag"] == "feature-extraction"
    assert {"multi-vector", "colbert", "late-interaction"} <= set(values["tags"])
    assert "sentence-similarity" not in values["tags"]
    assert "compared by MaxSim, the sum over the query's tokens of the largest cosine" in text
    assert "`encode_query` and `encode_document`" in text and "model.encode_query(texts)" in text
    config = json.loads((tmp_path / "out" / "config_sentence_transformers.json").read_text())
    assert config["prompts"] == {"query": "query: ", "document": "passage: "}
    assert config["similarity_fn_name"] == "maxsim"
    transformer = MultiVectorEncoder(str(tmp_path / "out"), device="cpu")[0]
    assert (transformer.query_length, transformer.document_length) == (20, 8)


def test_a_card_of_sparse_vectors_names_class_and_similarity(tiny_collection, tmp_path, untried):
    """Tags are those of sentence-transformers' own cards."""
    folder = make_checkpoint(tiny_recipe("splade", "full"), tmp_path / "epoch_1")
    stage.write_folder(make_job(folder, tiny_collection, tmp_path / "out"))
    values, text = metadata(tmp_path / "out"), card(tmp_path / "out")
    assert {"sparse-encoder", "sparse", "splade"} <= set(values["tags"])
    assert values["pipeline_tag"] == "feature-extraction" and "compared by inner product." in text


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_folder_is_tried_in_a_fresh_process(kind, tiny_collection, tmp_path):
    """Its vectors there are the checkpoint's, and the line says how near they are."""
    folder = make_checkpoint(tiny_recipe(kind, "full"), tmp_path / "epoch_1")
    line = stage.write_folder(make_job(folder, tiny_collection, tmp_path / "out"))
    assert line.startswith(f"{tmp_path / 'out'}: full, ") and line.endswith("least cosine 1.0000")


@pytest.mark.slow
def test_another_number_of_tokens_is_refused(tiny_collection, tmp_path, monkeypatch):
    """MaxSim would add up other tokens, even where those that are compared have the same vectors."""

    def encode_without_last_token(*arguments) -> TokenVectors:
        vectors = encode(*arguments)
        return TokenVectors.join([vectors[row][:-1] for row in range(len(vectors))])

    folder = make_checkpoint(tiny_recipe("tokens", "full"), tmp_path / "epoch_1")
    monkeypatch.setattr(stage, "encode", encode_without_last_token)
    with refused(folder, "other vectors", "least cosine 0.0000"):
        stage.write_folder(make_job(folder, tiny_collection, tmp_path / "out"))
    assert not (tmp_path / "out").exists()
