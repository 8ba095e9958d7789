"""Groups: a query with one positive and some of its hard negatives, fresh ones each epoch, as batches of tokens."""

import hashlib
import random
from dataclasses import dataclass, field
from pathlib import Path

from datasets import Dataset

from rounds.config.recipe import Recipe
from rounds.data import collection, few_shot
from rounds.data.images import MODALITY_FILTERS
from rounds.data.text import normalize_text
from rounds.errors import UserError


@dataclass(frozen=True)
class Groups:
    """Training data: texts once, rows of numbers.

    Attributes:
        queries: each row's query text.
        passages: distinct passage texts; two that differ in white space only are one.
        positives: each row's positives, as numbers of passages.
        negatives: each row's hard negatives, shuffled by the row's own generator.
        known: each row's passages that are never its negatives: positives of any row with the same query text, and
            what the rows exclude.
        before: each row's examples, best first; as many as a batch may take.
        teacher: each row's passages with a teacher's scores; empty where the loss needs none.
    """

    queries: list[str]
    passages: list[str]
    positives: list[list[int]]
    negatives: list[list[int]]
    known: list[set[int]]
    before: list[list[str]]
    teacher: list[dict[int, float]] = field(default_factory=list)

    def draw(self, row: int, epoch: int, size: int) -> tuple[int, list[int]]:
        """The row's positive and `size - 1` negatives in an epoch (from 0): a window that moves on each epoch."""
        positive = self.positives[row][epoch % len(self.positives[row])]
        pool = self.negatives[row]
        count = min(size - 1, len(pool))
        return positive, [pool[(epoch * count + step) % len(pool)] for step in range(count)]


def read_groups(path: Path, seed: int, recipe: Recipe) -> Groups:
    """Read FlagEmbedding-style JSONL (`query`, `pos`, `neg`); examples are chosen among its own rows.

    Raises:
        UserError: a broken line, a row without a positive, or no row with a negative.
    """
    numbers: dict[str, int] = {}
    passages: list[str] = []

    shown = MODALITY_FILTERS[recipe.training.pictures]

    def number(text: str) -> int:
        text = shown(text)
        key = normalize_text(text)
        if key not in numbers:
            numbers[key] = len(passages)
            passages.append(text)
        return numbers[key]

    queries, positives, negatives, known = [], [], [], {}
    rows = [{**row, "query": shown(row["query"])} for row in collection.read_rows(path, ("pos", "neg"))]
    for line, row in enumerate(rows, 1):
        if not row["pos"]:
            raise UserError(f"{path} line {line}: pos is empty")
        queries.append(row["query"])
        positives.append([number(text) for text in row["pos"]])
        known.setdefault(row["query"], set()).update(positives[-1])
        pool = list(dict.fromkeys(number(text) for text in row["neg"]))
        key = hashlib.sha256(f"{seed}\0{row['query']}\0{row['pos'][0]}".encode()).hexdigest()
        random.Random(key).shuffle(pool)
        negatives.append(pool)
    for query, row in zip(queries, rows, strict=True):  # perhaps relevant: nobody's negatives either
        texts = (normalize_text(shown(text)) for text in row.get("excluded", ()))
        known[query] |= {numbers[text] for text in texts if text in numbers}
    owned = [known[query] for query in queries]
    negatives = [[n for n in pool if n not in own] for pool, own in zip(negatives, owned, strict=True)]
    if not any(negatives):
        raise UserError(f"{path}: no row has negatives; mine them first (hn_mine.py)")
    bank = collection.example_bank(rows, recipe.prompts) if recipe.training.examples_limit else None
    asked = [collection.query_metadata(row) for row in rows] if bank else []
    before = few_shot.select_examples(bank, asked, recipe.training.examples_limit) if bank else [[] for _ in rows]
    teacher = _teacher(rows, path, numbers) if recipe.training.loss != "info_nce" else []
    return Groups(queries, passages, positives, negatives, owned, before, teacher)


def _teacher(rows: list[dict], path: Path, numbers: dict[str, int]) -> list[dict[int, float]]:
    """Each row's scores by passage number, as FlagEmbedding's `pos_scores` and `neg_scores` hold them."""
    found = []
    for line, row in enumerate(rows, 1):
        texts, scores = row["pos"] + row["neg"], [*(row.get("pos_scores") or []), *(row.get("neg_scores") or [])]
        if len(scores) != len(texts) or "pos_scores" not in row:
            raise UserError(
                f"{path} line {line}: has no teacher's score of each passage (pos_scores, neg_scores); "
                "mine with mining.reranker, or train with loss info_nce"
            )
        found.append({numbers[normalize_text(text)]: float(each) for text, each in zip(texts, scores, strict=True)})
    return found


def row_dataset(groups: Groups) -> Dataset:
    """The Trainer's dataset: row numbers, which `Collator` turns into tokens."""
    return Dataset.from_dict({"row": range(len(groups.queries))})


def _names(chunks: dict) -> list[str]:
    """`chunk0`, `chunk1`, ... of a collated batch."""
    return [key.removesuffix("_input_ids") for key in chunks if key.endswith("_input_ids")]
