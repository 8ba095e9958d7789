"""Outside questions in a round: mined like the others, trained as the recipe says, in the checkpoint's lineage."""

from pathlib import Path

import pytest
from helpers.training import finetune, mine

from rounds.artifacts import store
from rounds.config.recipe import Outside
from rounds.data import collection, lineage, outside, splits
from rounds.data.dataset import RetrievalDataset
from rounds.data.loaders import eedi
from rounds.data.loaders.outside import OutsideRow

QUESTIONS = ["How do honey bees dance?", "Where do garden ants live?", "Which moth eats wool?", "Why do crickets sing?"]


def outside_rows(labels: list[str]) -> list[OutsideRow]:
    """A question of its own for each label, the first half from source `a`, the others from `b`."""
    fields = {"construct": "Insects", "subject": "Animals", "correct": "so", "wrong": "not so"}
    return [
        OutsideRow("more.csv", n, "ab"[n // 2], {**fields, "question": question}, label)
        for n, (question, label) in enumerate(zip(QUESTIONS, labels, strict=True))
    ]


@pytest.fixture(scope="module")
def unseen(raw) -> list[str]:
    """Four misconceptions that no question of the data has."""
    dataset = eedi.load(raw)
    labelled = {passage for passages in dataset.qrels.values() for passage in passages}
    return [passage for passage in dataset.passages if passage not in labelled][:4]


@pytest.fixture(scope="module")
def folder(raw, tiny, unseen, tmp_path_factory) -> Path:
    """A collection of a few training questions and four outside ones."""
    dataset = eedi.load(raw)
    split = splits.make_split(dataset, "v1")
    few = sorted({query.group for query in dataset.labelled(split.train)})[:4]
    dataset = RetrievalDataset(
        dataset.name,
        [query for query in dataset.queries if query.group in {*few, *split.validation}],
        dataset.passages,
        dataset.qrels,
    )
    split = splits.Split("v1", set(few), split.validation)
    questions = outside.join(dataset, split, outside_rows(unseen), Outside())
    folder = tmp_path_factory.mktemp("data") / "validation_v1"
    collection.write(dataset, split, tiny.prompts, folder, {}, outside=questions)
    return folder


@pytest.fixture(scope="module")
def mined(tiny, folder, tmp_path_factory) -> Path:
    """Its mined rows, by negatives among labelled passages alone."""
    output = tmp_path_factory.mktemp("mined") / "finetune_data_minedHN.jsonl"
    mine(tiny.replace("mining", candidates="labelled"), folder, output)
    return output


@pytest.mark.slow
def test_outside_rows_get_negatives_and_are_some(mined, unseen):
    """Each has negatives other than its positive, and passages that outside questions alone label are negatives too."""
    rows = store.read_jsonl(mined)
    labelled = {row["pos_id"][0] for row in rows}
    assert [row["outside"] for row in rows if "outside" in row] == ["a", "a", "b", "b"]
    assert all(row["neg_id"] and not {*row["neg_id"]} & {*row["pos_id"]} for row in rows)
    assert all({*row["neg_id"]} <= labelled for row in rows)
    assert {*unseen} & {passage for row in rows if "outside" not in row for passage in row["neg_id"]}


@pytest.mark.slow
@pytest.mark.parametrize("keys", [{}, {"ratio": 0.2, "weight": 0.5}, {"first": 1}], ids=str)
def test_a_round_trains_and_its_lineage_names_each_source(tiny, mined, folder, tmp_path, keys):
    """The manifests of round and checkpoint hold the outside questions by source, and what was trained is as said."""
    recipe = tiny.replace("outside", **keys) if keys else tiny
    finetune(recipe, mined, tmp_path / "train", folder)
    manifest = store.read_manifest(tmp_path / "train")
    assert lineage.outside_sources(manifest.lineage) == {"a": 2, "b": 2}
    checkpoint = store.read_manifest(tmp_path / "train" / manifest.last)
    assert checkpoint.lineage == manifest.lineage and checkpoint.recipe.get("outside", {}) == keys
    own = len(collection.own_rows(store.read_jsonl(mined)))
    first_rows = store.read_manifest(tmp_path / "train" / "lora_epoch_1").first_rows
    if "first" in keys:
        assert all(row >= own for row in first_rows)
    assert manifest.lineage_status == "clean" and len(manifest.epochs) == 2
