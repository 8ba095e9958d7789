"""Boosted trees: a second kind of model in the ensemble, averaged with the fusion's networks.

Gradient boosted trees (Friedman 2001, "Greedy function approximation"; scikit-learn's histogram-based ones) learn for
each pair by itself whether it is relevant. Their log-odds then compete within the query, as the networks' scores do.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from rounds.reranking.candidates import Candidates

LEARNING_RATE, TREES = 0.05, 250

LEAVES, LEAST_PAIRS = 15, 50  # of a tree, and pairs of a leaf

FEATURE_SHARE = 0.3  # of the features, drawn anew for each split

L2_REGULARIZATION = 5.0


@dataclass(frozen=True)
class BoostedTrees:
    """Fitted trees.

    Attributes:
        view: The feature groups that they read.
        classifier: The trees.
    """

    view: tuple[str, ...]
    classifier: HistGradientBoostingClassifier

    @property
    def features(self) -> int:
        """Number of features that were fitted."""
        return self.classifier.n_features_in_

    def score(self, table: Candidates) -> np.ndarray:
        """Return each pair's probability of being its query's relevant one, (pairs,) float64; a query's sum to 1."""
        return softmax_by_query(self.classifier.decision_function(_values(table, self.view)), table.query_rows)


def fit(tables: list[Candidates], view: tuple[str, ...], seed: int) -> BoostedTrees:
    """Fit trees on the candidates of labelled queries; a missing value is a branch of its own.

    Queries without a relevant candidate teach as well, unlike those of networks: none of theirs is.

    Args:
        tables: Candidates of folds, with relevant pairs and others.
        view: The feature groups to read.
        seed: Seed of the draws of features.
    """
    classifier = HistGradientBoostingClassifier(
        learning_rate=LEARNING_RATE,
        max_iter=TREES,
        max_leaf_nodes=LEAVES,
        min_samples_leaf=LEAST_PAIRS,
        max_features=FEATURE_SHARE,
        l2_regularization=L2_REGULARIZATION,
        early_stopping=False,
        random_state=seed,
    )
    values = np.concatenate([_values(table, view) for table in tables])
    values[:, np.isnan(values).all(0)] = 0  # a feature that no pair has teaches nothing, and has no bins
    return BoostedTrees(view, classifier.fit(values, np.concatenate([table.relevant for table in tables])))


def _values(table: Candidates, view: tuple[str, ...]) -> np.ndarray:
    """Return the features of a view, (pairs, features); infinities are missing values, as they are for networks."""
    values = table.feature_matrix(view)
    return np.where(np.isfinite(values), values, np.nan)


def softmax_by_query(scores: np.ndarray, query_rows: np.ndarray) -> np.ndarray:
    """Return probabilities (pairs,) that sum to 1 over the pairs of each query.

    Args:
        scores: (pairs,) log-odds.
        query_rows: (pairs,) the query of each pair, sorted, from 0, none left out.

    >>> softmax_by_query(np.log([1.0, 3.0, 5.0]), np.array([0, 0, 1])).round(6).tolist()
    [0.25, 0.75, 1.0]
    """
    starts = np.searchsorted(query_rows, np.arange(query_rows[-1] + 1))
    exponentials = np.exp(scores - np.maximum.reduceat(scores, starts)[query_rows])
    return exponentials / np.add.reduceat(exponentials, starts)[query_rows]
