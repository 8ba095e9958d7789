"""A checkpoint as an encoder of `mteb` (Muennighoff et al. 2023, arXiv:2210.07316), with its recipe's prompts.

`mteb` is an extra (`pip install -e '.[mteb]'`), so it is imported only where a model's metadata are built.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from rounds.artifacts import hashing
from rounds.config.sections.prompts import DEFAULT_PASSAGE
from rounds.data import few_shot, lineage, prompts
from rounds.data.dataset import Query
from rounds.data.few_shot import ExampleBank, QueryMetadata
from rounds.encoding.checkpoint_encoder import CheckpointEncoder
from rounds.encoding.encoder import EncodingOptions
from rounds.errors import Refused, UserError
from rounds.models.checkpoint import Checkpoint
from rounds.retrieval import representations
from rounds.retrieval.representation import Vectors
from rounds.retrieval.vectors import truncate_vectors

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.models import ModelMeta
    from mteb.models.model_meta import ScoringFunction

ORGANIZATION = "rounds"  # mteb's names are ORGANIZATION/NAME

DOCUMENT = "document"  # mteb's prompt type of passages

READ_COLUMNS = ("id", "text", "title", "body")


@dataclass
class MtebModel:
    """A checkpoint, or a recipe's base model, as mteb knows it: its name, and how it reads texts.

    Texts get the recipe's prompts, lengths and precision, as in mining and evaluation; a task's own instruction is not
    used. Passages are titles and texts joined by `prompts.passage`. Texts that are neither query nor passage, such as
    those of classification or similarity, are embedded as queries.

    Attributes:
        representation: the kind of embeddings that a class is for.
        model_type: mteb's name of it.
        checkpoint: the model.
        bank: training queries, from which `prompts.examples: fixed` takes its examples.
        encoder: loads the weights with the first text.

    Raises:
        UserError: the embeddings are of another kind; the recipe's examples are fixed and there is no bank, or they are
            the nearest by construct, which the queries of public tasks lack.
    """

    representation: ClassVar[str]
    model_type: ClassVar[str]

    checkpoint: Checkpoint
    bank: ExampleBank | None = None
    encoder: CheckpointEncoder = field(init=False)

    def __post_init__(self) -> None:
        """Check that the class fits the embeddings, and that the recipe's examples can be chosen."""
        name, examples = self.checkpoint.name, self.checkpoint.recipe.prompts.examples
        if self.checkpoint.representation != self.representation:
            what = representations.KINDS[self.checkpoint.representation].what
            raise UserError(f"{name}: has {what} for each text; rounds.evaluation.mteb_search.mteb_model takes it")
        if examples == "nearest":
            raise UserError(f"{name}: queries of mteb have no construct to choose the nearest examples by; use none")
        if examples == "fixed" and self.bank is None:
            raise UserError(f"{name}: its fixed examples come from training rows; name their collection (--data_dir)")
        self.encoder = CheckpointEncoder(self.checkpoint)

    @property
    def mteb_model_meta(self) -> "ModelMeta":
        """The model's name and revision, after which mteb names the folder of its results.

        The revision is a digest of the weights and one of all else that shapes the vectors, so results of other
        weights, prompts or examples are never taken for this model's.
        """
        from mteb.models.model_meta import ModelMeta

        source = self.checkpoint
        recipe = source.recipe
        return ModelMeta.create_empty(
            {
                "name": f"{ORGANIZATION}/{self._name}",
                "revision": f"{source.weights_digest[:12]}-{hashing.sha256_json(self._key)[:8]}",
                "loader_kwargs": {"checkpoint": source.name, "precision": source.precision, "prompts": self._prompts},
                "max_tokens": max(recipe.prompts.query_max_length, recipe.prompts.passage_max_length),
                "embed_dim": source.options.truncate_dim,
                "framework": ["Sentence Transformers", "PyTorch"],
                "similarity_fn_name": self._similarity,
                "model_type": [self.model_type],
                "use_instructions": bool(recipe.prompts.query_prefix),
                "adapted_from": None if source.is_base else recipe.model.name_or_path,
            }
        )

    def embed_queries(self, rows: list[dict[str, Any]], task: str, options: EncodingOptions) -> Vectors:
        """Embed rows with `text`, and `id` where they are a task's queries.

        Raises:
            UserError: a vector is not finite.
            Refused: the checkpoint was trained on some of the queries.
        """
        self._refuse_leak(rows, task)
        texts = [self._query(row["text"]) for row in rows]
        examples = self.bank and few_shot.select_examples(self.bank, [QueryMetadata(text) for text in texts])
        return self.encoder.encode(texts, "query", examples, options)

    def passage(self, title: str | None, text: str) -> str:
        """Return a passage as the recipe joins it; one that joins misconceptions takes it for a name alone."""
        recipe_prompts = self.checkpoint.recipe.prompts
        if prompts.has_passage_parts(recipe_prompts):
            return prompts.passage_text(DEFAULT_PASSAGE.format(title=title or "", text=text), "", recipe_prompts)
        return recipe_prompts.passage.format(title=title or "", text=text).strip()

    @property
    def _similarity(self) -> "ScoringFunction":
        """The similarity by which the model's vectors are compared."""
        from mteb.models.model_meta import ScoringFunction

        if self.representation == "tokens":
            return ScoringFunction.MAX_SIM
        return ScoringFunction.COSINE if self.checkpoint.normalizes else ScoringFunction.DOT_PRODUCT

    @property
    def _name(self) -> str:
        """The recipe's name, with round and epoch of a checkpoint that a round trained."""
        manifest = self.checkpoint.manifest
        parts = [self.checkpoint.recipe.name]
        if manifest is not None and manifest.round is not None:
            parts += [f"round{manifest.round}", f"epoch{manifest.epoch}"]
        elif not self.checkpoint.is_base:
            parts.append(self.checkpoint.folder.name)
        return re.sub(r"[^\w.-]+", "-", "-".join(parts))

    @property
    def _prompts(self) -> dict[str, Any]:
        """What shapes the texts that the model reads; fields of questions play no part."""
        return {name: value for name, value in vars(self.checkpoint.recipe.prompts).items() if name != "query"}

    @property
    def _key(self) -> list:
        return [self.checkpoint.key, self._prompts, self.bank.examples if self.bank else None]

    def _query(self, text: str) -> str:
        return prompts.query_text(Query("", "", {"question": text}), self.checkpoint.recipe.prompts)

    def _refuse_leak(self, rows: list[dict[str, Any]], task: str) -> None:
        """Refuse queries whose ids and texts the checkpoint was trained on."""
        queries = {row["id"]: lineage.digest(row["text"]) for row in rows if "id" in row}
        if leaked := lineage.overlap(self.checkpoint.lineage or {}, queries):
            raise Refused(
                f"{self.checkpoint.name}: was trained on {len(leaked)} of the {len(queries)} queries of {task}; "
                "take a checkpoint that was not, such as one of SPLIT=official, which trains on train.tsv alone"
            )


@dataclass
class MtebEncoder(MtebModel):
    """mteb's `EncoderProtocol`: what `mteb.evaluate` takes as a model whose vectors are dense."""

    representation, model_type = "dense", "dense"

    def encode(
        self,
        inputs: Iterable[dict[str, list]],
        *,
        task_metadata: "TaskMetadata",
        hf_split: str = "",
        hf_subset: str = "",
        prompt_type: str | None = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """Embed the texts of mteb's batches: (texts, dim) float32, of unit length if the recipe normalizes.

        Args:
            inputs: batches with `text` and, of passages, `body` and `title`; of queries, `id`.
            task_metadata: the task, for messages.
            prompt_type: `query`, `document`, or None for texts that are neither.
            kwargs: mteb's options of encoding; the batches are planned here.

        Raises:
            UserError: mteb is to quantize the vectors, or a vector is not finite.
            Refused: the checkpoint was trained on some of the queries.
        """
        refuse_quantization(kwargs)
        rows, task = list(rows_of(inputs)), task_metadata.name
        if prompt_type == DOCUMENT:
            texts = [self.passage(row.get("title"), row.get("body", row["text"])) for row in rows]
            vectors = self.encoder.encode(texts, "passage", None, EncodingOptions(f"{task}: passage texts"))
        else:
            vectors = self.embed_queries(rows, task, EncodingOptions(f"{task}: query texts"))
        return self.to_array(vectors)

    def to_array(self, vectors: Vectors) -> np.ndarray:
        """Return vectors as mteb compares them: (texts, dim) float32."""
        return np.asarray(truncate_vectors(vectors, self.checkpoint.options.truncate_dim, self.checkpoint.normalizes))

    def similarity(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """Return the dot products by which rounds rank, cosines of vectors of unit length: (rows 1, rows 2)."""
        return _matrix(embeddings1) @ _matrix(embeddings2).T

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """Return the dot product of each row with the row beside it: (rows,)."""
        return (_matrix(embeddings1) * _matrix(embeddings2)).sum(dim=-1)


def refuse_quantization(kwargs: dict[str, Any]) -> None:
    """Raise a `UserError` if mteb's options of encoding ask for vectors of fewer bits."""
    if kwargs.get("precision"):
        raise UserError(f"precision {kwargs['precision']}: vectors are not quantized; leave it out")


def rows_of(batches: Iterable[dict[str, list]]) -> Iterator[dict[str, Any]]:
    """Yield the rows of mteb's batches with the columns that are read."""
    for batch in batches:
        columns = {name: batch[name] for name in READ_COLUMNS if name in batch}
        for values in zip(*columns.values(), strict=True):
            yield dict(zip(columns, values, strict=True))


def _matrix(embeddings: Any) -> torch.Tensor:
    """Return vectors as a matrix: (rows, dim) float32."""
    return torch.atleast_2d(torch.as_tensor(embeddings).float())
