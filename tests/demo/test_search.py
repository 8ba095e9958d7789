"""Search: rankings and nearest training queries are those of a slow loop, and vectors come from the run store."""

import dataclasses

import numpy as np
import pytest

from rounds.config import loader
from rounds.data import collection, few_shot
from rounds.demo import questions
from rounds.demo.search import DEPTH, DemoSearch, ModelSearch, training_rows
from rounds.encoding import run_store
from rounds.encoding.encoder import encode
from rounds.models import checkpoint
from rounds.retrieval.run import read_trec

TYPED = {
    "construct": "Add fractions",
    "subject": "Fractions",
    "question": r"What is \( \frac{1}{2} + \frac{1}{3} \)?",
    "correct": r"\( \frac{5}{6} \)",
    "wrong": r"\( \frac{2}{5} \)",
}


def make_model(recipe, data, folder, title="zero-shot"):
    source = checkpoint.resolve(None, recipe, "cpu", "fp32")
    return ModelSearch(title, run_store.open_store(source, folder), data, training_rows(data))


def make_search(recipe, data, *models):
    return DemoSearch(questions.make_form(recipe.prompts, data, training_rows(data)), data, models)


@pytest.fixture(scope="module")
def data(tiny_collection):
    return collection.read(tiny_collection)


@pytest.fixture(scope="module")
def runs_folder(tmp_path_factory):
    """Folder of the base model's vectors, which the tests of this file share."""
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def demo(tiny, data, runs_folder):
    return make_search(tiny, data, make_model(tiny, data, runs_folder))


def slow_ranking(recipe, data, text, examples=None):
    """Embed all texts anew, compare them one by one, and return scores by passage and cosines by training row."""
    embedder = checkpoint.resolve(None, recipe, "cpu", "fp32").load()

    def embed(texts, kind, examples=None):
        return encode(embedder, texts, recipe.prompts, kind, "fp32", examples)

    query = embed([text], "query", examples)[0]
    passages = embed(list(data.passages.values()), "passage")
    scores = {passage: float(query @ vector) for passage, vector in zip(data.passages, passages, strict=True)}
    rows = training_rows(data)
    bank = collection.example_bank(rows, recipe.prompts)
    chosen = bank and few_shot.select_examples(bank, [collection.query_metadata(row) for row in rows])
    training = embed([row["query"] for row in rows], "query", chosen)
    norm = np.linalg.norm(query)
    return scores, [float(query @ vector / norm / np.linalg.norm(vector)) for vector in training]


def test_a_typed_query_is_ranked_as_by_a_slow_loop(tiny, data, demo):
    """Passages, scores and the nearest training query are those of comparing each vector alone."""
    answer = demo.search(TYPED)
    scores, cosines = slow_ranking(tiny, data, answer.text)
    (ranking,) = answer.rankings
    assert answer.text == "\n".join(TYPED.values()) and len(ranking.passages) == DEPTH
    expected = sorted(scores.values(), reverse=True)[:DEPTH]
    assert [passage.score for passage in ranking.passages] == pytest.approx(expected, abs=1e-5)
    assert [scores[passage.id] for passage in ranking.passages] == pytest.approx(expected, abs=1e-5)
    assert all(passage.text == data.passages[passage.id] for passage in ranking.passages)
    row = training_rows(data)[int(np.argmax(cosines))]
    assert ranking.nearest.similarity == pytest.approx(max(cosines), abs=1e-5)
    assert (ranking.nearest.text, ranking.nearest.labels) == (row["query"], row["pos"])
    assert ranking.notes == [] and answer.labels == []


def test_vectors_that_are_not_of_unit_length_are_compared_by_cosine(tiny, data, tmp_path):
    """The score stays the inner product by which runs rank."""
    recipe = tiny.replace("model", normalize=False)
    (ranking,) = make_search(recipe, data, make_model(recipe, data, tmp_path)).search(TYPED).rankings
    scores, cosines = slow_ranking(recipe, data, "\n".join(TYPED.values()))
    assert ranking.passages[0].score == pytest.approx(max(scores.values()), rel=1e-4)
    assert ranking.nearest.similarity == pytest.approx(max(cosines), abs=1e-5)
    assert ranking.nearest.similarity <= 1 + 1e-6


def test_a_training_query_is_nearest_to_itself(raw, data, demo):
    """Typed again, it has cosine 1 with itself."""
    rows = training_rows(data)
    queries = {query.id: query.fields for query in questions.eedi.load(raw).queries}
    (ranking,) = demo.search(queries[rows[0]["query_id"]]).rankings
    assert ranking.nearest.similarity == pytest.approx(1, abs=1e-5) and ranking.nearest.text == rows[0]["query"]


def test_a_validation_query_is_ranked_as_in_its_run(tiny, raw, data, demo, runs_folder):
    """Its first passages are those of the run file, and its label is marked."""
    values = questions.example_values(demo.form, data, raw)[1]
    answer = demo.search(values)
    query = next(key for key, text in data.validation.items() if text == answer.text)
    run, _ = demo.models[0].runs.run("validation", data.validation, data.passages, DEPTH)
    row = run.queries.index(query)
    (ranking,) = answer.rankings
    assert [passage.score for passage in ranking.passages] == pytest.approx(run.scores[row].tolist(), abs=1e-5)
    assert ranking.passages[0].id == run.passages[row, 0]
    assert answer.labels == [data.passages[passage] for passage in data.qrels[query]]
    marked = {passage.id for passage in ranking.passages if passage.is_labelled}
    assert marked == set(data.qrels[query]) & set(run.passages[row])


def test_a_second_start_encodes_nothing(tiny, data, tmp_path):
    """The first start says what it encoded; the second reads it, and loads no weights."""
    assert make_model(tiny, data, tmp_path).encoded == [
        f"{len(data.passages):,} passages",
        f"{len(training_rows(data)):,} training queries",
    ]
    again = make_model(tiny, data, tmp_path)
    assert again.encoded == [] and again.runs.encoder.embedder is None


def test_passages_that_an_evaluation_ranked_are_not_encoded(tiny, data, tmp_path):
    """The run store of evaluation and mining is the same one."""
    source = checkpoint.resolve(None, tiny, "cpu", "fp32")
    run_store.open_store(source, tmp_path).run("validation", dict([*data.validation.items()][:1]), data.passages)
    assert make_model(tiny, data, tmp_path).encoded == [f"{len(training_rows(data)):,} training queries"]


@pytest.mark.parametrize("examples", ["fixed", "nearest"])
def test_few_shot_examples_stand_before_the_query(examples, tiny, data, tmp_path):
    """They are chosen by the typed construct and subject, as those of a query of the collection are."""
    recipe = tiny.replace("prompts", examples=examples, examples_number=1)
    row = training_rows(data)[0]
    values = {**TYPED, "construct": row["construct"], "subject": row["subject"]}
    demo = make_search(recipe, data, make_model(recipe, data, tmp_path))
    query = demo.form.query(values)
    chosen = few_shot.select_examples(collection.example_bank(training_rows(data), recipe.prompts), [query])
    assert len(chosen[0]) == 1
    scores, cosines = slow_ranking(recipe, data, query.text, chosen)
    (ranking,) = demo.search(values).rankings
    assert ranking.passages[0].score == pytest.approx(max(scores.values()), abs=1e-4)
    assert ranking.nearest.similarity == pytest.approx(max(cosines), abs=1e-4)


def test_a_query_that_is_cut_says_so(demo):
    """The note names the limit and how many characters are read."""
    values = {**TYPED, "question": "one half and " * 400}
    (note,) = demo.search(values).rankings[0].notes
    total = len(demo.form.query(values).text)
    assert "160 tokens" in note and f"of {total:,} characters" in note


def test_each_model_answers_in_turn(tiny, data, demo):
    """The rankings stand in the order of the models, each under its title."""
    first, second = demo.models[0], demo.models[0]
    both = make_search(tiny, data, first, second).search(TYPED)
    assert [ranking.title for ranking in both.rankings] == ["zero-shot", "zero-shot"]
    assert both.rankings[0] == both.rankings[1] == demo.search(TYPED).rankings[0]


def test_passages_that_are_the_query_itself_are_left_out(tiny, data, demo):
    """As they are in the evaluation of the validation query that has the typed text."""
    answer = demo.search(TYPED)
    first = answer.rankings[0].passages[0].id
    changed = collection.Collection(
        **{**vars(data), "validation": {"v": answer.text}, "qrels": {}, "identical": {"v": [first]}}
    )
    (ranking,) = DemoSearch(demo.form, changed, demo.models).search(TYPED).rankings
    assert [passage.id for passage in ranking.passages[:-1]] == [p.id for p in answer.rankings[0].passages[1:]]


def test_passages_and_labels_are_shown_without_explanations(tiny, data, runs_folder):
    """In the ranking, and beside the nearest training query; the models read the explanations too."""
    named = dataclasses.replace(data, names={passage: f"name {passage}" for passage in data.passages})
    (ranking,) = make_search(tiny, named, make_model(tiny, named, runs_folder)).search(TYPED).rankings
    assert [passage.text for passage in ranking.passages] == [f"name {passage.id}" for passage in ranking.passages]
    assert ranking.nearest.labels[0].startswith("name ")


def test_a_collection_without_training_queries_has_no_nearest(tiny, data, tmp_path):
    """Official splits may have none; passages are ranked all the same."""
    source = checkpoint.resolve(None, tiny, "cpu", "fp32")
    model = ModelSearch("zero-shot", run_store.open_store(source, tmp_path), data, [])
    (ranking,) = make_search(tiny, data, model).search(TYPED).rankings
    assert ranking.nearest is None and len(ranking.passages) == DEPTH


@pytest.fixture(scope="module", params=["tiny-tokens", "tiny-splade"])
def other_kind(request, data, tmp_path_factory):
    """A recipe whose embeddings are not one dense vector, and a search with its base model."""
    recipe = loader.load(request.param)
    return recipe, make_search(recipe, data, make_model(recipe, data, tmp_path_factory.mktemp("other_kind")))


def test_other_kinds_of_embeddings_are_ranked_as_in_their_run(data, raw, other_kind):
    """Passages and scores of a typed validation query are those of the run file."""
    _, demo = other_kind
    answer = demo.search(questions.example_values(demo.form, data, raw)[1])
    query = next(key for key, text in data.validation.items() if text == answer.text)
    _, path = demo.models[0].runs.run("validation", data.validation, data.passages)
    run = read_trec(path).top(DEPTH)
    row = run.queries.index(query)
    (ranking,) = answer.rankings
    assert [passage.id for passage in ranking.passages] == run.passages[row].tolist()
    assert [passage.score for passage in ranking.passages] == pytest.approx(run.scores[row].tolist(), rel=1e-5)


def test_other_kinds_of_embeddings_have_a_nearest_training_query(data, other_kind):
    """By MaxSim over the number of the query's tokens, or by inner product: the largest of a slow loop's."""
    recipe, demo = other_kind
    answer, rows = demo.search(TYPED), training_rows(data)
    embedder = checkpoint.resolve(None, recipe, "cpu", "fp32").load()

    def embed(text):
        vectors = encode(embedder, [text], recipe.prompts, "query", "fp32")
        return vectors.values if recipe.model.representation == "tokens" else vectors.toarray()

    query = embed(answer.text)
    similarities = [(query @ embed(row["query"]).T).max(axis=1).mean() for row in rows]
    nearest = answer.rankings[0].nearest
    assert nearest.similarity == pytest.approx(max(similarities), rel=1e-4)
    assert nearest.text == rows[int(np.argmax(similarities))]["query"]
    measures = {"tokens": "MaxSim per query token", "sparse": "inner product"}
    assert nearest.measure == measures[recipe.model.representation]
