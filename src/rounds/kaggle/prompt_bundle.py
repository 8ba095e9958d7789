"""Bundle of prompt recovery: a tuned generator or a baseline, for a notebook that predicts the prompts of test rows."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from pydantic import StrictInt, StrictStr

from rounds.artifacts import hashing, manifest_parsing, store
from rounds.artifacts.manifests import Entry
from rounds.errors import UserError
from rounds.generation.baselines import TITLES
from rounds.generation.embedder import NAMES
from rounds.generation.generator import SavedGenerator
from rounds.kaggle import bundle, bundle_file
from rounds.kaggle.bundle import BundleContents, Upload

PROMPTS = "prompts.json"

TRAIN = "train.jsonl"  # training rows, where a baseline looks for the nearest

CHECKPOINT = "checkpoint"

BASE = "base"  # an adapter's base model, which the notebook finds by its weights as it does any input

EMBEDDING = ("nearest", "joined")  # baselines that embed the test rows


class PromptPredictor(Entry):
    """The content of `prompts.json`: what predicts.

    Attributes:
        fixed: The prompt that scores best on the training rows, for rows that the notebook's time does not suffice for.
        baseline: Name of the baseline that predicts (`generation.baselines`); empty where a generator does.
        embedder: The embedder that baselines, and choices among drawn texts, compare by.
        seed: Seed of drawn texts.
    """

    fixed: StrictStr
    baseline: StrictStr
    embedder: StrictStr
    seed: StrictInt


def read_predictor(folder: Path) -> PromptPredictor:
    """Read a bundle's `prompts.json`.

    Raises:
        UserError: The file is missing or broken.
    """
    path = folder / PROMPTS
    return manifest_parsing.parse_as(PromptPredictor, store.read_json(path), str(path), bundle_file.ADVICE)


@dataclass(frozen=True, kw_only=True)
class PromptContents(BundleContents):
    """The contents of a bundle of prompt recovery.

    Attributes:
        predictor: What predicts.
        source: The generator; None where a baseline predicts.
        train: The file of the split's training rows.
    """

    predictor: PromptPredictor
    source: SavedGenerator | None
    train: Path

    module = "rounds.kaggle.prompt_notebook"

    @property
    def about(self) -> str:
        """What predicts the prompts."""
        writer = f"the baseline {self.predictor.baseline!r}" if self.source is None else "the bundle's generator"
        return f"predicts the prompts of the test rows by {writer}"

    @property
    def config(self) -> dict:
        """The predictor, the generator's weights, and the training rows where they are bundled."""
        return {
            "predictor": self.predictor.model_dump(),
            "weights": [self.source.manifest.base_digest, self.source.manifest.weights_digest] if self.source else [],
            **({"train": hashing.sha256_file(self.train)} if self._has_rows else {}),
        }

    @property
    def extras(self) -> set[str]:
        """Those of 4-bit weights."""
        precision = self.source.manifest.precision if self.source else ""
        return {"four_bits"} if precision in ("nf4", "fp4") else set()

    @property
    def _has_rows(self) -> bool:
        return self.predictor.baseline in EMBEDDING

    def check(self, upload: Upload) -> None:
        """Refuse an unknown baseline, and a base model or an embedder that the notebook could not reach."""
        source, baseline, embedder = self.source, self.predictor.baseline, self.predictor.embedder
        if source is None and baseline not in TITLES:
            raise UserError(f"baseline {baseline!r}: is not one of {', '.join(TITLES)}")
        has_draws = source is not None and source.recipe.generation.samples > 1
        if (self._has_rows or has_draws) and not NAMES.get(embedder, embedder).startswith("package:"):
            raise UserError(
                f"embedder {embedder}: is not a Python package, and the notebook has no internet to fetch it; "
                "bundle with EMBEDDER=minilm"
            )
        if self._is_adapter and not self._local_base:
            bundle.require_base(str(source.folder), source.recipe.model.name_or_path, upload)

    @property
    def _is_adapter(self) -> bool:
        return self.source is not None and self.source.recipe.tuning.method != "full"

    @property
    def _local_base(self) -> Path | None:
        """The base model's folder, where the recipe names one: a generator that another tuning went on from."""
        folder = Path(self.source.recipe.model.name_or_path)
        return folder if folder.is_dir() else None

    def write_files(self, folder: Path, upload: Upload) -> None:
        """Write `prompts.json`, the generator's checkpoint with a local base model, or the training rows."""
        if self.source:
            shutil.copytree(self.source.folder, folder / CHECKPOINT)
        if self._is_adapter and self._local_base and not upload.base:
            shutil.copytree(self._local_base, folder / BASE)
        if self._has_rows:
            shutil.copyfile(self.train, folder / TRAIN)
        store.write_json(folder / PROMPTS, self.predictor.model_dump())
