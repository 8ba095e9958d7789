"""The teacher's rows: best candidates with their labels, and no row's own label among its votes and counts."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
from helpers.tiny_task import refused

from rounds.artifacts import store
from rounds.config.recipe import Distillation
from rounds.config.sections.ensemble import Ensemble
from rounds.data import collection
from rounds.data.collection import OUTSIDE, SILENT
from rounds.data.loaders import eedi
from rounds.data.splits import Split
from rounds.models import checkpoint
from rounds.reranking import stage, teacher
from rounds.reranking.candidate_vectors import compute_training_candidates
from rounds.reranking.candidates import Candidates


def training_row(query: str, question: str, **further: str) -> dict:
    return {"query_id": query, "question_id": question, **further}


def test_the_best_candidates_are_kept_with_the_labels_behind_them():
    """Logarithms of the probabilities, best first, cut to the number asked for; a label further down stays."""
    table = Candidates(
        queries=["q", "r"],
        query_rows=np.array([0, 0, 0, 0, 1]),
        passage_ids=np.array(["a", "b", "c", "d", "a"], dtype=object),
        relevant=np.array([False, False, False, True, False]),
        features={},
    )
    scores = teacher.best_candidates(table, np.array([0.1, 0.6, 0.25, 0.05, 0.0]), 2)
    assert [list(of_query) for of_query in scores.values()] == [["b", "c", "d"], ["a"]]
    assert scores["q"]["b"] == pytest.approx(np.log(0.6), abs=1e-6) and scores["r"]["a"] == round(np.log(1e-9), 6)


@pytest.mark.parametrize(("rows", "number", "expected"), [("all", 1, True), ("folds", 1, False), ("all", 0, False)])
def test_rows_of_no_fold_are_scored_if_asked_for_and_rounds_are_there(rows, number, expected, tmp_path):
    """`distillation.rows: folds` leaves them out, and so do no rounds on all of train to rank them."""
    settings = Distillation(rows=rows)
    job = teacher.TeacherJob([], None, [None] * number, settings, tmp_path / "teacher.jsonl", tmp_path)
    assert job.scores_others == expected


def test_rows_are_divided_by_question_and_outside_rows_apart():
    """Rows of a question are in one block, and all chosen rows are in one; no block mixes outside rows with others."""
    rows = [training_row(f"{n}_{letter}", str(n)) for n in range(12) for letter in "BC"]
    rows += [training_row(f"o{n}", f"o{n}", **{OUTSIDE: "model"}) for n in range(3)]
    chosen = {row["query_id"] for row in rows[10:]}
    blocks = teacher.divide(rows, chosen, 100)
    assert sorted(number for block in blocks for number in block) == list(range(10, 27))
    assert len(blocks) == teacher.BLOCKS + 3
    for block in blocks:
        assert len({OUTSIDE in rows[number] for number in block}) == 1
    for question in {row["question_id"] for row in rows[10:]}:
        assert sum(any(rows[number]["question_id"] == question for number in block) for block in blocks) == 1


def test_an_outside_question_alone_has_nobody_to_vote():
    """It is left out, and so is a block of nothing."""
    rows = [training_row("1", "1"), training_row("2", "2"), training_row("o", "o", **{OUTSIDE: "model"})]
    assert teacher.divide(rows, {"o"}, 100) == [] and teacher.divide(rows, set(), 100) == []


def test_questions_that_vote_are_spread_over_the_blocks():
    """No block has all of them; where one alone votes, the others are ranked by it, and it is in no block."""
    silent = [training_row(f"s{n}", f"s{n}", **{OUTSIDE: "a", SILENT: True}) for n in range(9)]
    for voters in (1, 2, 6):
        rows = [*silent, *(training_row(f"v{n}", f"v{n}", **{OUTSIDE: "b"}) for n in range(voters))]
        blocks = teacher.divide(rows, {row["query_id"] for row in rows}, 100)
        assert all(len([n for n in block if n >= 9]) < voters for block in blocks)
        assert sum(map(len, blocks)) == len(rows) - (voters == 1)
    assert sum(map(len, teacher.divide(silent, {row["query_id"] for row in silent}, 100))) == 9


@pytest.mark.parametrize("is_outside", [False, True], ids=["own", "outside"])
def test_a_row_s_own_label_neither_votes_nor_counts(is_outside, tiny, tiny_collection, tmp_path):
    """Of a passage that only the ranked row is labelled with, the features are those of an unlabelled passage."""
    rows = collection.read_rows(tiny_collection / collection.FINETUNE, ("pos",))[:40]
    if is_outside:
        rows = rows[:20] + [row | {OUTSIDE: "model"} for row in rows[20:]]
    labels = [row["pos_id"][0] for row in rows if (OUTSIDE in row) == is_outside]
    number = next(n for n in range(39, -1, -1) if labels.count(rows[n]["pos_id"][0]) == 1)
    base = checkpoint.resolve(None, tiny, "cpu")
    fused = stage.fused_checkpoints([base], ("",))
    data = collection.read(tiny_collection)
    passages = {passage: data.passages[passage] for row in rows for passage in row["pos_id"]}
    data = dataclasses.replace(data, passages=passages)  # so few that all are candidates
    (table,) = compute_training_candidates(fused, data, rows, [[number]], tmp_path)
    (pair,) = np.flatnonzero(table.relevant)
    assert table.passage_ids[pair] == rows[number]["pos_id"][0]
    votes = f"{'outside' if is_outside else 'votes'} {fused[0].name}"
    assert table.features[f"{votes}: score"][pair] == -1 and table.features[f"{votes}: weight"][pair] == 0
    if not is_outside:
        assert table.features["labels: count"][pair] == 0 and not table.features["labels: labelled"][pair]
    other = next(n for n in range(len(table.passage_ids)) if table.passage_ids[n] in labels and n != pair)
    assert table.features[f"{votes}: score"][other] > -1


def test_unlabelled_wrong_answers_are_siblings_of_training_rows(raw, tiny, tiny_collection, tmp_path):
    """Of rows of no fold, too, each has as many siblings as its question has other wrong answers; none without raw."""
    task, data, base = eedi.load(raw), collection.read(tiny_collection), checkpoint.resolve(None, tiny, "cpu")
    job = teacher.TeacherJob([], data, [base], Distillation(), tmp_path / "t.jsonl", tmp_path, raw=task)
    rows = collection.read_rows(tiny_collection / collection.FINETUNE, ("pos",))
    labelled = Counter(row["question_id"] for row in rows)
    answers = Counter(query.group for query in task.queries)
    question = next(question for question, count in labelled.items() if count < answers[question])
    block = [number for number, row in enumerate(rows) if row["question_id"] == question]
    fused = stage.fused_checkpoints([base], ("",))
    (table,) = compute_training_candidates(fused, data, rows, [block], tmp_path, job.unranked_siblings)
    assert set(table.features["siblings: number"]) == {answers[question] - 1}
    assert dataclasses.replace(job, raw=None).unranked_siblings == []
    assert job.config() != dataclasses.replace(job, raw=None).config()


@pytest.mark.slow
def test_each_training_row_gets_scores_and_the_file_the_lineage_of_all(raw, tiny, tmp_path):
    """Folds are scored by each other; rows of no fold by rounds that rank them, or not at all without these."""
    task, folds = eedi.load(raw), []
    groups = sorted({query.group for query in task.queries}, key=int)
    base = checkpoint.resolve(None, tiny, "cpu")
    for number in range(2):
        held_out = set(groups[number::4])
        folder = tmp_path / f"data{number}"
        collection.write(task, Split("v5", set(groups) - held_out, held_out), tiny.prompts, folder, {})
        folds.append(tmp_path / f"fold{number}")
        stage.make_candidates([base], collection.read(folder), folds[-1], tmp_path, False)
    collection.write(task, Split("submission", set(groups), set()), tiny.prompts, tmp_path / "all", {})
    data, rows = collection.read(tmp_path / "all"), collection.read_rows(tmp_path / "all" / collection.FINETUNE, ())
    held_out = {*groups[0::4], *groups[1::4]}
    for checkpoints in ([], [base]):
        job = teacher.TeacherJob(folds, data, checkpoints, Distillation(), tmp_path / "t.jsonl", tmp_path, True)
        teacher.write_teacher(job)
        written = store.read_jsonl(tmp_path / "t.jsonl", ("pos_scores", "neg_scores"))
        expected = [row["query_id"] for row in rows if checkpoints or row["question_id"] in held_out]
        assert [row["query_id"] for row in written] == expected
        manifest = store.read_file_manifest(tmp_path / "t.jsonl")
        assert manifest.lineage == data.questions["train"] and manifest.queries == len(written)
    with refused(folds[0], "--raw_dir"):  # whose siblings are others than those of the folds
        teacher.write_teacher(dataclasses.replace(job, raw=task))
    with refused(folds[0], "ranked other passages"):
        fewer = dataclasses.replace(data, passages=dict(list(data.passages.items())[1:]))
        teacher.write_teacher(dataclasses.replace(job, data=fewer, output=tmp_path / "fewer.jsonl"))
    other = dataclasses.replace(job, ensemble=Ensemble(boosted_trees=False), output=tmp_path / "networks.jsonl")
    assert other.config() == job.config() | {"boosted_trees": False} != job.config()
    teacher.write_teacher(other)
    scored = store.read_jsonl(other.output, ("pos_scores", "neg_scores"))
    assert all(one["neg_scores"] != another["neg_scores"] for one, another in zip(written, scored, strict=True))
    for row in written:
        assert not set(row["neg_id"]) & set(row["pos_id"]) and len(row["neg"]) >= 15
        assert [score is None for score in row["pos_scores"]] == [
            text in row.get("unscored", ()) for text in row["pos"]
        ]
