"""Load BEIR's layout (Thakur et al. 2021, arXiv:2104.08663): a corpus, queries, and files of graded labels.

`beir_files` says where the files may lie and how they may be written.
"""

import itertools
import re
from collections.abc import Mapping
from pathlib import Path

from rounds.config.sections.prompts import DEFAULT_PASSAGE
from rounds.data.cells import is_empty, read_id, read_name, read_text
from rounds.data.dataset import Grades, Query, RetrievalDataset, relevant_passages
from rounds.data.identical import find_identical
from rounds.data.loaders import beir_files
from rounds.data.passage_pool import Spool
from rounds.data.text import normalize_text
from rounds.errors import UserError

_GRADE = re.compile(r"[-+]?\d{1,9}(\.0*)?")  # larger ones would overflow what metrics are computed with


def load(folder: Path, ignore_identical: bool = True, passage_format: str = DEFAULT_PASSAGE) -> RetrievalDataset:
    """Read a folder in BEIR's layout.

    A query may have several relevant passages: those with a grade of 1 and above. Labels of all files are merged, the
    highest grade first, because splits v1 to v5 are made here; `labels` keeps them file by file.

    Args:
        folder: the folder.
        ignore_identical: neither rank nor mine a query's own id or text for it, as BEIR does by default.
        passage_format: how `{title}` and `{text}` become a passage's text; white space at its ends goes.

    Raises:
        UserError: a file is missing, a line is broken, an id or text is null, or a label names an unknown query or
            passage.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; it must hold corpus.jsonl, queries.jsonl and qrels/")
    corpus_files = beir_files.find(folder, "corpus")
    texts = _read_queries(folder)
    passages, bodies = _read_corpus(corpus_files, passage_format, set(map(normalize_text, texts.values())))
    if not passages:
        raise UserError(f"{folder}: the corpus holds no passages")
    labels = {part: _read_labels(paths, texts, passages) for part, paths in beir_files.find_labels(folder).items()}
    grades = _merge(list(labels.values()))
    qrels = {query: relevant for query, judged in grades.items() if (relevant := relevant_passages(judged))}
    queries = [Query(identifier, identifier, {"question": text}) for identifier, text in texts.items()]
    return RetrievalDataset(
        folder.name,
        queries,
        passages,
        qrels,
        identical=find_identical(queries, itertools.chain(passages.items(), bodies), qrels, ignore_identical),
        grades=grades,
        labels=labels,
    )


def _read_queries(folder: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    for place, row in beir_files.read(beir_files.find(folder, "queries"), ("_id", "text")):
        texts[read_id(row["_id"], place, "_id", texts)] = read_text(row["text"], place, "text")
    return texts


def _read_corpus(
    paths: list[Path], passage_format: str, questions: set[str]
) -> tuple[Mapping[str, str], list[tuple[str, str]]]:
    """Return the corpus, row by row in a temporary file if it is large.

    Args:
        questions: the normalized texts of the queries.

    Returns:
        passage id -> text; and id and text of the passages whose text without its title is a query, as ArguAna's are.
    """

    def name_repeat(row: int, identifier: str) -> str:
        place, _ = next(itertools.islice(beir_files.read(paths, ()), row, None))
        return f"{place}: _id {identifier!r} appears twice"

    spool = Spool()
    bodies: list[tuple[str, str]] = []
    for place, row in beir_files.read(paths, ("_id", "text")):
        identifier = read_id(row["_id"], place, "_id", spool.seen)
        spool.add(identifier, _passage_text(row, place, passage_format))
        if normalize_text(row["text"]) in questions:
            bodies.append((identifier, row["text"]))
    return spool.finish(name_repeat), bodies


def _passage_text(row: dict, place: str, passage_format: str) -> str:
    """Return a passage's title and text; public corpora have passages without the one, the other or both."""
    title, text = row.get("title"), row["text"]
    title = "" if is_empty(title) else read_text(title, place, "title")
    text = "" if text == "" else read_text(text, place, "text")
    return passage_format.format(title=title, text=text).strip()


def _read_labels(paths: list[Path], queries: dict[str, str], passages: Mapping[str, str]) -> Grades:
    """Return the grades of one part; where a pair is graded twice, the higher one counts."""
    grades: Grades = {}
    for place, row in beir_files.read(paths, beir_files.LABEL_KEYS):
        query, passage = (read_name(row[key], place, key) for key in beir_files.LABEL_KEYS[:2])
        if query not in queries or passage not in passages:
            missing = f"query {query}" if query not in queries else f"passage {passage}"
            raise UserError(f"{place}: {missing} is not there")
        judged, grade = grades.setdefault(query, {}), _read_grade(row["score"], place)
        judged[passage] = max(grade, judged.get(passage, grade))
    return grades


def _read_grade(value: object, place: str) -> int:
    """Return a grade such as `1`, `-1` or `1.0`, which trec_eval takes as a whole number."""
    if isinstance(value, bool) or not _GRADE.fullmatch(str(value).strip()):
        raise UserError(f"{place}: score {value!r} is not a whole number of at most 9 digits; grades are 0, 1, 2, ...")
    return int(float(value))


def _merge(parts: list[Grades]) -> Grades:
    """Return the grades of several parts together."""
    merged: Grades = {}
    for part in parts:
        for query, judged in part.items():
            into = merged.setdefault(query, {})
            for passage, grade in judged.items():
                into[passage] = max(grade, into.get(passage, grade))
    return merged
