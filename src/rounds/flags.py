"""Flags that several scripts share, as dataclass mixins; a script's own `Flags` inherits those that it needs."""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rounds.config import loader
from rounds.config.recipe import Recipe
from rounds.config.sections.ensemble import Ensemble
from rounds.data.source import MAX_SEED
from rounds.errors import UserError

if TYPE_CHECKING:
    from rounds.data.dataset import RetrievalDataset
    from rounds.kaggle.bundle import Upload
    from rounds.kaggle.wheels import Target


def project_root() -> Path:
    """The project of the running script: the folder above `scripts/`."""
    return Path(os.path.relpath(Path(sys.argv[0]).resolve().parent.parent))


def _model_output() -> str:
    return str(project_root() / "model_output")


@dataclass(kw_only=True)
class OneDevice:
    """For what computes on one device."""

    device: str = field(default="", metadata={"help": "cpu, cuda or cuda:N; default: a GPU where there is one"})


@dataclass(kw_only=True)
class SeveralDevices:
    """For what encodes on one device or several."""

    device: str = field(
        default="",
        metadata={"help": "cpu, cuda or cuda:N, or several, such as cuda:0,cuda:1; default: a GPU where there is one"},
    )


@dataclass(kw_only=True)
class Clustered:
    """For what encodes and searches, and may do so on several machines."""

    cluster: str = field(
        default="",
        metadata={"help": "auto, or HOST:PORT of a Ray cluster's head: encode and search there (docs/cluster.md)"},
    )
    shards: str = field(
        default="", metadata={"help": "URL, such as s3://bucket/folder, that the cluster's workers write to"}
    )


@dataclass(kw_only=True)
class ModelOutput:
    """For what keeps or reads runs of base models, the ledger or sweeps."""

    model_output: str = field(
        default_factory=_model_output, metadata={"help": "folder with ledger.csv and the base models' runs"}
    )


@dataclass(kw_only=True)
class Seeded:
    """For what draws at random."""

    seed: int = 42

    def check_seed(self) -> None:
        """Raise a `UserError` for a seed that no random generator takes."""
        if not 0 <= self.seed <= MAX_SEED:
            raise UserError(f"seed {self.seed}: must be between 0 and {MAX_SEED}")


@dataclass(kw_only=True)
class Overwriting:
    """For what leaves an artefact."""

    overwrite: bool = field(default=False, metadata={"help": "make the output anew, whatever it was made from"})


@dataclass(kw_only=True)
class Replacing(Overwriting):
    """For stages of the pipeline: what becomes of an output that stands there already.

    Attributes:
        made_from: what the output is made from (`pipeline.keys`), set by `cli.run` with `replace_stale`: the output's
            manifest records it, and it decides whether the output is kept. None without `replace_stale`.
    """

    replace_stale: bool = field(
        default=False,
        metadata={"help": "keep an output that was made from the same inputs, replace any other (as make does)"},
    )
    made_from: dict | None = field(default=None, init=False)


@dataclass(kw_only=True)
class TableFile(Replacing):
    """For what prints a table, and may keep it."""

    output_file: str = field(default="", metadata={"help": "JSON to write the table to, with .md and .csv beside it"})

    def table_file(self) -> Path | None:
        """Return the JSON file to write; None for none.

        Raises:
            UserError: It has another suffix.
        """
        if self.output_file and not self.output_file.endswith(".json"):
            raise UserError(f"--output_file {self.output_file}: the table is a JSON file; name it NAME.json")
        return Path(self.output_file) if self.output_file else None


@dataclass(kw_only=True)
class RecipeOfCheckpoint:
    """For what takes the recipe of a checkpoint unless another is named."""

    recipe: str = field(
        default="",
        metadata={
            "help": "recipe name or YAML file; default: the checkpoint's own, "
            f"or {loader.DEFAULT_RECIPE} where no checkpoint is named"
        },
    )

    def load_recipe(self, name_or_path: str | None) -> Recipe | None:
        """Return the recipe that is named, or the default one without a checkpoint; None for the checkpoint's own."""
        return loader.load(self.recipe or loader.DEFAULT_RECIPE) if self.recipe or not name_or_path else None


@dataclass(kw_only=True)
class RecipeByName:
    """For what starts from a recipe."""

    recipe: str = field(default=loader.DEFAULT_RECIPE, metadata={"help": "recipe name or YAML file"})


@dataclass(kw_only=True)
class Engine:
    """For what encodes by our engine or by FlagEmbedding's."""

    engine: str = field(default="rounds", metadata={"help": "rounds, or flagembedding (its own model class encodes)"})


@dataclass(kw_only=True)
class Truncated:
    """For what can cut vectors."""

    truncate_dim: int | None = field(
        default=None, metadata={"help": "use only the first numbers of vectors, this many"}
    )


@dataclass(kw_only=True)
class OfEnsemble:
    """For what fits the ensemble of the second stage."""

    without_outside: bool = field(default=False, metadata={"help": "read no votes of outside questions"})
    without_trees: bool = field(default=False, metadata={"help": "rank by the networks alone, without boosted trees"})

    def ensemble(self, unseen_prior: bool = False) -> Ensemble:
        """Return the section `ensemble` of a recipe that says so."""
        return Ensemble(unseen_prior, outside_votes=not self.without_outside, boosted_trees=not self.without_trees)


@dataclass(kw_only=True)
class WithSiblings:
    """For what compares a query with the other wrong answers of its question."""

    raw_dir: str = field(
        default="", metadata={"help": "the competition's CSVs, whose wrong answers without a label are siblings, too"}
    )

    def load_raw(self) -> "RetrievalDataset | None":
        """Load the raw data; None where none are named."""
        from rounds.data import remote_files  # slow to import, and for two scripts alone
        from rounds.data.loaders import eedi

        return eedi.load(remote_files.local_path(self.raw_dir)) if self.raw_dir else None


@dataclass(kw_only=True)
class AllowingLeaks:
    """For what refuses checkpoints that saw the validation questions."""

    allow_leak: bool = field(default=False, metadata={"help": "evaluate a polluted checkpoint, marked POLLUTED"})


@dataclass(kw_only=True)
class Bundled:
    """For what writes the bundle and the notebook of a submission."""

    name: str = field(metadata={"help": "the submission's name, as in the ledger"})
    owner: str = field(default="", metadata={"help": "your name on Kaggle; default: KAGGLE_USERNAME or kaggle.json's"})
    base: str = field(default="", metadata={"help": "Kaggle input with an adapter's base model"})
    hours: float = field(default=8.5, metadata={"help": "the notebook's time"})
    accelerator: str = field(default="NvidiaTeslaT4", metadata={"help": "Kaggle's name of the machine"})
    python: str = field(default="3.11", metadata={"help": "the notebook's Python"})
    platforms: list[str] = field(
        default_factory=lambda: ["manylinux_2_35_x86_64"],
        metadata={
            "help": "wheel platforms that it takes; one of manylinux stands for those of older glibc versions too"
        },
    )
    image: str = field(
        default="",
        metadata={"help": "what `pip freeze` prints there; default: torch alone is taken to be there"},
    )
    everything: bool = field(default=False, metadata={"help": "bundle all wheels, torch too"})
    output_root: str = field(
        default_factory=lambda: str(project_root() / "submissions"),
        metadata={"help": "bundle/ and notebook/ go in here"},
    )

    def target(self) -> "Target":
        """The machine that installs the wheels."""
        from rounds.kaggle import wheels  # for the scripts of bundles alone, and slow to import

        has = {} if self.everything else wheels.read_freeze(Path(self.image) if self.image else None)
        return wheels.Target(self.python, tuple(self.platforms), has)

    def upload(self, competition: str) -> "Upload":
        """Names and settings of the upload."""
        from rounds.kaggle import account
        from rounds.kaggle.bundle import Upload

        owner = self.owner or account.find_owner()
        return Upload(owner, self.name, competition, self.base, self.accelerator, self.hours)
