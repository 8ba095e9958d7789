"""Write what an offline Kaggle notebook needs: a dataset's folder, and the notebook."""

from dataclasses import dataclass, field
from pathlib import Path

from rounds import cli
from rounds.artifacts import store
from rounds.data import collection
from rounds.errors import UserError
from rounds.flags import ModelOutput, project_root
from rounds.kaggle import account, bundle, wheels
from rounds.kaggle.bundle import BundleContents, Upload
from rounds.kaggle.bundle_file import TrainedSplit
from rounds.kaggle.client import COMPETITION
from rounds.kaggle.stage import name_submission
from rounds.kaggle.wheels import Target
from rounds.models import checkpoint


@dataclass(kw_only=True)
class Flags(ModelOutput):
    """The checkpoint, and the notebook that it is for."""

    model_path: str = field(metadata={"help": "checkpoint or finetune folder"})
    data_dir: str = field(metadata={"help": "collection that it was trained on"})
    name: str = field(metadata={"help": "the submission's name, as in the ledger"})
    owner: str = field(default="", metadata={"help": "your name on Kaggle; default: KAGGLE_USERNAME or kaggle.json's"})
    competition: str = COMPETITION
    base: str = field(default="", metadata={"help": "Kaggle input with an adapter's base model"})
    merged: bool = field(default=False, metadata={"help": "bundle the adapter merged into its base model"})
    hours: float = field(default=8.5, metadata={"help": "the notebook's time; beyond it, queries get fewer examples"})
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
        default=str(project_root() / "submissions"), metadata={"help": "bundle/ and notebook/ go in here"}
    )


def main(flags: Flags) -> None:
    """Write what an offline Kaggle notebook needs: a dataset's folder, and the notebook."""
    data = collection.read(Path(flags.data_dir))
    config = store.read_manifest(data.folder).config
    source = checkpoint.resolve(flags.model_path)
    if source.folder is None or source.manifest is None:
        raise UserError(f"{flags.model_path}: is not a checkpoint of ours; train a round first")
    has = {} if flags.everything else wheels.read_freeze(Path(flags.image) if flags.image else None)
    target = Target(flags.python, tuple(flags.platforms), has)
    upload = Upload(
        flags.owner or account.find_owner(), flags.name, flags.competition, flags.base, flags.accelerator, flags.hours
    )
    folder, notebook = (Path(flags.output_root) / name for name in ("bundle", "notebook"))
    passages = list(data.passages.values())[:32]
    split = TrainedSplit(split=config["split"], seed=config["seed"], fold=config["fold"])
    contents = BundleContents(source, passages, split, target, project_root(), flags.merged, data.explanations)
    bundled = bundle.write(contents, upload, folder, notebook, overwrite=True)
    name_submission(source, data, flags.name, Path(flags.model_output))
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20
    packages = ", ".join(wheel.name.split("-")[0] for wheel in bundled)
    print(f"{folder}: {size:.0f} MiB, {len(bundled)} wheels: {packages}")
    print(f"{notebook / bundle.NOTEBOOK}: {upload.id}, {flags.hours} h; make push uploads and submits")


if __name__ == "__main__":
    cli.run(main, Flags)
