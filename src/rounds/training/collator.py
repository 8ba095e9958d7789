"""Collate rows of training groups into chunks of tokens and the labels of the loss."""

import random

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from rounds.config.recipe import Recipe
from rounds.data.prompts import max_input_length
from rounds.encoding.batching import Layout
from rounds.encoding.tokenization import tokenize
from rounds.models import dual_encoder, image_inputs, multi_vector
from rounds.models.embedder_classes import representation_name
from rounds.training.chunks import ChunkBuilder
from rounds.training.dataset import DrawnGroup, TrainingGroups


class Collator:
    """Turn row numbers into chunks of tokens and the loss's labels, each distinct passage of the batch once.

    Args:
        groups: the training data.
        embedder: the model to train.
        recipe: names prompts, group size, number of examples and chunk size.
        seed: together with the epoch, draws the number of few-shot examples of each batch.
        share_prefixes: compute what queries share at their start (few-shot examples) once for each chunk.

    Attributes:
        epoch: set by `start_epoch`; decides which negatives and how many examples are drawn.
        first_rows: rows of the epoch's first batch, which show that each epoch is shuffled anew.
    """

    valid_label_columns: list[str] = []

    def __init__(
        self,
        groups: TrainingGroups,
        embedder: SentenceTransformer,
        recipe: Recipe,
        seed: int,
        share_prefixes: bool = False,
    ) -> None:
        self.groups, self.tokenizer, self.prompts, self.seed = groups, embedder.tokenizer, recipe.prompts, seed
        self.group_size, self.examples_limit = recipe.training.group_size, recipe.training.examples_limit
        self.needs_group_rows = bool(groups.teacher_scores) or recipe.training.hardness_mode is not None
        self.outside_weight = recipe.outside.weight if any(groups.is_outside) else 1.0
        self.has_sides = dual_encoder.is_dual(embedder)
        query_encoder = dual_encoder.encoder_for(embedder, "query")
        distinct = list(dict.fromkeys(groups.queries))
        token_ids = tokenize(self.tokenizer, distinct, self.prompts, "query")
        self.query_ids = dict(zip(distinct, token_ids, strict=True))
        self.passage_ids = tokenize(self.tokenizer, groups.passages, self.prompts, "passage")
        self.chunk_builder = ChunkBuilder(
            layout=Layout.for_model(query_encoder, max_input_length(recipe.prompts)),
            token_budget=recipe.training.micro_batch_tokens or None,
            share_prefixes=share_prefixes,
            image_inputs=image_inputs.load_image_inputs(query_encoder, [*distinct, *groups.passages]),
        )
        self.embedder = embedder if representation_name(embedder) == "tokens" else None
        if self.embedder:
            self.kept_in_passages = [multi_vector.kept_tokens(embedder, ids, "passage") for ids in self.passage_ids]
        self.start_epoch(0)

    def start_epoch(self, epoch: int) -> None:
        """Begin an epoch, counted from 0. All processes draw the same number of examples for the same batch."""
        self.first_rows: list[int] = []
        self.epoch, self.example_counts = epoch, random.Random(f"{self.seed}-{epoch}-examples")

    def __call__(self, rows: list[dict[str, int]]) -> dict:
        numbers = [row["row"] for row in rows]
        self.first_rows = self.first_rows or numbers
        drawn = [self.groups.draw(row, self.epoch, self.group_size) for row in numbers]
        passages = list(dict.fromkeys(passage for group in drawn for passage in (group.positive, *group.negatives)))
        query_ids, query_texts = self.tokenize_queries(numbers), [self.groups.queries[row] for row in numbers]
        if self.embedder:
            query_ids = multi_vector.expand_queries(self.embedder, query_ids, "query")
        passage_ids = [self.passage_ids[passage] for passage in passages]
        passage_texts = [self.groups.passages[passage] for passage in passages]
        if self.has_sides:
            chunks = self.chunk_builder.build_by_side((query_ids, query_texts), (passage_ids, passage_texts))
        else:
            kept = self._kept_tokens(query_ids, passages)
            chunks = self.chunk_builder.build(query_ids + passage_ids, query_texts + passage_texts, kept_tokens=kept)
        labels = {
            "query_order": _to_order(chunks.embedding_rows[: len(numbers)]),
            "passage_order": _to_order(chunks.embedding_rows[len(numbers) :]),
            "passages": torch.tensor(passages),
            "positive": torch.tensor([group.positive for group in drawn]),
            "false_negatives": self._false_negatives(numbers),
        }
        if self.needs_group_rows:
            labels["group_rows"] = self._group_rows(drawn, passages)
        if self.groups.teacher_scores:
            labels["teacher_scores"] = self._teacher_scores(numbers, drawn)
        if self.outside_weight != 1:
            labels["weights"] = torch.tensor(
                [self.outside_weight if self.groups.is_outside[n] else 1.0 for n in numbers]
            )
        return {**chunks.tensors, "label": labels}

    def _kept_tokens(self, query_ids: list[list[int]], passages: list[int]) -> list[np.ndarray] | None:
        """Return which tokens of a batch's queries and passages are compared; None where texts have one vector."""
        if self.embedder is None:
            return None
        of_queries = [multi_vector.kept_tokens(self.embedder, ids, "query") for ids in query_ids]
        return of_queries + [self.kept_in_passages[passage] for passage in passages]

    def tokenize_queries(self, rows: list[int]) -> list[list[int]]:
        """Return the token ids of the rows' queries, after this batch's number of few-shot examples."""
        count = self.example_counts.randint(0, self.examples_limit) if self.examples_limit else 0
        texts = [self.groups.queries[row] for row in rows]
        if not count:
            return [self.query_ids[text] for text in texts]
        examples = [self.groups.examples[row][:count] for row in rows]
        return tokenize(self.tokenizer, texts, self.prompts, "query", examples, report=False)

    def _false_negatives(self, rows: list[int]) -> Tensor:
        """Return (rows, n) numbers of the passages that must not serve as a row's negatives, filled up with -2."""
        false_negatives = [sorted(self.groups.false_negatives[row]) for row in rows]
        width = max(len(numbers) for numbers in false_negatives)
        return torch.tensor([numbers + [-2] * (width - len(numbers)) for numbers in false_negatives])

    def _group_rows(self, drawn: list[DrawnGroup], passages: list[int]) -> Tensor:
        """Return (queries, group) rows of the batch's passages of each query's own group, filled up with -1."""
        place = {passage: row for row, passage in enumerate(passages)}
        rows = [[place[passage] for passage in (group.positive, *group.negatives)] for group in drawn]
        return torch.tensor([row + [-1] * (self.group_size - len(row)) for row in rows])

    def _teacher_scores(self, rows: list[int], drawn: list[DrawnGroup]) -> Tensor:
        """Return (queries, group) scores that a teacher gave each query's own group, filled up with 0."""
        scores = [
            [self.groups.teacher_scores[row][passage] for passage in (group.positive, *group.negatives)]
            for row, group in zip(rows, drawn, strict=True)
        ]
        return torch.tensor([row + [0.0] * (self.group_size - len(row)) for row in scores])


def _to_order(rows: list) -> Tensor:
    """Return (texts,) int64, or (texts, tokens) filled up with -1 where each text has several rows."""
    if not isinstance(rows[0], np.ndarray):
        return torch.tensor(rows)
    return pad_sequence(list(map(torch.from_numpy, rows)), batch_first=True, padding_value=-1)
