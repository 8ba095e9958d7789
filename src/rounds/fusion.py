"""Fusion: one ranking from everything that is known of each candidate, learned on folds that no member saw.

Gradient-boosted trees (scikit-learn's, Ke et al. 2017) score each pair for being relevant. They weigh votes of labelled
queries against similarity by how near those queries are, so that rows on labelled and on unlabelled passages both gain,
where one weight for all rows trades the ones for the others.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from rounds.candidates import Candidates
from rounds.errors import UserError

# What speaks for a passage the more of it there is, and what against it; the trees may not learn otherwise from noise.
RISING = (
    "score", "below best", "weight", "share", "spread score", "spread below best", "in construct", "count in construct",
)  # fmt: skip
FALLING = ("rank", "spread rank")
FREE = ("siblings",)  # a passage that suits the other wrong answers may suit this one, or be theirs
SEEDS = 3  # models whose probabilities are averaged
TREES = {
    "max_iter": 100, "learning_rate": 0.05, "max_leaf_nodes": 15, "min_samples_leaf": 40, "l2_regularization": 5.0,
    "max_features": 0.5, "early_stopping": False,
}  # fmt: skip


@dataclass(frozen=True)
class Fusion:
    """Fitted trees.

    Attributes:
        groups: the feature groups that they read.
        models: one for each seed.
    """

    groups: tuple[str, ...]
    models: list[HistGradientBoostingClassifier]

    def score(self, table: Candidates) -> np.ndarray:
        """(pairs,) float64: mean probability of being relevant."""
        values = table.of(self.groups)
        return np.mean([model.predict_proba(values)[:, 1] for model in self.models], axis=0)


def fit(tables: list[Candidates], groups: tuple[str, ...], seed: int = 42) -> Fusion:
    """Learn from the candidates of queries whose labels are known.

    Args:
        tables: of folds whose members never saw the labels of the fold's own queries.
        groups: feature groups to read (`Candidates.features`).

    Raises:
        UserError: the tables have other features, or no relevant pair.
    """
    names = {tuple(table.features) for table in tables}
    if len(names) != 1:
        raise UserError("the folds' candidates have different features; make them anew with the same members")
    values = np.concatenate([table.of(groups) for table in tables])
    relevant = np.concatenate([table.relevant for table in tables])
    if not relevant.any():
        raise UserError("no candidate of the folds is relevant: there is nothing to learn from")
    directions = [_direction(name) for name in tables[0].names(groups)]
    models = [
        HistGradientBoostingClassifier(random_state=seed + number, monotonic_cst=directions, **TREES).fit(
            values, relevant
        )
        for number in range(SEEDS)
    ]
    return Fusion(groups, models)


def _direction(name: str) -> int:
    """1: the more the better; -1: the less; 0: as the trees find.

    >>> [_direction(name) for name in ("words: rank", "minilm round 1: score", "siblings: score", "labels: count")]
    [-1, 1, 0, 0]
    """
    group, _, value = name.partition(": ")
    return 0 if group in FREE else (value in RISING) - (value in FALLING)
