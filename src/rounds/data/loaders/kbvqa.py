"""Knowledge-based questions on pictures (ViQuAE: Lerner et al. 2022) -> `Task`.

| file or folder | columns |
|---|---|
| `questions.{jsonl,parquet}`, or `questions/` | `id`, `question`, `image`, `answer`; `aliases`, `provenance` (lists) |
| `passages.{jsonl,parquet}`, or `passages/` | `id`, `text`, `image`, `article`; `title`, `type` |

A folder is one that `datasets` saved; a picture is a path below `RAW`.
"""

from collections import defaultdict
from pathlib import Path

import pandas as pd
from datasets import load_from_disk
from PIL import Image, UnidentifiedImageError

from rounds.data.dataset import Query, RetrievalDataset
from rounds.data.images import attach_image
from rounds.data.loaders.weak_labels import Index, says_nothing
from rounds.errors import UserError

ASKED = ("id", "question", "image", "answer")

TOLD = ("id", "text", "image", "article")


def load(folder: Path) -> tuple[RetrievalDataset, list[str]]:
    """Read a folder; passages of a question's own articles that hold its answer are relevant.

    Passages of other articles with the answer, and its own articles' with an alias alone, are neither relevant nor
    negatives (`Task.excluded`). Without `provenance` every passage with the answer is relevant. Questions on one
    article are one group, which no split divides.

    Returns:
        The task, and lines on questions that nothing answers.

    Raises:
        UserError: a missing file or column, an empty cell, or a picture that is missing or broken.
    """
    told, asked = _rows(folder, "passages", TOLD), _rows(folder, "questions", ASKED)
    _check_images(folder, "passages", told)
    _check_images(folder, "questions", asked)
    passages = {row["id"]: row["text"] for row in told}  # words, for answers to be found in
    articles: dict[str, set[str]] = defaultdict(set)
    types = {row.get("title") or row["article"]: str(row.get("type") or "") for row in told}
    for row in told:
        articles[row.get("title") or row["article"]].add(row["id"])
    index, queries, qrels, excluded, unanswered = Index(passages), [], {}, {}, []
    for row in asked:
        titles = [str(title) for title in _list(row.get("provenance"))]
        own = set().union(*(articles.get(title, set()) for title in titles)) if titles else set(passages)
        found = {
            answer: index.holding(answer)
            for answer in (row["answer"], *map(str, _list(row.get("aliases"))))
            if not says_nothing(answer)
        }
        every = list(dict.fromkeys(passage for rows in found.values() for passage in rows))
        relevant = [each for each in found.get(row["answer"], ()) if each in own]
        relevant = relevant or [each for each in every if each in own]
        asks = attach_image(row["question"], str(folder / row["image"]))
        queries.append(
            Query(
                row["id"],
                "; ".join(titles) or row["id"],
                {"question": asks, "subject": types.get(titles[0], "") if titles else ""},
            )
        )
        if relevant:
            qrels[row["id"]], excluded[row["id"]] = relevant, [each for each in every if each not in relevant]
        else:
            unanswered.append(row["id"])
    if not qrels:
        raise UserError(f"{folder}: no passage holds the answer of any question")
    said = f"{folder}: {len(unanswered)} questions have their answer in no passage, such as {', '.join(unanswered[:1])}"
    shown = {row["id"]: attach_image(row["text"], str(folder / row["image"])) for row in told}
    return RetrievalDataset(folder.name, queries, shown, qrels, excluded=excluded), [said] if unanswered else []


def _rows(folder: Path, name: str, columns: tuple[str, ...]) -> list[dict]:
    """Rows of a table, cells of `columns` as texts.

    Raises:
        UserError: no such table, a missing column, an empty cell or an id that appears twice.
    """
    found = [each for each in (folder / f"{name}.jsonl", folder / f"{name}.parquet", folder / name) if each.exists()]
    if not found:
        raise UserError(f"{folder}: holds neither {name}.jsonl nor {name}.parquet nor a datasets folder {name}")
    file = found[0]
    try:
        if file.is_dir():
            rows = load_from_disk(str(file)).to_list()
        elif file.suffix == ".parquet":
            rows = pd.read_parquet(file).to_dict("records")
        else:
            rows = pd.read_json(file, lines=True, dtype=False).to_dict("records")
    except (ValueError, OSError) as error:
        raise UserError(f"{file}: cannot be read ({' '.join(str(error).split())[:120]})") from None
    if not rows:
        raise UserError(f"{file}: has no rows")
    seen: set[str] = set()
    for number, row in enumerate(rows, 1):
        for column in columns:
            if column not in row:
                raise UserError(f"{file} row {number}: {column} is missing (found: {', '.join(map(str, row))})")
            if row[column] is None or not (text := str(row[column]).strip()):
                raise UserError(f"{file} row {number}: {column} is empty")
            row[column] = text
        if row["id"] in seen:
            raise UserError(f"{file} row {number}: id {row['id']!r} appears twice")
        seen.add(row["id"])
    return rows


def _list(value: object) -> list:
    """A list cell; parquet's are arrays, and missing ones None or NaN."""
    return list(value) if hasattr(value, "__len__") and not isinstance(value, str) else []


def _check_images(folder: Path, name: str, rows: list[dict]) -> None:
    """Every picture is there and can be read."""
    sound: set[str] = set()
    for number, row in enumerate(rows, 1):
        if row["image"] in sound:
            continue
        file = folder / row["image"]
        try:
            with Image.open(file) as image:
                image.load()
        except FileNotFoundError:
            raise UserError(f"{folder / name} row {number} ({row['id']}): no picture {row['image']}") from None
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            reason = " ".join(str(error).split())[:100]
            raise UserError(
                f"{folder / name} row {number} ({row['id']}): {row['image']} cannot be read ({reason})"
            ) from None
        sound.add(row["image"])
