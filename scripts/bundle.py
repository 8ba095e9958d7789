"""Write what an offline Kaggle notebook needs: a dataset's folder, and the notebook."""

from dataclasses import dataclass, field
from pathlib import Path

from rounds import cli
from rounds.artifacts import store
from rounds.data import collection
from rounds.errors import UserError
from rounds.flags import Bundled, ModelOutput, project_root
from rounds.kaggle import bundle
from rounds.kaggle.bundle_file import TrainedSplit
from rounds.kaggle.client import COMPETITION
from rounds.kaggle.embedder_bundle import EmbedderContents
from rounds.kaggle.stage import name_submission
from rounds.models import checkpoint


@dataclass(kw_only=True)
class Flags(Bundled, ModelOutput):
    """The checkpoint, and the notebook that it is for."""

    model_path: str = field(metadata={"help": "checkpoint or finetune folder"})
    data_dir: str = field(metadata={"help": "collection that it was trained on"})
    competition: str = COMPETITION
    merged: bool = field(default=False, metadata={"help": "bundle the adapter merged into its base model"})


def main(flags: Flags) -> None:
    """Write what an offline Kaggle notebook needs: a dataset's folder, and the notebook."""
    data = collection.read(Path(flags.data_dir))
    config = store.read_manifest(data.folder).config
    source = checkpoint.resolve(flags.model_path)
    if source.folder is None or source.manifest is None:
        raise UserError(f"{flags.model_path}: is not a checkpoint of ours; train a round first")
    contents = EmbedderContents(
        split=TrainedSplit(split=config["split"], seed=config["seed"], fold=config["fold"], n_folds=data.n_folds),
        target=flags.target(),
        project=project_root(),
        source=source,
        texts=list(data.passages.values())[:32],
        merge=flags.merged,
        explanations=data.explanations,
    )
    lines = bundle.write_both(contents, flags.upload(flags.competition), Path(flags.output_root))
    name_submission(source, data, flags.name, Path(flags.model_output))
    print(*lines, sep="\n")


if __name__ == "__main__":
    cli.run(main, Flags)
