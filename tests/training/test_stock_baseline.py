"""The stock baseline's negatives are those of the library, without what is never a negative."""

import pytest

from rounds.artifacts import store
from rounds.data import collection
from rounds.training import stock_baseline

POOL = [f"passage {n} about adding {n} and {n + 1}" for n in range(12)]


@pytest.fixture
def folder(tmp_path):
    """A collection's pool."""
    store.write_jsonl(tmp_path / collection.POOL, ({"_id": f"p{n}", "text": text} for n, text in enumerate(POOL)))
    return tmp_path


def mine(tiny, folder, rows):
    recipe = tiny.replace("mining", range_for_sampling="0-12")
    embedder = stock_baseline.load_stock_model(recipe, "fp32", "cpu")
    return stock_baseline.mine(embedder, recipe, folder, rows)


def test_own_text_and_further_positives_are_no_negatives(tiny, folder):
    """Of 12 passages, a query has two positives, is one itself and excludes two: its negatives are the other 7."""
    row = {"query": POOL[0], "pos": [POOL[1], POOL[2]], "excluded": [POOL[0], POOL[3], POOL[4]]}
    (mined,) = mine(tiny, folder, [row])
    assert POOL[0] in mined["anchor"] and mined["positive"] == POOL[1]
    negatives = [mined[f"negative_{number}"] for number in range(1, stock_baseline.NEGATIVES + 1)]
    assert sorted(negatives) == sorted(POOL[5:])


def test_queries_with_one_text_keep_their_rows(tiny, folder):
    """Rows with one query text have a positive each; neither is the other's negative."""
    rows = [{"query": "which?", "pos": [POOL[number]], "excluded": [POOL[11]]} for number in (0, 1)]
    mined = mine(tiny, folder, rows)
    assert sorted(mined["positive"]) == sorted(POOL[:2])
    texts = {row[column] for row in mined for column in row if column.startswith("negative")}
    assert texts <= set(POOL[2:11])


def test_a_hub_model_is_loaded_in_the_recipe_s_revision(tiny, monkeypatch):
    """The library is asked for configuration, tokenizer and weights in one revision."""
    asked = []

    def load_transformer(name, **arguments):
        asked.extend(arguments[f"{part}_kwargs"].get("revision") for part in ("model", "processor", "config"))
        raise InterruptedError

    monkeypatch.setattr(stock_baseline, "Transformer", load_transformer)
    recipe = tiny.replace("model", name_or_path="someone/model", revision="a-commit")
    with pytest.raises(InterruptedError):
        stock_baseline.load_stock_model(recipe, "fp32", "cpu")
    assert asked == ["a-commit"] * 3
