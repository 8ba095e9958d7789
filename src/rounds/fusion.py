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
        views: for each view the feature groups that its trees read.
        models: for each view one for each seed.
    """

    views: list[tuple[str, ...]]
    models: list[list[HistGradientBoostingClassifier]]

    def score(self, table: Candidates) -> np.ndarray:
        """(pairs,) float64: mean probability of being relevant."""
        found = []
        for groups, models in zip(self.views, self.models, strict=True):
            values = table.of(groups)
            found += [model.predict_proba(values)[:, 1] for model in models]
        return np.mean(found, axis=0)


def fit(tables: list[Candidates], views: list[tuple[str, ...]], seed: int = 42) -> Fusion:
    """Learn from the candidates of queries whose labels are known.

    Args:
        tables: of folds whose members never saw the labels of the fold's own queries.
        views: feature groups (`Candidates.features`). Each view has trees of its own, whose probabilities are averaged:
            trees that see all members' features at once learn more of the folds' noise.

    Raises:
        UserError: the tables have other features, or no relevant pair.
    """
    names = {tuple(table.features) for table in tables}
    if len(names) != 1:
        raise UserError("the folds' candidates have different features; make them anew with the same members")
    relevant = np.concatenate([table.relevant for table in tables])
    if not relevant.any():
        raise UserError("no candidate of the folds is relevant: there is nothing to learn from")
    return Fusion(views, [_trees(tables, relevant, groups, seed) for groups in views])


def _trees(
    tables: list[Candidates], relevant: np.ndarray, groups: tuple[str, ...], seed: int
) -> list[HistGradientBoostingClassifier]:
    values = np.concatenate([table.of(groups) for table in tables])
    shape = {"monotonic_cst": [_direction(name) for name in tables[0].names(groups)], **TREES}
    return [
        HistGradientBoostingClassifier(random_state=seed + number, **shape).fit(values, relevant)
        for number in range(SEEDS)
    ]


def _direction(name: str) -> int:
    """1: the more the better; -1: the less; 0: as the trees find.

    >>> [_direction(name) for name in ("words: rank", "minilm round 1: score", "siblings: score", "labels: count")]
    [-1, 1, 0, 0]
    """
    group, _, value = name.partition(": ")
    return 0 if group in FREE else (value in RISING) - (value in FALLING)
