"""Views: the feature groups that the networks of a fusion read.

A fused model is called by the name of its feature group: `minilm round 2` for a checkpoint, `minilm round 0 topic` for
the base model on a part of the query. A list of models holds the base model's parts, the base model, then the rounds.
"""

from dataclasses import replace

from rounds.config.sections.ensemble import Ensemble
from rounds.reranking.candidates import Candidates
from rounds.reranking.features import QUERY_PARTS
from rounds.reranking.folds import RERANKER
from rounds.reranking.fusion import TreeView, View

MODEL_GROUPS = ("", "votes ", "tokens ", "outside ")  # prefixes of a model's feature groups

FUSION, ENSEMBLE = "fusion", "ensemble"  # labels, which those of their ablations begin with

OUTSIDE = "outside"  # the kind of the features of outside questions

UNSEEN_PRIOR = f"{ENSEMBLE}, unseen prior"

BOOSTED_TREES = "boosted trees"

DEFAULTS = Ensemble()

SHARED_GROUPS = ("labels", "words", "siblings")


def default_views(models: list[str], settings: Ensemble = DEFAULTS) -> list[tuple[str, list[View]]]:
    """Return the views of the fusion (the last model alone) and of the ensemble (also beside the base model's parts).

    Neither reads earlier rounds or a reranker; `ablation_views` has the ensembles with them. Boosted trees are one more
    view of the ensemble, of all that its networks read, unless the settings leave them out.

    Args:
        models: Names of the fused models.
        settings: Whether to read the features of outside questions, where there are any, and to have boosted trees.

    Returns:
        Label and views of each.
    """
    views = _views_of(models[-1], models, settings.outside_votes)
    return [(FUSION, views[:1]), (ENSEMBLE, _with_trees(views, settings))]


def ablation_views(models: list[str], table: Candidates, settings: Ensemble = DEFAULTS) -> list[tuple[str, list[View]]]:
    """Return the fusion without one kind of feature each, and other ensembles.

    These are the ensemble without boosted trees, or with them if it has none, with all rounds and with a reranker. The
    one without outside questions is there as well, since cross-validation may make too much of these.

    Args:
        models: Names of the fused models.
        table: Candidates whose features say which kinds there are.
        settings: As for `default_views`.

    Returns:
        Label and views of each.
    """
    (_, (fusion_view,)), (_, ensemble) = default_views(models, settings)
    kinds = [_kind(group) for group in fusion_view if group not in models and table.feature_names((group,))]
    ablations = [
        (f"{FUSION} without {kind}", [tuple(group for group in fusion_view if group in models or _kind(group) != kind)])
        for kind in dict.fromkeys(kinds)
    ]
    if OUTSIDE in kinds:
        silent = replace(settings, outside_votes=False)
        ablations.append((f"{ENSEMBLE} without {OUTSIDE}", default_views(models, silent)[-1][1]))
    other = replace(settings, boosted_trees=not settings.boosted_trees)
    changed = f"{ENSEMBLE}, {BOOSTED_TREES}" if other.boosted_trees else f"{ENSEMBLE} without {BOOSTED_TREES}"
    ablations.append((changed, default_views(models, other)[-1][1]))
    whole = [model for model in models if not model.endswith(QUERY_PARTS)]
    if earlier := whole[1:-1]:
        rounds = (*earlier, whole[-1])
        views = [view for model in rounds for view in _views_of(model, models, settings.outside_votes)]
        ablations.append((f"{ENSEMBLE}, all rounds", _with_trees(views, settings)))
    if f"{RERANKER}: score" in table.features:
        ablations.append((f"{ENSEMBLE}, reranked", [type(view)((*view, RERANKER)) for view in ensemble]))
    return ablations


def changed_label(label: str) -> str:
    """Return the label of the fusion or ensemble that an ablation changes; empty for a stage.

    >>> changed_label("fusion without votes"), changed_label("ensemble, all rounds"), changed_label("ensemble")
    ('fusion', 'ensemble', '')
    """
    return next((name for name in (FUSION, ENSEMBLE) if label.startswith((f"{name} ", f"{name},"))), "")


def _kind(group: str) -> str:
    """Return the kind of a feature group, `votes` for `votes minilm round 2`."""
    return group.split()[0]


def _views_of(model: str, models: list[str], outside_votes: bool) -> list[View]:
    """Return the views of a model alone, and of the model beside each part of the query that the base model read."""
    parts = [other for other in models if other.endswith(QUERY_PARTS)]
    combinations = [(model,), *((model, part) for part in parts)]
    groups = [prefix for prefix in MODEL_GROUPS if outside_votes or prefix != f"{OUTSIDE} "]
    return [(*(f"{prefix}{name}" for name in names for prefix in groups), *SHARED_GROUPS) for names in combinations]


def _with_trees(views: list[View], settings: Ensemble) -> list[View]:
    """Return the views, and one of boosted trees that read all of their features, unless the settings leave it out."""
    groups = dict.fromkeys(group for view in views for group in view)
    return [*views, TreeView(groups)] if settings.boosted_trees else views
