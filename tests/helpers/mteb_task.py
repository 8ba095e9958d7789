"""Tasks of mteb's base classes with data in memory; mteb, an extra, is imported where one is made."""

from typing import Any

from datasets import Dataset

PLACES = ("harbour", "lighthouse", "bakery", "museum", "orchard", "railway", "library", "quarry")
CORPUS = [
    {
        "id": f"p{number}",
        "title": place.title() if number % 2 else "",
        "text": f"The {place} of {1900 + number}.",
    }
    for number, place in enumerate(PLACES * 3)
]
QUERIES = {f"q{number}": f"When did the {place} open?" for number, place in enumerate(PLACES)}
QRELS = {f"q{number}": {f"p{number}": 2, f"p{number + 8}": 1} for number in range(len(PLACES))}
PASSAGES = {row["id"]: f"{row['title']} {row['text']}".strip() for row in CORPUS}


def retrieval_task(
    corpus: list[dict[str, str]],
    queries: dict[str, str],
    qrels: dict[str, dict[str, int]],
    name: str = "LocalRetrieval",
    revision: str = "1",
) -> Any:
    """Return a retrieval task; rows of the corpus have `id`, `title` and `text`."""
    from mteb.abstasks import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    class LocalRetrieval(AbsTaskRetrieval):
        """`loads` counts how often the data were asked for."""

        metadata = TaskMetadata(
            name=name,
            description="Passages in memory.",
            dataset={"path": "nobody/local", "revision": revision},
            type="Retrieval",
            category="t2t",
            modalities=["text"],
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
        )
        loads = 0

        def load_data(self, num_proc=None, **kwargs) -> None:
            if self.data_loaded:
                return
            self.loads += 1
            rows = [{"id": query, "text": text} for query, text in queries.items()]
            split = {
                "corpus": Dataset.from_list(corpus),
                "queries": Dataset.from_list(rows),
                "relevant_docs": qrels,
                "top_ranked": None,
            }
            self.dataset = {"default": {"test": split}}
            self.data_loaded = True

    return LocalRetrieval()


def places_task(**changes: str) -> Any:
    """Return a retrieval task on places; `changes` are the name and the revision."""
    return retrieval_task(CORPUS, QUERIES, QRELS, **changes)


def aggregate_task(parts: list[Any], name: str = "Whole") -> Any:
    """Return a task whose score is the mean of those of its parts."""
    from mteb.abstasks.aggregate_task_metadata import AggregateTaskMetadata
    from mteb.abstasks.aggregated_task import AbsTaskAggregate

    class Whole(AbsTaskAggregate):
        """All parts together."""

        metadata = AggregateTaskMetadata(
            name=name,
            description="Tasks in memory.",
            tasks=parts,
            type="Retrieval",
            modalities=["text"],
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
        )

    return Whole()
