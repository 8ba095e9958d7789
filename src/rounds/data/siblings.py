"""Siblings: the other wrong answers of a query's question, labelled or not.

A test question comes with all of its wrong answers. In a split it has the labelled ones alone, since no other teaches
or is scored; the raw data still has the rest.
"""

from collections.abc import Collection as Ids
from pathlib import Path

from rounds.config.recipe import Prompts
from rounds.data import lineage
from rounds.data.dataset import Query, RetrievalDataset
from rounds.data.few_shot import QueryMetadata
from rounds.data.prompts import query_text
from rounds.errors import UserError


def wrong_answers(raw: RetrievalDataset, questions: dict[str, str], folder: Path) -> list[Query]:
    """Return the queries of a collection's questions, labelled or not, in file order.

    Args:
        raw: The data that the collection was drawn from.
        questions: Question id -> digest of its text.
        folder: The collection's folder, for the message.

    Raises:
        UserError: A question is another in the raw data, or is not there.
    """
    digests = lineage.question_digests(raw, set(questions))
    if changed := [question for question, digest in questions.items() if digests.get(question) != digest]:
        raise UserError(f"{folder}: question {changed[0]} is another in {raw.name}; name the split's own RAW")
    return [query for query in raw.queries if query.group in questions]


def unranked(
    raw: RetrievalDataset, questions: dict[str, str], ranked: Ids[str], prompts: Prompts, folder: Path
) -> list[QueryMetadata]:
    """Return the other wrong answers of questions than those that are ranked.

    Args:
        raw: The data that the collection was drawn from.
        questions: Question id -> digest of its text.
        ranked: Ids of the queries to leave out.
        prompts: The prompts that the collection's texts were made with.
        folder: The collection's folder, for the message.

    Raises:
        UserError: A question is another in the raw data, or is not there.
    """
    return [
        QueryMetadata(query_text(query, prompts), query.group, query.fields["construct"], query.fields["subject"])
        for query in wrong_answers(raw, questions, folder)
        if query.id not in ranked
    ]
