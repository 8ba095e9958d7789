"""Bundle of an embedder: its checkpoint, recipe and explanations, for a notebook that ranks the test queries."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from rounds.artifacts import hashing
from rounds.data.loaders import explanations
from rounds.data.prompts import check_passage_format
from rounds.encoding import merged_checkpoint
from rounds.kaggle import bundle, bundle_file
from rounds.kaggle.bundle import BundleContents, Upload
from rounds.models import merging
from rounds.models.checkpoint import Checkpoint


@dataclass(frozen=True, kw_only=True)
class EmbedderContents(BundleContents):
    """The contents of an embedder's bundle.

    Attributes:
        source: The checkpoint that ranks the test queries.
        texts: Some passages, on which a merged model is compared with its adapter.
        merge: Merge the adapter into its base model's weights, so that the notebook needs no base model.
        explanations: Passage id -> explanation, which the checkpoint's recipe joins to the passages; empty if it does
            not.
    """

    source: Checkpoint
    texts: list[str]
    merge: bool = False
    explanations: dict[str, str] = field(default_factory=dict)

    module = "rounds.kaggle.notebook"

    about = "encodes the test questions with the bundle's checkpoint"

    @property
    def config(self) -> dict:
        """The model, whether it is merged, and the explanations."""
        explained = {"explanations": hashing.sha256_json(self.explanations)} if self.explanations else {}
        return {"model": self.source.key, "merge": self.merge, **explained}

    @property
    def extras(self) -> set[str]:
        """Those of 4-bit weights."""
        return {"four_bits"} if self.source.precision in ("nf4", "fp4") else set()

    def check(self, upload: Upload) -> None:
        """Refuse a checkpoint that the notebook could not load."""
        source = self.source
        source.recipe.require_text_only("bundle")
        check_passage_format(source.recipe.prompts, "eedi", bundle_file.EXPLANATIONS if self.explanations else "")
        if self.merge:
            merging.check_mergeable(source)
        elif source.is_adapter:
            merged = ", or bundle the merged model (MERGED=1)"
            bundle.require_base(source.name, source.recipe.model.name_or_path, upload, merged)

    def write_files(self, folder: Path, upload: Upload) -> None:
        """Write checkpoint, recipe and explanations."""
        source = self.source
        if self.merge:
            merged_checkpoint.merge(source, folder / "checkpoint", self.texts)
        else:
            shutil.copytree(source.folder, folder / "checkpoint", ignore=shutil.ignore_patterns("runs"))
        recipe = yaml.safe_dump(source.recipe.to_dict(), sort_keys=False, allow_unicode=True)
        (folder / "recipe.yaml").write_text(recipe, encoding="utf-8")
        if self.explanations:
            explanations.write(folder / bundle_file.EXPLANATIONS, self.explanations)
