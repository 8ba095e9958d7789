"""Query browser: each validation query with its gold passage and every run's top passages, as one JSON object.

A text is a list of strings and numbers. A number is an index into `formulas`, a list with one number an index into
`pictures`, so that each formula and image is converted and stored once. The page inserts strings as text nodes, so no
text of the data is ever parsed as HTML.
"""

import base64
import io

import numpy as np

from rounds.data.collection import Collection
from rounds.data.images import ImageReference, find_image, strip_image
from rounds.errors import UserError
from rounds.report import mathml
from rounds.report.ranked_runs import RankedRun

TOP = 5  # passages shown of each run

SCORE_DECIMALS = 4

IMAGE_SIZE = 72  # pixels of an image's longer side on the page


class MediaIndex:
    """The formulas and images of all texts, each stored once under its index.

    Attributes:
        formulas: LaTeX source -> index.
        images: image -> index.
    """

    def __init__(self) -> None:
        self.formulas: dict[str, int] = {}
        self.images: dict[ImageReference, int] = {}

    def encode(self, text: str) -> list[str | int | list[int]]:
        """Replace the formulas of a text by their indexes; its image's index comes first, in a list."""
        image = find_image(text)
        parts: list[str | int | list[int]] = []
        if image:
            parts.append([self.images.setdefault(image, len(self.images))])
        for part, is_latex in mathml.split_formulas(strip_image(text)):
            parts.append(self.formulas.setdefault(part, len(self.formulas)) if is_latex else part)
        return parts

    def convert_formulas(self) -> list[list[str | None]]:
        """Return each formula's source and MathML; for invalid LaTeX it is None, and the page shows the source."""
        return [[source, mathml.convert(source)] for source in self.formulas]

    def convert_images(self) -> list[str | None]:
        """Return each image as the data URI of a thumbnail; None if its file is gone."""
        return [_thumbnail(image) for image in self.images]


def _thumbnail(reference: ImageReference) -> str | None:
    try:
        image = reference.read()
    except UserError:
        return None
    image.thumbnail((IMAGE_SIZE, IMAGE_SIZE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def build_browser_data(data: Collection, ranked_runs: list[RankedRun]) -> dict:
    """Return the JSON object that the page's query browser reads.

    Returns:
        `runs` (labels), `depth` (passages ranked by every run), `subjects`, `formulas`, `pictures`, `passages` (texts
        of the passages that occur, without explanations) with their `passage_ids`, and `queries`: `id`, `text`,
        `subject` (index into `subjects`), `unseen` (0 or 1), `gold` (indexes into `passages`), `ranks` (of each run; 0
        if the run holds no gold passage) and `top` (of each run: passage index and score in turn).
    """
    media = MediaIndex()
    passage_index: dict[str, int] = {}

    def index_of(passage_id: str) -> int:
        return passage_index.setdefault(passage_id, len(passage_index))

    def top_passages(ranked: RankedRun, row: int) -> list[float]:
        scores = np.round(ranked.run.scores[row, :TOP].astype(float), SCORE_DECIMALS)
        pairs = zip(ranked.run.passages[row, :TOP], scores, strict=True)
        return [number for passage_id, score in pairs for number in (index_of(passage_id), float(score))]

    subjects = sorted({data.metadata[query].subject for query in data.validation})
    subject_index = {subject: number for number, subject in enumerate(subjects)}
    queries = [
        {
            "id": query,
            "text": media.encode(text),
            "subject": subject_index[data.metadata[query].subject],
            "unseen": int(query in data.unseen),
            "gold": [index_of(passage_id) for passage_id in data.qrels[query]],
            "ranks": [int(ranked.ranks[row]) for ranked in ranked_runs],
            "top": [top_passages(ranked, row) for ranked in ranked_runs],
        }
        for row, (query, text) in enumerate(data.validation.items())
    ]
    return {
        "runs": [ranked.label for ranked in ranked_runs],
        "depth": min((ranked.run.passages.shape[1] for ranked in ranked_runs), default=0),
        "subjects": subjects,
        "passages": [media.encode(data.name(passage_id)) for passage_id in passage_index],
        "passage_ids": list(passage_index),
        "queries": queries,
        "formulas": media.convert_formulas(),
        "pictures": media.convert_images(),
    }
