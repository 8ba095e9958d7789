"""The generated sample: each answer is recomputed in another way, each label rerun, each file checked."""

import csv
import hashlib
import os
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.maths_answers import BY_KEY, CHECKS

from rounds.data.synthetic import maths
from rounds.data.synthetic.maths import CORPUS, LISTED, TEMPLATES, bare, draw_questions, generate
from rounds.data.synthetic.maths.draw import plan, question_at

COLUMNS = (
    "QuestionId,ConstructId,ConstructName,SubjectId,SubjectName,CorrectAnswer,QuestionText,AnswerAText,AnswerBText,"
    "AnswerCText,AnswerDText,MisconceptionAId,MisconceptionBId,MisconceptionCId,MisconceptionDId"
).split(",")


@pytest.fixture(scope="module")
def drawn():
    """About forty questions of each template, and a stream as the files hold it."""
    scheme, out = plan(1), []
    for template in TEMPLATES:
        rng = random.Random(f"test {template.key}")
        made = [question_at(template, scheme, rng, train=bool(place % 2)) for place in range(40)]
        out.extend(question for question in made if question)
    return out + [question for _, _, question in draw_questions(1500, 250, 42)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The default sample on disk, with its counts."""
    folder = tmp_path_factory.mktemp("sample")
    return folder, generate(folder, questions=1500)


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def digest(folder: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(folder.iterdir()))).hexdigest()


def test_every_template_has_a_checker():
    """No template without an independent recomputation, no checker without a template."""
    assert set(CHECKS) == set(BY_KEY) and len(BY_KEY) == len(TEMPLATES)


@pytest.mark.parametrize("key", CHECKS)
def test_correct_answer_by_another_route(key):
    """The correct answer agrees with one computed in another way, over many draws."""
    template, rng = BY_KEY[key], random.Random(key)
    for _ in range(400):
        params = SimpleNamespace(**template.draw(rng))
        assert CHECKS[key](params, bare(template.answer(params))), params


def test_each_template_makes_questions_and_each_slip_a_label(drawn):
    """Every misconception in the mapping explains a drawable wrong option, and in several templates none is idle."""
    assert {question.template.key for question in drawn} == set(BY_KEY)
    missing = set()
    for template in TEMPLATES:
        rng, found = random.Random(template.key), set()
        for _ in range(400):
            params = SimpleNamespace(**template.draw(rng))
            for explanations in template.explain(params).values():
                if len(explanations) == 1 and template.print(explanations[0][1], params):
                    found.add(explanations[0][0].text)
        missing |= {(template.key, slip.text) for slip in template.slips} - {(template.key, text) for text in found}
    assert not missing


def test_label_is_what_its_procedure_yields_and_no_other_does(drawn):
    """Rerunning a labelled option's procedure gives its value; no other slip of the template gives it too."""
    for question in drawn:
        for option in question.options:
            if option.label is None:
                continue
            yields = [slip for slip in question.template.slips if bare(slip.run(question.params)) == option.value]
            assert yields == [option.slip]
            assert option.value != bare(question.template.answer(question.params))
            assert LISTED[option.label].rstrip() == option.slip.text


def test_generic_distractor_is_explained_by_nothing(drawn):
    """A wrong option that names no slip has a value that no slip yields."""
    for question in drawn:
        found = question.template.explain(question.params)
        right = bare(question.template.answer(question.params))
        for place, option in enumerate(question.options):
            if option.slip is None and place != question.correct:
                assert option.value not in found and option.value != right


def test_options_differ(drawn):
    """Four options, pairwise different as values and as text, and one of them correct."""
    for question in drawn:
        assert len(question.options) == 4
        assert len({option.text for option in question.options}) == 4
        assert len({option.value for option in question.options}) == 4
        right = question.options[question.correct]
        assert right.label is None
        if not question.dialogue:
            assert right.value == bare(question.template.answer(question.params))


def test_dialogue_names_the_right_learner(drawn):
    """In a dialogue the correct option is the learner whose answer is right, or neither."""
    spoken = [question for question in drawn if question.dialogue]
    assert len(spoken) > 50
    for question in spoken:
        right = bare(question.template.answer(question.params))
        correct = [option for option in question.options if option.value == right]
        expected = correct or [option for option in question.options if option.text.startswith("Neither")]
        assert expected == [question.options[question.correct]]


def test_no_slot_is_left_in_a_text(drawn):
    """Every slot of a wording is filled, every LaTeX delimiter closed."""
    for question in drawn:
        for text in (question.text, *(option.text for option in question.options)):
            assert not re.search(r"<\w+>", text) and "None" not in text.replace("None of", "")
            assert text.count("\\(") == text.count("\\)") and text.count("{") == text.count("}")


def test_corpus_is_wide_enough():
    """At least 60 procedures, 320 texts, 12 subjects, 60 constructs; three wordings a template."""
    procedures = {id(slip.procedure) for template in TEMPLATES for slip in template.slips}
    assert len(procedures) >= 60 and len(CORPUS) >= 320
    assert len({template.subject for template in TEMPLATES}) >= 12
    assert len({template.construct for template in TEMPLATES}) == len(TEMPLATES) >= 60
    for template in TEMPLATES:
        assert len(set(template.wordings)) >= 3
        assert len({slip.text for slip in template.slips}) == len(template.slips)


def test_every_text_has_a_procedure_and_some_stand_twice():
    """The mapping holds the texts of slips and nothing else; a few under two ids, apart by line breaks only."""
    texts = {slip.text for template in TEMPLATES for slip in template.slips}
    counts = Counter(text.rstrip() for text in LISTED)
    assert set(counts) == texts and len(set(LISTED)) == len(LISTED)
    assert 1 <= sum(count == 2 for count in counts.values()) == len(LISTED) - len(texts)


def test_schema(files):
    """Columns and their order, float ids in range, empty for the correct option, one label a row at least."""
    folder, counts = files
    train, test = rows(folder / "train.csv"), rows(folder / "test.csv")
    assert list(train[0]) == COLUMNS and list(test[0]) == COLUMNS[:11]
    assert (len(train), len(test)) == (counts["questions"], counts["test_questions"]) == (1500, 250)
    labelled = 0
    for row in train:
        labels = {letter: row[f"Misconception{letter}Id"] for letter in "ABCD"}
        assert labels[row["CorrectAnswer"]] == "" and any(labels.values())
        for label in filter(None, labels.values()):
            assert re.fullmatch(r"\d+\.0", label) and float(label) < counts["misconceptions"]
            labelled += 1
    assert labelled == counts["labelled"]
    assert 2.2 < labelled / len(train) < 2.8
    numbers = [int(row["QuestionId"]) for row in train + test]
    assert numbers == sorted(set(numbers)) and numbers[0] == 0 and numbers[-1] >= len(numbers)
    mapping = rows(folder / "misconception_mapping.csv")
    assert [int(row["MisconceptionId"]) for row in mapping] == list(range(counts["misconceptions"]))
    assert [row["MisconceptionName"] for row in mapping] == list(LISTED)


def test_ids_of_constructs_and_subjects(files):
    """A name has one id and an id one name."""
    folder, _ = files
    every = rows(folder / "train.csv") + rows(folder / "test.csv")
    for kind in ("Construct", "Subject"):
        pairs = {(row[f"{kind}Id"], row[f"{kind}Name"]) for row in every}
        assert len(pairs) == len({pair[0] for pair in pairs}) == len({pair[1] for pair in pairs})


def test_submission_matches_test(files):
    """A row for every wrong option of the test questions, in order, with 25 distinct ids."""
    folder, counts = files
    expected = [
        f"{row['QuestionId']}_{letter}"
        for row in rows(folder / "test.csv")
        for letter in "ABCD"
        if letter != row["CorrectAnswer"]
    ]
    submission = rows(folder / "sample_submission.csv")
    assert [row["QuestionId_Answer"] for row in submission] == expected
    for row in submission:
        ids = row["MisconceptionId"].split(" ")
        assert len(set(ids)) == 25 and all(0 <= int(text) < counts["misconceptions"] for text in ids)


def test_texts_vary(files):
    """Some texts have several lines, tables or pictures, some questions come twice."""
    folder, _ = files
    texts = [row["QuestionText"] for row in rows(folder / "train.csv")]
    assert sum("\n" in text for text in texts) > 100
    assert any("![" in text for text in texts) and any("tabular" in text for text in texts)
    assert 5 < len(texts) - len(set(texts)) < 150


@pytest.mark.parametrize("seed", [1, 42])
def test_train_leaves_misconceptions_to_test(seed):
    """Frequencies have a long tail; train never labels 15 to 25 per cent; most test rows rest on those."""
    labels = {"train": Counter(), "test": Counter()}
    for split, _, question in draw_questions(1500, 250, seed):
        labels[split].update(option.slip.text for option in question.options if option.label is not None)
    assert 0.15 < 1 - len(labels["train"]) / len(CORPUS) < 0.26
    unseen = sum(count for text, count in labels["test"].items() if text not in labels["train"])
    assert 0.3 < unseen / labels["test"].total() < 0.8
    ordered = sorted(labels["train"].values(), reverse=True)
    assert sum(ordered[: len(ordered) // 5]) > 0.4 * sum(ordered)


def test_bytes_depend_on_the_seed_alone(tmp_path):
    """One seed gives one set of bytes, whatever the hash seed of the process; another seed gives other bytes."""
    script = (
        "import sys; from pathlib import Path; from rounds.data.synthetic.maths import generate;"
        "generate(Path(sys.argv[1]), 300, 60, int(sys.argv[2]))"
    )
    digests = []
    for hash_seed, seed in (("1", "42"), ("2", "42"), ("1", "43")):
        folder = tmp_path / f"{hash_seed}-{seed}"
        folder.mkdir()
        source = str(Path(maths.__file__).parents[3])
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": source}
        subprocess.run([sys.executable, "-c", script, str(folder), seed], check=True, env=environment)
        digests.append(digest(folder))
    assert digests[0] == digests[1] != digests[2]


def test_progress_wraps_the_loop(tmp_path):
    """The callback gets the stream with its total and changes no byte."""
    seen = []

    def progress(stream, total):
        seen.append(total)
        return stream

    for name, callback in (("plain", None), ("wrapped", progress)):
        (tmp_path / name).mkdir()
        generate(tmp_path / name, 40, 10, 7, callback)
    assert seen == [50] and digest(tmp_path / "plain") == digest(tmp_path / "wrapped")
