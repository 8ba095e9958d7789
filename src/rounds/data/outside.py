"""Outside questions on the training side of a split, without those that give its validation or test questions away."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from rounds.artifacts import hashing
from rounds.config.recipe import Outside
from rounds.data import lineage, outside_origin
from rounds.data.dataset import Query, RetrievalDataset
from rounds.data.loaders.outside import OutsideRow
from rounds.data.near_duplicates import Vectorizer, find_duplicates, find_nearest
from rounds.data.outside_origin import Origins, Share, construct_of
from rounds.data.splits import Split
from rounds.errors import Refused

NEAR_QUESTION, SAME_CONSTRUCT, NEAR_DUPLICATE = "near_question", "same_construct", "near_duplicate"

MOST_NAMED = 10  # sources in a warning


class Dropped(NamedTuple):
    """An outside row that does not train.

    Attributes:
        row: the row.
        reason: `near_question`, `same_construct` or `near_duplicate`.
        cosine: to the nearest text; None for a row that only shares a construct.
        nearest: names that text, or the question with the construct: a question of the split, a training query or
            another outside row.
    """

    row: OutsideRow
    reason: str
    cosine: float | None
    nearest: str

    def to_dict(self) -> dict:
        """Return what the file of dropped rows says of it."""
        return {
            "file": self.row.file,
            "row": self.row.row,
            "source": self.row.source,
            "question": self.row.fields["question"],
            "misconception": self.row.label,
            "reason": self.reason,
            "cosine": None if self.cosine is None else round(self.cosine, 4),
            "nearest": self.nearest,
        }


@dataclass(frozen=True)
class OutsideQuestions:
    """Outside questions that join a split.

    Attributes:
        dataset: their queries and labels, over the corpus of the competition's dataset.
        sources: query id -> source.
        dropped: rows that do not train.
        nearest: the row whose question is nearest to a validation or test question, that cosine and that question's
            name; None where there is no such question.
        origins: sources that were written from the competition's questions, or chosen by its labels.
    """

    dataset: RetrievalDataset
    sources: dict[str, str]
    dropped: list[Dropped]
    nearest: tuple[OutsideRow, float, str] | None
    origins: Origins

    def count(self, reason: str) -> int:
        """Return how many rows were dropped for a reason."""
        return sum(dropped.reason == reason for dropped in self.dropped)

    def describe(self) -> dict:
        """Return what `split.json` says of them."""
        return {
            "rows": len(self.sources) + len(self.dropped),
            NEAR_QUESTION: self.count(NEAR_QUESTION),
            SAME_CONSTRUCT: self.count(SAME_CONSTRUCT),
            NEAR_DUPLICATE: self.count(NEAR_DUPLICATE),
            "training_queries": len(self.sources),
            "sources": dict(Counter(self.sources.values())),
            "rewritten": list(self.origins.rewritten),
            "chosen": list(self.origins.chosen),
        }

    def message(self) -> str:
        """Return the line that says what joins and what was left out."""
        counts = [f"{self.count(NEAR_QUESTION)} near a validation or test question"]
        if same := self.count(SAME_CONSTRUCT):
            counts.append(f"{same} about the construct of one")
        line = (
            f"outside: {len(self.sources)} of {len(self.sources) + len(self.dropped)} rows join the training queries; "
            f"{', '.join(counts)} and {self.count(NEAR_DUPLICATE)} near-duplicates are left out"
        )
        if self.nearest is None:
            return line
        row, cosine, question = self.nearest
        return f"{line}; nearest: {row.place} and {question}, cosine {cosine:.2f}"

    def warnings(self, settings: Outside, has_validation: bool) -> list[str]:
        """Return a line on each origin that makes cross-validation too good.

        Args:
            settings: the recipe's section `outside`.
            has_validation: whether the split holds questions out.
        """
        lines, origins = [], self.origins
        if origins.rewritten:
            known, other = origins.construct_shares
            dropped = [entry for entry in self.dropped if entry.reason == SAME_CONSTRUCT]
            count = sum(entry.row.source in origins.rewritten for entry in dropped)
            done = (
                "are kept (outside.constructs)" if settings.constructs == "keep" else f"are left out ({count} of them)"
            )
            lines.append(
                f"warning: {_listed(origins.rewritten)}: look written from the competition's labelled questions: "
                f"{known} of their questions on labelled misconceptions have a construct of one, of those on others "
                f"{other}. Rows about the construct of a validation or test question {done}"
                + ("; scores on unseen misconceptions may still be too good" if has_validation else "")
            )
        for (known, other), sources in _by_value(origins.chosen).items():
            lines.append(
                f"warning: {_listed(sources)}: {known} of the labelled misconceptions and {other} of the others are "
                "covered, which tells among which the held-out labels are. These rows train, and have no vote in "
                "second stages"
            )
        return lines


def _listed(sources: Sequence[str]) -> str:
    """Name some sources, and count the rest."""
    more = f" and {len(sources) - MOST_NAMED} more" if len(sources) > MOST_NAMED else ""
    return f"{', '.join(sources[:MOST_NAMED])}{more}"


def _by_value(chosen: dict[str, tuple[Share, Share]]) -> dict[tuple[Share, Share], list[str]]:
    """Return the sources of each pair of shares, which are equal where they were checked together."""
    sources: dict[tuple[Share, Share], list[str]] = {}
    for source, shares in chosen.items():
        sources.setdefault(shares, []).append(source)
    return sources


def join(dataset: RetrievalDataset, split: Split, rows: Sequence[OutsideRow], settings: Outside) -> OutsideQuestions:
    """Choose the outside rows that train beside a split's own training queries.

    First rows are dropped whose question is near a validation or test question; then, by `outside.constructs`, those
    about the construct of such a question, and at last those whose question and answers are near an earlier training
    row with the same label, be it the competition's or an outside one.

    Args:
        settings: the recipe's section `outside`.

    Raises:
        Refused: rows are pseudo-labels of another split, whose model may have learned from this one's validation side.
    """
    _check_pseudo_labels(dataset, split, rows)
    texts = dict.fromkeys(query.fields["question"] for query in (*dataset.queries, *dataset.test_queries))
    vectorizer = Vectorizer(list(texts))
    origins = outside_origin.trace(dataset, rows)
    nearest, dropped = _near_questions(dataset, split, rows, vectorizer, settings.max_cosine)
    rest = _without(rows, dropped)
    if settings.constructs != "keep":
        is_all = settings.constructs == "drop"
        same = _same_constructs(dataset, split, [r for r in rest if is_all or r.source in origins.rewritten])
        dropped, rest = [*dropped, *same], _without(rest, same)
    duplicates = _near_duplicates(dataset, split, rest, vectorizer, settings.duplicate_cosine)
    kept = _without(rest, duplicates)
    queries = [_query(row) for row in kept]
    return OutsideQuestions(
        dataset=replace(
            dataset,
            queries=queries,
            qrels={query.id: [row.label] for query, row in zip(queries, kept, strict=True)},
            test_queries=[],
        ),
        sources={query.id: row.source for query, row in zip(queries, kept, strict=True)},
        dropped=[*dropped, *duplicates],
        nearest=nearest,
        origins=origins,
    )


def _without(rows: Sequence[OutsideRow], dropped: list[Dropped]) -> list[OutsideRow]:
    left_out = {id(entry.row) for entry in dropped}
    return [row for row in rows if id(row) not in left_out]


def _check_pseudo_labels(dataset: RetrievalDataset, split: Split, rows: Sequence[OutsideRow]) -> None:
    """Refuse labels by a model whose split has other validation questions, where this split has any."""
    validation = {query.group for query in dataset.labelled(split.validation)}
    held_out = lineage.questions_digest(lineage.question_digests(dataset, validation))
    for row in rows:
        made_for = row.labelled_for
        if made_for is None or (made_for.data == dataset.name and (not validation or made_for.held_out == held_out)):
            continue
        raise Refused(
            f"{row.place}: was labelled by a model of {made_for.data}, SPLIT={made_for.split} SEED={made_for.seed} "
            f"FOLD={made_for.fold}, which may have learned from validation questions of this split of {dataset.name}; "
            "make pseudo-labels for this split (make pseudo_label), or leave the file out of EXTRA"
        )


def _held_out(dataset: RetrievalDataset, split: Split) -> Iterator[tuple[Query, str]]:
    """Yield the queries of validation and test questions, each with its question's name."""
    validation = (query for query in dataset.queries if query.group in split.validation)
    for side, queries in (("validation", validation), ("test", dataset.test_queries)):
        yield from ((query, f"{side} question {query.group}") for query in queries)


def _same_constructs(dataset: RetrievalDataset, split: Split, rows: Sequence[OutsideRow]) -> list[Dropped]:
    """Return the rows about the construct of a validation or test question, whatever they are labelled with.

    Rows with that question's label alone would leave a gap that tells the label.
    """
    names: dict[str, str] = {}
    for query, name in _held_out(dataset, split):
        names.setdefault(construct_of(query.fields), name)
    names.pop("", None)
    found = [(row, names.get(construct_of(row.fields))) for row in rows if row.labelled_for is None]
    return [Dropped(row, SAME_CONSTRUCT, None, name) for row, name in found if name]


def _near_questions(
    dataset: RetrievalDataset, split: Split, rows: Sequence[OutsideRow], vectorizer: Vectorizer, threshold: float
) -> tuple[tuple[OutsideRow, float, str] | None, list[Dropped]]:
    """Return the nearest row with its cosine and question, and the rows near a validation or test question."""
    names: dict[str, str] = {}  # text -> name of the question
    for query, name in _held_out(dataset, split):
        names.setdefault(query.fields["question"], name)
    if not names or not rows:
        return None, []
    references, questions = list(names), list(dict.fromkeys(row.fields["question"] for row in rows))
    cosines, places = find_nearest(vectorizer.vectors(questions), vectorizer.vectors(references))
    # Equal texts have cosine 1, also where they are too short for a 4-gram.
    found = {
        text: (1.0, names[text]) if text in names else (float(cosine), names[references[place]])
        for text, cosine, place in zip(questions, cosines, places, strict=True)
    }
    nearest = max(rows, key=lambda row: found[row.fields["question"]][0])
    dropped = [
        Dropped(row, NEAR_QUESTION, *found[row.fields["question"]])
        for row in rows
        if found[row.fields["question"]][0] > threshold
    ]
    return (nearest, *found[nearest.fields["question"]]), dropped


def _near_duplicates(
    dataset: RetrievalDataset, split: Split, rows: Sequence[OutsideRow], vectorizer: Vectorizer, threshold: float
) -> list[Dropped]:
    """Return the rows that repeat a training query of the competition or an earlier outside row."""
    train = dataset.labelled(split.train)
    parts = [query.fields for query in train] + [row.fields for row in rows]
    texts = ["\n".join(fields[name] for name in ("question", "correct", "wrong")) for fields in parts]
    labels = [dataset.qrels[query.id][0] for query in train] + [row.label for row in rows]
    names = [f"training query {query.id}" for query in train] + [row.place for row in rows]
    cosines, originals = find_duplicates(vectorizer.vectors(texts), labels, threshold)
    first: dict[tuple[str, str], int] = {}
    dropped = []
    for place, key in enumerate(zip(texts, labels, strict=True)):
        copied = first.setdefault(key, place)
        if place < len(train):
            continue
        row = rows[place - len(train)]
        if copied != place:  # also where the threshold is 1, which no cosine exceeds
            dropped.append(Dropped(row, NEAR_DUPLICATE, 1.0, names[copied]))
        elif originals[place] >= 0:
            dropped.append(Dropped(row, NEAR_DUPLICATE, float(cosines[place]), names[originals[place]]))
    return dropped


def _query(row: OutsideRow) -> Query:
    """Return a row as a query; its ids depend on source, texts and label alone, not on the file or the place in it."""
    group = lineage.outside_id(row.source, row.fields["question"])
    return Query(f"{group}_{hashing.sha256_json([row.fields, row.label])[:12]}", group, row.fields)
