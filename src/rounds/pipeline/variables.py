"""Variables: which targets read those that are not everyone's, and the refusal where none that was asked for does.

Variables that shape data, rounds or folders' names are for all targets. The others would be ignored without a word.
Only a command line is checked: what stands in the environment is meant for whoever reads it.
"""

from collections.abc import Iterable, Sequence

from rounds.errors import UserError
from rounds.pipeline import settings

SECOND_STAGES = ("candidates", "rerank", "cv", "best", "distil", "pseudo_label")
OUTGOING = ("submit", "bundle", "publish")  # what leaves takes the checkpoint of ROUND, or of RUNS
EVALUATED = ("evaluate", "private_lb", *OUTGOING)
SUBMITTING = ("submit", "private_lb", "distil")

READERS: dict[str, tuple[str, ...]] = {
    "round": (
        *("status", "mteb", "demo", "dims", "brittle", "report", "dashboard"),
        *EVALUATED,
        *SECOND_STAGES,
    ),
    "runs": ("compare", "average", *EVALUATED),
    "method": ("average", *EVALUATED),
    "folds": ("rerank", "cv", "best", "distil", "private_lb", "pseudo_label", "status", "report", "dashboard"),
    "train_seeds": ("candidates", "rerank", "cv", "best", "distil", "status", "report", "dashboard"),
    "min_precision": ("pseudo_label",),
    "reranker": ("rerank", "cv"),
    "recipes": ("sweep",),
    "tasks": ("mteb",),
    "only": ("bench",),
    **dict.fromkeys(("small", "minutes", "sections"), ("gpu_check",)),
    "port": ("dashboard", "demo"),
    "kaggle": SUBMITTING,
    "competition": (*SUBMITTING, "bundle", "lb", "download"),
    "embedder": ("evaluate", "submit", "bundle", "predict", "brittle"),
    **dict.fromkeys(("owner", "image", "wheels", "kaggle_python", "base", "hours"), ("bundle",)),
    "merged": ("bundle", "publish"),
    **dict.fromkeys(("repo", "public", "license"), ("publish",)),
    **dict.fromkeys(("a", "b"), ("parity",)),
    **dict.fromkeys(("held_out", "unseen"), ("private_lb",)),
}


def check(names: Iterable[str], targets: Sequence[str]) -> None:
    """Refuse a variable of the command line that none of its targets reads.

    Args:
        names: the variables, as the command line spells them.
        targets: all targets of the command line; with `make round2 submit KAGGLE=1`, each of both sees the variable.

    Raises:
        UserError: the line names the variable, and the targets that read it.
    """
    for name in names:
        readers = READERS.get(name.lower(), targets)
        if not set(readers) & set(targets):
            others = f"{settings.listed(readers, 'and')} do" if len(readers) > 1 else f"{readers[0]} does"
            raise UserError(f"{name}: make {' '.join(dict.fromkeys(targets))} does not read it; {others}; leave it out")
