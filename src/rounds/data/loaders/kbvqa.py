"""Load knowledge-based questions on images (ViQuAE: Lerner et al. 2022).

| file or folder | columns |
|---|---|
| `questions.{jsonl,parquet}`, or `questions/` | `id`, `question`, `image`, `answer`; `aliases`, `provenance` (lists) |
| `passages.{jsonl,parquet}`, or `passages/` | `id`, `text`, `image`, `article`; `title`, `type` |

A folder is one that `datasets` saved; an image is a path below `RAW`.
"""

from collections import defaultdict
from pathlib import Path

import pandas as pd
from datasets import load_from_disk
from PIL import Image, UnidentifiedImageError

from rounds.data.dataset import Query, RetrievalDataset
from rounds.data.images import attach_image
from rounds.data.loaders.weak_labels import AnswerIndex, unique_passages
from rounds.errors import UserError

QUESTION_COLUMNS = ("id", "question", "image", "answer")

PASSAGE_COLUMNS = ("id", "text", "image", "article")


def load(folder: Path) -> tuple[RetrievalDataset, list[str]]:
    """Read a folder, and label the passages of a question's own articles that hold its answer.

    Passages of other articles that hold the answer, and those of its own articles that hold an alias alone, are neither
    relevant nor negatives (`RetrievalDataset.excluded`). For a question without `provenance`, every passage that holds
    the answer is relevant. Questions on one article are one group, which no split divides.

    Returns:
        The dataset, and messages about questions that no passage answers.

    Raises:
        UserError: a file or column is missing, a cell is empty, or an image is missing or broken.
    """
    passage_rows = _read_table(folder, "passages", PASSAGE_COLUMNS)
    question_rows = _read_table(folder, "questions", QUESTION_COLUMNS)
    _check_images(folder, "passages", passage_rows)
    _check_images(folder, "questions", question_rows)
    articles = _Articles(passage_rows)
    queries, qrels, excluded, unanswered = [], {}, {}, []
    for row in question_rows:
        titles = [str(title) for title in _as_list(row.get("provenance"))]
        fields = {
            "question": attach_image(row["question"], str(folder / row["image"])),
            "subject": articles.types.get(titles[0], "") if titles else "",
        }
        queries.append(Query(row["id"], "; ".join(titles) or row["id"], fields))
        relevant, neutral = articles.label(
            row["answer"], [str(alias) for alias in _as_list(row.get("aliases"))], titles
        )
        if relevant:
            qrels[row["id"]], excluded[row["id"]] = relevant, neutral
        else:
            unanswered.append(row["id"])
    if not qrels:
        raise UserError(f"{folder}: no passage holds the answer of any question")
    passages = {row["id"]: attach_image(row["text"], str(folder / row["image"])) for row in passage_rows}
    dataset = RetrievalDataset(folder.name, queries, passages, qrels, excluded=excluded)
    if not unanswered:
        return dataset, []
    return dataset, [f"{folder}: {len(unanswered)} questions have their answer in no passage, such as {unanswered[0]}"]


class _Articles:
    """The passages by article, and an index of the answers that they hold.

    Attributes:
        types: title -> type of entity, such as `town`.
        passages: title -> ids of the article's passages.
    """

    def __init__(self, rows: list[dict]) -> None:
        self.types: dict[str, str] = {}
        self.passages: dict[str, set[str]] = defaultdict(set)
        for row in rows:
            title = row.get("title") or row["article"]
            self.types[title] = str(row.get("type") or "")
            self.passages[title].add(row["id"])
        texts = {row["id"]: row["text"] for row in rows}
        self.ids = set(texts)
        self.index = AnswerIndex(texts)

    def label(self, answer: str, aliases: list[str], titles: list[str]) -> tuple[list[str], list[str]]:
        """Return the relevant passages of a question, and those that are neither relevant nor negatives.

        Args:
            titles: the question's own articles; empty: any article.
        """
        own = set().union(*(self.passages.get(title, set()) for title in titles)) if titles else self.ids
        holders = self.index.find_answers((answer, *aliases))
        all_holders = unique_passages(holders.values())
        relevant = [passage for passage in holders.get(answer, ()) if passage in own]
        relevant = relevant or [passage for passage in all_holders if passage in own]
        return relevant, [passage for passage in all_holders if passage not in relevant]


def _read_table(folder: Path, name: str, columns: tuple[str, ...]) -> list[dict]:
    """Return the rows of a table, with the cells of `columns` as stripped texts.

    Raises:
        UserError: the table or a column is missing, a cell is empty, or an id appears twice.
    """
    candidates = (folder / f"{name}.jsonl", folder / f"{name}.parquet", folder / name)
    file = next((path for path in candidates if path.exists()), None)
    if file is None:
        raise UserError(f"{folder}: holds neither {name}.jsonl nor {name}.parquet nor a datasets folder {name}")
    rows = _read_rows(file)
    if not rows:
        raise UserError(f"{file}: has no rows")
    identifiers: set[str] = set()
    for number, row in enumerate(rows, 1):
        for column in columns:
            if column not in row:
                raise UserError(f"{file} row {number}: {column} is missing (found: {', '.join(map(str, row))})")
            if row[column] is None or not (text := str(row[column]).strip()):
                raise UserError(f"{file} row {number}: {column} is empty")
            row[column] = text
        if row["id"] in identifiers:
            raise UserError(f"{file} row {number}: id {row['id']!r} appears twice")
        identifiers.add(row["id"])
    return rows


def _read_rows(file: Path) -> list[dict]:
    try:
        if file.is_dir():
            return load_from_disk(str(file)).to_list()
        if file.suffix == ".parquet":
            return pd.read_parquet(file).to_dict("records")
        return pd.read_json(file, lines=True, dtype=False).to_dict("records")
    except (ValueError, OSError) as error:
        raise UserError(f"{file}: cannot be read ({' '.join(str(error).split())[:120]})") from None


def _as_list(value: object) -> list:
    """Return a list cell as a list; parquet has arrays instead, and None or NaN for missing cells."""
    return list(value) if hasattr(value, "__len__") and not isinstance(value, str) else []


def _check_images(folder: Path, name: str, rows: list[dict]) -> None:
    """Raise a `UserError` for the first row whose image is missing or cannot be read."""
    readable: set[str] = set()
    for number, row in enumerate(rows, 1):
        if row["image"] in readable:
            continue
        place = f"{folder / name} row {number} ({row['id']})"
        try:
            with Image.open(folder / row["image"]) as image:
                image.load()
        except FileNotFoundError:
            raise UserError(f"{place}: no picture {row['image']}") from None
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            reason = " ".join(str(error).split())[:100]
            raise UserError(f"{place}: {row['image']} cannot be read ({reason})") from None
        readable.add(row["image"])
