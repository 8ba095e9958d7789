"""Search for `mteb` with embeddings of any kind: its `SearchProtocol`, with the search of other stages behind it."""

import functools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from rounds.artifacts import disk_space
from rounds.data.few_shot import ExampleBank
from rounds.data.passage_pool import LazyTexts
from rounds.encoding.encoder import EncodingOptions
from rounds.evaluation.mteb_encoder import MtebEncoder, MtebModel, refuse_quantization, rows_of
from rounds.models.checkpoint import Checkpoint
from rounds.retrieval import representations, search
from rounds.retrieval.representation import VECTORS_FILE, Vectors
from rounds.retrieval.run import Run, falling_scores

if TYPE_CHECKING:
    from datasets import Dataset
    from mteb.abstasks.task_metadata import TaskMetadata

READ_AT_ONCE = 1000  # passages of a data set


@dataclass(frozen=True)
class IndexedCorpus:
    """The passages of a task.

    Attributes:
        ids: their ids.
        vectors: their vectors, memory-mapped.
        folder: temporary folder of the vectors, which is deleted with this object.
    """

    ids: list[str]
    vectors: Vectors
    folder: tempfile.TemporaryDirectory

    def select(self, ids: Sequence[str]) -> tuple[list[str], Vectors]:
        """Return some passages, in the corpus's order, and their vectors in memory."""
        rows = sorted(self._rows[identifier] for identifier in set(ids))
        return [self.ids[row] for row in rows], representations.of(self.vectors).select(self.vectors, rows)

    @functools.cached_property
    def _rows(self) -> dict[str, int]:
        return {identifier: row for row, identifier in enumerate(self.ids)}


@dataclass
class MtebSearcher(MtebModel):
    """mteb's `SearchProtocol`, for retrieval and reranking: what `mteb.evaluate` takes as a late-interaction model.

    Attributes:
        corpus: what `index` was given last, until it is searched.
    """

    representation, model_type = "tokens", "late-interaction"

    corpus: IndexedCorpus | None = field(default=None, init=False)

    def index(
        self, corpus: "Dataset", *, task_metadata: "TaskMetadata", encode_kwargs: dict[str, Any], **kwargs: Any
    ) -> None:
        """Embed a corpus into a temporary file.

        Args:
            corpus: rows with `id`, `text` and, where passages have one, `title`.
            task_metadata: the task, for messages.
            encode_kwargs: mteb's options of encoding; the batches are planned here.
            kwargs: the split and subset, which play no part.

        Raises:
            UserError: mteb is to quantize the vectors, a vector is not finite, or the disk has no space for them.
        """
        refuse_quantization(encode_kwargs)
        self.corpus = None  # that of another task goes first
        ids = list(corpus["id"])
        folder = tempfile.TemporaryDirectory(prefix="rounds-mteb-")
        path = Path(folder.name) / VECTORS_FILE
        options = EncodingOptions(
            f"{task_metadata.name}: passage texts",
            allocate=functools.partial(disk_space.allocate_array, path),
            names=ids,
        )
        with disk_space.required_for(path):
            vectors = self.encoder.encode(LazyTexts(len(ids), self._reader(corpus)), "passage", None, options)
        self.corpus = IndexedCorpus(ids, vectors, folder)

    def search(
        self,
        queries: "Dataset",
        *,
        task_metadata: "TaskMetadata",
        top_k: int,
        encode_kwargs: dict[str, Any],
        top_ranked: dict[str, list[str]] | None = None,
        **kwargs: Any,
    ) -> dict[str, dict[str, float]]:
        """Rank the indexed passages for each query.

        Args:
            queries: rows with `id` and `text`, to which mteb joins instructions and conversations.
            task_metadata: the task, for messages.
            top_k: passages per query.
            encode_kwargs: mteb's options of encoding.
            top_ranked: query id -> ids of the passages to rank; None ranks all.
            kwargs: the split and subset, which play no part.

        Returns:
            query id -> passage id -> score. Scores that tie fall by the last decimal, so that mteb, which breaks ties
            by id, ranks as a run file does.

        Raises:
            UserError: a vector is not finite.
            Refused: the checkpoint was trained on some of the queries.
        """
        from mteb._create_dataloaders import create_dataloader  # mteb's own models take it from there, too

        batches = create_dataloader(queries, task_metadata=task_metadata, prompt_type="query", **encode_kwargs)
        rows, corpus = list(rows_of(batches)), self.corpus
        ids = [row["id"] for row in rows]
        options = EncodingOptions(f"{task_metadata.name}: query texts", names=ids)
        vectors = self.embed_queries(rows, task_metadata.name, options)
        if top_ranked is None:
            results = _scores_of(search.rank(ids, vectors, corpus.ids, corpus.vectors, top_k))
        else:
            results = {}
            for row, query in enumerate(ids):
                vector = representations.of(vectors).select(vectors, [row])
                results |= _rerank(query, vector, corpus, top_ranked.get(query, ()), top_k)
        self.corpus = None
        return results

    def _reader(self, corpus: "Dataset") -> Callable[[int, int], Iterator[str]]:
        """Return a function that yields the passages from one row of a data set up to another."""

        def read(start: int, stop: int) -> Iterator[str]:
            for first in range(start, stop, READ_AT_ONCE):
                part = corpus[first : min(first + READ_AT_ONCE, stop)]
                titles = part.get("title", [None] * len(part["text"]))
                yield from map(self.passage, titles, part["text"])

        return read


def _rerank(
    query: str, vector: Vectors, corpus: IndexedCorpus, candidates: Sequence[str], depth: int
) -> dict[str, dict[str, float]]:
    """Rank one query's candidates."""
    if not candidates:
        return {query: {}}
    ids, passages = corpus.select(candidates)
    return _scores_of(search.rank([query], vector, ids, passages, depth))


def _scores_of(run: Run) -> dict[str, dict[str, float]]:
    """Return a run as mteb has it: query id -> passage id -> score."""
    rows = zip(run.passages.tolist(), falling_scores(run.scores).tolist(), strict=True)
    return {
        query: dict(zip(passages, scores, strict=True))
        for query, (passages, scores) in zip(run.queries, rows, strict=True)
    }


@dataclass
class MtebSparseEncoder(MtebSearcher, MtebEncoder):
    """mteb's `SearchProtocol` for retrieval and reranking, and its `EncoderProtocol` for other tasks."""

    representation, model_type = "sparse", "sparse"

    def to_array(self, vectors: sparse.csr_array) -> np.ndarray:
        """Return sparse vectors as mteb's other tasks compare them: (texts, vocabulary) float32."""
        return vectors.toarray()


CLASSES = {model.representation: model for model in (MtebEncoder, MtebSearcher, MtebSparseEncoder)}


def mteb_model(checkpoint: Checkpoint, bank: ExampleBank | None = None) -> MtebModel:
    """Return what `mteb.evaluate` takes as a model, for a checkpoint of any representation.

    Args:
        checkpoint: the model.
        bank: training queries, from which `prompts.examples: fixed` takes its examples.

    Raises:
        UserError: as `MtebModel` does.
    """
    return CLASSES[checkpoint.representation](checkpoint, bank)
