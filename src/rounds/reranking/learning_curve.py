"""Learning curve: MAP@25 of the fusion by its number of training queries, extrapolated to those of all folds.

Cross-validation fits the fusion for a fold on the other folds. Here it is also fitted on parts of them, and the slope
of MAP@25 over the logarithm of the number of training queries is continued to the queries of all folds. Only the
fusion learns from fewer queries: rounds and votes are those of the folds in every fit, so the curve doesn't say what
they gain from further rows.
"""

from dataclasses import dataclass

import numpy as np

from rounds.estimate import Counter, Estimate
from rounds.evaluation.metrics import MAIN_METRIC, per_query
from rounds.reranking import fusion
from rounds.reranking.candidates import Candidates
from rounds.reranking.folds import Fold
from rounds.reranking.fusion import View

SHARES = (0.25, 0.5)  # of the other folds' questions; all of them are the fusion's row of the table

DRAWS = 3  # random parts of each share, whose scores are averaged and whose spread widens the interval

RESAMPLES = 2000  # of the bootstrap

TAILS = (2.5, 97.5)  # percentiles that bound the interval

SEED = 42


@dataclass(frozen=True)
class LearningCurve:
    """MAP@25 by the number of training queries, and its continuation.

    Attributes:
        queries: Number of training queries of each point, the mean over the folds, ascending.
        scores: MAP@25 of each point, the mean over the folds; the last is the fusion's row of the table.
        target: Number of queries of all folds.
        score: MAP@25 extrapolated to `target`.
        interval: 95% interval of `score`.
        gain: What `score` is above the last point.
        gain_interval: 95% interval of `gain`.
    """

    queries: list[float]
    scores: list[float]
    target: int
    score: float
    interval: tuple[float, float]
    gain: float
    gain_interval: tuple[float, float]

    def __str__(self) -> str:
        points = ", ".join(f"{n:,.0f} -> {score:.4f}" for n, score in zip(self.queries, self.scores, strict=True))
        (low, high), (least, most) = self.interval, self.gain_interval
        return (
            f"learning curve of the fusion, training queries -> MAP@25: {points}; at {self.target:,}: {self.score:.4f} "
            f"(95% interval {low:.4f} to {high:.4f}), {self.gain:+.4f} ({least:+.4f} to {most:+.4f}) against the "
            "fusion above; rounds and votes are not extrapolated"
        )


def measure(folds: list[Fold], views: list[View], whole: list[np.ndarray]) -> LearningCurve | None:
    """Fit the fusion for each fold on parts of the other folds' questions, and continue the slope to all folds.

    Args:
        folds: Two folds or more.
        views: The feature groups of each of the fusion's views.
        whole: (queries,) MAP@25 for each fold, ranked by the fusion that learned from all of the other folds.

    Returns:
        The curve; None where a part has no relevant candidate to learn from.
    """
    places = range(len(folds))
    parts = [[[_parts(folds, place, share, draw) for draw in range(DRAWS)] for place in places] for share in SHARES]
    sizes = [[sum(len(table.queries) for table in drawn[0]) for drawn in row] for row in parts]
    if not all(any(table.relevant.any() for table in tables) for row in parts for drawn in row for tables in drawn):
        return None
    estimate = Estimate("draw the fusion's learning curve", "training queries")
    count = Counter(estimate.update, DRAWS * sum(map(sum, sizes)))
    scores: list[list[np.ndarray]] = []
    for row, row_sizes in zip(parts, sizes, strict=True):
        scores.append([])
        for fold, drawn, size in zip(folds, row, row_sizes, strict=True):
            scores[-1].append(np.stack([_score(fold, tables, views) for tables in drawn]))
            count.add(DRAWS * size)
    total = sum(len(fold.table.queries) for fold in folds)
    queries = [*(float(np.mean(row)) for row in sizes), total * (len(folds) - 1) / len(folds)]
    return extrapolate(
        queries, [*scores, [values[None] for values in whole]], total, [_questions(fold) for fold in folds]
    )


def _score(fold: Fold, tables: list[Candidates], views: list[View]) -> np.ndarray:
    """Return MAP@25 (queries,) of a fold, ranked by a fusion that learned from `tables`."""
    run = fold.table.to_run(fusion.fit(tables, views).score(fold.table))
    return per_query(run, fold.data.qrels, (MAIN_METRIC,))[MAIN_METRIC]


def extrapolate(
    queries: list[float], scores: list[list[np.ndarray]], target: int, questions: list[list[str]]
) -> LearningCurve:
    """Continue MAP@25 from the last point by the least-squares slope over log(training queries).

    The intervals are a bootstrap over the questions that are ranked, drawn within each fold; the queries of a question
    are drawn together, and all points keep the same draw. Normal errors are added to each point as the spread of its
    draws tells, and to the extrapolated one, which is a single fit too, as to the last.

    Args:
        queries: Number of training queries of each point, ascending, two points or more.
        scores: For each point and each fold, (draws, queries) MAP@25; a draw is a random part to train on.
        target: Number of training queries to continue to.
        questions: For each fold, the question of each query.
    """
    x = np.log(queries)
    centred = x - x.mean()
    weights = centred / (centred**2).sum() * (np.log(target) - x[-1])  # a weighted sum of the points is the gain
    means = np.array([np.mean([values.mean() for values in point]) for point in scores])
    gain = float(weights @ means)
    generator = np.random.default_rng(SEED)
    deviations = np.sqrt(_variances(scores))
    errors = generator.standard_normal((RESAMPLES, len(queries))) * deviations
    gains = errors @ weights + generator.standard_normal(RESAMPLES) * deviations[-1]
    last = errors[:, -1].copy()
    for place, fold_questions in enumerate(questions):
        by_point = np.stack([point[place].mean(axis=0) for point in scores])
        values = np.stack([weights @ by_point, by_point[-1]], axis=1)  # (queries, 2)
        resampled = _resampled_means(values, fold_questions, generator) / len(questions)
        gains += resampled[:, 0]
        last += resampled[:, 1]
    return LearningCurve(
        queries=queries,
        scores=means.tolist(),
        target=target,
        score=float(means[-1]) + gain,
        interval=_bounds(last + gains),
        gain=gain,
        gain_interval=_bounds(gains),
    )


def _variances(scores: list[list[np.ndarray]]) -> np.ndarray:
    """Return the variance of each point that comes from drawing its parts, (points,).

    A point with a single draw has a draw's variance of the point before it.
    """
    variances, of_draw = [], 0.0
    for point in scores:
        draws = len(point[0])
        if draws > 1:
            of_draw = np.mean([values.mean(axis=1).var(ddof=1) for values in point])
        variances.append(of_draw / draws / len(point))
    return np.array(variances)


def _resampled_means(values: np.ndarray, questions: list[str], generator: np.random.Generator) -> np.ndarray:
    """Return the means of (queries, columns) values over resampled questions, (RESAMPLES, columns)."""
    _, rows = np.unique(questions, return_inverse=True)
    sizes = np.bincount(rows)
    sums = np.stack([np.bincount(rows, column) for column in values.T], axis=1)
    draws = generator.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), RESAMPLES)
    return (draws @ sums) / (draws @ sizes)[:, None]


def _bounds(samples: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(samples, TAILS)
    return float(low), float(high)


def _parts(folds: list[Fold], place: int, share: float, draw: int) -> list[Candidates]:
    """Return a share of the questions of each fold but the one at `place`; of a draw, the larger holds the smaller."""
    others = [(number, fold) for number, fold in enumerate(folds) if number != place]
    return [_sample(fold, share, np.random.default_rng((SEED, draw, place, number))) for number, fold in others]


def _sample(fold: Fold, share: float, generator: np.random.Generator) -> Candidates:
    """Return the candidates of a random share of a fold's questions, one question at least."""
    questions = _questions(fold)
    order = generator.permutation(np.unique(questions))
    return fold.table.of_queries(np.isin(questions, order[: max(1, round(share * len(order)))]))


def _questions(fold: Fold) -> list[str]:
    """Return the question of each query; a query without one is its own."""
    metadata = fold.data.metadata
    return [metadata[query].question or query if query in metadata else query for query in fold.table.queries]
