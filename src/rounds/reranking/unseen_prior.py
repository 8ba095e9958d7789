"""Unseen prior: an offset on the ensemble's scores of candidates that no training row of the split is labelled with.

The ensemble gives each candidate a probability of being its query's relevant one. The offset is added to the logarithm
of this probability for unlabelled candidates, which is what another share of them among the relevant passages does to
a calibrated classifier (Saerens et al. 2002, "Adjusting the outputs of a classifier to new a priori probabilities").

The offset is learned as the fusion is, never on the fold that it ranks. For fold k it comes from the queries of each
other fold j, scored by a fusion that was fitted without both j and k; so k's queries are none that the fusion or the
offset learned from. The rounds behind j's features were trained on k's rows, as for the fusion. Outside questions do
not count as training rows here.
"""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit

from rounds.config.sections.ensemble import LEAST_FOLDS
from rounds.estimate import Counter, Estimate
from rounds.reranking import fusion
from rounds.reranking.candidates import Candidates
from rounds.reranking.fusion import View

LABELLED = "labels: labelled"  # feature that is 1 for passages that a training row is labelled with, otherwise 0

LEAST_SHARE = 1e-12  # of a query's probability that its labelled, or its unlabelled candidates count as having

WIDEST = 60.0  # offsets between minus and plus this are searched; `LEAST_SHARE` keeps the root within them

DIGITS = 4  # of an offset, so that the printed one is the one that ranks


@dataclass(frozen=True)
class UnseenPrior:
    """Estimated offsets.

    Attributes:
        folds: The offset of each fold, estimated on the others.
        test: The offset of queries that are in no fold, estimated on all folds.
    """

    folds: list[float]
    test: float

    def __str__(self) -> str:
        by_fold = ", ".join(f"{offset:+.{DIGITS}f}" for offset in self.folds)
        return (
            "unseen prior, added to the log-probability of passages that training never labels: fold by fold "
            f"{by_fold}; for queries of no fold {self.test:+.{DIGITS}f}"
        )


def find_obstacle(tables: Mapping[str, Candidates]) -> str:
    """Return why no offset can be estimated on these folds; empty where one can.

    Args:
        tables: Name of each fold -> its candidates.
    """
    if len(tables) < LEAST_FOLDS:
        return (
            f"it takes {LEAST_FOLDS} folds or more, not {len(tables)}: a fold's offset is estimated by fusions that "
            "leave out two"
        )
    for (one, left), (other, right) in itertools.combinations(tables.items(), 2):
        if shared := set(left.queries) & set(right.queries):
            return f"{one} and {other} share {len(shared)} queries, whose labels would choose their own offset"
    for name, table in tables.items():
        _, shares = _unlabelled_shares(table, np.ones(len(table.query_rows)))
        if not 0 < shares.sum() < len(shares):
            return f"{name}: its relevant candidates are not of both kinds, labelled in training and not"
    return ""


def apply_offset(table: Candidates, probabilities: np.ndarray, offset: float) -> np.ndarray:
    """Return (pairs,) scores to rank by: those of unlabelled candidates times exp(offset), not normalized again.

    Args:
        table: The candidates.
        probabilities: (pairs,), by the ensemble.
        offset: What is added to the logarithms of unlabelled candidates' probabilities.
    """
    return probabilities * np.exp(offset * _is_unlabelled(table))


def estimate_offset(scored: Iterable[tuple[Candidates, np.ndarray]]) -> float:
    """Return the offset under which the labels are most likely.

    The log-likelihood of a query is that of its relevant candidate under the shifted distribution, averaged where there
    are several. It is concave in the offset, and at its maximum the unlabelled candidates of all queries together have
    as much probability as there are relevant ones among them. Queries without a relevant candidate, or whose
    candidates are all of one kind, say nothing of the offset.

    MAP@25 would be the other criterion. It is constant between offsets at which two candidates of a query change
    places, and its best offset on a grid hangs on the ranks of the few queries that change between neighbours. The
    likelihood has one maximum, without a grid, to which every query adds how sure the ensemble was of it. What the
    offset is worth in MAP@25 is then measured on folds that had no part in the choice.

    Args:
        scored: Candidates with known labels, and their (pairs,) probabilities by an ensemble that was fitted without
            them. `find_obstacle` must have found nothing.
    """
    parts = [_unlabelled_shares(table, probabilities) for table, probabilities in scored]
    predicted, observed = (np.concatenate(values) for values in zip(*parts, strict=True))
    logits, target = logit(predicted), observed.sum()
    return round(brentq(lambda offset: expit(logits + offset).sum() - target, -WIDEST, WIDEST), DIGITS)


def estimate_by_fold(tables: list[Candidates], views: list[View]) -> list[float]:
    """Return an offset for each fold, estimated on the others by ensembles that were fitted without both.

    Args:
        tables: Three folds' candidates or more, with known labels.
        views: The ensemble's views.
    """
    scored: list[list[tuple[Candidates, np.ndarray]]] = [[] for _ in tables]
    pairs = list(itertools.combinations(range(len(tables)), 2))
    networks = fusion.SEEDS * len(views)
    count = Counter(Estimate("estimate the unseen prior of each fold", "networks").update, len(pairs) * networks)
    for pair in pairs:
        fitted = fusion.fit([table for number, table in enumerate(tables) if number not in pair], views)
        count.add(networks)
        for ranked, other in (pair, pair[::-1]):
            scored[ranked].append((tables[other], fitted.score(tables[other])))
    return [estimate_offset(others) for others in scored]


def estimate_on_all(tables: list[Candidates], views: list[View]) -> float:
    """Return the offset for queries that are in no fold, estimated on each fold as the others teach.

    Args:
        tables: The folds' candidates, with known labels.
        views: The ensemble's views.
    """
    networks = len(tables) * fusion.SEEDS * len(views)
    count = Counter(Estimate("estimate the unseen prior", "networks").update, networks)
    return estimate_offset(zip(tables, fusion.score_out_of_fold(tables, views, count), strict=True))


def _is_unlabelled(table: Candidates) -> np.ndarray:
    """Mark the candidates that no training row is labelled with, (pairs,) bool."""
    return table.features[LABELLED] == 0


def _unlabelled_shares(table: Candidates, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what part of each query's probability, and of its relevant candidates, is of unlabelled ones.

    Returns:
        (queries,) each, of the queries with a relevant candidate and candidates of both kinds; the first lies between
        `LEAST_SHARE` and 1 - `LEAST_SHARE`.
    """
    unlabelled = _is_unlabelled(table)

    def by_query(values: np.ndarray) -> np.ndarray:
        return np.bincount(table.query_rows, values, len(table.queries))

    relevant, counts = by_query(table.relevant), by_query(unlabelled)
    kept = (relevant > 0) & (counts > 0) & (counts < by_query(np.ones(len(unlabelled))))
    predicted = by_query(probabilities * unlabelled)[kept] / by_query(probabilities)[kept]
    observed = by_query(table.relevant & unlabelled)[kept] / relevant[kept]
    return predicted.clip(LEAST_SHARE, 1 - LEAST_SHARE), observed
