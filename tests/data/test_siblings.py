"""Siblings: all wrong answers of the questions that a split was drawn from, and only of these."""

from pathlib import Path

from helpers.tiny_task import refused

from rounds.data import lineage, siblings
from rounds.data.loaders import eedi


def test_siblings_are_the_other_wrong_answers_of_the_questions(raw, tiny):
    """Labelled or not; not those that are ranked, or those of other questions."""
    task = eedi.load(raw)
    groups = set(list(dict.fromkeys(query.group for query in task.queries))[:20])
    questions = lineage.question_digests(task, groups)
    ranked = {query.id for query in task.labelled(groups)}
    found = siblings.unranked(task, questions, ranked, tiny.prompts, Path("data"))
    expected = [query for query in task.queries if query.group in groups and query.id not in ranked]
    assert expected and [each.question for each in found] == [query.group for query in expected]
    for each, query in zip(found, expected, strict=True):
        assert query.fields["wrong"] in each.text and each.construct == query.fields["construct"]


def test_a_question_of_other_data_is_refused(raw, tiny):
    """An id alone does not say which question it is."""
    task = eedi.load(raw)
    questions = lineage.question_digests(task, {task.queries[0].group}) | {task.queries[-1].group: "otherwise"}
    with refused("data", f"question {task.queries[-1].group} is another in tiny", "name the split's own RAW"):
        siblings.unranked(task, questions, set(), tiny.prompts, Path("data"))
