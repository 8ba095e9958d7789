"""Manifests of second stages: candidates, rerankers, teachers, and the tables that are made over folds."""

from typing import Literal

from pydantic import Field, StrictInt, StrictStr

from rounds.artifacts.manifests import ConfiguredManifest, Lineage, Number


class CandidatesManifest(ConfiguredManifest):
    """Candidates of a collection's queries, with features of each pair.

    Attributes:
        data, split, collection: the collection's names, and its folder, relative to this one.
        members: names of the fused models; the ranking of the last is the one to improve.
        rounds: folders of the last round of several training seeds, relative to this one; None for a single seed.
    """

    kind: Literal["candidates"] = "candidates"
    data: StrictStr
    split: StrictStr
    members: list[StrictStr]
    collection: StrictStr
    rounds: list[StrictStr] | None = None


class RerankerManifest(ConfiguredManifest):
    """A cross-encoder and its scores of candidates. One that scored as it was, untrained, has the scores alone.

    Attributes:
        model, groups: folder of the weights, and number of queries that it was trained on.
    """

    kind: Literal["reranker"] = "reranker"
    model: StrictStr | None = None
    train_loss: Number | None = Field(default=None, alias="train loss")
    groups: StrictInt | None = None
    steps: StrictInt | None = None


class TeacherManifest(ConfiguredManifest):
    """Fine-tuning rows with the scores that an ensemble gives their candidates.

    Attributes:
        lineage: questions whose labels or texts any model of the ensemble was trained on; None if unknown.
        members: names of the fused models.
        queries: number of rows.
        metrics: of the ensemble on the folds' queries, each ranked as the other folds teach.
    """

    kind: Literal["teacher"] = "teacher"
    lineage: Lineage | None
    members: list[StrictStr]
    queries: StrictInt
    metrics: dict[str, Number]


class CrossValidationManifest(ConfiguredManifest):
    """A table of stages over folds, as JSON; `beside` holds the digests of its other files by their names."""

    kind: Literal["cv"] = "cv"
    beside: dict[str, StrictStr]


class StudentTableManifest(ConfiguredManifest):
    """A distilled embedder's table, as JSON; `beside` as for a table of stages."""

    kind: Literal["student_table"] = "student_table"
    beside: dict[str, StrictStr]
