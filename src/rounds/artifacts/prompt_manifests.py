"""Manifests of prompt recovery: splits of rows with prompts, and predictions of baselines."""

from typing import Literal

from pydantic import StrictStr

from rounds.artifacts.manifests import ConfiguredManifest


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
