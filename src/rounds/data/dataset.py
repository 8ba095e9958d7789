"""Task: what every loader returns."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Query:
    """What a passage is looked for: in Eedi, a question with one of its wrong answers.

    Attributes:
        id: Eedi: `QuestionId_Answer`, as in the submission.
        group: what must never stand on both sides of a split (Eedi: the QuestionId).
        fields: the parts that a recipe's query format puts together; `question` alone is a text as it is.
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
        passages: corpus, passage id -> text, in id order.
        qrels: query id -> ids of its relevant passages; only labelled queries have an entry.
        test_queries: queries to submit, in file order (empty where there is no test file).
        excluded: query id -> passages that are neither relevant nor ever its negatives.
    """

    name: str
    queries: list[Query]
    passages: dict[str, str]
    qrels: dict[str, list[str]]
    test_queries: list[Query] = field(default_factory=list)
    excluded: dict[str, list[str]] = field(default_factory=dict)

    def labelled(self, groups: set[str]) -> list[Query]:
        """The labelled queries of `groups`, in file order."""
        return [query for query in self.queries if query.group in groups and query.id in self.qrels]
