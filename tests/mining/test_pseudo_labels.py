"""Pseudo-labels: unlabelled answers of training questions alone, for this split alone, by clean checkpoints."""

import dataclasses
from pathlib import Path

import pytest
from helpers.tiny_task import refused

from rounds.artifacts import store
from rounds.config.recipe import Outside
from rounds.data import collection, outside
from rounds.data.collection import Collection
from rounds.data.dataset import RetrievalDataset
from rounds.data.loaders import eedi
from rounds.data.loaders import outside as outside_loader
from rounds.data.splits import Split
from rounds.mining import pseudo_labels
from rounds.mining.pseudo_labels import PseudoLabelJob
from rounds.models import checkpoint

NO_FILTER = Outside(max_cosine=1.0, duplicate_cosine=1.0)


@pytest.fixture(scope="module")
def dataset(raw) -> RetrievalDataset:
    """The generated questions, each second label removed."""
    task = eedi.load(raw)
    return dataclasses.replace(task, qrels=dict(list(task.qrels.items())[::2]))


@pytest.fixture(scope="module")
def folds(dataset, tiny, tmp_path_factory) -> list[tuple[Split, Collection]]:
    """Two folds with disjoint validation questions, a third of all each."""
    groups = list(dict.fromkeys(query.group for query in dataset.queries))
    made = []
    for fold in range(2):
        validation = set(groups[fold::3])
        split = Split("v5", set(groups) - validation, validation)
        folder = tmp_path_factory.mktemp("fold") / "validation_v5"
        collection.write(dataset, split, tiny.prompts, folder, {"seed": 42, "fold": fold})
        made.append((split, collection.read(folder)))
    return made


@pytest.fixture(scope="module")
def job(dataset, folds, tiny, tmp_path_factory) -> PseudoLabelJob:
    """Fold 0, labelled by the base model, whose precision is measured on fold 1; any precision will do."""
    folder, source = tmp_path_factory.mktemp("output"), checkpoint.resolve(None, tiny, "cpu")
    (_, own), (_, other) = folds
    output = folder / "pseudo_labels.jsonl"
    return PseudoLabelJob(source, own, dataset, [(source, other)], 0.0, output, folder, overwrite=True)


@pytest.fixture(scope="module")
def labelled(job) -> Path:
    """The file of labels."""
    pseudo_labels.label(job)
    return job.output


def test_only_unlabelled_answers_of_training_questions_are_labelled(labelled, job, dataset, folds):
    """Each row is a wrong answer without a label, of a question on the training side, with its own texts."""
    rows, queries = store.read_jsonl(labelled), {query.id: query for query in dataset.queries}
    validation = folds[0][0].validation
    assert rows and not {row["QuestionId_Answer"] for row in rows} & dataset.qrels.keys()
    for row in rows:
        query = queries[row["QuestionId_Answer"]]
        assert query.group not in validation and row["QuestionText"] == query.fields["question"]
        assert (row["AnswerText"], row["CorrectAnswerText"]) == (query.fields["wrong"], query.fields["correct"])
    manifest = store.read_json(store.file_manifest(labelled))
    assert (manifest["rows"], manifest["config"]["split"]) == (len(rows), {"split": "v5", "seed": 42, "fold": 0})
    assert rows[0]["Checkpoint"] == job.checkpoint.weights_digest


def test_labels_train_on_their_own_split_as_a_source_of_their_own(labelled, dataset, folds):
    """EXTRA takes the file: each row has a label, a source that names the split, and joins the training side."""
    rows = outside_loader.load([labelled], dataset.passages)
    questions = outside.join(dataset, folds[0][0], rows, NO_FILTER)
    (source,) = set(questions.sources.values())
    assert source.startswith("pseudo_label-v5-42-0-") and len(questions.sources) + len(questions.dropped) == len(rows)


def test_labels_of_another_split_are_refused(labelled, dataset, folds):
    """A split whose validation questions the model may have learned from, or other data, take no row."""
    rows = outside_loader.load([labelled], dataset.passages)
    with refused(f"{labelled} row 1", "SPLIT=v5 SEED=42 FOLD=0", "make pseudo_label"):
        outside.join(dataset, folds[1][0], rows, NO_FILTER)
    with refused(f"{labelled} row 1", "private-tiny"):
        outside.join(dataclasses.replace(dataset, name="private-tiny"), folds[0][0], rows, NO_FILTER)


def test_a_split_without_validation_takes_labels_of_any(labelled, dataset):
    """All of train may learn from labels of a fold's model: nothing is held out."""
    rows = outside_loader.load([labelled], dataset.passages)
    groups = {query.group for query in dataset.queries}
    assert outside.join(dataset, Split("submission", groups, set()), rows, NO_FILTER).sources


def test_a_model_that_learned_from_validation_questions_labels_nothing(job, folds):
    """Neither the labelling model nor one that measures the precision may know its validation questions."""
    leaked = dataclasses.replace(job.checkpoint, lineage=folds[0][1].questions["validation"])
    with refused("was trained on", "validation questions"):
        pseudo_labels.label(dataclasses.replace(job, checkpoint=leaked))


def test_precision_is_not_measured_on_the_validation_questions(job):
    """They choose no threshold."""
    with refused("must choose no threshold"):
        pseudo_labels.label(dataclasses.replace(job, held_out=[(job.checkpoint, job.data)]))


def test_other_data_than_the_split_s_are_refused(job, dataset):
    """The questions must be those that the split was drawn from."""
    train = job.data.questions["train"]
    kept = [query for query in dataset.queries if query.group != next(iter(train))]
    with refused("is another in tiny", "RAW"):
        pseudo_labels.label(dataclasses.replace(job, raw=dataclasses.replace(dataset, queries=kept)))
