"""Load knowledge-based questions on images (ViQuAE: Lerner et al. 2022).

| file or folder | columns |
|---|---|
| `questions.{jsonl,parquet}`, or `questions/` | `id`, `question`, `image`, `answer`; `aliases`, `provenance` (lists) |
| `passages.{jsonl,parquet}`, or `passages/` | `id`, `text`, `image`, `article`; `title`, `type` |

A folder is one that `datasets` saved; an image is a path below `RAW`.
"""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from datasets import load_from_disk
from PIL import Image, UnidentifiedImageError

from rounds.data.cells import is_empty, read_id, read_name, read_names, read_text
from rounds.data.dataset import Query, RetrievalDataset
from rounds.data.images import NOT_IN_MARKERS, attach_image
from rounds.data.loaders.tables import Rows, read_table
from rounds.data.loaders.weak_labels import AnswerIndex, unique_passages
from rounds.data.text import normalize_text
from rounds.errors import UserError

QUESTION_COLUMNS = ("id", "question", "image", "answer")

PASSAGE_COLUMNS = ("id", "text", "image", "article")

NAME_COLUMNS = ("id", "answer", "article")  # texts or whole numbers

OPTIONAL_LISTS, OPTIONAL_NAMES = ("aliases", "provenance"), ("title", "type")


def load(folder: Path) -> tuple[RetrievalDataset, list[str]]:
    """Read a folder, and label the passages of a question's own articles that hold its answer.

    Passages of other articles that hold the answer, and those of its own articles that hold an alias alone, are neither
    relevant nor negatives (`RetrievalDataset.excluded`). For a question without `provenance`, every passage that holds
    the answer is relevant. Questions on one article, also beside others, are one group, which no split divides.

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
    groups = group_titles([row["provenance"] for row in question_rows])
    queries, qrels, excluded, unanswered = [], {}, {}, []
    for row in question_rows:
        titles = row["provenance"]
        fields = {
            "question": attach_image(row["question"], str(folder / row["image"])),
            "subject": articles.types.get(titles[0], "") if titles else "",
        }
        queries.append(Query(row["id"], groups[titles[0]] if titles else row["id"], fields))
        relevant, neutral = articles.label(row["answer"], row["aliases"], titles)
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


def group_titles(questions: Iterable[list[str]]) -> dict[str, str]:
    """Return title -> the first title of its group; titles of one question are in one group.

    >>> group_titles([["a", "b"], ["c"], ["d", "b"]])
    {'a': 'a', 'b': 'a', 'c': 'c', 'd': 'a'}
    """
    members: dict[str, list[str]] = {}  # title -> the list of its group's titles, one list for all of them
    for titles in questions:
        for title in titles:
            members.setdefault(title, [title])
            first, other = members[titles[0]], members[title]
            if first is not other:
                first.extend(other)
                members.update(dict.fromkeys(other, first))
    first_titles: dict[int, str] = {}
    return {title: first_titles.setdefault(id(group), title) for title, group in members.items()}


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
            title = row["title"] or row["article"]
            self.types[title] = row["type"]
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
    """Return the rows of a table, with the cells of `columns` as stripped texts and the optional ones filled in.

    Raises:
        UserError: the table or a column is missing, a cell is empty or of another type, or an id appears twice.
    """
    candidates = (folder / f"{name}.jsonl", folder / f"{name}.parquet", folder / name)
    file = next((path for path in candidates if path.exists()), None)
    if file is None:
        raise UserError(f"{folder}: holds neither {name}.jsonl nor {name}.parquet nor a datasets folder {name}")
    rows: dict[str, dict] = {}
    for place, row in _read_folder(file) if file.is_dir() else read_table(file):
        for column in columns:
            if column not in row:
                raise UserError(f"{place}: {column} is missing (found: {', '.join(map(str, row))})")
            read = read_name if column in NAME_COLUMNS else read_text
            row[column] = read(row[column], place, column).strip()
        for column in OPTIONAL_LISTS:
            row[column] = read_names(row.get(column), place, column)
        for column in OPTIONAL_NAMES:
            row[column] = "" if is_empty(row.get(column)) else read_name(row[column], place, column)
        for column in {"article", "title"} & row.keys():
            row[column] = normalize_text(row[column])
        row["provenance"] = [normalize_text(title) for title in row["provenance"]]
        rows[read_id(row["id"], place, "id", rows)] = row
    return list(rows.values())


def _read_folder(folder: Path) -> Rows:
    """Return the rows of a folder that `datasets` saved, each after its place."""
    try:
        rows = load_from_disk(str(folder)).to_list()
    except (ValueError, OSError) as error:
        raise UserError(f"{folder}: cannot be read ({' '.join(str(error).split())[:120]})") from None
    if not rows:
        raise UserError(f"{folder}: has no rows")
    return [(f"{folder} row {number}", row) for number, row in enumerate(rows, 1)]


def _check_images(folder: Path, name: str, rows: list[dict]) -> None:
    """Raise a `UserError` for the first row whose image is missing or cannot be read."""
    readable: set[str] = set()
    for number, row in enumerate(rows, 1):
        if row["image"] in readable:
            continue
        place = f"{folder / name} row {number} ({row['id']})"
        if unwritable := NOT_IN_MARKERS.search(str(folder / row["image"])):
            raise UserError(f"{place}: the path of a picture must not hold {unwritable.group()!r}")
        try:
            with Image.open(folder / row["image"]) as image:
                image.load()
        except FileNotFoundError:
            raise UserError(f"{place}: no picture {row['image']}") from None
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            reason = " ".join(str(error).split())[:100]
            raise UserError(f"{place}: {row['image']} cannot be read ({reason})") from None
        readable.add(row["image"])
