"""Invented result rows."""

import numpy as np

from rounds.evaluation import results
from rounds.evaluation.results import ResultRow

QUERIES = [f"{number}_B" for number in range(60)]


def make_row(label: str, seed: int, bonus: float = 0.0, recipe: str = "tiny", **fields) -> ResultRow:
    """Return a row with random scores of all metrics; `bonus` is added to each score."""
    generator = np.random.default_rng(seed)
    scores = {name: np.clip(generator.random(60) * 0.5 + bonus, 0, 1) for name in results.COMPARED_METRICS}
    fields = {"recipe": recipe, "fingerprint": f"{label}{seed}", **fields}
    metrics = {"MAP@25": float(scores["MAP@25"].mean())}
    return ResultRow(label, metrics, scores["MAP@25"], QUERIES, scores, **fields)
