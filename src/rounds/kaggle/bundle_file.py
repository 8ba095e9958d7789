"""The file `bundle.json`: the submission that a bundle makes, and the split that its checkpoint was trained on."""

from pathlib import Path

from pydantic import StrictInt, StrictStr

from rounds.artifacts import manifest_parsing, store
from rounds.artifacts.manifests import Entry
from rounds.data.source import N_FOLDS

BUNDLE = "bundle.json"

EXPLANATIONS = "explanations.jsonl"  # beside it, if the checkpoint's passages have them

ADVICE = "make the bundle again"


class TrainedSplit(Entry):
    """The split of the collection that a checkpoint was trained on."""

    split: StrictStr
    seed: StrictInt
    fold: StrictInt
    n_folds: StrictInt = N_FOLDS


class BundleFile(Entry):
    """The content of `bundle.json`.

    Attributes:
        submission: The submission's name.
        competition: The last part of the competition's address.
        split: Name of the split that the checkpoint was trained on.
        seed: Seed of the split.
        fold: Fold of the split.
        n_folds: Number of folds of the split, if it has folds.
        wheel: File name of the project's wheel.
    """

    submission: StrictStr
    competition: StrictStr
    split: StrictStr
    seed: StrictInt
    fold: StrictInt
    n_folds: StrictInt = N_FOLDS
    wheel: StrictStr


def read(bundle: Path) -> BundleFile:
    """Read a bundle's `bundle.json`.

    Raises:
        UserError: The file is missing or not JSON, or a key is missing, unknown or has another type.
    """
    path = bundle / BUNDLE
    return manifest_parsing.parse_as(BundleFile, store.read_json(path), str(path), ADVICE)


def write(bundle: Path, content: BundleFile) -> None:
    """Write a bundle's `bundle.json`."""
    store.write_json(bundle / BUNDLE, content.model_dump(exclude_defaults=True))
