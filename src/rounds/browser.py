"""Browser: each validation query with its gold passage and what the runs rank first, as one JSON for the page.

Texts are lists of strings and numbers; a number is a place in `formulas`, so that each formula is converted and stored
once. The page puts strings in as text nodes; nothing of a text is ever parsed as HTML.
"""

import numpy as np

from rounds import mathml
from rounds.collection import Collection
from rounds.report import Ranked

TOP = 5
DECIMALS = 4


class Formulas:
    """Formulas by source, each with its MathML."""

    def __init__(self) -> None:
        self.places: dict[str, int] = {}

    def split(self, text: str) -> list[str | int]:
        """The text with a number in the place of each formula."""
        return [
            self.places.setdefault(part, len(self.places)) if is_latex else part
            for part, is_latex in mathml.parts(text)
        ]

    def all(self) -> list[list[str | None]]:
        """Source and MathML of each; the latter is None where it cannot be read, and the page shows the source."""
        return [[source, mathml.convert(source)] for source in self.places]


def build(data: Collection, ranked: list[Ranked]) -> dict:
    """The page's data.

    Returns:
        `runs` (labels), `subjects`, `formulas`, `passages` (texts, those that are shown), and `queries`: `id`, `text`,
        `subject` (a place in `subjects`), `unseen`, `gold` (places in `passages`), `ranks` (of each run, 0: beyond it)
        and `top` (of each run, passage and score in turn).
    """
    formulas, passages = Formulas(), {}
    subjects = sorted({data.asked[query].subject for query in data.validation})
    place = {subject: number for number, subject in enumerate(subjects)}

    def shown(passage: str) -> int:
        return passages.setdefault(passage, len(passages))

    queries = [
        {
            "id": query,
            "text": formulas.split(text),
            "subject": place[data.asked[query].subject],
            "unseen": int(query in data.unseen),
            "gold": [shown(passage) for passage in data.qrels[query]],
            "ranks": [int(each.ranks[row]) for each in ranked],
            "top": [_top(each, row, shown) for each in ranked],
        }
        for row, (query, text) in enumerate(data.validation.items())
    ]
    return {
        "runs": [each.label for each in ranked],
        "depth": min((each.run.passages.shape[1] for each in ranked), default=0),
        "subjects": subjects,
        "passages": [formulas.split(data.passages[passage]) for passage in passages],
        "passage_ids": list(passages),
        "queries": queries,
        "formulas": formulas.all(),
    }


def _top(each: Ranked, row: int, shown) -> list[float]:
    pairs = zip(each.run.passages[row, :TOP], np.round(each.run.scores[row, :TOP].astype(float), DECIMALS), strict=True)
    return [number for passage, score in pairs for number in (shown(passage), float(score))]
