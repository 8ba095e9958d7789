"""The dataset that every loader returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field

Grades = dict[str, dict[str, int]]  # query id -> grade of each judged passage, by its id


@dataclass(frozen=True)
class Query:
    """A query; in Eedi, a question with one of its wrong answers.

    Attributes:
        id: Eedi: `QuestionId_Answer`, as in the submission.
        group: queries of one group are never divided by a split (Eedi: the QuestionId).
        fields: the parts that a recipe's query format combines; with `question` alone, it is the query's text.
    """

    id: str
    group: str
    fields: dict[str, str]


@dataclass(frozen=True)
class RetrievalDataset:
    """Queries, corpus and labels of one dataset.

    Attributes:
        name: short name of the data, part of folder names.
        queries: training queries in file order, labelled or not.
        passages: corpus, passage id -> text, in id order; in a temporary file if task `beir` has many.
        qrels: query id -> ids of its relevant passages; only labelled queries have an entry.
        test_queries: queries to submit, in file order; empty without a test file.
        excluded: query id -> ids of passages that are neither relevant nor used as its negatives.
        identical: query id -> passages that are the query itself, which are neither ranked for it nor its negatives;
            an empty list says that they are, on purpose.
        grades: query id -> grade of each judged passage: 1 and above are relevant, 0 and below are not; empty where
            labels have no grades.
        labels: name of a file of labels (`train`, `dev`, `test`, ...) -> its grades; empty where there are no such
            files.
        explanations: passage id -> explanation, for those that have one; `prompts.passage` joins it to the passage.
        constructs: group -> what split v6 keeps together (Eedi: the ConstructId); empty where the data name none.
    """

    name: str
    queries: list[Query]
    passages: Mapping[str, str]
    qrels: dict[str, list[str]]
    test_queries: list[Query] = field(default_factory=list)
    excluded: dict[str, list[str]] = field(default_factory=dict)
    identical: dict[str, list[str]] = field(default_factory=dict)
    grades: Grades = field(default_factory=dict)
    labels: dict[str, Grades] = field(default_factory=dict)
    explanations: dict[str, str] = field(default_factory=dict)
    constructs: dict[str, str] = field(default_factory=dict)

    def labelled(self, groups: set[str]) -> list[Query]:
        """Return the labelled queries of `groups`, in file order."""
        return [query for query in self.queries if query.group in groups and query.id in self.qrels]


def relevant_passages(judged: dict[str, int]) -> list[str]:
    """Return the passages with a grade of 1 and above, in order.

    >>> relevant_passages({"a": 2, "b": 0, "c": 1, "d": -1})
    ['a', 'c']
    """
    return [passage for passage, grade in judged.items() if grade >= 1]
