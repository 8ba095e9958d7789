"""Runs over folds: which of them are one row, what the labels say, the table's figures, and what is refused."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.fold_experiments import FoldedProject
from helpers.tiny_task import refused

from rounds.artifacts import store
from rounds.artifacts.manifests import Parent
from rounds.config.sections.mining import BM25
from rounds.evaluation import fold_runs, fold_table, results, significance


@pytest.fixture
def project(tmp_path: Path) -> FoldedProject:
    """An empty project."""
    return FoldedProject(tmp_path)


def gather(project: FoldedProject, *folders: Path) -> list[fold_runs.FoldRow]:
    """The rows of some evaluations."""
    return fold_runs.gather(folders, project.model_output, project.data_root)


def test_runs_that_differ_in_the_fold_alone_are_one_row(project):
    """Folders' names and the order in which they are named play no part; the folds are in ascending order."""
    folders = [project.round(name, fold) for name, fold in (("a", 2), ("z", 0), ("m", 1))]
    (row,) = gather(project, *folders)
    assert row.label == "round 1" and [run.fold for run in row.runs] == [0, 1, 2]
    assert [run.folder for run in row.runs] == [folders[1], folders[2], folders[0]]


@pytest.mark.parametrize(
    ("changes", "labels"),
    [
        ({"flags": {"epochs": 2}}, ["round 1, epochs=1", "round 1, epochs=2"]),
        ({"seed": 43}, ["round 1, TRAIN_SEED=42", "round 1, TRAIN_SEED=43"]),
        ({"extra": ("pseudo_labels.jsonl",)}, ["round 1", "round 1, EXTRA=pseudo_labels.jsonl"]),
        ({"extra": ("a.csv", "b.csv"), "edition": "1"}, ["round 1", "round 1, EXTRA=a.csv + b.csv"]),
        ({"flags": {"recipe": "other"}}, ["tiny: round 1", "other: round 1"]),
        (
            {"flags": {"temperature": 0.1}},
            ["round 1, training.temperature=0.05", "round 1, training.temperature=0.1"],
        ),
        (
            {"flags": {"recipe": "other", "temperature": 0.1}},
            ["tiny: round 1", "other: round 1"],  # the recipe's name says enough
        ),
    ],
)
def test_labels_say_what_tells_rows_apart(changes, labels, project):
    """Pseudo-labels of each fold are of one row: of these files the names count, not the content."""
    folders = [project.round("plain", fold) for fold in (0, 1)] + [project.round("lever", f, **changes) for f in (0, 1)]
    rows = gather(project, *folders)
    assert [row.label for row in rows] == labels and [len(row.runs) for row in rows] == [2, 2]


def test_outside_questions_of_one_name_and_other_content_are_other_rows(project):
    """A file that was edited between two rows tells them apart."""
    editions = [project.round(f"e{n}", fold, extra=("a.csv",), edition=n) for n in "12" for fold in (0, 1)]
    labels = [row.label for row in gather(project, *editions)]
    assert labels == ["round 1, EXTRA's content=1", "round 1, EXTRA's content=2"]


def test_an_average_says_the_seeds_of_its_parents(project):
    """Averages of the same parents on several folds are one row; all trainings behind it count once."""
    rounds = {(seed, fold): project.round(f"s{seed}", fold, seed=seed) for seed in (42, 43) for fold in (0, 1)}
    averages = [project.average("mean", fold, [rounds[42, fold], rounds[43, fold]]) for fold in (0, 1)]
    plain, average = gather(project, rounds[42, 0], rounds[42, 1], *averages)
    assert (plain.label, average.label) == ("round 1, TRAIN_SEED=42", "mean of 2 checkpoints, TRAIN_SEED=42+43")
    folds = fold_table.read_folds(plain)
    scored = fold_table.score_rows([plain, average], folds, BM25())
    assert [(row.minutes, row.peak_mib) for row in scored] == [(None, None)] * 2 + [(2.0, 101.0), (4.0, 101.0)]


def test_an_average_counts_a_parent_of_its_parents_once(project):
    """The mean of rounds 1 and 2 took both trainings; round 2's manifest names round 1 by a relative path."""
    first = project.round("a", 0).parent
    shutil.copytree(first, later := first.with_name("round2"))
    parent = Parent(name="../round1/train/epoch_1", weights="w", base=False)
    manifest = store.read_manifest(later / "train").with_values(round=2, parent=parent)
    store.write_manifest(later / "train" / store.MANIFEST, manifest)
    row, *_ = results.load(later / "eval")
    results.save([dataclasses.replace(row, round=2, checkpoint="a-0/round2/train/epoch_1")], later / "eval")
    (gathered,) = gather(project, project.average("a", 0, [first / "eval", later / "eval"]))
    assert gathered.runs[0].trained == [first / "train", later / "train"]


def test_figures_are_means_over_folds_and_p_is_paired_over_all_queries(project):
    """Each cell against plain numpy on the saved scores; chance and BM25 stand above, without a p against the first."""
    one = [project.round("one", fold) for fold in (0, 1)]
    other = [project.round("two", fold, flags={"epochs": 2}) for fold in (0, 1)]
    rows = gather(project, *one, *other)
    folds = fold_table.read_folds(rows[0])
    scored = fold_table.score_rows(rows, folds, BM25())
    table = fold_table.fold_table(scored, folds, first=2)
    assert [line[0] for line in table.rows] == ["chance", "BM25", "round 1, epochs=1", "round 1, epochs=2"]
    scores = [[results.load(folder)[0].per_query for folder in folders] for folders in (one, other)]
    unseen = [np.array([query in fold.unseen for query in fold.validation]) for fold in folds]
    for line, (first, second) in zip(table.rows[2:], scores, strict=True):
        expected = [np.mean([first.mean(), second.mean()]), np.std([first.mean(), second.mean()], ddof=1)]
        for masks in ([~mask for mask in unseen], unseen):
            expected.append(np.mean([first[masks[0]].mean(), second[masks[1]].mean()]))
        assert line[1:5] == [f"{value:.4f}" for value in expected]
    p = significance.fisher_p_value(np.concatenate(scores[1]), np.concatenate(scores[0]))
    assert table.rows[3][6:8] == [f"{p:.4f}"] * 2
    assert [line[7] for line in table.rows[:3]] == [""] * 3 and table.rows[0][6] == ""


def test_a_fold_without_unseen_queries_leaves_the_others_their_figure():
    """The mean is of the folds that have such queries; a cell is empty where none has, and for one fold's deviation."""
    scores = {name: [np.array([1.0, 0.5]), np.array([0.0, 0.5])] for name in ("MAP@25", "Recall@25")}
    masks = [np.array([False, False]), np.array([True, False])]
    assert fold_table.fold_figures(scores, masks) == ["0.5000", "0.3536", "0.6250", "0.0000", "0.5000"]
    single = {name: values[:1] for name, values in scores.items()}
    assert fold_table.fold_figures(single, masks[:1]) == ["0.7500", "", "0.7500", "", "0.7500"]


def test_rows_of_different_folds_are_refused(project):
    """Both rows are named with their folds."""
    folders = [project.round("a", 0), project.round("a", 1), project.round("b", 0, seed=43)]
    with refused("RUNS: each row needs the same folds", "TRAIN_SEED=42 has folds 0 1", "TRAIN_SEED=43 has folds 0"):
        gather(project, *folders)


def test_folds_of_another_number_are_another_row(project):
    """Fold 1 of 10 is no second fold of a row of 4, whatever queries it has; the title says the number."""
    folders = [project.round("a", 0), project.round("b", 1, n_folds=10)]
    with refused("RUNS: each row needs the same folds", "N_FOLDS=4 has folds 0", "N_FOLDS=10 has folds 1"):
        gather(project, *folders)
    (row,) = gather(project, *(project.round("c", fold, n_folds=10) for fold in (0, 1)))
    assert fold_table.title(fold_table.read_folds(row)) == "tiny, 2 of 10 folds of v5, 20 queries"


def test_a_query_in_two_folds_is_refused(project):
    """One fold that is named twice would count double."""
    folders = [project.round("a", 0), project.round("again", 0), project.round("a", 1)]
    with refused(folders[0], folders[1], "share query", "name each fold once"):
        gather(project, *folders)


def test_folds_of_another_seed_are_refused(project):
    """Fold 1 of SEED=43 holds other queries than fold 1 of SEED=42."""
    folders = [project.round("a", fold) for fold in (0, 1)]
    folders += [project.round("b", fold, split_seed=43) for fold in (0, 1)]
    with refused("RUNS:", "have different queries", "one SEED"):
        gather(project, *folders)


@pytest.mark.parametrize(
    ("fields", "says"), [({"data": "other", "validation": "v2"}, "other data"), ({"labels": "l2"}, "other labels")]
)
def test_folds_of_other_data_are_refused(fields, says, project):
    """Equal ids of queries are not enough."""
    folders = [project.round("a", 0), project.round("b", 0, seed=43)]
    (first, *_), (row, *others) = map(results.load, folders)
    results.save([dataclasses.replace(first, labels="l1")], folders[0])
    results.save([dataclasses.replace(row, **{"labels": "l1", **fields}), *others], folders[1])
    with refused("RUNS:", folders[1], says):
        gather(project, *folders)


def test_a_round_from_the_base_model_counts_the_round_that_it_was_mined_with(project):
    """With `training.start_from: base` a later round has no parent among the rounds, and still took their minutes."""
    first = project.round("a", 0).parent
    later = first.with_name("round2")
    shutil.copytree(first, later)
    manifest = store.read_manifest(later / "train")
    store.write_manifest(
        later / "train" / store.MANIFEST,
        manifest.with_values(round=2, parent=Parent(name="base", weights="w", base=True)),
    )
    (row,) = results.load(later / "eval")[:1]
    results.save([dataclasses.replace(row, round=2, checkpoint="a-0/round2/train/epoch_1")], later / "eval")
    (gathered,) = gather(project, later / "eval")
    assert gathered.runs[0].trained == [later / "train", first / "train"]


def test_lost_data_are_refused(project):
    """The evaluation is named, and the way out."""
    folders = [project.round("a", fold) for fold in (0, 1)]
    shutil.rmtree(project.collection(1))
    with refused(folders[1], "gone or were made anew", "run its round again"):
        gather(project, *folders)


def test_only_evaluations_of_several_folds_span_a_split(project, tmp_path):
    """One fold, a missing evaluation and splits without folds are compared as before."""
    folders = [project.round("a", fold) for fold in (0, 1)]
    assert fold_runs.spanned_split(folders) == "v5"
    assert fold_runs.spanned_split(folders[:1]) is None
    assert fold_runs.spanned_split([*folders, tmp_path / "none"]) is None
    others = [project.round("v1", fold, split="v1") for fold in (0, 1)]
    assert fold_runs.spanned_split(others) is None
