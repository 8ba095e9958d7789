"""Outside questions: files are read or refused by row, leaks and repeats are left out, and nothing else changes."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from helpers.scripts import assert_one_line, call
from helpers.tiny_task import refused

from rounds.artifacts import store
from rounds.config import loader
from rounds.config.recipe import Outside
from rounds.data import collection, lineage, outside, splits
from rounds.data.dataset import RetrievalDataset
from rounds.data.loaders import eedi
from rounds.data.loaders import outside as outside_loader
from rounds.data.loaders.outside import OutsideRow
from rounds.data.splits import Split
from rounds.data.synthetic import maths

PROMPTS = loader.load("tiny-mistral").prompts
LONG = {
    "ConstructName": "Add fractions",
    "SubjectName": "Fractions",
    "QuestionText": "What is a half and a third?",
    "CorrectAnswerText": "5/6",
    "AnswerText": "2/5",
    "MisconceptionId": "7",
}
WIDE = {
    **{key: LONG[key] for key in ("ConstructName", "SubjectName", "QuestionText")},
    "CorrectAnswer": "B",
    **{f"Answer{letter}Text": f"answer {letter}" for letter in "ABCD"},
    "MisconceptionAId": "7.0",
    "MisconceptionBId": "",
    "MisconceptionCId": "",
    "MisconceptionDId": "8",
}
CORPUS = {"7": "Adds both parts", "8": "Takes the larger"}


def written(path: Path, *rows: dict) -> Path:
    """Rows as CSV or JSONL."""
    if path.suffix == ".csv":
        pd.DataFrame(rows).to_csv(path, index=False)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def load(*files: Path) -> list[OutsideRow]:
    return outside_loader.load(files, CORPUS)


@pytest.mark.parametrize("name", ["more.csv", "more.jsonl"])
def test_a_long_row_is_a_wrong_answer(name, tmp_path):
    """Its parts are a query's fields; without `Source`, the file's name stands for it."""
    (row,) = load(written(tmp_path / name, LONG))
    assert row == OutsideRow(
        file=str(tmp_path / name),
        row=2 if name.endswith("csv") else 1,
        source="more",
        fields={
            "construct": "Add fractions",
            "subject": "Fractions",
            "question": "What is a half and a third?",
            "correct": "5/6",
            "wrong": "2/5",
        },
        label="7",
    )


def test_a_wide_row_is_its_labelled_wrong_answers(tmp_path):
    """As in train.csv: the correct answer and unlabelled ones are left out, `7.0` is 7."""
    rows = load(written(tmp_path / "wide.csv", WIDE))
    assert [(row.fields["correct"], row.fields["wrong"], row.label) for row in rows] == [
        ("answer B", "answer A", "7"),
        ("answer B", "answer D", "8"),
    ]


def test_the_competition_s_own_file_can_be_read(raw):
    """train.csv gives the labelled wrong answers that the competition's loader gives."""
    dataset = eedi.load(raw)
    rows = outside_loader.load([raw / "train.csv"], dataset.passages)
    queries = [query for query in dataset.queries if query.id in dataset.qrels]
    assert [(row.fields, [row.label]) for row in rows] == [(q.fields, dataset.qrels[q.id]) for q in queries]


def test_values_of_jsonl_may_be_numbers(tmp_path):
    """Whole numbers are answers and ids."""
    (row,) = load(written(tmp_path / "more.jsonl", {**LONG, "AnswerText": 12, "MisconceptionId": 7.0}))
    assert (row.fields["wrong"], row.label) == ("12", "7")


def test_a_source_is_read_without_blanks(tmp_path):
    """It becomes a part of ids; empty cells take the file's name."""
    sources = ("model A:2", "", "nan")
    rows = load(written(tmp_path / "b c.csv", *({**LONG, "Source": source} for source in sources)))
    assert [row.source for row in rows] == ["model_A:2", "b_c", "b_c"]


def test_a_topic_without_a_value_is_empty(tmp_path):
    """Construct and subject may be missing, which libraries write as `nan`."""
    (row,) = load(written(tmp_path / "b.csv", {**LONG, "ConstructName": "nan", "SubjectName": " NaN"}))
    assert (row.fields["construct"], row.fields["subject"]) == ("", "")


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        ({**LONG, "MisconceptionId": "9"}, ["row 3", "MisconceptionId '9'", "misconception_mapping.csv"]),
        ({**LONG, "MisconceptionId": "seven"}, ["row 3", "MisconceptionId 'seven'"]),
        ({**LONG, "MisconceptionId": ""}, ["row 3", "MisconceptionId is empty"]),
        ({**LONG, "AnswerText": " "}, ["row 3", "AnswerText is empty"]),
        ({**LONG, "CorrectAnswerText": ""}, ["row 3", "CorrectAnswerText is empty"]),
        ({**LONG, "QuestionText": ""}, ["row 3", "QuestionText is empty"]),
    ],
    ids=["unknown", "no_number", "no_label", "no_answer", "no_correct_answer", "no_question"],
)
def test_a_bad_cell_is_named(row, parts, tmp_path):
    """The line names file, row and column."""
    file = written(tmp_path / "more.csv", LONG, row)
    with refused(file, *parts):
        load(file)


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        ({**WIDE, "CorrectAnswer": "E"}, ["row 2", "CorrectAnswer 'E'", "A, B, C, D"]),
        ({**WIDE, "AnswerDText": ""}, ["row 2", "AnswerDText is empty"]),
        ({**WIDE, "MisconceptionAId": "", "MisconceptionDId": ""}, ["no wrong answer has a misconception id"]),
        ({key: LONG[key] for key in LONG if key != "AnswerText"}, ["row 2", "AnswerText is missing", "ConstructName"]),
        ({key: WIDE[key] for key in WIDE if key != "AnswerCText"}, ["row 2", "AnswerCText is missing"]),
    ],
    ids=["letter", "no_answer", "no_label", "long_column", "wide_column"],
)
def test_a_bad_file_is_named(row, parts, tmp_path):
    """Wrong letters, missing columns and files without labels are refused."""
    file = written(tmp_path / "more.csv", row)
    with refused(file, *parts):
        load(file)


def test_what_is_no_table_is_named(tmp_path):
    """A missing file, and a folder."""
    for place, reason in ((tmp_path / "no.csv", "no such file"), (tmp_path, "not one of .csv")):
        with refused(place, reason):
            load(place)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "parts"),
    [([{**LONG, "MisconceptionId": "99999"}], ["row 2", "99999"]), ([], ["no such file"])],
    ids=["label", "file"],
)
def test_a_refused_file_is_one_line_and_leaves_nothing(rows, parts, raw, tmp_path):
    """The script ends with 2 and one line with file and row, and no collection appears."""
    file = written(tmp_path / "more.csv", *rows) if rows else tmp_path / "more.csv"
    flags = ["--raw_dir", raw, "--recipe", "tiny-mistral", "--output_dir", tmp_path / "out", "--extra_files", file]
    assert_one_line(call("gen_data_for_hn_mine.py", *flags), str(file), *parts)
    assert {path.name for path in tmp_path.iterdir()} <= {"more.csv"}


# ---- join -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dataset(raw) -> RetrievalDataset:
    return eedi.load(raw)


@pytest.fixture(scope="module")
def split(dataset) -> Split:
    return splits.make_split(dataset, "v1")


def row_of(dataset: RetrievalDataset, number: int, **fields: str) -> OutsideRow:
    """A row with the texts and label of a labelled query, some replaced."""
    query = [query for query in dataset.queries if query.id in dataset.qrels][number]
    return OutsideRow("more.csv", number, "more", {**query.fields, **fields}, dataset.qrels[query.id][0])


def rows_on(dataset: RetrievalDataset, groups: set[str]) -> list[OutsideRow]:
    labelled = [query for query in dataset.queries if query.id in dataset.qrels]
    return [row_of(dataset, number) for number, query in enumerate(labelled) if query.group in groups]


FRESH = OutsideRow(
    "more.csv",
    77,
    "more",
    {
        "construct": "Bees",
        "subject": "Insects",
        "question": "How do honey bees dance?",
        "correct": "Waggling",
        "wrong": "Humming",
    },
    "3",
)


def test_rows_near_a_validation_question_are_dropped(dataset, split):
    """Copies of validation questions go, with cosine 1, and the questions that they give away; a fresh one stays."""
    leaks = rows_on(dataset, split.validation)
    joined = outside.join(dataset, split, [*leaks, FRESH], Outside())
    assert [entry.row for entry in joined.dropped] == leaks and joined.count("near_question") == len(leaks)
    assert all(entry.cosine == 1 and entry.nearest.startswith("validation question ") for entry in joined.dropped)
    assert [query.fields for query in joined.dataset.queries] == [FRESH.fields]


def test_rows_near_a_test_question_are_dropped(dataset, split):
    """A copy of a test question goes, in the submission's split too, which has no validation."""
    question = dataset.test_queries[0]
    leak = row_of(dataset, 0, question=question.fields["question"])
    for each in (split, Split("submission", split.train | split.validation, set())):
        joined = outside.join(dataset, each, [leak, FRESH], Outside())
        assert [entry.nearest for entry in joined.dropped] == [f"test question {question.group}"]


def test_other_numbers_do_not_hide_a_question(dataset, split):
    """A validation question with each digit changed, in other words at its end and with other answers, is dropped."""
    texts = {q.fields["question"] for q in dataset.queries if q.group in split.validation}
    text = max((text for text in texts if re.search(r"\d", text)), key=len)
    changed = re.sub(r"\d", lambda digit: str(9 - int(digit[0])), text) + " Give a reason."
    paraphrase = row_of(dataset, 0, question=changed, correct="other", wrong="answers")
    (entry,) = outside.join(dataset, split, [paraphrase], Outside()).dropped
    assert 0.5 < entry.cosine < 1 and entry.reason == "near_question"


def test_the_key_moves_the_limit(dataset, split):
    """A row stays where the key is above its cosine, and 1 leaves none out."""
    leak = rows_on(dataset, split.validation)[0]
    near = OutsideRow("more.csv", 5, "more", {**leak.fields, "question": leak.fields["question"] + " Why?"}, leak.label)
    cosine = outside.join(dataset, split, [near], Outside()).nearest[1]
    assert 0.5 < cosine < 1
    for limit, dropped in ((cosine - 0.01, 1), (cosine + 0.01, 0)):
        assert len(outside.join(dataset, split, [near], Outside(max_cosine=limit)).dropped) == dropped
    assert outside.join(dataset, split, [leak], Outside(max_cosine=1)).dropped == []


def test_repeats_of_training_rows_are_dropped(dataset, split):
    """An outside copy of a training query, and a second one of an outside row, train once; another label is no copy."""
    copy = rows_on(dataset, split.train)[0]
    again = OutsideRow("more.csv", 78, "other", FRESH.fields, FRESH.label)
    relabelled = OutsideRow("more.csv", 79, "other", FRESH.fields, "4")
    joined = outside.join(dataset, split, [copy, FRESH, again, relabelled], Outside(max_cosine=1))
    assert [(entry.row, entry.reason) for entry in joined.dropped] == [
        (copy, "near_duplicate"),
        (again, "near_duplicate"),
    ]
    assert joined.dropped[0].nearest.startswith("training query ") and joined.dropped[1].nearest == "more.csv row 77"
    assert len({query.id for query in joined.dataset.queries}) == 2


def test_exact_copies_never_train_twice(dataset, split):
    """Even where no cosine is above the key, so that ids stay unique."""
    again = OutsideRow("b.csv", 1, "more", FRESH.fields, FRESH.label)
    joined = outside.join(dataset, split, [FRESH, again], Outside(duplicate_cosine=1))
    assert [entry.row for entry in joined.dropped] == [again]


def test_the_line_names_count_and_nearest_pair(dataset, split):
    """What joins, what was left out, and the pair with the highest cosine."""
    leak = rows_on(dataset, split.validation)[0]
    line = outside.join(dataset, split, [FRESH, leak], Outside()).message()
    assert line.startswith(
        "outside: 1 of 2 rows join the training queries; 1 near a validation or test question and 0 "
    )
    assert re.search(rf"nearest: more.csv row {leak.row} and validation question \d+, cosine 1.00$", line)


def test_ids_do_not_depend_on_file_or_place(dataset, split):
    """The same row of another file, behind other rows, has the same ids: its negatives stay the same."""
    moved = OutsideRow("b.csv", 1, "more", FRESH.fields, FRESH.label)
    other = OutsideRow("b.csv", 2, "more", {**FRESH.fields, "question": "Where do ants live?"}, "5")
    (one,) = outside.join(dataset, split, [FRESH], Outside()).dataset.queries
    assert one in outside.join(dataset, split, [other, moved], Outside()).dataset.queries
    assert one.group == f"outside:more:{lineage.digest(FRESH.fields['question'])}"


# ---- collection -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folders(dataset, split, tmp_path_factory) -> tuple[Path, Path]:
    """The collection without and with outside questions."""
    folder = tmp_path_factory.mktemp("collections")
    leak = rows_on(dataset, split.validation)[0]
    unseen = sorted(collection_unseen(dataset, split))[0]
    rows = [leak, FRESH, OutsideRow("b.csv", 5, "b", {**FRESH.fields, "wrong": "Singing"}, unseen)]
    collection.write(dataset, split, PROMPTS, folder / "without", {})
    joined = outside.join(dataset, split, rows, Outside())
    collection.write(dataset, split, PROMPTS, folder / "with", {}, outside=joined)
    return folder / "without", folder / "with"


def collection_unseen(dataset: RetrievalDataset, split: Split) -> set[str]:
    """Labels of validation queries that no training query has."""
    labels = [{dataset.qrels[q.id][0] for q in dataset.labelled(side)} for side in (split.train, split.validation)]
    return labels[1] - labels[0]


def test_outside_rows_stand_behind_the_training_rows(folders):
    """They have the keys of the others, their source, and a question id and digest for the lineage."""
    without, with_outside = (store.read_jsonl(folder / collection.FINETUNE) for folder in folders)
    assert with_outside[: len(without)] == without
    outside_rows = with_outside[len(without) :]
    assert [row["outside"] for row in outside_rows] == ["more", "b"]
    assert all(row.keys() == {*without[0], "outside"} for row in outside_rows)
    assert outside_rows[0]["question_digest"] == lineage.digest(FRESH.fields["question"])
    assert collection.own_rows(with_outside) == without


def test_everything_else_is_as_without(folders):
    """Queries, labels, seen and unseen: an outside label makes no misconception seen."""
    for file in sorted(path.name for path in folders[0].iterdir()):
        if file not in (collection.FINETUNE, "split.json", store.MANIFEST):
            assert (folders[0] / file).read_bytes() == (folders[1] / file).read_bytes()
    without, with_outside = map(collection.read, folders)
    assert with_outside.unseen == without.unseen and without.unseen
    assert with_outside.validation_digest == without.validation_digest


def test_what_was_dropped_is_written(folders):
    """The file names file, row, reason, cosine and the nearest question; split.json counts."""
    (entry,) = store.read_jsonl(folders[1] / collection.DROPPED)
    assert (entry["file"], entry["reason"], entry["cosine"]) == ("more.csv", "near_question", 1)
    described = store.read_json(folders[1] / "split.json")
    assert described.pop("outside") == {
        "rows": 3,
        "near_question": 1,
        "same_construct": 0,
        "near_duplicate": 0,
        "training_queries": 2,
        "sources": {"more": 1, "b": 1},
        "rewritten": [],
        "chosen": [],
    }
    assert described == store.read_json(folders[0] / "split.json")


def test_outside_questions_are_no_few_shot_examples(folders):
    """The bank of examples is the same with them and without."""
    prompts = loader.load("bge-en-icl").prompts
    banks = [collection.example_bank(store.read_jsonl(folder / collection.FINETUNE), prompts) for folder in folders]
    assert banks[0].examples == banks[1].examples


def test_generated_outside_questions_are_new(raw, tmp_path):
    """They are labelled with the sample's misconceptions, and few of their questions are the sample's."""
    count = maths.generate_outside(tmp_path / "outside.csv", questions=60, seed=0)
    dataset = eedi.load(raw)
    rows = outside_loader.load([tmp_path / "outside.csv"], dataset.passages)
    texts = {query.fields["question"] for query in (*dataset.queries, *dataset.test_queries)}
    assert len(rows) == count > 60
    assert sum(row.fields["question"] in texts for row in rows) < 0.1 * count
