"""Fusion: one ranking from everything that is known of each candidate, learned on folds that no member saw.

Small networks score each pair, and a query's pairs compete for its relevant one (listwise softmax: ListNet, Cao et al.
2007). They weigh votes of labelled queries against similarity by how near those queries are, so that rows on labelled
and on unlabelled passages both gain, where one weight for all rows trades the ones for the others.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from rounds.errors import UserError
from rounds.reranking.features import Candidates

SEEDS = 3  # networks for each view, whose probabilities are averaged

HIDDEN, DROPOUT = 32, 0.2

EPOCHS, BATCH = 15, 32  # BATCH queries a step

RATE, DECAY = 3e-3, 1e-2  # AdamW's; the rate falls to zero in a line

FAR = 5.0  # standard deviations at which a value counts as no farther


class Dropout(nn.Dropout):
    """Dropout that leaves the same values out of all pairs of a query, which compete on what is left."""

    def forward(self, values: Tensor) -> Tensor:
        """(queries, pairs, values) -> the same shape."""
        return values * super().forward(torch.ones_like(values[:, :1])) if self.training else values


class Network(nn.Module):
    """Scores pairs by their features, each standardized; one without a value counts as the mean, and is marked.

    Args:
        values: (pairs, features) float32 to learn the means from, NaN where there is no value.
    """

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        known = values.isfinite()
        filled = values.where(known, torch.zeros(()))
        mean = filled.sum(0) / known.sum(0).clamp_min(1)
        square = ((filled - mean) ** 2 * known).sum(0) / known.sum(0).clamp_min(1)
        self.register_buffer("mean", mean)
        self.register_buffer("spread", square.sqrt() + 1e-6)
        self.register_buffer("gaps", (~known).any(0).nonzero().flatten())
        self.layers = nn.Sequential(
            Dropout(DROPOUT), nn.Linear(len(mean) + len(self.gaps), HIDDEN), nn.GELU(), Dropout(DROPOUT),
            nn.Linear(HIDDEN, 1),
        )  # fmt: skip

    def inputs(self, values: Tensor) -> Tensor:
        """(..., features) -> (..., features and marks)."""
        known = values.isfinite()
        plain = ((values - self.mean) / self.spread).clamp(-FAR, FAR).where(known, torch.zeros(()))
        return torch.cat([plain, (~known[..., self.gaps]).float()], dim=-1)

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., features and marks) -> (...)."""
        return self.layers(inputs).squeeze(-1)


@dataclass(frozen=True)
class Fusion:
    """Fitted networks.

    Attributes:
        views: for each view the feature groups that its networks read.
        networks: for each view one for each seed.
    """

    views: list[tuple[str, ...]]
    networks: list[list[Network]]

    def score(self, table: Candidates) -> np.ndarray:
        """(pairs,) float64: mean probability of being the query's relevant one; a query's sum to 1."""
        found, rows = np.zeros(len(table.query)), _rows(table)
        for groups, networks in zip(self.views, self.networks, strict=True):
            values, there = _lists(table.of(groups), rows)
            with torch.no_grad():
                shares = [_masked(network(network.inputs(values)), there).softmax(1)[there] for network in networks]
            found += torch.stack(shares).double().mean(0).numpy()
        return found / len(self.views)


def fit(tables: list[Candidates], views: list[tuple[str, ...]], seed: int = 42) -> Fusion:
    """Learn from the candidates of queries whose labels are known.

    Args:
        tables: of folds whose members never saw the labels of the fold's own queries.
        views: feature groups (`Candidates.features`). Each view has networks of its own, whose probabilities are
            averaged: one that sees all members' features at once learns more of the folds' noise.

    Raises:
        UserError: the tables have other features, or no relevant pair.
    """
    names = {tuple(table.features) for table in tables}
    if len(names) != 1:
        raise UserError("the folds' candidates have different features; make them anew with the same members")
    if not any(table.relevant.any() for table in tables):
        raise UserError("no candidate of the folds is relevant: there is nothing to learn from")
    return Fusion(views, [[_train(tables, groups, seed + number) for number in range(SEEDS)] for groups in views])


def _train(tables: list[Candidates], groups: tuple[str, ...], seed: int) -> Network:
    """One network, trained on the queries that have a relevant candidate."""
    rows = _rows(*tables)
    values = np.concatenate([table.of(groups) for table in tables]).astype(np.float32)
    relevant = torch.from_numpy(np.concatenate([table.relevant for table in tables]))
    lists, there = _lists(values, rows)
    right = torch.zeros_like(there)
    right[there] = relevant
    taught = right.any(1).nonzero().flatten()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(torch.from_numpy(values))
        inputs = network.inputs(lists)
        optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY, fused=True)
        steps = EPOCHS * -(-len(taught) // BATCH)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
        for _ in range(EPOCHS):
            for batch in taught[torch.randperm(len(taught))].split(BATCH):
                chances = _masked(network(inputs[batch]), there[batch]).log_softmax(1)
                loss = -_masked(chances, right[batch]).logsumexp(1).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return network.eval()


def _rows(*tables: Candidates) -> np.ndarray:
    """(pairs,) the query of each pair, counted on from table to table."""
    before = np.cumsum([0, *(len(table.queries) for table in tables)])
    return np.concatenate([table.query + start for table, start in zip(tables, before, strict=False)])


def _lists(values: np.ndarray, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """(queries, most pairs, features) float32, and (queries, most pairs) bool: where a pair stands."""
    counts = np.bincount(rows)
    place = np.arange(len(rows)) - (counts.cumsum() - counts)[rows]
    lists = torch.zeros(len(counts), int(counts.max()), values.shape[1])
    there = torch.zeros(lists.shape[:2], dtype=torch.bool)
    lists[rows, place], there[rows, place] = torch.from_numpy(values).float(), True
    return lists, there


def _masked(scores: Tensor, there: Tensor) -> Tensor:
    return scores.masked_fill(~there, -torch.inf)
