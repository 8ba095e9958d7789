"""Manifests of prompt recovery: splits, baselines, tuned generators, predictions, and what is measured on these."""

from typing import Literal

from pydantic import StrictInt, StrictStr

from rounds.artifacts.manifests import Config, ConfiguredManifest, Entry, Lineage, Manifest, Number


class PromptSplitManifest(ConfiguredManifest):
    """A split's rows of texts, rewritings and prompts.

    Attributes:
        data: name of the raw data.
        split: how the rows were divided.
    """

    kind: Literal["prompt_split"] = "prompt_split"
    data: StrictStr
    split: StrictStr


class PromptBaselinesManifest(ConfiguredManifest):
    """Predictions of the baselines, each in a folder with `predictions.jsonl`.

    Attributes:
        titles: names of the baselines in tables, by folder.
    """

    kind: Literal["prompt_baselines"] = "prompt_baselines"
    titles: dict[str, StrictStr]


class GeneratorCheckpointManifest(Manifest):
    """One checkpoint of a tuned generator.

    Attributes:
        recipe: how it was tuned.
        precision: resolved precision that it was trained in.
        base_digest: digest of the base model's weights.
        weights_digest: digest of the weights in the folder.
        data_digest: digest of the training rows.
        lineage: digests of the training rows' texts by id.
        seed: of the tuned weights' start and the order of the rows.
        step: optimizer steps so far.
        train_loss: mean loss since the checkpoint before, for each token of the targets; None where none was logged.
        validation_loss: mean loss for each token of the validation rows' targets; None without such rows.
    """

    kind: Literal["generator_checkpoint"] = "generator_checkpoint"
    recipe: Config
    precision: StrictStr
    base_digest: StrictStr
    weights_digest: StrictStr
    data_digest: StrictStr
    lineage: Lineage
    seed: StrictInt
    step: StrictInt
    train_loss: Number | None = None
    validation_loss: Number | None = None


class GeneratorStep(Entry):
    """A checkpoint in the list of a tuned generator's checkpoints."""

    folder: StrictStr
    step: StrictInt
    train_loss: Number | None
    validation_loss: Number | None


class GeneratorManifest(ConfiguredManifest):
    """A tuned generator: its checkpoints, oldest first.

    Attributes:
        last: folder of the last checkpoint.
        best: folder of the one with the lowest validation loss; the last one without validation rows.
        rows: number of training rows.
        cut_texts: rows whose texts were cut in the middle.
        cut_targets: rows whose prompt was cut.
        trainable_parameters: number of tuned weights.
    """

    kind: Literal["generator"] = "generator"
    checkpoints: list[GeneratorStep]
    last: StrictStr
    best: StrictStr
    rows: StrictInt
    cut_texts: StrictInt
    cut_targets: StrictInt
    trainable_parameters: StrictInt
    device: StrictStr


class PredictionsManifest(ConfiguredManifest):
    """A generator's predictions (`predictions.jsonl`).

    Attributes:
        title: name of the row in tables.
        rows: number of predictions.
        lineage: the checkpoint's; empty of an untuned generator.
        cut_texts: rows whose texts were cut in the middle.
        empty: rows for which nothing was written; they have the recipe's fallback.
        step: optimizer steps of the checkpoint; 0 of an untuned generator.
        validation_loss: the checkpoint's, for each token of the targets; None where there was none.
    """

    kind: Literal["predictions"] = "predictions"
    title: StrictStr
    rows: StrictInt
    lineage: Lineage
    cut_texts: StrictInt
    empty: StrictInt
    step: StrictInt
    validation_loss: Number | None


class PromptChange(Entry):
    """The effect of one change of the texts on what a generator writes.

    Attributes:
        change: its name.
        changed: share of the rows for which another prompt is written.
        mean: mean cube of the cosine of the prompts before and after the change.
        least: the lowest of these cubes.
    """

    change: StrictStr
    changed: Number
    mean: Number
    least: Number


class BrittlenessManifest(ConfiguredManifest):
    """How small changes of the texts move a generator's prompts.

    Attributes:
        title: name of the generator in tables.
        rows: number of texts that were changed.
        effects: one for each change.
    """

    kind: Literal["brittleness"] = "brittleness"
    title: StrictStr
    rows: StrictInt
    effects: list[PromptChange]


class CheckpointScore(GeneratorStep):
    """A checkpoint with the score of its predictions.

    Attributes:
        score: mean sharpened cosine.
    """

    score: Number


class CheckpointScoresManifest(ConfiguredManifest):
    """The scores of a tuned generator's checkpoints, oldest first.

    Attributes:
        title: name of the generator in tables.
        rows: number of validation rows that were predicted.
        embedder: name of the metric's embedder.
    """

    kind: Literal["checkpoint_scores"] = "checkpoint_scores"
    title: StrictStr
    rows: StrictInt
    embedder: StrictStr
    checkpoints: list[CheckpointScore]
