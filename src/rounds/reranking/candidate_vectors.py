"""Candidate vectors: embed queries, training queries and passages with each fused model, and build the table."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rounds.data import collection, few_shot
from rounds.data.collection import Collection
from rounds.data.few_shot import QueryMetadata
from rounds.encoding import run_store
from rounds.encoding.encoder import token_states
from rounds.models.checkpoint import Checkpoint
from rounds.reranking.candidates import Candidates
from rounds.reranking.features import FusedModel, LabelledQueries, build_candidates, query_part
from rounds.retrieval import bm25, late_interaction


@dataclass(frozen=True)
class FusedCheckpoint:
    """A checkpoint to fuse, with the part of the query that it reads; an empty part is the whole query."""

    checkpoint: Checkpoint
    part: str = ""

    @property
    def name(self) -> str:
        """The feature group, equal on every split: `minilm round 2`, `minilm round 0 topic`; of averages, the title."""
        manifest = self.checkpoint.manifest
        number = manifest.round if manifest and manifest.round is not None else 0
        is_average = manifest is not None and manifest.parents is not None
        title = manifest.title if is_average else f"round {number}"
        return f"{self.checkpoint.recipe.name} {title} {self.part}".strip()


class _Labels(NamedTuple):
    """Training queries and their labels.

    Attributes:
        queries: the queries.
        query_rows, passage_rows: (labels,) int64, each label's query, and its passage as a row of the corpus.
    """

    queries: list[QueryMetadata]
    query_rows: np.ndarray
    passage_rows: np.ndarray

    @classmethod
    def of(cls, rows: list[dict], passage_rows: dict[str, int]) -> "_Labels":
        """Return the labels of training rows."""
        pairs = [(row, passage_rows[passage]) for row, example in enumerate(rows) for passage in example["pos_id"]]
        query_rows, passages = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        return cls([collection.query_metadata(row) for row in rows], query_rows, passages)

    def labelled(self) -> LabelledQueries:
        """Return them as features are computed from them."""
        return LabelledQueries([self.queries[row] for row in self.query_rows], self.passage_rows)


def compute_candidates(
    fused: list[FusedCheckpoint],
    data: Collection,
    queries: dict[str, QueryMetadata],
    training_rows: list[dict],
    model_output: Path,
) -> Candidates:
    """Embed queries, training queries and passages with each model, and build the table.

    Args:
        fused: The checkpoints, the one to improve last.
        data: The split's collection.
        queries: Query id -> metadata of the queries to rank for.
        training_rows: The collection's fine-tuning rows, outside questions included.
        model_output: Folder that keeps the vectors of base models.
    """
    passage_rows = {passage: row for row, passage in enumerate(data.passages)}
    own = _Labels.of(collection.own_rows(training_rows), passage_rows)
    outside = _Labels.of(collection.outside_rows(training_rows), passage_rows)
    passages, texts = list(data.passages.values()), [query.text for query in queries.values()]
    title = "validation" if data.validation else "test"
    models = []
    for model in fused:
        encoder = run_store.open_store(model.checkpoint, model_output)
        passage_vectors, _ = encoder.vectors(passages, "passage", "corpus")
        bank = collection.example_bank(training_rows, model.checkpoint.recipe.prompts)
        query_vectors = _embed_queries(encoder, model.part, list(queries.values()), bank, title)
        training_vectors = _embed_queries(encoder, model.part, own.queries, bank, "train")[own.query_rows]
        outside_vectors = None
        if outside.queries:
            vectors = _embed_queries(encoder, model.part, outside.queries, bank, "outside")
            outside_vectors = vectors[outside.query_rows]
        corpus = np.asarray(passage_vectors)
        models.append(FusedModel(model.name, query_vectors, training_vectors, corpus, outside_vectors))
    lexical = bm25.score(texts, passages, fused[-1].checkpoint.recipe.mining.bm25)
    table = build_candidates(
        queries,
        list(data.passages),
        own.labelled(),
        models,
        lexical,
        data.qrels,
        outside=outside.labelled() if outside.queries else None,
    )
    table = table.without(data.identical)
    columns = np.array([passage_rows[passage] for passage in table.passage_ids])
    for model in fused:
        if compares_tokens(model.checkpoint):
            values = _token_features(model.checkpoint, texts, passages, (table.query_rows, columns))
            table = table.with_features(f"tokens {model.name}", values)
    return table


def _embed_queries(
    encoder: run_store.RunStore,
    part: str,
    queries: list[QueryMetadata],
    bank: few_shot.ExampleBank | None,
    title: str,
) -> np.ndarray:
    """Embed a part of each query, with the query's few-shot examples where the recipe has any."""
    examples = bank and few_shot.select_examples(bank, queries)
    texts = [query_part(query, part) for query in queries]
    return np.asarray(encoder.vectors(texts, "query", f"{title}-{part}".strip("-"), examples)[0])


def compares_tokens(checkpoint: Checkpoint) -> bool:
    """Return whether the candidates get token features from the checkpoint.

    Tuned checkpoints give them, but not where few-shot examples stand before a query: their tokens would be compared
    as well.
    """
    return not checkpoint.is_base and checkpoint.recipe.prompts.examples == "none"


def _token_features(
    checkpoint: Checkpoint, queries: list[str], passages: list[str], pairs: tuple[np.ndarray, np.ndarray]
) -> dict[str, np.ndarray]:
    """Score the pairs by late interaction; token states fill memory, so only the candidates' passages are embedded."""
    query_rows, passage_rows = pairs
    needed, columns = np.unique(passage_rows, return_inverse=True)
    embedder, prompts = checkpoint.load(), checkpoint.recipe.prompts
    query_tokens, passage_tokens = (
        token_states(embedder, texts, prompts, kind, checkpoint.precision, f"{kind} tokens")
        for texts, kind in ((queries, "query"), ([passages[row] for row in needed], "passage"))
    )
    return late_interaction.score(query_tokens, passage_tokens, (query_rows, columns))
