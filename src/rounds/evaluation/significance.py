"""Fisher's randomization test between two rankings of the same queries."""

import itertools

import numpy as np

PERMUTATION_BLOCK = 1000  # permutations held in memory at once


def fisher_p_value(a: np.ndarray, b: np.ndarray, permutations: int = 10_000, seed: int = 42) -> float:
    """Return the two-sided p of Fisher's randomization test (Smucker et al. 2007).

    Args:
        a: (queries,) scores of one run.
        b: (queries,) scores of the other run, in the same order.
        permutations: the number of random permutations; all of them are enumerated if there are no more than that.
        seed: of the random permutations.

    >>> fisher_p_value(np.zeros(50), np.zeros(50))
    1.0
    """
    return float(fisher_p_values((a - b)[None], permutations, seed)[0])


def fisher_p_values(differences: np.ndarray, permutations: int = 10_000, seed: int = 42) -> np.ndarray:
    """Return the p of many tests at once.

    A permutation swaps the two scores of some queries, which flips the signs of their differences.

    Args:
        differences: (tests, queries) differences of paired scores.

    Returns:
        (tests,) share of permutations whose mean difference is at least as large as the observed one. The observed
        one counts as a permutation.
    """
    queries = differences.shape[1]
    observed = np.abs(differences.sum(axis=1))
    threshold = observed - 1e-9 * np.maximum(observed, 1)
    if 2**queries <= permutations:
        signs = np.array(list(itertools.product([-1.0, 1.0], repeat=queries)))
        return (np.abs(signs @ differences.T) >= threshold).mean(axis=0)
    generator, extreme = np.random.default_rng(seed), np.ones(len(differences))
    for start in range(0, permutations, PERMUTATION_BLOCK):
        signs = generator.choice([-1.0, 1.0], (min(PERMUTATION_BLOCK, permutations - start), queries))
        extreme += (np.abs(signs @ differences.T) >= threshold).sum(axis=0)
    return extreme / (permutations + 1)
