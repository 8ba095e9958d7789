"""mteb's tasks with late-interaction and sparse models: rankings are those of run files, and what cannot be is said."""

import dataclasses
import importlib
import json

import numpy as np
import pytest
import sentence_transformers
import torch
from datasets import Dataset
from helpers.mteb_task import CORPUS, PASSAGES, QRELS, QUERIES, aggregate_task, places_task
from helpers.tiny_task import refused
from helpers.tuned_models import save_checkpoint

from rounds.config import loader
from rounds.data import lineage
from rounds.encoding import run_store
from rounds.evaluation import mteb_tasks
from rounds.evaluation.metrics import per_query
from rounds.evaluation.mteb_encoder import MtebEncoder
from rounds.evaluation.mteb_search import mteb_model
from rounds.models import checkpoint

mteb = pytest.importorskip("mteb")

LIBRARY = {"tiny-tokens": "MultiVectorEncoder", "tiny-splade": "SparseEncoder"}


@pytest.fixture(scope="module", params=LIBRARY)
def source(request, tmp_path_factory):
    """A checkpoint with all weights, which sentence-transformers reads as well, without prompts."""
    recipe = loader.load(request.param).replace("prompts", query_prefix="", passage_max_length=160)
    recipe = dataclasses.replace(recipe, tuning=dataclasses.replace(recipe.tuning, method="full"))
    embedder = checkpoint.resolve(None, recipe, "cpu").load()
    if request.param == "tiny-splade":
        torch.manual_seed(0)
        torch.nn.init.normal_(embedder[0].auto_model.cls.predictions.bias)  # words of every text, and no ties
    folder = save_checkpoint(embedder, recipe, tmp_path_factory.mktemp("model") / "epoch_1")
    return checkpoint.resolve(str(folder), device="cpu")


@pytest.fixture(scope="module")
def evaluated(source, tmp_path_factory):
    """The result of a retrieval task, and mteb's folder."""
    folder = tmp_path_factory.mktemp("mteb")
    (result,) = mteb_tasks.evaluate(mteb_model(source), [places_task()], folder)
    return result, folder


def ranked(source, corpus, queries=QUERIES, **options):
    """Index a corpus and rank it for queries, as mteb does."""
    model, metadata = mteb_model(source), places_task().metadata
    rows = [{"id": query, "text": text} for query, text in queries.items()]
    model.index(Dataset.from_list(corpus), task_metadata=metadata, encode_kwargs={})
    return model.search(
        Dataset.from_list(rows), task_metadata=metadata, encode_kwargs={}, **{"top_k": len(corpus), **options}
    )


def test_ndcg_is_that_of_the_run_file(source, evaluated, tmp_path):
    """mteb's NDCG@10 of graded labels equals that of a stored run of the same passages and queries."""
    run, _ = run_store.open_store(source, tmp_path).run("validation", QUERIES, PASSAGES)
    labels = {query: list(judged) for query, judged in QRELS.items()}
    ours = per_query(run, labels, grades=QRELS)["NDCG@10"]
    assert evaluated[0].get_score() == pytest.approx(np.mean(ours), abs=1e-5)


def test_the_files_name_the_kind_of_model_and_its_similarity(source, evaluated):
    """As mteb names those of its own models."""
    (path,) = evaluated[1].rglob("model_meta.json")
    meta = json.loads(path.read_text(encoding="utf-8"))
    expected = {"tokens": ("MaxSim", ["late-interaction"]), "sparse": ("dot", ["sparse"])}
    assert (meta["similarity_fn_name"], meta["model_type"]) == expected[source.representation]


def test_passages_that_tie_keep_the_order_of_the_corpus(source):
    """mteb breaks ties by id, so their scores fall by the last decimal."""
    corpus = [{"id": name, "title": "", "text": "The museum."} for name in ("c", "a", "b")]
    scores = ranked(source, corpus, {"q": "museum"})["q"]
    assert sorted(scores, key=scores.get, reverse=True) == ["c", "a", "b"] and len(set(scores.values())) == 3


def test_top_k_keeps_the_best(source):
    """Passages beyond are left out."""
    whole, best = (ranked(source, CORPUS, top_k=depth)["q0"] for depth in (len(CORPUS), 3))
    assert best == dict(list(whole.items())[:3])


def test_candidates_are_ranked_alone(source):
    """A reranking task names them for each query; a query without any has an empty ranking."""
    candidates = {"q0": ["p9", "p3"], "q1": []}
    whole, scores = ranked(source, CORPUS), ranked(source, CORPUS, top_ranked=candidates)
    assert scores["q0"] == pytest.approx({name: whole["q0"][name] for name in candidates["q0"]}, abs=1e-4)
    assert scores["q1"] == {} and scores.keys() == QUERIES.keys()


def test_vectors_of_a_corpus_leave_no_file(source, tmp_path, monkeypatch):
    """They are written to a temporary folder, which is deleted once they are searched."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    model, metadata = mteb_model(source), places_task().metadata
    model.index(Dataset.from_list(CORPUS), task_metadata=metadata, encode_kwargs={})
    assert [path.name for path in tmp_path.rglob("*.npy")] == ["vectors.npy"]
    rows = Dataset.from_list([{"id": "q0", "text": "museum"}])
    model.search(rows, task_metadata=metadata, top_k=3, encode_kwargs={})
    assert not list(tmp_path.iterdir())


def test_queries_of_the_training_are_refused(source):
    """As those of a dense model are."""
    leaking = dataclasses.replace(source, lineage={"q0": lineage.digest(QUERIES["q0"])})
    with refused("trained on 1 of the 8 queries of LocalRetrieval"):
        ranked(leaking, CORPUS)


def test_quantized_vectors_are_refused(source):
    """mteb would file the result under a precision that the vectors do not have."""
    corpus, metadata = Dataset.from_list(CORPUS), places_task().metadata
    with refused("precision int8"):
        mteb_model(source).index(corpus, task_metadata=metadata, encode_kwargs={"precision": "int8"})


def test_the_dense_encoder_takes_dense_vectors_only(source):
    """The line says what finds the right class."""
    with refused("vector", "for each text", "mteb_model"):
        MtebEncoder(source)


@pytest.mark.parametrize("source", ["tiny-tokens"], indirect=True)
@pytest.mark.parametrize("is_part", [False, True])
def test_a_late_interaction_model_only_ranks(source, is_part, tmp_path):
    """Other tasks are refused by name before any is run, parts of an aggregate as well."""
    task = importlib.import_module("mteb.mocks").MockSTSTask()
    tasks = [places_task(), aggregate_task([task]) if is_part else task]
    with refused(f"{task.metadata.name}: is a task of STS", "a vector for each token", "retrieval"):
        mteb_tasks.evaluate(mteb_model(source), tasks, tmp_path)
    assert not tasks[0].loads and not list(tmp_path.iterdir())


def assert_scores_are_the_library_s(source, kind, folder):
    """Evaluate a checkpoint and the same weights in the library's class, which mteb takes as well."""
    task = getattr(importlib.import_module("mteb.mocks"), kind)
    (ours,) = mteb_tasks.evaluate(mteb_model(source), [task()], folder)
    library = getattr(sentence_transformers, LIBRARY[source.recipe.name])(str(source.folder), device="cpu")
    (theirs,) = mteb.evaluate(library, task(), cache=None, co2_tracker=False).task_results
    assert ours.get_score() == pytest.approx(theirs.get_score(), abs=1e-5)


@pytest.mark.parametrize("kind", ["MockInstructionReranking", "MockRetrievalDialogTask"])
def test_tasks_with_instructions_and_conversations_score_as_in_the_library(source, kind, tmp_path):
    """Queries are joined with them as mteb does for its own models."""
    assert_scores_are_the_library_s(source, kind, tmp_path)


@pytest.mark.parametrize("source", ["tiny-splade"], indirect=True)
@pytest.mark.parametrize("kind", ["MockClusteringTask", "MockPairClassificationTask"])
def test_other_tasks_of_sparse_models_score_as_in_the_library(source, kind, tmp_path):
    """mteb compares their vectors as dense ones."""
    assert_scores_are_the_library_s(source, kind, tmp_path)
