"""Generate a dataset in the schema of the Eedi competition, with a wrong procedure behind each misconception.

`generate` writes the four files; `draw_questions` yields the same questions as objects, with their labels.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from .corpus import CONSTRUCTS, CORPUS, LISTED, SUBJECTS, TEMPLATES
from .draw import draw_questions, question_at
from .question import Question, bare

__all__ = ["CORPUS", "LISTED", "TEMPLATES", "bare", "draw_questions", "generate", "generate_outside", "question_at"]

LETTERS = "ABCD"
HEAD = ["QuestionId", "ConstructId", "ConstructName", "SubjectId", "SubjectName"]
HEAD += ["CorrectAnswer", "QuestionText"]
ANSWERS = [f"Answer{letter}Text" for letter in LETTERS]
LABELS = [f"Misconception{letter}Id" for letter in LETTERS]
OUTSIDE = ["ConstructName", "SubjectName", "QuestionText", "CorrectAnswerText", "AnswerText", "MisconceptionId"]
PLACEHOLDER = " ".join(str(number) for number in range(25))


def question_row(number: int, question: Question) -> list[Any]:
    """Return the columns that train.csv and test.csv share."""
    template = question.template
    return [
        number,
        CONSTRUCTS[template.construct],
        template.construct,
        SUBJECTS[template.subject],
        template.subject,
        LETTERS[question.correct],
        question.text,
        *(option.text for option in question.options),
    ]


def label_columns(question: Question) -> list[str]:
    """Return the misconception ids as the original file has them: floats, empty without a label."""
    return ["" if option.label is None else f"{option.label}.0" for option in question.options]


def generate(
    out_dir: Path,
    questions: int = 1100,
    test_questions: int = 250,
    seed: int = 42,
    progress: Callable[[Iterable, int], Iterable] | None = None,
) -> dict[str, int]:
    """Write train.csv, test.csv, misconception_mapping.csv and sample_submission.csv into an existing folder.

    Equal arguments give equal bytes. `progress(iterable, total)` wraps the loop over questions.
    """
    out_dir = Path(out_dir)
    total = questions + test_questions
    stream: Iterable = draw_questions(questions, test_questions, seed)
    if progress:
        stream = progress(stream, total)
    wrong, labelled = 0, [False] * len(LISTED)
    with (
        open(out_dir / "train.csv", "w", newline="", encoding="utf-8") as train_file,
        open(out_dir / "test.csv", "w", newline="", encoding="utf-8") as test_file,
        open(out_dir / "sample_submission.csv", "w", newline="", encoding="utf-8") as submission_file,
    ):
        train, test, submission = (
            csv.writer(file, lineterminator="\n") for file in (train_file, test_file, submission_file)
        )
        train.writerow(HEAD + ANSWERS + LABELS)
        test.writerow(HEAD + ANSWERS)
        submission.writerow(["QuestionId_Answer", "MisconceptionId"])
        for split, number, question in stream:
            if split == "train":
                train.writerow(question_row(number, question) + label_columns(question))
                for option in question.options:
                    if option.label is not None:
                        wrong += 1
                        labelled[option.label] = True
                continue
            test.writerow(question_row(number, question))
            for place, letter in enumerate(LETTERS):
                if place != question.correct:
                    submission.writerow([f"{number}_{letter}", PLACEHOLDER])
    write_mapping(out_dir / "misconception_mapping.csv")
    return {
        "questions": questions,
        "test_questions": test_questions,
        "labelled": wrong,
        "misconceptions": len(LISTED),
        "misconceptions_labelled": sum(labelled),
        "subjects": len(SUBJECTS),
        "constructs": len(CONSTRUCTS),
        "procedures": len({id(slip.procedure) for template in TEMPLATES for slip in template.slips}),
    }


def generate_outside(path: Path, questions: int = 1100, seed: int = 42) -> int:
    """Write labelled wrong answers of other questions than `generate` draws, one a row, and return their number.

    The columns are those of outside questions (`data.loaders.outside`). Equal arguments give equal bytes.
    """
    rows = 0
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(OUTSIDE)
        for _, _, question in draw_questions(questions, 0, -1 - seed):  # a sample's seed is never negative
            shared = [question.template.construct, question.template.subject, question.text]
            correct = question.options[question.correct].text
            for option in question.options:
                if option.label is not None:
                    writer.writerow([*shared, correct, option.text, option.label])
                    rows += 1
    return rows


def write_mapping(path: Path) -> None:
    """Write every misconception id with its text."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["MisconceptionId", "MisconceptionName"])
        writer.writerows(enumerate(LISTED))
