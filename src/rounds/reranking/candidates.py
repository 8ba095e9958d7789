"""Candidate tables: the pairs of query and passage that a second stage scores, with the features of each pair."""

import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rounds.errors import UserError
from rounds.retrieval.run import Run

FILE = "candidates.npz"

FEATURE_PREFIX = "feature "  # of the features' keys in the file


@dataclass(frozen=True)
class Candidates:
    """Pairs of query and passage, sorted by query.

    Attributes:
        queries: Query ids, each with at least one pair.
        query_rows: (pairs,) int64, each pair's row of `queries`.
        passage_ids: (pairs,) passage ids.
        relevant: (pairs,) bool, all False where the labels are unknown.
        features: Feature name -> (pairs,) float32, NaN where a pair has no value. A feature is called `GROUP: NAME`.
    """

    queries: list[str]
    query_rows: np.ndarray
    passage_ids: np.ndarray
    relevant: np.ndarray
    features: dict[str, np.ndarray]

    def without(self, left_out: dict[str, list[str]]) -> "Candidates":
        """Return the table without the pairs of a query and one of the passages that are left out for it."""
        if not left_out:
            return self
        pairs = zip(self.query_rows.tolist(), self.passage_ids.tolist(), strict=True)
        return self._of_pairs(
            np.array([passage not in left_out.get(self.queries[row], ()) for row, passage in pairs], dtype=bool)
        )

    def of_queries(self, kept: np.ndarray) -> "Candidates":
        """Return the table of the queries that are kept, (queries,) bool."""
        table = self._of_pairs(kept[self.query_rows])
        queries = [query for query, is_kept in zip(self.queries, kept, strict=True) if is_kept]
        return replace(table, queries=queries, query_rows=(np.cumsum(kept) - 1)[table.query_rows])

    def _of_pairs(self, kept: np.ndarray) -> "Candidates":
        """Return the table of the pairs that are kept, (pairs,) bool, with all queries."""
        return replace(
            self,
            query_rows=self.query_rows[kept],
            passage_ids=self.passage_ids[kept],
            relevant=self.relevant[kept],
            features={name: values[kept] for name, values in self.features.items()},
        )

    def feature_names(self, groups: tuple[str, ...]) -> list[str]:
        """Return the names of the features in `groups`, in the table's order."""
        return [name for name in self.features if name.partition(": ")[0] in groups]

    def feature_matrix(self, groups: tuple[str, ...]) -> np.ndarray:
        """Return the features in `groups` as a (pairs, features) float32 matrix, in the order of `feature_names`."""
        return np.stack([self.features[name] for name in self.feature_names(groups)], axis=1)

    def with_features(self, group: str, values: dict[str, np.ndarray]) -> "Candidates":
        """Return the same pairs with the (pairs,) features `values` added to `group`."""
        return replace(self, features=self.features | in_group(group, values))

    def with_scores(self, group: str, scores: np.ndarray) -> "Candidates":
        """Return the same pairs with another scorer's scores, distances from the best and ranks as features.

        Args:
            group: The feature group to add.
            scores: (pairs,), NaN where the scorer gave no score; such a pair has no distance and no rank.
        """
        unscored = np.isnan(scores)
        filled = np.where(unscored, -np.inf, scores)
        best = np.full(len(self.queries), -np.inf)
        np.maximum.at(best, self.query_rows, filled)
        order = np.lexsort((-filled, self.query_rows))
        starts = np.searchsorted(self.query_rows, np.arange(len(self.queries)))
        ranks = np.empty(len(scores))
        ranks[order] = np.arange(len(scores)) - starts[self.query_rows]
        with np.errstate(invalid="ignore"):
            below_best = scores - best[self.query_rows]
        log_ranks = np.where(unscored, np.nan, np.log1p(ranks))
        return self.with_features(group, {"score": scores, "below best": below_best, "rank": log_ranks})

    def to_run(self, scores: np.ndarray) -> Run:
        """Rank each query's pairs by their (pairs,) scores; ties keep the table's order.

        A run has equally many passages for each query, so every ranking is cut to the length of the shortest.
        """
        counts = np.bincount(self.query_rows, minlength=len(self.queries))
        order = np.lexsort((-np.asarray(scores, dtype=np.float64), self.query_rows))
        starts = np.concatenate([[0], counts.cumsum()[:-1]])
        best = order[starts[:, None] + np.arange(counts.min())]
        return Run(self.queries, self.passage_ids[best], np.asarray(scores, dtype=np.float32)[best])


def in_group(group: str, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Prefix the names of features with their group.

    >>> list(in_group("labels", {"count": np.zeros(1)}))
    ['labels: count']
    """
    return {f"{group}: {name}": value for name, value in values.items()}


def write_candidates(table: Candidates, path: Path) -> None:
    """Write a table as `candidates.npz`."""
    features = {f"{FEATURE_PREFIX}{name}": values for name, values in table.features.items()}
    np.savez_compressed(
        path,
        queries=np.array(table.queries),
        query=table.query_rows,
        passage=table.passage_ids.astype(str),
        relevant=table.relevant,
        **features,
    )


def read_candidates(path: Path) -> Candidates:
    """Read a table that `write_candidates` wrote.

    Raises:
        UserError: The file is missing, or is no table of candidates.
    """
    try:
        with np.load(path) as arrays:
            return Candidates(
                queries=arrays["queries"].tolist(),
                query_rows=arrays["query"],
                passage_ids=arrays["passage"].astype(object),
                relevant=arrays["relevant"],
                features={
                    key.removeprefix(FEATURE_PREFIX): arrays[key] for key in arrays if key.startswith(FEATURE_PREFIX)
                },
            )
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (ValueError, KeyError, OSError, EOFError, TypeError, zipfile.BadZipFile, zlib.error):
        raise UserError(f"{path}: not a table of candidates; delete its folder and run the stage again") from None
