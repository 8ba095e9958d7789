"""Training groups: a query with one positive and some of its hard negatives, other ones in each epoch."""

import hashlib
import math
import random
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from datasets import Dataset

from rounds.config.recipe import Recipe
from rounds.data import collection, few_shot
from rounds.data.images import MODALITY_FILTERS
from rounds.data.text import normalize_text
from rounds.errors import UserError
from rounds.training.losses import LOSSES


class DrawnGroup(NamedTuple):
    """A row's positive and negatives in one epoch, as passage numbers."""

    positive: int
    negatives: list[int]


@dataclass(frozen=True)
class TrainingGroups:
    """Training data: each text once, and rows that refer to passages by number.

    Attributes:
        queries: query text of each row.
        passages: distinct passage texts; texts that differ in white space only are one passage.
        positives: each row's positives, as passage numbers.
        negatives: each row's hard negatives, shuffled by the row's own generator.
        false_negatives: passages that must not serve as a row's negatives: positives of any row with the same query
            text, passages that such a row excludes, and the query itself.
        examples: each row's few-shot examples, best first; as many as a batch may use.
        teacher_scores: a teacher's score of each of the row's passages, NaN where it gave none; empty if the loss
            needs none.
        is_outside: whether each row is of an outside question.
    """

    queries: list[str]
    passages: list[str]
    positives: list[list[int]]
    negatives: list[list[int]]
    false_negatives: list[set[int]]
    examples: list[list[str]]
    teacher_scores: list[dict[int, float]] = field(default_factory=list)
    is_outside: list[bool] = field(default_factory=list)

    def draw(self, row: int, epoch: int, size: int) -> DrawnGroup:
        """Return a row's positive and `size - 1` negatives: a window over its negatives that moves on each epoch.

        With fewer negatives than that, return all of them. Epochs count from 0.
        """
        positive = self.positives[row][epoch % len(self.positives[row])]
        pool = self.negatives[row]
        count = min(size - 1, len(pool))
        return DrawnGroup(positive, [pool[(epoch * count + step) % len(pool)] for step in range(count)])


class _PassageTable:
    """Numbers distinct passages in the order in which they come."""

    def __init__(self, keep_modality: Callable[[str], str]) -> None:
        self.keep_modality = keep_modality
        self.texts: list[str] = []
        self.numbers: dict[str, int] = {}

    def add(self, text: str) -> int:
        """Return the number of a passage; a new text gets the next one."""
        text = self.keep_modality(text)
        key = normalize_text(text)
        if key not in self.numbers:
            self.numbers[key] = len(self.texts)
            self.texts.append(text)
        return self.numbers[key]

    def find(self, text: str) -> int | None:
        """Return the number of a passage, or None if it has not been added."""
        return self.numbers.get(normalize_text(self.keep_modality(text)))


def read_training_groups(path: Path, seed: int, recipe: Recipe) -> TrainingGroups:
    """Read FlagEmbedding-style JSONL (`query`, `pos`, `neg`).

    Few-shot examples are chosen from the file's own rows.

    Args:
        seed: shuffles each row's negatives.
        recipe: names the modality, loss and number of few-shot examples.

    Raises:
        UserError: a broken line, a row without a positive, no row with a negative, or missing teacher scores.
    """
    keep_modality = MODALITY_FILTERS[recipe.training.pictures]
    rows = [
        {**row, "query": (query := keep_modality(row["query"])), "is_whole": query == row["query"]}
        for row in collection.read_rows(path, ("pos", "neg"))
    ]
    table = _PassageTable(keep_modality)
    positives, negatives = [], []
    for line, row in enumerate(rows, 1):
        if not row["pos"]:
            raise UserError(f"{path} line {line}: pos is empty")
        positives.append([table.add(text) for text in row["pos"]])
        negatives.append(_shuffle_negatives(row, list(dict.fromkeys(table.add(text) for text in row["neg"])), seed))
    false_negatives = _false_negatives(rows, positives, table)
    pairs = zip(negatives, false_negatives, strict=True)
    negatives = [[number for number in pool if number not in excluded] for pool, excluded in pairs]
    if not any(negatives):
        raise UserError(f"{path}: no row has negatives; mine them first (hn_mine.py)")
    return TrainingGroups(
        queries=[row["query"] for row in rows],
        passages=table.texts,
        positives=positives,
        negatives=negatives,
        false_negatives=false_negatives,
        examples=_select_examples(rows, recipe),
        teacher_scores=_teacher_scores(rows, path, table, recipe.training.loss),
        is_outside=[collection.OUTSIDE in row for row in rows],
    )


def _shuffle_negatives(row: dict, pool: list[int], seed: int) -> list[int]:
    """Shuffle by the seed and the row's texts, so that the row's place in the file does not matter."""
    key = hashlib.sha256(f"{seed}\0{row['query']}\0{row['pos'][0]}".encode()).hexdigest()
    random.Random(key).shuffle(pool)
    return pool


def _false_negatives(rows: list[dict], positives: list[list[int]], table: _PassageTable) -> list[set[int]]:
    """Return each row's passages that a row with its query text has as positive or excludes, or that are the query."""
    by_query: dict[str, set[int]] = {}
    for row, numbers in zip(rows, positives, strict=True):
        # A query that lost its image, or its words, may seem to be a passage that it is not.
        own = [row["query"]] if row["is_whole"] and row.get("identical") != [] else []
        excluded = (table.find(text) for text in (*row.get("excluded", ()), *own))
        by_query.setdefault(normalize_text(row["query"]), set()).update(numbers, (n for n in excluded if n is not None))
    return [by_query[normalize_text(row["query"])] for row in rows]


def _select_examples(rows: list[dict], recipe: Recipe) -> list[list[str]]:
    """Return up to `training.examples_limit` few-shot examples of each row."""
    limit = recipe.training.examples_limit
    bank = collection.example_bank(rows, recipe.prompts) if limit else None
    if bank is None:
        return [[] for _ in rows]
    return few_shot.select_examples(bank, [collection.query_metadata(row) for row in rows], limit)


def _teacher_scores(rows: list[dict], path: Path, table: _PassageTable, loss: str) -> list[dict[int, float]]:
    """Return each row's scores by passage number, as FlagEmbedding's `pos_scores` and `neg_scores` hold them.

    With `distillation`, a passage that the row names under `unscored` has a score of null.
    """
    teacher_scores: list[dict[int, float]] = []
    if not LOSSES[loss].needs_teacher:
        return teacher_scores
    for line, row in enumerate(rows, 1):
        texts = row["pos"] + row["neg"]
        of_pos, of_neg = row.get("pos_scores"), row.get("neg_scores") or []
        unscored = row.get("unscored", ()) if loss == "distillation" else ()
        if not (_fits(of_pos, row["pos"], unscored) and _fits(of_neg, row["neg"], unscored)):
            raise UserError(
                f"{path} line {line}: has no teacher's score of each passage (pos_scores, neg_scores); "
                "mine with mining.reranker, or train with loss info_nce"
            )
        # Texts of `pos` and `neg` are in the table, so adding them only looks their numbers up.
        scores = (math.nan if score is None else float(score) for score in of_pos + of_neg)
        teacher_scores.append({table.add(text): score for text, score in zip(texts, scores, strict=True)})
    return teacher_scores


def _fits(scores: object, texts: list[str], unscored: Collection[str]) -> bool:
    """Return whether `scores` is a list of a finite number for each text, and of null for unscored ones."""
    return (
        isinstance(scores, list)
        and len(scores) == len(texts)
        and all(
            text in unscored if score is None else isinstance(score, int | float) and math.isfinite(score)
            for score, text in zip(scores, texts, strict=True)
        )
    )


def row_dataset(groups: TrainingGroups) -> Dataset:
    """Return the Trainer's dataset: row numbers, from which the collator makes tokens."""
    return Dataset.from_dict({"row": range(len(groups.queries))})
