"""Weak labels: passages that hold a question's answer count as relevant (DPR: Karpukhin et al. 2020, ViQuAE) -> `Task`.

| file | keys |
|---|---|
| `questions.jsonl` | `id`, `question`, `answer`, and optionally `aliases` (a list), `group` |
| `passages.jsonl` | `id`, `text` |
"""

import string
import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from rounds.data.dataset import Query, RetrievalDataset
from rounds.data.loaders import beir
from rounds.errors import UserError

ARTICLES = frozenset(("a", "an", "the"))

# Answers that say nothing on their own, in the words of English stop-word lists.
STOP_WORDS = ARTICLES | frozenset(
    "and are as at be by for from has he in is it its of on or she that they this to was were will with".split()
    + ["yes", "no", "not"]
)

_PUNCTUATION = dict.fromkeys(map(ord, string.punctuation), " ")


@dataclass(frozen=True)
class Skipped:
    """What could not be used, for the report.

    Attributes:
        answers: question id -> answers that normalize to nothing or to a stop word.
        unanswered: questions whose answer stands in no passage.
    """

    answers: dict[str, list[str]]
    unanswered: list[str]


def load(folder: Path) -> tuple[RetrievalDataset, Skipped]:
    """Read a folder and find each question's relevant passages: those with the answer, else those with an alias.

    Passages with an alias are never negatives, whether or not they are relevant (`Task.excluded`).

    Raises:
        UserError: a missing file, a broken line, or no question with a relevant passage.
    """
    passages: dict[str, str] = {}
    for place, row in beir.lines(folder / "passages.jsonl", ("id", "text")):
        if str(row["id"]) in passages:
            raise UserError(f"{place}: id {row['id']!r} appears twice")
        passages[str(row["id"])] = row["text"]
    index = Index(passages)
    queries, qrels, excluded = [], {}, {}
    skipped = Skipped(defaultdict(list), [])
    for place, row in beir.lines(folder / "questions.jsonl", ("id", "question", "answer")):
        identifier, aliases = str(row["id"]), row.get("aliases") or []
        if not isinstance(aliases, list):
            raise UserError(f"{place}: aliases must be a list")
        queries.append(Query(identifier, str(row.get("group", identifier)), {"question": row["question"]}))
        found = []
        for answer in (row["answer"], *aliases):
            if says_nothing(answer):
                skipped.answers[identifier].append(answer)
            else:
                found.append((answer, index.holding(answer)))
        original = next((rows for answer, rows in found if answer == row["answer"]), [])
        every = list(dict.fromkeys(passage for _, rows in found for passage in rows))
        if relevant := original or every:
            qrels[identifier], excluded[identifier] = relevant, [each for each in every if each not in relevant]
        else:
            skipped.unanswered.append(identifier)
    if not qrels:
        raise UserError(f"{folder}: no passage holds the answer of any question")
    return RetrievalDataset(folder.name, queries, passages, qrels, excluded=excluded), skipped


def normalize(text: str) -> str:
    """Lower case, accents kept, punctuation and articles gone, white space collapsed (SQuAD's normalization).

    >>> normalize("The  Eiffel-Tower!")
    'eiffel tower'
    """
    words = unicodedata.normalize("NFC", text).lower().translate(_PUNCTUATION).split()
    return " ".join(word for word in words if word not in ARTICLES)


def says_nothing(answer: str) -> bool:
    """Whether an answer normalizes to nothing or to stop words alone: it would stand in every passage."""
    return not set(normalize(answer).split()) - STOP_WORDS


class Index:
    """Normalized passages, found by the words of an answer."""

    def __init__(self, passages: dict[str, str]) -> None:
        self.texts = {identifier: f" {normalize(text)} " for identifier, text in passages.items()}
        self.by_word: dict[str, list[str]] = defaultdict(list)
        for identifier, text in self.texts.items():
            for word in dict.fromkeys(text.split()):
                self.by_word[word].append(identifier)

    def holding(self, answer: str) -> list[str]:
        """Passages with the answer's words in a row, whole words only, in corpus order."""
        wanted = normalize(answer)
        rarest = min((self.by_word.get(word, []) for word in wanted.split()), key=len, default=[])
        return [identifier for identifier in rarest if f" {wanted} " in self.texts[identifier]]
