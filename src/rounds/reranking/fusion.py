"""Fusion: learn one ranking from all features of the candidates, on folds that no fused model was trained on.

Small networks score each pair, and a query's pairs compete for its relevant one (listwise softmax: ListNet, Cao et al.
2007). They weigh votes of labelled queries against similarity by how near those queries are, so that queries on
labelled and on unlabelled passages both gain, where one weight for all queries trades the ones for the others.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from rounds.errors import UserError
from rounds.estimate import Counter, OnProgress, ignore
from rounds.reranking import boosted_trees
from rounds.reranking.boosted_trees import BoostedTrees
from rounds.reranking.candidates import Candidates

SEEDS = 3  # networks for each view, whose probabilities are averaged

HIDDEN, DROPOUT = 32, 0.2

EPOCHS, BATCH = 15, 32  # queries a batch

LEARNING_RATE, WEIGHT_DECAY = 3e-3, 1e-2  # of AdamW; the rate falls linearly to zero

LEAST_DEVIATION = 1e-6  # of a feature that varies

CLIP = 5.0  # standard deviations beyond which a feature is clipped

View = tuple[str, ...]  # feature groups that networks read, or trees if it is a `TreeView`


class TreeView(tuple[str, ...]):
    """Feature groups that boosted trees read."""


class QueryDropout(nn.Dropout):
    """Dropout that drops the same values from all pairs of a query, which compete on the values that are left."""

    def forward(self, values: Tensor) -> Tensor:
        """Map (queries, pairs, values) to the same shape."""
        return values * super().forward(torch.ones_like(values[:, :1])) if self.training else values


class ScoringNetwork(nn.Module):
    """Score pairs by their standardized features.

    A missing value counts as the mean; a feature with missing values has an indicator beside it. A feature that never
    varies teaches nothing, and counts as the mean wherever the network is used.

    Args:
        values: (pairs, features) float32 to take means and deviations from, NaN where a value is missing.
    """

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        known = values.isfinite()
        filled = values.where(known, torch.zeros(()))
        mean = filled.sum(0) / known.sum(0).clamp_min(1)
        variance = ((filled - mean) ** 2 * known).sum(0) / known.sum(0).clamp_min(1)
        self.register_buffer("mean", mean)
        deviation = variance.sqrt()
        self.register_buffer("deviation", deviation.where(deviation > LEAST_DEVIATION, torch.tensor(torch.inf)))
        self.register_buffer("indicated", (~known).any(0).nonzero().flatten())
        self.layers = nn.Sequential(
            QueryDropout(DROPOUT),
            nn.Linear(len(mean) + len(self.indicated), HIDDEN),
            nn.GELU(),
            QueryDropout(DROPOUT),
            nn.Linear(HIDDEN, 1),
        )

    def inputs(self, values: Tensor) -> Tensor:
        """Map (..., features) to (..., standardized features and indicators)."""
        known = values.isfinite()
        standardized = ((values - self.mean) / self.deviation).clamp(-CLIP, CLIP).where(known, torch.zeros(()))
        return torch.cat([standardized, (~known[..., self.indicated]).float()], dim=-1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map what `inputs` returns to scores (...)."""
        return self.layers(inputs).squeeze(-1)


@dataclass(frozen=True)
class ViewNetworks:
    """Fitted networks of one view.

    Attributes:
        view: The feature groups that they read.
        networks: One a seed.
    """

    view: View
    networks: list[ScoringNetwork]

    @property
    def features(self) -> int:
        """Number of features that were fitted."""
        return len(self.networks[0].mean)

    def score(self, table: Candidates) -> np.ndarray:
        """Return the mean of the networks' probabilities of each pair, (pairs,) float64."""
        lists, is_pair = pad_lists(table.feature_matrix(self.view), number_queries([table]))
        with torch.no_grad():
            probabilities = [
                _mask(network(network.inputs(lists)), is_pair).softmax(1)[is_pair] for network in self.networks
            ]
        return torch.stack(probabilities).double().mean(0).numpy()


@dataclass(frozen=True)
class Fusion:
    """Fitted models.

    Attributes:
        models: The networks, or the trees, of each view.
    """

    models: list[ViewNetworks | BoostedTrees]

    def score(self, table: Candidates) -> np.ndarray:
        """Return each pair's probability of being its query's relevant one, (pairs,) float64.

        The probabilities are averaged over the views; those of a query sum to 1.

        Raises:
            UserError: The table has other features than those that were fitted.
        """
        if any(len(table.feature_names(model.view)) != model.features for model in self.models):
            raise UserError(
                "the candidates to score have other features than those that the fusion learned from; make them "
                "again with the same models, and with outside questions of which each split keeps some that vote"
            )
        return np.mean([model.score(table) for model in self.models], axis=0)


def fit(tables: list[Candidates], views: list[View], seed: int = 42, on_network: OnProgress = ignore) -> Fusion:
    """Fit networks, and the trees of each `TreeView`, on the candidates of labelled queries.

    Args:
        tables: Candidates of folds; no fused model was trained on the labels of its fold's queries.
        views: The feature groups of each view. Every view has models of its own, whose probabilities are averaged:
            a network that reads the features of all models at once learns more of the folds' noise.
        seed: The first network's seed and that of trees; the other networks' follow.
        on_network: Gets the number of networks fitted so far and that of all; trees count as the networks of a view.

    Raises:
        UserError: The tables have different features, or no relevant pair.
    """
    if len({tuple(table.features) for table in tables}) != 1:
        raise UserError(
            "the folds' candidates have different features; make them again with the same models, and with outside "
            "questions of which each fold keeps some that vote"
        )
    if not any(table.relevant.any() for table in tables):
        raise UserError("no candidate of the folds is relevant, so the fusion has nothing to learn from; add folds")
    models: list[ViewNetworks | BoostedTrees] = []
    count = Counter(on_network, len(views) * SEEDS)
    for view in views:
        if isinstance(view, TreeView):
            models.append(boosted_trees.fit(tables, view, seed))
            count.add(SEEDS)
        else:
            models.append(ViewNetworks(view, list(_train_networks(tables, view, seed, count))))
    return Fusion(models)


def _train_networks(tables: list[Candidates], view: View, seed: int, count: Counter) -> Iterator[ScoringNetwork]:
    """Train the networks of a view, one a seed, and count them."""
    for offset in range(SEEDS):
        yield _train(tables, view, seed + offset)
        count.add(1)


def score_out_of_fold(tables: list[Candidates], views: list[View], networks: Counter) -> Iterator[np.ndarray]:
    """Yield each table's probabilities, (pairs,), by a fusion that was fitted on the others, and count its networks.

    Args:
        tables: Candidates of two folds or more.
        views: The feature groups of each view.
        networks: Counts the networks that were fitted.
    """
    for number, table in enumerate(tables):
        fitted = fit([*tables[:number], *tables[number + 1 :]], views)
        networks.add(SEEDS * len(views))
        yield fitted.score(table)


def _train(tables: list[Candidates], view: View, seed: int) -> ScoringNetwork:
    """Train one network on the queries that have a relevant candidate."""
    query_rows = number_queries(tables)
    values = np.concatenate([table.feature_matrix(view) for table in tables]).astype(np.float32)
    lists, is_pair = pad_lists(values, query_rows)
    is_relevant = torch.zeros_like(is_pair)
    is_relevant[is_pair] = torch.from_numpy(np.concatenate([table.relevant for table in tables]))
    trainable = is_relevant.any(1).nonzero().flatten()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ScoringNetwork(torch.from_numpy(values))
        inputs = network.inputs(lists)
        optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
        steps = EPOCHS * -(-len(trainable) // BATCH)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
        for _ in range(EPOCHS):
            for batch in trainable[torch.randperm(len(trainable))].split(BATCH):
                loss = listwise_losses(network(inputs[batch]), is_pair[batch], is_relevant[batch]).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return network.eval()


def listwise_losses(scores: Tensor, is_pair: Tensor, is_relevant: Tensor) -> Tensor:
    """Return each query's negative log-probability of its relevant pairs, (queries,).

    Args:
        scores: (queries, longest) scores of the pairs.
        is_pair: (queries, longest) bool, False for padding.
        is_relevant: (queries, longest) bool.

    >>> right = torch.tensor([[True, False, False]])
    >>> listwise_losses(torch.zeros(1, 3), torch.tensor([[True, True, False]]), right).exp().round().tolist()
    [2.0]
    """
    log_probabilities = _mask(scores, is_pair).log_softmax(1)
    return -_mask(log_probabilities, is_relevant).logsumexp(1)


def number_queries(tables: Sequence[Candidates]) -> np.ndarray:
    """Return the query of each pair, (pairs,), numbered on from table to table."""
    starts = np.cumsum([0, *(len(table.queries) for table in tables)])
    return np.concatenate([table.query_rows + start for table, start in zip(tables, starts, strict=False)])


def pad_lists(values: np.ndarray, query_rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """Arrange pairs in one row a query, padded to the longest.

    Args:
        values: (pairs, features), sorted by query.
        query_rows: (pairs,) the query of each pair, from 0, none left out.

    Returns:
        (queries, longest, features) float32, and (queries, longest) bool, False for padding.

    >>> lists, is_pair = pad_lists(np.array([[1.0], [2.0], [3.0]]), np.array([0, 0, 1]))
    >>> lists.squeeze(-1).tolist(), is_pair.tolist()
    ([[1.0, 2.0], [3.0, 0.0]], [[True, True], [True, False]])
    """
    counts = np.bincount(query_rows)
    positions = np.arange(len(query_rows)) - (counts.cumsum() - counts)[query_rows]
    lists = torch.zeros(len(counts), int(counts.max()), values.shape[1])
    is_pair = torch.zeros(lists.shape[:2], dtype=torch.bool)
    lists[query_rows, positions] = torch.from_numpy(values).float()
    is_pair[query_rows, positions] = True
    return lists, is_pair


def _mask(scores: Tensor, kept: Tensor) -> Tensor:
    return scores.masked_fill(~kept, -torch.inf)
