"""The dataset that every loader returns."""

from dataclasses import dataclass, field


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
        passages: corpus, passage id -> text, in id order.
        qrels: query id -> ids of its relevant passages; only labelled queries have an entry.
        test_queries: queries to submit, in file order; empty without a test file.
        excluded: query id -> ids of passages that are neither relevant nor used as its negatives.
        identical: query id -> passages that are the query itself, which are neither ranked for it nor its negatives;
            an empty list says that they are, on purpose.
    """

    name: str
    queries: list[Query]
    passages: dict[str, str]
    qrels: dict[str, list[str]]
    test_queries: list[Query] = field(default_factory=list)
    excluded: dict[str, list[str]] = field(default_factory=dict)
    identical: dict[str, list[str]] = field(default_factory=dict)

    def labelled(self, groups: set[str]) -> list[Query]:
        """Return the labelled queries of `groups`, in file order."""
        return [query for query in self.queries if query.group in groups and query.id in self.qrels]
