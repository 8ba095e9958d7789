"""Questions: the parts of a query are the recipe's, and examples are validation queries."""

from dataclasses import replace

import pytest
from helpers.tiny_task import refused

from rounds.data import collection
from rounds.data.few_shot import QueryMetadata
from rounds.demo.questions import example_label, example_values, make_form
from rounds.demo.search import training_rows

PARTS = {"construct": "Add", "subject": "Sums", "question": "1 + 1?", "correct": "2", "wrong": "11"}


@pytest.fixture(scope="module")
def data(tiny_collection):
    return collection.read(tiny_collection)


@pytest.fixture
def plain(data):
    """The collection as if its queries had no parts."""
    metadata = {query: QueryMetadata(text) for query, text in data.validation.items()}
    return replace(data, metadata=metadata)


def test_the_parts_are_those_of_the_recipes_format(tiny, data):
    """Parts that the format leaves out are not asked for, the question and the wrong answer always are."""
    assert make_form(tiny.prompts, data, []).fields == ("construct", "subject", "question", "correct", "wrong")
    short = replace(tiny.prompts, query="{question} {wrong}")
    assert make_form(short, data, []).query(PARTS) == QueryMetadata("1 + 1? 11")
    nearest = replace(short, examples="nearest")
    assert make_form(nearest, data, []).fields == ("construct", "subject", "question", "wrong")


def test_training_rows_alone_say_whether_queries_have_parts(tiny, data):
    """A split without validation and test queries has a form as well."""
    bare = replace(data, validation={}, test={}, metadata={})
    assert len(make_form(tiny.prompts, bare, training_rows(data)).fields) == 5
    assert make_form(tiny.prompts, bare, []).fields == ("question",)


def test_queries_without_parts_are_one_text(tiny, plain):
    """The text is the query, whatever the recipe's format joins."""
    form = make_form(tiny.prompts, plain, [])
    assert form.titles == {"question": "Query"} and form.query({"question": "Who?"}) == QueryMetadata("Who?")
    first = next(iter(plain.validation.values()))
    assert example_values(form, plain, None)[0] == {"question": first}


def test_latex_becomes_words_where_the_recipe_says_so(tiny, data):
    """The query is built by the recipe's own prompt code."""
    form = make_form(replace(tiny.prompts, latex="words"), data, [])
    assert form.query({**PARTS, "wrong": r"\( \frac{1}{2} \)"}).text.splitlines()[-1] == "1/2"


@pytest.mark.parametrize(("empty", "message"), [("question", "Type a question."), ("wrong", "Type a wrong answer.")])
def test_an_empty_part_is_asked_for(empty, message, tiny, data):
    """Blanks are empty, too; construct, subject and correct answer may be left out."""
    form = make_form(tiny.prompts, data, [])
    with refused(message):
        form.query({**PARTS, empty: " \n"})
    assert form.query({"question": "1 + 1?", "wrong": "11"}).text == "\n\n1 + 1?\n\n11"


def test_an_empty_query_is_asked_for(tiny, plain):
    """A query of one text has no wrong answer to ask for."""
    with refused("Type a query."):
        make_form(tiny.prompts, plain, []).query({"question": ""})


def test_examples_are_validation_queries(tiny, raw, data):
    """Typed in, the parts give the text that the collection holds; without the CSVs there are no parts."""
    form = make_form(tiny.prompts, data, [])
    values = example_values(form, data, raw)
    assert len(values) == 6 and len({form.query(each).text for each in values}) == 6
    assert {form.query(each).text for each in values} <= set(data.validation.values())
    assert example_values(form, data, None) == []


def test_examples_of_other_data_are_left_out(tiny, raw, data):
    """CSVs whose questions have changed since the collection was made fill in nothing."""
    changed = replace(data, validation={query: f"{text}!" for query, text in data.validation.items()})
    assert example_values(make_form(tiny.prompts, data, []), changed, raw) == []


def test_a_split_without_validation_shows_test_queries(tiny, raw, data):
    """`SPLIT=submission` has no others that the model was not trained on."""
    form = make_form(tiny.prompts, data, [])
    texts = {form.query(values).text for values in example_values(form, replace(data, validation={}), raw)}
    assert texts and texts <= set(data.test.values())


def test_queries_about_images_are_refused(tiny, data):
    """A picture cannot be typed."""
    texts = {"q": "<image:a.png#0123456789abcdef>\nWhose emblem is this?"}
    with refused(data.folder, "images"):
        make_form(tiny.prompts, replace(data, validation=texts), [])
    with refused(data.folder, "images"):
        make_form(tiny.prompts, data, [{"query": texts["q"]}])


def test_labels_of_examples_fit_their_buttons():
    """The wrong answer is seen behind a long question."""
    label = example_label({"question": "How many " * 20, "wrong": r"\( \frac{1}{2} \)"})
    assert len(label) <= 56 and label.endswith("… → 1/2")
    assert len(example_label({"question": "q " * 90, "wrong": "w " * 90})) <= 56
