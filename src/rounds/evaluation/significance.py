"""Fisher's randomization test between two rankings of the same queries."""

import itertools

import numpy as np

SWAPS = 1000  # of a block of permutations


def fisher(a: np.ndarray, b: np.ndarray, permutations: int = 10_000, seed: int = 42) -> float:
    """Two-sided p of Fisher's randomization test on paired per-query scores (Smucker et al. 2007).

    >>> fisher(np.zeros(50), np.zeros(50))
    1.0
    """
    return float(fisher_of((a - b)[None], permutations, seed)[0])


def fisher_of(differences: np.ndarray, permutations: int = 10_000, seed: int = 42) -> np.ndarray:
    """p of many tests at once: swapping a query's two scores turns its difference around.

    Args:
        differences: (tests, queries) of paired scores.

    Returns:
        (tests,) the share of swaps whose mean difference is at least as large, the one observed counted in; of all
        swaps there are, where these are no more than `permutations`.
    """
    queries = differences.shape[1]
    observed = np.abs(differences.sum(axis=1))
    least = observed - 1e-9 * np.maximum(observed, 1)
    if 2**queries <= permutations:
        signs = np.array(list(itertools.product([-1.0, 1.0], repeat=queries)))
        return (np.abs(signs @ differences.T) >= least).mean(axis=0)
    generator, beyond = np.random.default_rng(seed), np.ones(len(differences))
    for start in range(0, permutations, SWAPS):
        signs = generator.choice([-1.0, 1.0], (min(SWAPS, permutations - start), queries))
        beyond += (np.abs(signs @ differences.T) >= least).sum(axis=0)
    return beyond / (permutations + 1)
