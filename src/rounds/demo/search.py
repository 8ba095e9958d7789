"""Search: rank the passages for a typed query by several models, and find the nearest training query of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rounds.artifacts import store
from rounds.data import collection, few_shot
from rounds.data.collection import Collection
from rounds.data.few_shot import QueryMetadata
from rounds.data.passage_pool import ids_of, texts_of
from rounds.demo.questions import QueryForm
from rounds.encoding.encoder import EncodingOptions
from rounds.encoding.run_store import RunStore
from rounds.encoding.tokenization import Cuts
from rounds.retrieval import representations, search
from rounds.retrieval.representation import Vectors
from rounds.retrieval.run import rank_without
from rounds.retrieval.vectors import unit_vectors

DEPTH = 25  # passages shown, as many as a submission has

QUERY = "query"  # id of the typed query in its run

MEASURES = {"dense": "cosine", "tokens": "MaxSim per query token", "sparse": "inner product"}  # of two queries


@dataclass(frozen=True)
class RankedPassage:
    """A passage of a ranking.

    Attributes:
        text: without its explanation, if it has one.
        score: inner product with the query, a cosine if the model normalizes; MaxSim if the model embeds tokens.
        is_labelled: whether the typed query is a validation query that is labelled with it.
    """

    id: str
    text: str
    score: float
    is_labelled: bool = False


@dataclass(frozen=True)
class NearestQuery:
    """The training query that is most similar to the typed one.

    Attributes:
        labels: texts of its relevant passages, without explanations.
        similarity: of the typed query with it.
        measure: what the similarity is (`MEASURES`).
    """

    text: str
    labels: list[str]
    similarity: float
    measure: str


@dataclass(frozen=True)
class Ranking:
    """What one model answers.

    Attributes:
        title: how the page calls the model.
        passages: best first.
        nearest: None if the split has no training queries.
        notes: sentences on what the model did not read of the query.
    """

    title: str
    passages: list[RankedPassage]
    nearest: NearestQuery | None
    notes: list[str]


@dataclass(frozen=True)
class Answer:
    """What all models answer to a typed query.

    Attributes:
        text: the query in the recipe's format.
        labels: texts of the passages that it is labelled with, if it is a validation query.
    """

    text: str
    labels: list[str]
    rankings: list[Ranking]


class ModelSearch:
    """One checkpoint with the vectors of passages and training queries, which its run store holds.

    Args:
        title: how the page calls the model.
        runs: the checkpoint's store; vectors that it lacks are encoded and stored.
        data: the collection.
        rows: its training rows (`training_rows`).

    Attributes:
        encoded: what had to be encoded, such as `2,587 passages`; empty if nothing.
    """

    def __init__(self, title: str, runs: RunStore, data: Collection, rows: Sequence[dict]) -> None:
        self.title, self.runs, self.data, self.rows = title, runs, data, rows
        self.encoded: list[str] = []
        self.bank = collection.example_bank(list(rows), runs.checkpoint.recipe.prompts) if rows else None
        self.passages = self._vectors(texts_of(data.passages), "passage", "corpus", ids_of(data.passages), None)
        self.training = None
        if rows:
            queries = [collection.query_metadata(row) for row in rows]
            examples = self.bank and few_shot.select_examples(self.bank, queries)
            names = [str(row.get("query_id", number)) for number, row in enumerate(rows)]
            training = self._vectors([query.text for query in queries], "query", "train", names, examples)
            self.training = training if runs.checkpoint.normalizes else _comparable(training)

    def _vectors(
        self, texts: Sequence[str], kind: str, title: str, names: Sequence[str], examples: list[list[str]] | None
    ) -> Vectors:
        """Return stored vectors, or encode them and note it in `encoded`."""
        if not self.runs.has_vectors(texts, kind, title, examples):
            self.encoded.append(f"{len(texts):,} {'passages' if kind == 'passage' else 'training queries'}")
        return self.runs.vectors(texts, kind, title, examples, names)[0]

    def search(self, query: QueryMetadata, labelled: set[str], left_out: Sequence[str] = ()) -> Ranking:
        """Rank the passages for a query.

        Args:
            labelled: ids of the passages that are marked as its labels.
            left_out: ids of passages that are the query itself.

        Raises:
            UserError: the query's vector is not finite in any precision that the weights allow.
        """
        cuts: list[Cuts] = []
        examples = self.bank and few_shot.select_examples(self.bank, [query])
        options = EncodingOptions(names=["the query"], on_cuts=cuts.append)
        vector = self.runs.encoder.encode([query.text], "query", examples, options)
        ids = ids_of(self.data.passages)
        run = rank_without(
            lambda depth: search.rank([QUERY], vector, ids, self.passages, depth),
            [QUERY],
            {QUERY: list(left_out)},
            DEPTH,
            len(ids),
        )
        passages = [
            RankedPassage(passage, self.data.name(passage), float(score), passage in labelled)
            for passage, score in zip(run.passages[0], run.scores[0], strict=True)
        ]
        notes = _describe_cuts(cuts, query.text, self.runs.checkpoint.recipe.prompts.query_max_length, examples)
        return Ranking(self.title, passages, self._nearest(vector), notes)

    def _nearest(self, vector: Vectors) -> NearestQuery | None:
        if self.training is None:
            return None
        kind, vector = representations.of(vector), _comparable(vector)
        rows = [str(row) for row in range(len(self.rows))]
        nearest = int(search.rank([QUERY], vector, rows, self.training, 1).passages[0, 0])
        similarity = kind.training_scores(vector, kind.select(self.training, [nearest]))[0, 0]
        row = self.rows[nearest]
        labels = [self.data.name(passage) for passage in row["pos_id"]] if "pos_id" in row else row["pos"]
        return NearestQuery(row["query"], labels, float(similarity), MEASURES[kind.name])


def _comparable(vectors: Vectors) -> Vectors:
    """Return vectors by which queries are compared: dense ones by their cosine, others as passages are."""
    return unit_vectors(vectors) if representations.is_dense(vectors) else vectors


def _describe_cuts(cuts: list[Cuts], text: str, limit: int, examples: list[list[str]] | None) -> list[str]:
    """Return a sentence on each kind of thing that a model did not read of the one query."""
    notes = []
    for cut in cuts:
        if 0 in cut.characters:
            notes.append(
                f"The query is longer than {limit} tokens (prompts.query_max_length): "
                f"the model reads its first {cut.characters[0]:,} of {len(text):,} characters."
            )
        if 0 in cut.examples and examples:
            notes.append(
                f"The model reads {len(cut.examples[0])} of {len(examples[0])} few-shot examples; "
                "the others do not fit into prompts.examples_max_length."
            )
    return notes


class DemoSearch:
    """Answers typed queries with one model or several.

    Args:
        form: the parts of a query.
        data: the collection.
        models: in the order of the page.
    """

    def __init__(self, form: QueryForm, data: Collection, models: Sequence[ModelSearch]) -> None:
        self.form, self.data, self.models = form, data, models
        self._ids: dict[str, list[str]] = {}
        for query, text in data.validation.items():
            self._ids.setdefault(text, []).append(query)

    def search(self, values: Mapping[str, str]) -> Answer:
        """Rank the passages for a query by each model.

        Where its text is that of a validation query, its labels are marked, and passages that are the query itself
        are left out, as they are in its evaluation.

        Args:
            values: name -> typed text of each part.

        Raises:
            UserError: the question or the wrong answer is empty, or a vector is not finite.
        """
        query = self.form.query(values)
        ids = self._ids.get(query.text, [])
        labels = list(dict.fromkeys(passage for key in ids for passage in self.data.qrels.get(key, ())))
        left_out = sorted({passage for key in ids for passage in self.data.identical.get(key, ())})
        rankings = [model.search(query, set(labels), left_out) for model in self.models]
        return Answer(query.text, [self.data.name(label) for label in labels], rankings)


def training_rows(data: Collection) -> list[dict]:
    """Return a collection's training rows; none if it has no training queries.

    Raises:
        UserError: the file is missing or broken.
    """
    file = data.folder / collection.FINETUNE
    store.require_files(file)
    return collection.read_rows(file, ("pos",)) if file.stat().st_size else []
