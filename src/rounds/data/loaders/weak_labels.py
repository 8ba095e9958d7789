"""Load questions with answers, and label as relevant the passages that hold the answer.

Weak labels of this kind are those of DPR (Karpukhin et al. 2020) and ViQuAE (Lerner et al. 2022).

| file | keys |
|---|---|
| `questions.jsonl` | `id`, `question`, `answer`, and optionally `aliases` (a list), `group` |
| `passages.jsonl` | `id`, `text` |
"""

import string
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rounds.data.cells import read_group, read_id, read_name, read_names, read_text
from rounds.data.dataset import Query, RetrievalDataset
from rounds.data.loaders import beir_files
from rounds.errors import UserError

ARTICLES = frozenset(("a", "an", "the"))

# Answers that are too common to identify a passage, from English stop-word lists.
STOP_WORDS = ARTICLES | frozenset(
    "and are as at be by for from has he in is it its of on or she that they this to was were will with".split()
    + ["yes", "no", "not"]
)

_PUNCTUATION = dict.fromkeys(map(ord, string.punctuation), " ")


@dataclass(frozen=True)
class SkippedAnswers:
    """What could not be used, for the report.

    Attributes:
        answers: question id -> answers that normalize to nothing or to stop words.
        unanswered: questions whose answer no passage holds.
    """

    answers: dict[str, list[str]]
    unanswered: list[str]


def load(folder: Path) -> tuple[RetrievalDataset, SkippedAnswers]:
    """Read a folder, and label the passages that hold a question's answer, or else one of its aliases.

    Passages with an alias are never negatives, whether or not they are relevant (`RetrievalDataset.excluded`).

    Raises:
        UserError: a file is missing, a line is broken, an id repeats, a cell is null, or no question has a relevant
            passage.
    """
    passages = _read_passages(folder / "passages.jsonl")
    index = AnswerIndex(passages)
    queries: dict[str, Query] = {}
    qrels, excluded = {}, {}
    skipped = SkippedAnswers(defaultdict(list), [])
    for place, row in beir_files.read([folder / "questions.jsonl"], ("id", "question", "answer")):
        identifier, question = read_id(row["id"], place, "id", queries), read_text(row["question"], place, "question")
        group = read_group(row["group"], place, "group") if "group" in row else identifier
        queries[identifier] = Query(identifier, group, {"question": question})
        # An empty answer is one that says nothing: it is reported, not refused.
        answer = row["answer"] if isinstance(row["answer"], str) else read_name(row["answer"], place, "answer")
        answers = [answer, *read_names(row.get("aliases"), place, "aliases")]
        if uninformative := [answer for answer in answers if is_uninformative(answer)]:
            skipped.answers[identifier] += uninformative
        holders = index.find_answers(answers)
        all_holders = unique_passages(holders.values())
        if relevant := holders.get(answer) or all_holders:
            qrels[identifier] = relevant
            excluded[identifier] = [passage for passage in all_holders if passage not in relevant]
        else:
            skipped.unanswered.append(identifier)
    if not qrels:
        raise UserError(f"{folder}: no passage holds the answer of any question")
    return RetrievalDataset(folder.name, list(queries.values()), passages, qrels, excluded=excluded), skipped


def _read_passages(path: Path) -> dict[str, str]:
    passages: dict[str, str] = {}
    for place, row in beir_files.read([path], ("id", "text")):
        passages[read_id(row["id"], place, "id", passages)] = read_text(row["text"], place, "text")
    return passages


def normalize(text: str) -> str:
    """Lower-case a text and remove punctuation, articles and extra white space, as SQuAD does; accents stay.

    >>> normalize("The  Eiffel-Tower!")
    'eiffel tower'
    """
    words = unicodedata.normalize("NFC", text).lower().translate(_PUNCTUATION).split()
    return " ".join(word for word in words if word not in ARTICLES)


def is_uninformative(answer: str) -> bool:
    """Return whether an answer normalizes to nothing or to stop words, which nearly every passage holds."""
    return not set(normalize(answer).split()) - STOP_WORDS


def unique_passages(lists: Iterable[list[str]]) -> list[str]:
    """Return the passages of several lists in order, each once."""
    return list(dict.fromkeys(passage for passages in lists for passage in passages))


class AnswerIndex:
    """An inverted index of normalized passages, to find those that hold an answer."""

    def __init__(self, passages: dict[str, str]) -> None:
        self.texts = {identifier: f" {normalize(text)} " for identifier, text in passages.items()}
        self.by_word: dict[str, list[str]] = defaultdict(list)
        for identifier, text in self.texts.items():
            for word in dict.fromkeys(text.split()):
                self.by_word[word].append(identifier)

    def find_answer(self, answer: str) -> list[str]:
        """Return the passages that hold the answer's words in a row, as whole words, in corpus order."""
        wanted = normalize(answer)
        rarest = min((self.by_word.get(word, []) for word in wanted.split()), key=len, default=[])
        return [identifier for identifier in rarest if f" {wanted} " in self.texts[identifier]]

    def find_answers(self, answers: Iterable[str]) -> dict[str, list[str]]:
        """Return answer -> passages that hold it, without uninformative answers."""
        return {answer: self.find_answer(answer) for answer in answers if not is_uninformative(answer)}
