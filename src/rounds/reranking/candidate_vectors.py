"""Candidate vectors: embed queries, training queries and passages with each fused model, and build the table."""

from collections.abc import Iterable, Iterator, Sequence
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
from rounds.reranking.features import FusedModel, LabelledQueries, UnrankedSiblings, build_candidates, query_part
from rounds.retrieval import bm25, late_interaction
from rounds.retrieval.vectors import widen


@dataclass(frozen=True)
class FusedCheckpoint:
    """A checkpoint to fuse, with the part of the query that it reads; an empty part is the whole query.

    Attributes:
        checkpoint: The checkpoint.
        part: Of the query.
        other_seeds: Checkpoints of the same round that were trained with other seeds; the similarity is the mean.
    """

    checkpoint: Checkpoint
    part: str = ""
    other_seeds: tuple[Checkpoint, ...] = ()

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """All checkpoints, one a seed."""
        return (self.checkpoint, *self.other_seeds)

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
        """Return the labels of training rows; those without a vote have queries, and no labels."""
        pairs = [
            (row, passage_rows[passage])
            for row, example in enumerate(rows)
            if collection.SILENT not in example
            for passage in example["pos_id"]
        ]
        query_rows, passages = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        return cls([collection.query_metadata(row) for row in rows], query_rows, passages)

    def without(self, left_out: np.ndarray) -> "_Labels":
        """Return the labels of the other queries than those that are left out, (queries,) bool."""
        kept = ~left_out[self.query_rows]
        return self._replace(query_rows=self.query_rows[kept], passage_rows=self.passage_rows[kept])

    def labelled(self) -> LabelledQueries:
        """Return them as features are computed from them."""
        return LabelledQueries([self.queries[row] for row in self.query_rows], self.passage_rows)


class _ModelVectors(NamedTuple):
    """Vectors of one fused model.

    Attributes:
        passages: (corpus, dim).
        own, outside: (rows, dim), of the competition's training rows and of the outside ones; None without any.
        queries: (queries, dim), of the queries to rank for; None where these are training rows.
        siblings: (siblings, dim), of other wrong answers of their questions; None without any.
    """

    passages: np.ndarray
    own: np.ndarray
    outside: np.ndarray | None
    queries: np.ndarray | None = None
    siblings: np.ndarray | None = None


def compute_candidates(
    fused: list[FusedCheckpoint],
    data: Collection,
    queries: dict[str, QueryMetadata],
    training_rows: list[dict],
    model_output: Path,
    siblings: Sequence[QueryMetadata] = (),
) -> Candidates:
    """Embed queries, training queries and passages with each model, and build the table.

    Args:
        fused: The checkpoints, the one to improve last.
        data: The split's collection.
        queries: Query id -> metadata of the queries to rank for.
        training_rows: The collection's fine-tuning rows, outside questions included.
        model_output: Folder that keeps the vectors of base models.
        siblings: Other wrong answers of the queries' questions, which are not ranked.
    """
    passage_rows = {passage: row for row, passage in enumerate(data.passages)}
    own = _Labels.of(collection.own_rows(training_rows), passage_rows)
    outside = _Labels.of(collection.outside_rows(training_rows), passage_rows)
    vectors = [_embed(model, data, (own, outside), training_rows, model_output, queries) for model in fused]
    vectors[-1] = vectors[-1]._replace(siblings=_embed_siblings(fused[-1], siblings, training_rows, model_output))
    ranked = {"queries": queries, "qrels": data.qrels, "siblings": siblings}
    table = _build_table(fused, vectors, data, (own, outside), ranked)
    return _with_tokens(table.without(data.identical), fused, data, queries)


def compute_training_candidates(
    fused: list[FusedCheckpoint],
    data: Collection,
    training_rows: list[dict],
    blocks: list[list[int]],
    model_output: Path,
    siblings: Sequence[QueryMetadata] = (),
) -> Iterator[Candidates]:
    """Build the tables of training rows, block by block; what a block's rows are labelled with does not count in it.

    Neither do a block's rows vote, nor do they count as labels of a passage, as if the block were a fold. But the
    checkpoints may have been trained on them.

    Args:
        fused: The checkpoints, the one to improve last.
        data: The collection whose training rows these are.
        training_rows: The collection's fine-tuning rows, outside questions included.
        blocks: Rows of `training_rows` to rank for; those of a block are all outside ones, or none is.
        model_output: Folder that keeps the vectors of base models.
        siblings: Other wrong answers of the rows' questions, which are not ranked.
    """
    passage_rows = {passage: row for row, passage in enumerate(data.passages)}
    is_outside = np.array([collection.OUTSIDE in row for row in training_rows], dtype=bool)
    places = np.where(is_outside, np.cumsum(is_outside), np.cumsum(~is_outside)) - 1  # among the rows of its side
    own = _Labels.of(collection.own_rows(training_rows), passage_rows)
    outside = _Labels.of(collection.outside_rows(training_rows), passage_rows)
    vectors = [_embed(model, data, (own, outside), training_rows, model_output) for model in fused]
    vectors[-1] = vectors[-1]._replace(siblings=_embed_siblings(fused[-1], siblings, training_rows, model_output))
    for block in blocks:
        rows, side = [training_rows[row] for row in block], bool(is_outside[block[0]])
        labels, of_block = [own, outside], places[block]
        left_out = np.isin(np.arange(len(labels[side].queries)), of_block)
        labels[side] = labels[side].without(left_out)
        ranked = [each._replace(queries=(each.outside if side else each.own)[of_block]) for each in vectors]
        queries = {row["query_id"]: collection.query_metadata(row) for row in rows}
        qrels = {row["query_id"]: row["pos_id"] for row in rows}
        of_rows = {"queries": queries, "qrels": qrels, "siblings": siblings}
        table = _build_table(fused, ranked, data, tuple(labels), of_rows)
        table = table.without({row["query_id"]: row["identical"] for row in rows if row.get("identical")})
        yield _with_tokens(table, fused, data, queries)


def _embed(
    model: FusedCheckpoint,
    data: Collection,
    labels: tuple[_Labels, _Labels],
    training_rows: list[dict],
    model_output: Path,
    queries: dict[str, QueryMetadata] | None = None,
) -> _ModelVectors:
    """Embed passages, training queries (`labels`: own and outside ones) and, where they are given, queries."""
    seeds = [
        _embed_by(checkpoint, model.part, data, labels, training_rows, model_output, queries)
        for checkpoint in model.checkpoints
    ]
    return seeds[0] if len(seeds) == 1 else _ModelVectors(*map(_joined, zip(*seeds, strict=True)))


def _embed_siblings(
    model: FusedCheckpoint, siblings: Sequence[QueryMetadata], training_rows: list[dict], model_output: Path
) -> np.ndarray | None:
    """Embed wrong answers that are not ranked, (siblings, dim); None without any."""
    if not siblings:
        return None
    vectors = []
    for checkpoint in model.checkpoints:
        encoder = run_store.open_store(checkpoint, model_output)
        bank = collection.example_bank(training_rows, checkpoint.recipe.prompts)
        vectors.append(_embed_queries(encoder, model.part, list(siblings), bank, "siblings"))
    return vectors[0] if len(vectors) == 1 else _joined(tuple(vectors))


def _joined(vectors: tuple[np.ndarray | None, ...]) -> np.ndarray | None:
    """Put the vectors of several seeds side by side, so that inner products are the mean over the seeds.

    >>> one, other = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    >>> float((_joined((one, other)) @ _joined((one, one)).T).round(6).item())
    0.5
    """
    return None if vectors[0] is None else np.hstack(vectors) / np.float32(np.sqrt(len(vectors)))


def _embed_by(
    checkpoint: Checkpoint,
    part: str,
    data: Collection,
    labels: tuple[_Labels, _Labels],
    training_rows: list[dict],
    model_output: Path,
    queries: dict[str, QueryMetadata] | None,
) -> _ModelVectors:
    """Embed with one checkpoint."""
    encoder = run_store.open_store(checkpoint, model_output)
    bank = collection.example_bank(training_rows, checkpoint.recipe.prompts)

    def embed(texts: Iterable[QueryMetadata], title: str) -> np.ndarray:
        return _embed_queries(encoder, part, list(texts), bank, title)

    passages, _ = encoder.vectors(list(data.passages.values()), "passage", "corpus")
    ranked = None
    if queries is not None:
        ranked = embed(queries.values(), "validation" if data.validation else "test")
    own, outside = labels
    trained = embed((*own.queries, *outside.queries), "train")  # one set, which mining has encoded for most checkpoints
    return _ModelVectors(
        passages=widen(np.asarray(passages)),
        own=trained[: len(own.queries)],
        outside=trained[len(own.queries) :] if outside.queries else None,
        queries=ranked,
    )


def _build_table(
    fused: list[FusedCheckpoint],
    vectors: list[_ModelVectors],
    data: Collection,
    labels: tuple[_Labels, _Labels],
    ranked: dict,
) -> Candidates:
    """Return the candidates of the queries whose vectors are given, with all features but those of tokens.

    Args:
        labels: of the training rows that count, own and outside ones.
        ranked: `queries`, id -> metadata, their `qrels`, and `siblings` of theirs that are not ranked.
    """
    own, outside = labels
    models = [
        FusedModel(
            model.name,
            each.queries,
            each.own[own.query_rows],
            each.passages,
            each.outside[outside.query_rows] if len(outside.query_rows) else None,
            None if each.siblings is None else UnrankedSiblings(ranked["siblings"], each.siblings),
        )
        for model, each in zip(fused, vectors, strict=True)
    ]
    texts = [query.text for query in ranked["queries"].values()]
    lexical = bm25.score(texts, list(data.passages.values()), fused[-1].checkpoint.recipe.mining.bm25)
    return build_candidates(
        ranked["queries"],
        list(data.passages),
        own.labelled(),
        models,
        lexical,
        ranked["qrels"],
        outside=outside.labelled() if len(outside.query_rows) else None,
    )


def _with_tokens(
    table: Candidates, fused: list[FusedCheckpoint], data: Collection, queries: dict[str, QueryMetadata]
) -> Candidates:
    """Return the table with late interaction's features of the checkpoints that give them."""
    passage_rows = {passage: row for row, passage in enumerate(data.passages)}
    columns = np.array([passage_rows[passage] for passage in table.passage_ids])
    texts, passages = [query.text for query in queries.values()], list(data.passages.values())
    for model in fused:
        if compares_tokens(model.checkpoint):
            pairs = (table.query_rows, columns)
            seeds = [_token_features(checkpoint, texts, passages, pairs) for checkpoint in model.checkpoints]
            values = {name: np.mean([each[name] for each in seeds], axis=0) for name in seeds[0]}
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
