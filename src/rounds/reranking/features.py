"""Candidate features: choose each query's candidate passages and compute what the fusion learns from.

No model is loaded here: similarities come in as vectors, lexical matches as BM25 scores. Every feature is computed from
the queries, other wrong answers of their questions, the corpus and the labelled training queries of the same split,
never from a query's own label.
"""

from dataclasses import dataclass, replace

import numpy as np

from rounds.data import latex
from rounds.data.few_shot import QueryMetadata
from rounds.errors import UserError
from rounds.reranking.candidates import Candidates, in_group
from rounds.retrieval.vectors import unit_vectors

NEAREST, VOTED, LEXICAL = 50, 15, 10  # passages that each of the three rankings adds to a query's candidates

VOTE_TEMPERATURE = 0.05  # a labelled query votes with weight exp((cosine - 1) / VOTE_TEMPERATURE)

HUB = 30  # a passage's hubness is its mean similarity to this many of the nearest training queries

QUERY_PARTS = ("topic", "problem")  # parts of a query that the base model also embeds alone

MAX_PAIRS = 50_000_000  # queries times passages held in memory at once, some 200 MB a matrix

SIMILARITIES_AT_ONCE = 2**24  # of passages to each other

VOTES_AT_ONCE = 2**24  # queries times labels of outside questions, which may be a hundred thousand, held at once

Pairs = tuple[np.ndarray, np.ndarray]  # of each pair: the row of its query, and of its passage in the corpus


@dataclass(frozen=True)
class LabelledQueries:
    """Training queries with the passages that they are labelled with, one entry a label.

    Attributes:
        metadata: (labels) metadata of each label's query; a query with two labels stands here twice.
        passage_rows: (labels,) int64, each label's passage as a row of the corpus.
    """

    metadata: list[QueryMetadata]
    passage_rows: np.ndarray


@dataclass(frozen=True)
class UnrankedSiblings:
    """Wrong answers of the ranked queries' questions that are not ranked themselves.

    Attributes:
        metadata: (siblings) their metadata.
        vectors: (siblings, dim), by the last model.
    """

    metadata: list[QueryMetadata]
    vectors: np.ndarray


@dataclass(frozen=True)
class FusedModel:
    """Vectors of one checkpoint whose similarities (inner products) become features.

    Attributes:
        name: The feature group.
        queries: (queries, dim), vectors of the queries to rank for.
        labelled: (labels, dim), vectors of the training queries, in the order of `LabelledQueries`.
        passages: (corpus, dim), vectors of the passages.
        outside: (labels, dim), vectors of the outside questions; None without any.
        siblings: Wrong answers that are not ranked; of the last model alone, and None without any.
    """

    name: str
    queries: np.ndarray
    labelled: np.ndarray
    passages: np.ndarray
    outside: np.ndarray | None = None
    siblings: UnrankedSiblings | None = None


def build_candidates(
    queries: dict[str, QueryMetadata],
    passage_ids: list[str],
    labelled: LabelledQueries,
    models: list[FusedModel],
    bm25_scores: np.ndarray,
    qrels: dict[str, list[str]],
    max_pairs: int = MAX_PAIRS,
    outside: LabelledQueries | None = None,
) -> Candidates:
    """Choose the candidates of each query and compute their features.

    The candidates are the nearest passages of the last model, those that its nearest labelled queries vote for, and the
    best by BM25. The feature groups are `MODEL` and `votes MODEL` for each model, `labels`, `words` and `siblings`.
    Outside questions vote apart: for further candidates, and in the groups `outside MODEL`.

    Args:
        queries: Query id -> metadata. Queries of one question are siblings, and so are the last model's
            `siblings`.
        passage_ids: Passage ids in corpus order.
        labelled: The labelled training queries.
        models: The fused models; the ranking of the last is the one to improve.
        bm25_scores: (queries, corpus).
        qrels: Query id -> relevant passage ids. A query without an entry has no relevant pair.
        max_pairs: The most queries times passages to hold in memory.
        outside: The outside questions that train; None without any.

    Raises:
        UserError: There are more queries times passages than `max_pairs`.
    """
    if len(queries) * len(passage_ids) > max_pairs:
        raise UserError(
            f"{len(queries)} queries and {len(passage_ids)} passages are too many pairs to fuse (most: {max_pairs}); "
            "rank fewer queries at once"
        )
    metadata, main = list(queries.values()), models[-1]
    similarity = main.queries @ main.passages.T
    pairs = np.nonzero(_choose(similarity, main, labelled, outside, bm25_scores))
    features: dict[str, np.ndarray] = {}
    for model in models:
        features |= in_group(model.name, _similarity_features(model, labelled, pairs))
        features |= in_group(f"votes {model.name}", _vote_features(model, metadata, labelled, pairs))
    features |= in_group("labels", _label_features(metadata, labelled, main, pairs))
    features |= in_group("words", _rank_features(bm25_scores, pairs))
    features |= in_group("siblings", _sibling_features(metadata, main, similarity, pairs))
    features |= _outside_features(models, metadata, outside, pairs) if outside else {}
    return Candidates(
        queries=list(queries),
        query_rows=pairs[0],
        passage_ids=np.array(passage_ids, dtype=object)[pairs[1]],
        relevant=_relevance(list(queries), passage_ids, qrels)[pairs],
        features={name: np.asarray(values, dtype=np.float32) for name, values in features.items()},
    )


def _choose(
    similarity: np.ndarray,
    model: FusedModel,
    labelled: LabelledQueries,
    outside: LabelledQueries | None,
    bm25_scores: np.ndarray,
) -> np.ndarray:
    """Mark each query's candidates, (queries, corpus) bool."""
    count, corpus_size = similarity.shape
    is_candidate = (
        _top(similarity, NEAREST)
        | _top_voted(model.queries @ model.labelled.T, labelled, corpus_size)
        | (_top(bm25_scores, LEXICAL) & (bm25_scores > 0))
    )
    if outside is not None:
        for block in _query_blocks(count, outside):
            is_candidate[block] |= _top_voted(model.queries[block] @ model.outside.T, outside, corpus_size)
    return is_candidate


def nearest_votes(similarity: np.ndarray, labelled: LabelledQueries, corpus_size: int) -> np.ndarray:
    """Return the highest similarity to any training query labelled with the passage (kNN vote).

    Args:
        similarity: (queries, labels), similarity of the queries to the labelled training queries.
        labelled: The labelled training queries.
        corpus_size: Number of passages.

    Returns:
        (queries, corpus) float32, -1 for a passage that no training query is labelled with.

    >>> similarity = np.array([[0.5, 0.25, 0.75]], dtype=np.float32)
    >>> nearest_votes(similarity, LabelledQueries([], np.array([2, 0, 2])), 3).tolist()
    [[0.25, -1.0, 0.75]]
    """
    votes = np.full((len(similarity), corpus_size), -1.0, dtype=np.float32)
    order = np.argsort(labelled.passage_rows, kind="stable")
    voted_rows, starts = np.unique(labelled.passage_rows[order], return_index=True)
    votes[:, voted_rows] = np.maximum.reduceat(similarity[:, order], starts, axis=1)
    return votes


def _top_voted(similarity: np.ndarray, labelled: LabelledQueries, corpus_size: int) -> np.ndarray:
    """Mark the passages that each query's nearest labelled queries vote for, (queries, corpus) bool."""
    votes = nearest_votes(similarity, labelled, corpus_size)
    return _top(votes, VOTED) & (votes > -1)


def query_part(query: QueryMetadata, part: str) -> str:
    """Return a part of a query's text.

    Args:
        query: The query.
        part: `topic` for its construct, `problem` for the lines that are neither construct nor subject, and an empty
            string for the whole text. A query without the part gives its whole text.

    >>> query = QueryMetadata("Add\\nSums\\n1 + 1?\\n2\\n11", "5", "Add", "Sums")
    >>> [query_part(query, part).splitlines() for part in QUERY_PARTS]
    [['Add'], ['1 + 1?', '2', '11']]
    """
    if part == "topic":
        return query.construct or query.text
    if part == "problem":
        topic_lines = {line for name in (query.construct, query.subject) for line in (name.strip(), latex.words(name))}
        return "\n".join(line for line in query.text.splitlines() if line.strip() not in topic_lines) or query.text
    return query.text


def _similarity_features(model: FusedModel, labelled: LabelledQueries, pairs: Pairs) -> dict[str, np.ndarray]:
    """Compare the pair's similarity with the query's best, and with the best labelled and unlabelled passage."""
    query_rows, passage_rows = pairs
    similarity = model.queries @ model.passages.T
    is_labelled = np.isin(np.arange(similarity.shape[1]), labelled.passage_rows)
    best_labelled, best_unlabelled = (
        np.where(mask, similarity, -1).max(axis=1)[query_rows] for mask in (is_labelled, ~is_labelled)
    )
    features = _rank_features(similarity, pairs)
    features["below labelled"] = features["score"] - best_labelled
    features["below unlabelled"] = features["score"] - best_unlabelled
    features["labelled above unlabelled"] = best_labelled - best_unlabelled
    features["best"] = similarity.max(axis=1)[query_rows]
    features["near everything"] = _hubness(model)[passage_rows]
    return features


def _hubness(model: FusedModel) -> np.ndarray:
    """Return each passage's (corpus,) mean similarity to its `HUB` nearest training queries."""
    return np.sort(model.labelled @ model.passages.T, axis=0)[-HUB:].mean(axis=0)


def _vote_features(
    model: FusedModel, queries: list[QueryMetadata], labelled: LabelledQueries, pairs: Pairs
) -> dict[str, np.ndarray]:
    """Let labelled training queries vote for their passages (kNN), the nearest most."""
    query_rows = pairs[0]
    corpus_size = len(model.passages)
    similarity = model.queries @ model.labelled.T
    weights = np.exp((similarity - 1) / VOTE_TEMPERATURE)
    passage_weights = _sum_by_passage(weights, labelled, corpus_size)[pairs]
    query_weights = np.maximum(weights.sum(axis=1), 1e-9)[query_rows]
    in_construct = np.where(_share_field(queries, labelled.metadata, "construct"), similarity, -1)
    features = _rank_features(nearest_votes(similarity, labelled, corpus_size), pairs)
    features["weight"] = passage_weights
    features["share"] = passage_weights / query_weights
    for name, values in _rank_features(_spread_votes(weights, model.passages, labelled), pairs).items():
        features[f"spread {name}"] = values
    features["in construct"] = nearest_votes(in_construct, labelled, corpus_size)[pairs]
    features["nearest"] = similarity.max(axis=1)[query_rows]
    features["nearest in construct"] = in_construct.max(axis=1)[query_rows]
    return features


def _outside_features(
    models: list[FusedModel], queries: list[QueryMetadata], outside: LabelledQueries, pairs: Pairs
) -> dict[str, np.ndarray]:
    """Let outside questions vote in groups of their own.

    How many of them a passage has is no feature: it says for which passages somebody wrote questions, and not what is
    right. Where they were written for passages that the competition labels, or for the others, it would tell the
    fusion which ones a fold's held-out labels are among.
    """
    features: dict[str, np.ndarray] = {}
    query_rows, passage_rows = pairs
    for model in models:
        parts = []
        for block in _query_blocks(len(queries), outside):
            apart = replace(model, queries=model.queries[block], labelled=model.outside)
            first, last = np.searchsorted(query_rows, (block.start, block.stop))
            rows = (query_rows[first:last] - block.start, passage_rows[first:last])
            parts.append(_vote_features(apart, queries[block], outside, rows))
        values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        features |= in_group(f"outside {model.name}", values)
    return features


def _query_blocks(count: int, labelled: LabelledQueries) -> list[slice]:
    """Divide queries into blocks whose similarities to all labels fit in memory."""
    step = max(1, VOTES_AT_ONCE // max(1, len(labelled.passage_rows)))
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


def _spread_votes(weights: np.ndarray, passages: np.ndarray, labelled: LabelledQueries) -> np.ndarray:
    """Return the similarity of each passage to the weighted mean of the labelled passages, (queries, corpus).

    So a vote also reaches passages that no training query is labelled with.

    Args:
        weights: (queries, labels) of the votes.
        passages: (corpus, dim).
        labelled: The labelled training queries.
    """
    mean = weights @ passages[labelled.passage_rows]
    return unit_vectors(mean, 1e-9) @ passages.T


def _label_features(
    queries: list[QueryMetadata], labelled: LabelledQueries, model: FusedModel, pairs: Pairs
) -> dict[str, np.ndarray]:
    """Count the passage's training labels, also within the query's construct and subject."""
    query_rows, passage_rows = pairs
    corpus_size = len(model.passages)
    counts = np.bincount(labelled.passage_rows, minlength=corpus_size)
    features = {"labelled": counts[passage_rows] > 0, "count": counts[passage_rows]}
    for field in ("construct", "subject"):
        same = _share_field(queries, labelled.metadata, field)
        features[f"count in {field}"] = _sum_by_passage(same.astype(np.float32), labelled, corpus_size)[pairs]
        features[f"queries of {field}"] = same.sum(axis=1)[query_rows]
    for name, mask in (("labelled", counts > 0), ("unlabelled", counts == 0)):
        features[f"nearest {name} passage"] = _nearest_passage(model.passages, mask)[passage_rows]
    return features


def _nearest_passage(passages: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the similarity of each passage to the most similar other one of a mask, (corpus,); -1 where there is none.

    Holds `SIMILARITIES_AT_ONCE` numbers, however large the corpus is.
    """
    nearest = np.empty(len(passages), dtype=passages.dtype)
    step = max(SIMILARITIES_AT_ONCE // len(passages), 1)
    for start in range(0, len(passages), step):
        similarity = passages[start : start + step] @ passages.T
        rows = np.arange(len(similarity))
        similarity[rows, start + rows] = -1
        nearest[start : start + step] = np.where(mask[None], similarity, -1).max(axis=1)
    return nearest


def _sibling_features(
    queries: list[QueryMetadata], model: FusedModel, similarity: np.ndarray, pairs: Pairs
) -> dict[str, np.ndarray]:
    """Compare the passage's similarity to the query with that to the same question's other wrong answers."""
    is_sibling = _share_field(queries, queries, "question")
    np.fill_diagonal(is_sibling, False)
    total, counts = is_sibling @ similarity, is_sibling.sum(axis=1)
    if model.siblings is not None:
        sums, numbers = _sum_by_question(queries, model.siblings)
        total += sums @ model.passages.T
        counts += numbers
    mean = np.where(counts[:, None] > 0, total / np.maximum(counts, 1)[:, None], similarity)
    return {"score": mean[pairs], "above": (mean - similarity)[pairs], "number": counts[pairs[0]]}


def _sum_by_question(queries: list[QueryMetadata], siblings: UnrankedSiblings) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum of the vectors of each query's siblings, (queries, dim) float32, and their number, (queries,)."""
    rows: dict[str, list[int]] = {}
    for row, sibling in enumerate(siblings.metadata):
        rows.setdefault(sibling.question, []).append(row)
    of_queries = [rows.get(query.question, []) if query.question else [] for query in queries]
    sums = np.stack([siblings.vectors[of_query].sum(axis=0, dtype=np.float32) for of_query in of_queries])
    return sums, np.array(list(map(len, of_queries)))


def _rank_features(scores: np.ndarray, pairs: Pairs) -> dict[str, np.ndarray]:
    """Return the pair's score, its distance from the query's best, and its rank in the corpus."""
    best = scores.max(axis=1)
    return {"score": scores[pairs], "below best": scores[pairs] - best[pairs[0]], "rank": _log_ranks(scores)[pairs]}


def _log_ranks(scores: np.ndarray) -> np.ndarray:
    """Return log(1 + rank) of each passage, ranks from 0, (queries, corpus) float32; ties stay in corpus order."""
    order = np.argsort(-scores, axis=1, kind="stable")
    ranks = np.empty(scores.shape, dtype=np.float32)
    np.put_along_axis(ranks, order, np.log1p(np.arange(scores.shape[1], dtype=np.float32))[None], axis=1)
    return ranks


def _top(scores: np.ndarray, count: int) -> np.ndarray:
    """Mark each row's best `count` passages, (queries, corpus) bool; ties stay in corpus order."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    is_top = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(is_top, best, True, axis=1)
    return is_top


def _sum_by_passage(values: np.ndarray, labelled: LabelledQueries, corpus_size: int) -> np.ndarray:
    """Sum (queries, labels) values over the labels of each passage, (queries, corpus) float32."""
    total = np.zeros((len(values), corpus_size), dtype=np.float32)
    np.add.at(total.T, labelled.passage_rows, values.T)
    return total


def _share_field(left: list[QueryMetadata], right: list[QueryMetadata], field: str) -> np.ndarray:
    """Mark the pairs of queries with the same, known construct, subject or question, (left, right) bool."""
    left_values, right_values = (
        np.array([getattr(query, field) for query in queries], dtype=object) for queries in (left, right)
    )
    return (left_values[:, None] == right_values[None]) & (left_values != "")[:, None]


def _relevance(queries: list[str], passage_ids: list[str], qrels: dict[str, list[str]]) -> np.ndarray:
    """Return which passages are relevant for which query, (queries, corpus) bool."""
    passage_rows = {passage: row for row, passage in enumerate(passage_ids)}
    relevant = np.zeros((len(queries), len(passage_ids)), dtype=bool)
    for row, query in enumerate(queries):
        relevant[row, [passage_rows[passage] for passage in qrels.get(query, ())]] = True
    return relevant
