"""Manifests: what a finished artefact says of itself, one model for each kind.

A manifest is written with the keys that it was made with, in their order, so that reading and writing one leaves its
bytes as they are. A key that is absent stays absent; its attribute is None.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, PrivateAttr, StrictBool, StrictInt, StrictStr


def _check_number(value: object) -> int | float:
    if type(value) not in (int, float):
        raise ValueError("should be a number")
    return value


Number = Annotated[int | float, PlainValidator(_check_number)]  # an integer is not turned into a float

Config = dict[str, Any]

Lineage = dict[str, StrictStr]  # question id -> digest of its text (`data.lineage`)

# Schemas are built when first used, so that importing this module stays fast.
SETTINGS = ConfigDict(extra="forbid", frozen=True, defer_build=True, populate_by_name=True)


class Entry(BaseModel):
    """A mapping inside a manifest."""

    model_config = SETTINGS


class Manifest(BaseModel):
    """What every kind may say.

    Attributes:
        kind: what the artefact is.
        config: everything that shapes the content; an artefact of another config is another artefact.
        made_from: the pipeline's command that made it and what it read (`pipeline.keys`); None adds no key.
        seconds: how long it took.
        peak_mib: the most memory held at once, in MiB, where it was measured.
        sha256: digest of the content, for an artefact that is a single file.
    """

    model_config = SETTINGS

    kind: StrictStr | None = None
    config: Config | None = None
    made_from: Config | None = None
    seconds: Number | None = None
    peak_mib: Number | None = None
    sha256: StrictStr | None = None

    _keys: tuple[str, ...] = PrivateAttr(())

    def __init__(self, **values: Any) -> None:
        if values.get("made_from", ...) is None:
            del values["made_from"]
        if kind := type(self).model_fields["kind"].default:
            values = {"kind": kind, **values}
        super().__init__(**values)
        aliases = {name: field.alias or name for name, field in type(self).model_fields.items()}
        self._keys = tuple(aliases.get(key, key) for key in values)

    def to_json(self) -> dict:
        """Return the keys that were given and their values, in the order in which they were given."""
        values = self.model_dump(exclude_unset=True, by_alias=True)
        return {key: values[key] for key in self._keys}

    def with_values(self, **changes: Any) -> "Manifest":
        """Return a copy with other values; keys that are new stand at the end."""
        return type(self)(**{**self.to_json(), **changes})


class ConfiguredManifest(Manifest):
    """A manifest of a kind that always has a config."""

    config: Config


class SampleManifest(ConfiguredManifest):
    """Generated raw data."""

    kind: Literal["sample"] = "sample"


class RawManifest(ConfiguredManifest):
    """Downloaded raw data."""

    kind: Literal["raw"] = "raw"


class HeldOut(Entry):
    """How much a private leaderboard holds out."""

    questions: StrictInt
    rows: StrictInt
    unseen_rows: StrictInt


class PrivateLeaderboardManifest(ConfiguredManifest):
    """Raw data without the questions of a private leaderboard."""

    kind: Literal["private_lb"] = "private_lb"
    held_out: HeldOut


class CollectionManifest(ConfiguredManifest):
    """A split's queries, corpus, labels and fine-tuning rows."""

    kind: Literal["collection"] = "collection"
    data: StrictStr
    split: StrictStr


class MinedManifest(ConfiguredManifest):
    """Fine-tuning rows with hard negatives.

    Attributes:
        lineage: of the miner; None if unknown.
        queries: number of rows.
        deepened: number of queries whose negatives came from deeper ranks than asked for.
        short: number of queries with fewer negatives than asked for.
        sources: number of negatives by source.
        kinds: number of `labelled` and `unlabelled` negatives, and of queries that were `refilled` with the other kind;
            None where the recipe asks for no share.
        run: the miner's run, relative to the mined file's folder; None where no run was needed.
        recall: of an approximate index, by cutoff, and the `queries` that it was measured on; empty for exact search.
    """

    kind: Literal["mined"] = "mined"
    lineage: Lineage | None
    queries: StrictInt
    deepened: StrictInt
    short: StrictInt
    sources: dict[str, StrictInt]
    kinds: dict[str, StrictInt] | None = None
    run: StrictStr | None
    recall: dict[str, Number] = {}


class PseudoLabelManifest(ConfiguredManifest):
    """Outside questions labelled by a checkpoint, from a confidence on that had this precision on held-out queries."""

    kind: Literal["pseudo_labels"] = "pseudo_labels"
    lineage: Lineage | None
    unlabelled: StrictInt
    rows: StrictInt
    threshold: Number
    precision: Number


class VisionManifest(ConfiguredManifest):
    """A vision tower trained on pictures and captions."""

    kind: Literal["vision"] = "vision"
    pictures: StrictInt
    loss: Number
    held_out: StrictInt = Field(alias="held out")
    own_caption_first: Number = Field(alias="own caption first")
    own_second_look_first: Number = Field(alias="own second look first")


class Parent(Entry):
    """The checkpoint that another one was trained or merged from.

    Attributes:
        name: a base model's name, or a folder, relative to the round's.
        weights: SHA-256 of its weights.
        base: whether it is a base model.
        kind: `base`, `adapter`, `merged` or `full`.
    """

    name: StrictStr
    weights: StrictStr
    base: StrictBool
    kind: StrictStr | None = None


class Epoch(Entry):
    """An epoch's checkpoint in a finetune folder, with its metrics on the validation queries."""

    folder: StrictStr
    metrics: dict[str, Number | StrictStr | None]


class FinetuneManifest(ConfiguredManifest):
    """A round's training: a checkpoint for each epoch.

    Attributes:
        data, split: of the collection that evaluates the epochs; None without one.
        lineage: training questions of the checkpoints and their ancestors; None if unknown.
        last, best, continue_with: folders of the last epoch, of the best, and of that which the next round continues.
        rows: number of training rows.
    """

    kind: Literal["finetune"] = "finetune"
    round: StrictInt
    data: StrictStr | None
    split: StrictStr | None
    parent: Parent
    lineage_status: StrictStr
    lineage: Lineage | None
    epochs: list[Epoch]
    last: StrictStr
    best: StrictStr
    continue_with: StrictStr
    rows: StrictInt
    trainable_parameters: StrictInt
    device: StrictStr


class CheckpointManifest(Manifest):
    """An adapter or a whole model, with everything that rebuilds it.

    Attributes:
        recipe: how to build the model (`config.recipe`).
        adapter: whether the folder holds an adapter rather than all weights.
        weights: SHA-256 over all weights that make up the model.
        versions: of the libraries that shape the checkpoint.
        lineage: training questions of the checkpoint and its ancestors; None if unknown.
        title: name in tables of a checkpoint that no round trained.
        merged: SHA-256 of the adapter that was merged into the weights.
        parents: the checkpoints whose weights were averaged.
        least_cosine: the lowest cosine between a passage's vectors before and after merging.
        first_rows: training rows of the epoch's first batch.
        proof: canary embeddings (`encoding.canary`): kind of text -> `words` or `picture` -> vectors.
    """

    kind: Literal["checkpoint"] = "checkpoint"
    recipe: dict[str, Any]
    adapter: StrictBool
    weights: StrictStr
    precision: StrictStr
    versions: dict[str, StrictStr]
    lineage: Lineage | None
    round: StrictInt | None = None
    epoch: StrictInt | None = None
    data: StrictStr | None = None
    split: StrictStr | None = None
    parent: Parent | None = None
    lineage_status: StrictStr | None = None
    seed: StrictInt | None = None
    title: StrictStr | None = None
    merged: StrictStr | None = None
    parents: list[Parent] | None = None
    least_cosine: Number | None = None
    mining_seconds: Number | None = None
    train_seconds: Number | None = None
    first_rows: list[StrictInt] | None = None
    proof: dict[str, dict[str, list[list[Number]]]] | None = None


class Origin(Entry):
    """Library versions and device that computed vectors."""

    versions: dict[str, StrictStr]
    device: StrictStr


class VectorsManifest(ConfiguredManifest):
    """Vectors of a set of texts."""

    kind: Literal["vectors"] = "vectors"
    made: Origin | None = None


class TextsDigest(Entry):
    """Number of texts, hash of their ids (and of the passages' texts), and hash of them as the model reads them."""

    number: StrictInt
    list: StrictStr
    texts: StrictStr


class Probe(Entry):
    """A text as the model reads it, and its vector."""

    text: StrictStr
    vector: list[Number]


class FingerprintManifest(Manifest):
    """What a run was computed from, to compare it across machines (`encoding.fingerprint`).

    Attributes:
        texts: the prompts.
        model: weights, precision, quantization and pooling.
        made: what computed the vectors of the `queries` and of the `passages`.
        probes: some of the `queries` and `passages`, by id.
    """

    kind: Literal["fingerprint"] = "fingerprint"
    corpus: TextsDigest
    queries: TextsDigest
    texts: dict[str, Any]
    model: dict[str, Any]
    made: dict[Literal["queries", "passages"], Origin]
    probes: dict[Literal["queries", "passages"], dict[str, Probe]]


class EvaluationManifest(ConfiguredManifest):
    """Metrics of checkpoints on a split's validation queries."""

    kind: Literal["evaluation"] = "evaluation"


class ReportManifest(ConfiguredManifest):
    """An experiment's report."""

    kind: Literal["report"] = "report"


class BundleManifest(ConfiguredManifest):
    """What an offline Kaggle notebook needs."""

    kind: Literal["bundle"] = "bundle"


class SubmissionManifest(Manifest):
    """A submission of one checkpoint, or of an ensemble (`fused`).

    Attributes:
        checkpoint, run: its name, and the folder of its run, relative to the folder of the base models' runs.
        members, folds: names of the fused models, and configs of the candidates that the fusion was fitted on.
        unseen_offset: what was added to the ensemble's log-probabilities of passages that training never labels.
        outside_votes: whether the ensemble reads the votes of outside questions, where there are any.
        boosted_trees: whether the ensemble has trees.
    """

    kind: Literal["submission"] = "submission"
    checkpoint: StrictStr | None = None
    run: StrictStr | None = None
    fused: StrictBool | None = None
    members: list[StrictStr] | None = None
    folds: list[Config] | None = None
    unseen_offset: Number | None = None
    outside_votes: StrictBool | None = None
    boosted_trees: StrictBool | None = None


class RandomModelManifest(ConfiguredManifest):
    """A tiny model of random weights; its manifest names no kind."""

    kind: None = None
