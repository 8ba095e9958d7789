"""Evaluation on mteb's tasks: its figures are ours, the recipe's prompts are read, and finished tasks stay."""

import dataclasses
import importlib
import json
import runpy
import sys

import numpy as np
import pytest
from helpers.mteb_task import PASSAGES, QRELS, QUERIES, aggregate_task, places_task
from helpers.scripts import SCRIPTS, assert_one_line, call
from helpers.tiny_task import refused
from helpers.tuned_models import build_tuned_model, save_checkpoint, tuned_recipe

from rounds.config import loader
from rounds.data import lineage
from rounds.data.few_shot import ExampleBank, QueryMetadata
from rounds.encoding.encoder import encode
from rounds.evaluation import mteb_tasks
from rounds.evaluation.metrics import per_query
from rounds.evaluation.mteb_encoder import MtebEncoder
from rounds.models import checkpoint
from rounds.retrieval.run import Run
from rounds.retrieval.search import rank

mteb = pytest.importorskip("mteb")

KINDS = (
    "MockBitextMiningTask",
    "MockClassificationTask",
    "MockClusteringTask",
    "MockInstructionReranking",
    "MockMultilingualRetrievalTask",
    "MockPairClassificationTask",
    "MockRetrievalDialogTask",
    "MockSTSTask",
    "MockSummarizationTask",
)


def recipe(**prompts):
    tiny = loader.load("tiny-mistral")
    return dataclasses.replace(tiny, prompts=dataclasses.replace(tiny.prompts, **prompts))


@pytest.fixture(scope="module")
def source():
    return checkpoint.resolve(None, recipe(), "cpu")


@pytest.fixture(scope="module")
def plain():
    """A model without prompts."""
    return checkpoint.resolve(None, loader.load("minilm-beir"), "cpu", "fp32")


def our_run(source, depth: int = 20) -> Run:
    """Rank the passages as every stage of rounds does."""
    model, prompts = source.load(), source.recipe.prompts
    queries = encode(model, list(QUERIES.values()), prompts, "query", source.precision)
    passages = encode(model, list(PASSAGES.values()), prompts, "passage", source.precision)
    return rank(list(QUERIES), queries, list(PASSAGES), passages, depth=depth)


def batches(rows: list[dict], size: int = 3) -> list[dict[str, list]]:
    """Rows as mteb's data loader has them: batches of columns."""
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    return [{name: [row[name] for row in part] for name in part[0]} for part in parts]


def embed(encoder: MtebEncoder, rows: list[dict], prompt_type: str | None) -> np.ndarray:
    return encoder.encode(batches(rows), task_metadata=places_task().metadata, prompt_type=prompt_type)


@pytest.mark.parametrize("name", ["tiny-mistral", "minilm-beir"])
def test_ndcg_is_rounds_own(name, tmp_path):
    """mteb's NDCG@10 of graded labels equals ours on the same passages and queries."""
    source = checkpoint.resolve(None, loader.load(name), "cpu", "fp32")
    (result,) = mteb_tasks.evaluate(MtebEncoder(source), [places_task()], tmp_path)
    labels = {query: list(judged) for query, judged in QRELS.items()}
    ours = per_query(our_run(source), labels, grades=QRELS)["NDCG@10"]
    assert result.get_score() == pytest.approx(np.mean(ours), abs=1e-5)


@pytest.mark.parametrize(("prompt_type", "kind"), [("query", "query"), ("document", "passage"), (None, "query")])
def test_texts_get_the_recipe_s_prompts(source, prompt_type, kind):
    """Queries and passages are embedded as everywhere; texts that are neither count as queries."""
    texts = list(QUERIES.values())
    vectors = embed(MtebEncoder(source), [{"text": text} for text in texts], prompt_type)
    expected = encode(source.load(), texts, source.recipe.prompts, kind, source.precision)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


def test_passages_are_joined_as_the_recipe_says(source):
    """`prompts.passage` joins title and body; the text that mteb joined is not read."""
    joined = checkpoint.resolve(None, recipe(passage="{text} ({title})"), "cpu")
    rows = [{"text": "Bakery It opened.", "title": "Bakery", "body": "It opened."}]
    vectors = embed(MtebEncoder(joined), rows, "document")
    expected = embed(MtebEncoder(source), [{"text": "It opened. (Bakery)"}], "document")
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


def test_passages_of_public_tasks_are_names_without_explanations(source):
    """A recipe that joins misconceptions with their explanations reads title and text as it did before."""
    joined = checkpoint.resolve(None, recipe(passage="{name}\n{explanation}"), "cpu")
    assert MtebEncoder(joined).passage("Bakery", "It opened.") == MtebEncoder(source).passage("Bakery", "It opened.")


def test_columns_that_are_not_read_may_have_any_length(source):
    """mteb's collation turns a column of lists into one of another length."""
    batch = {"text": ["a", "b"], "labels": [[1, 2]]}
    encoder = MtebEncoder(source)
    assert encoder.encode([batch], task_metadata=places_task().metadata).shape[0] == 2


def test_similarity_is_the_dot_product(source):
    """Rounds ranks by dot products, which are cosines where the recipe normalizes."""
    encoder, left, right = MtebEncoder(source), np.array([[3.0, 4.0], [1.0, 0.0]]), np.array([[1.0, 2.0], [0.0, 5.0]])
    assert encoder.similarity(left, right).tolist() == [[11, 20], [1, 0]]
    assert encoder.similarity_pairwise(left, right).tolist() == [11, 0]
    assert encoder.mteb_model_meta.similarity_fn_name == "cosine"


def test_truncated_vectors_have_unit_length(source):
    """`truncate_dim` cuts and normalizes again, as in our own runs."""
    vectors = embed(MtebEncoder(source.with_options(truncate_dim=4)), [{"text": "a"}, {"text": "b"}], "query")
    assert vectors.shape == (2, 4)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_fixed_examples_come_from_the_bank():
    """With `examples: fixed` each query stands behind the same examples; without a bank it is refused."""
    fixed = checkpoint.resolve(None, recipe(examples="fixed", examples_number=1), "cpu")
    with refused("fixed examples", "--data_dir"):
        MtebEncoder(fixed)
    bank = ExampleBank([(QueryMetadata("2 + 2?"), "Adds twice")], fixed.recipe.prompts)
    vectors = embed(MtebEncoder(fixed, bank), [{"text": "1 + 1?"}], "query")
    expected = encode(fixed.load(), ["1 + 1?"], fixed.recipe.prompts, "query", "fp32", [bank.examples])
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


def test_nearest_examples_are_refused():
    """Queries of public tasks have no construct to choose by."""
    with refused("no construct", "nearest"):
        MtebEncoder(checkpoint.resolve(None, recipe(examples="nearest", examples_number=1), "cpu"))


def test_quantized_vectors_are_refused(source):
    """mteb would file the result under a precision that the vectors do not have."""
    with refused("precision int8"):
        MtebEncoder(source).encode([{"text": ["a"]}], task_metadata=places_task().metadata, precision="int8")


def test_queries_of_the_training_are_refused(source):
    """A query counts by id and text: another query of the same id is no leak."""
    trained = {"q0": lineage.digest(QUERIES["q0"]), "q1": lineage.digest("Another question?")}
    rows = [{"id": query, "text": text} for query, text in QUERIES.items()]
    with refused("trained on 1 of the 8 queries of LocalRetrieval"):
        embed(MtebEncoder(dataclasses.replace(source, lineage=trained)), rows, "query")


def test_a_finished_task_is_not_run_again(source, tmp_path):
    """Its result is read; the data are not even loaded, so no network is needed."""
    encoder, first, again = MtebEncoder(source), places_task(), places_task()
    (result,) = mteb_tasks.evaluate(encoder, [first], tmp_path)
    (kept,) = mteb_tasks.evaluate(encoder, [again], tmp_path)
    assert (first.loads, again.loads) == (1, 0) and kept.get_score() == result.get_score()


@pytest.mark.parametrize("changed", [{"passage_prefix": "passage: "}, {"passage": "{text}"}, {"query_max_length": 16}])
def test_other_prompts_have_a_folder_of_their_own(source, changed):
    """Results of another recipe under the same name are never read."""
    other = checkpoint.resolve(None, recipe(**changed), "cpu")
    metas = [MtebEncoder(model).mteb_model_meta for model in (source, other)]
    assert metas[0].name == metas[1].name == "rounds/tiny-mistral"
    assert metas[0].revision != metas[1].revision


def test_the_revision_starts_with_the_digest_of_the_weights(source):
    """Other weights have another folder."""
    other = dataclasses.replace(source, weights_digest="f" * 64)
    assert MtebEncoder(source).mteb_model_meta.revision.startswith(source.weights_digest[:12])
    assert MtebEncoder(other).mteb_model_meta.revision.startswith("f" * 12)


def result_file(folder):
    (path,) = folder.rglob("LocalRetrieval.json")
    return path


@pytest.mark.parametrize("content", [None, "{"])
def test_a_result_of_other_data_or_half_of_one_is_made_anew(source, tmp_path, content):
    """The revision of the data counts, and so does a file that a killed process left."""
    encoder, changed = MtebEncoder(source), places_task(revision="2")
    mteb_tasks.evaluate(encoder, [places_task()], tmp_path)
    if content:
        result_file(tmp_path).write_text(content, encoding="utf-8")
    mteb_tasks.evaluate(encoder, [changed], tmp_path)
    assert changed.loads == 1
    assert json.loads(result_file(tmp_path).read_text(encoding="utf-8"))["dataset_revision"] == "2"


def test_data_that_cannot_be_fetched_are_one_line(source, tmp_path, monkeypatch):
    """The line names the task and where its data lie."""
    unreachable = places_task()

    def load_data(**options):
        raise ConnectionError("Couldn't reach\nthe hub")

    monkeypatch.setattr(unreachable, "load_data", load_data)
    with refused("LocalRetrieval", "nobody/local", "could not be fetched", "ConnectionError: Couldn't reach the hub"):
        mteb_tasks.evaluate(MtebEncoder(source), [unreachable], tmp_path)


def test_the_table_lists_main_scores(source, tmp_path):
    """One row per task, with the metric that mteb's leaderboard shows."""
    encoder, tasks = MtebEncoder(source), [places_task()]
    results = mteb_tasks.evaluate(encoder, tasks, tmp_path)
    table = mteb_tasks.score_table(results, tasks, encoder.mteb_model_meta)
    assert table.rows == [["LocalRetrieval", "Retrieval", "ndcg_at_10", f"{results[0].get_score():.5f}"]]


@pytest.mark.parametrize(
    ("name", "part"), [("scifact", "did you mean SciFact?"), ("SciFcat", "did you mean SciFact?"), ("%", "lists them")]
)
def test_unknown_tasks_are_refused_with_the_nearest(name, part):
    """Upper and lower case are told apart, and the right name is said."""
    with refused(f"{name}: mteb has no task of that name", part):
        mteb_tasks.find_tasks(["NFCorpus", name])


def test_tasks_on_pictures_are_refused():
    """mteb would only warn where a part of the data is text."""
    with refused("AROCocoOrder", "image"):
        mteb_tasks.find_tasks(["AROCocoOrder"])


def test_without_the_extra_one_line_says_how_to_install_it(monkeypatch):
    """The extra is named."""
    monkeypatch.setitem(sys.modules, "mteb", None)
    with refused("-m pip install -e '.[mteb]'"):
        mteb_tasks.find_tasks(["SciFact"])


def test_a_trained_checkpoint_is_named_by_its_round(tmp_path):
    """The name says recipe, round and epoch, and the vectors are those of the checkpoint."""
    trained = tuned_recipe("lora")
    model = build_tuned_model(trained)
    encoder = MtebEncoder(checkpoint.resolve(str(save_checkpoint(model, trained, tmp_path / "epoch_1")), device="cpu"))
    assert encoder.mteb_model_meta.name == "rounds/tiny-mistral-round1-epoch1"
    vectors = embed(encoder, [{"text": "1 + 1?"}], "query")
    np.testing.assert_allclose(vectors, encode(model, ["1 + 1?"], trained.prompts, "query", "fp32"), atol=1e-6)


def test_the_script_refuses_before_it_loads_anything(tmp_path):
    """A misspelt task is one line, and no folder appears."""
    flags = ("--recipe", "tiny-mistral", "--tasks", "SciFcat", "--output_dir", tmp_path / "mteb")
    assert_one_line(call("run_mteb.py", *flags, cwd=tmp_path), "SciFcat", "SciFact")
    assert not list(tmp_path.iterdir())


def test_the_script_prints_scores_and_leaves_mteb_s_files(tmp_path, monkeypatch, capsys):
    """Recipes with the nearest examples are evaluated without, and a line says so."""
    monkeypatch.setattr(mteb_tasks, "find_tasks", lambda names: [places_task()])
    (tmp_path / "r.yaml").write_text(
        "extends: tiny-mistral\nprompts: {examples: nearest, examples_number: 1}\n", encoding="utf-8"
    )
    flags = ["--recipe", tmp_path / "r.yaml", "--tasks", "LocalRetrieval", "--output_dir", tmp_path, "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["run_mteb.py", *map(str, flags)])
    runpy.run_path(str(SCRIPTS / "run_mteb.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert "evaluating without examples" in printed and "ndcg_at_10" in printed
    assert str(result_file(tmp_path).parent) in printed


@pytest.mark.parametrize("kind", KINDS)
def test_other_kinds_of_tasks_score_as_with_sentence_transformers(plain, kind, tmp_path):
    """A model without prompts gets the scores that mteb gives the same weights as a SentenceTransformer."""
    mocks = importlib.import_module("mteb.mocks")
    ours = mteb_tasks.evaluate(MtebEncoder(plain), [getattr(mocks, kind)()], tmp_path)
    theirs = mteb.evaluate(plain.load(), getattr(mocks, kind)(), cache=None, co2_tracker=False).task_results
    assert ours[0].get_score() == pytest.approx(theirs[0].get_score(), abs=1e-5)


def test_an_aggregate_is_the_mean_of_its_tasks(source, tmp_path):
    """Its tasks are evaluated first, each with a file of its own."""
    parts = [places_task(name="First"), places_task(name="Second")]
    whole = aggregate_task(parts)
    (result,) = mteb_tasks.evaluate(MtebEncoder(source), [whole], tmp_path)
    (first,) = mteb_tasks.evaluate(MtebEncoder(source), [places_task(name="First")], tmp_path)
    assert result.get_score() == pytest.approx(first.get_score())
    assert {path.stem for path in tmp_path.rglob("*.json")} == {"First", "Second", "Whole", "model_meta"}
    assert [part.loads for part in parts] == [1, 1]
