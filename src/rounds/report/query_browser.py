"""Browser: each validation query with its gold passage and what the runs rank first, as one JSON for the page.

Texts are lists of strings and numbers; a number is a place in `formulas`, so that each formula is converted and stored
once, and a number in a list of its own a place in `pictures`. The page puts strings in as text nodes; nothing of a text
is ever parsed as HTML.
"""

import base64
import io

import numpy as np

from rounds.data.collection import Collection
from rounds.data.images import ImageReference, find_image, strip_image
from rounds.errors import UserError
from rounds.report import mathml
from rounds.report.facts import Ranked

TOP = 5

DECIMALS = 4

SIDE = 72  # pixels of a picture on the page, at most


class Parts:
    """What texts hold beside words: formulas by source and pictures, each once."""

    def __init__(self) -> None:
        self.formulas: dict[str, int] = {}
        self.pictures: dict[ImageReference, int] = {}

    def split(self, text: str) -> list[str | int | list[int]]:
        """The text with numbers in the places of its formulas, and its picture's, in a list, before it."""
        picture = find_image(text)
        shown = [[self.pictures.setdefault(picture, len(self.pictures))]] if picture else []
        return shown + [
            self.formulas.setdefault(part, len(self.formulas)) if is_latex else part
            for part, is_latex in mathml.parts(strip_image(text))
        ]

    def written(self) -> list[list[str | None]]:
        """Source and MathML of each; the latter is None where it cannot be read, and the page shows the source."""
        return [[source, mathml.convert(source)] for source in self.formulas]

    def drawn(self) -> list[str | None]:
        """Each picture, made small, as a data URI; None for those that are not there any more."""
        return [_drawn(picture) for picture in self.pictures]


def _drawn(picture: ImageReference) -> str | None:
    try:
        image = picture.read()
    except UserError:
        return None
    image.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def build(data: Collection, ranked: list[Ranked]) -> dict:
    """The page's data.

    Returns:
        `runs` (labels), `subjects`, `formulas`, `pictures`, `passages` (texts, those that are shown), and `queries`:
        `id`, `text`, `subject` (a place in `subjects`), `unseen`, `gold` (places in `passages`), `ranks` (of each run,
        0: beyond it) and `top` (of each run, passage and score in turn).
    """
    parts, passages = Parts(), {}
    subjects = sorted({data.metadata[query].subject for query in data.validation})
    place = {subject: number for number, subject in enumerate(subjects)}

    def shown(passage: str) -> int:
        return passages.setdefault(passage, len(passages))

    queries = [
        {
            "id": query,
            "text": parts.split(text),
            "subject": place[data.metadata[query].subject],
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
        "passages": [parts.split(data.passages[passage]) for passage in passages],
        "passage_ids": list(passages),
        "queries": queries,
        "formulas": parts.written(),
        "pictures": parts.drawn(),
    }


def _top(each: Ranked, row: int, shown) -> list[float]:
    pairs = zip(each.run.passages[row, :TOP], np.round(each.run.scores[row, :TOP].astype(float), DECIMALS), strict=True)
    return [number for passage, score in pairs for number in (shown(passage), float(score))]
