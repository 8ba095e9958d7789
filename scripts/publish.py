"""Write a checkpoint's folder for the Hugging Face hub, with a model card, and upload it."""

from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import HfApi

from rounds import cli
from rounds.data import collection, remote_files
from rounds.flags import ModelOutput, OneDevice
from rounds.models import checkpoint
from rounds.publishing import hub, stage
from rounds.publishing.stage import PublishJob


@dataclass(kw_only=True)
class Flags(ModelOutput, OneDevice):
    """The checkpoint, and where it goes."""

    model_path: str = field(metadata={"help": "checkpoint or finetune folder"})
    data_dir: str = field(metadata={"help": "collection that it was trained on"})
    repo: str = field(metadata={"help": "OWNER/NAME on the hub"})
    output_dir: str = field(metadata={"help": "folder to write"})
    raw_dir: str = field(default="", metadata={"help": "the raw data, to say where they come from"})
    evaluations: list[str] = field(
        default_factory=list, metadata={"help": "folders of evaluations, in the order of the table's rows"}
    )
    license: str = field(default="", metadata={"help": "the licence, as the hub abbreviates it, such as mit"})
    merged: bool = field(default=False, metadata={"help": "merge an adapter into its base model"})
    public: bool = field(default=False, metadata={"help": "let everybody see the repository"})
    dry: bool = field(default=False, metadata={"help": "write the folder only"})


def main(flags: Flags) -> None:
    """Write a checkpoint's folder for the Hugging Face hub, with a model card, and upload it."""
    hub.check_name(flags.repo)
    api = HfApi()
    if not flags.dry:
        hub.check_login(api, flags.repo)
    output = Path(flags.output_dir)
    job = PublishJob(
        source=checkpoint.resolve(flags.model_path, device=flags.device),
        data=collection.read(Path(flags.data_dir)),
        raw=remote_files.local_path(flags.raw_dir) if flags.raw_dir else None,
        evaluations=[Path(folder) for folder in flags.evaluations],
        repo=flags.repo,
        output=output,
        merge=flags.merged,
        license=flags.license,
    )
    print(stage.write_folder(job))
    if not flags.dry:
        print(hub.upload(api, output, flags.repo, flags.public, f"{output.name} by rounds"))


if __name__ == "__main__":
    cli.run(main, Flags)
