"""Manifests of prompt recovery: splits of rows with prompts, and predictions."""

from typing import Literal

from pydantic import StrictInt, StrictStr

from rounds.artifacts.manifests import ConfiguredManifest, Lineage


class PromptSplitManifest(ConfiguredManifest):
    """A split's rows of texts, rewritings and prompts.

    Attributes:
        data: name of the raw data.
        split: how the rows were divided.
    """

    kind: Literal["prompt_split"] = "prompt_split"
    data: StrictStr
    split: StrictStr


class PredictionsManifest(ConfiguredManifest):
    """Predicted prompts of a split's rows (`predictions.jsonl`).

    Attributes:
        title: name of the row in tables.
        rows: number of predictions.
        lineage: training rows of the checkpoint that predicted, if any; None if unknown.
    """

    kind: Literal["predictions"] = "predictions"
    title: StrictStr
    rows: StrictInt
    lineage: Lineage | None = None
