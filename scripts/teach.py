"""Score the candidates of all training rows by the ensemble of the second stage, for distil.py to learn from."""

from dataclasses import dataclass, field
from pathlib import Path

from rounds import cli
from rounds.config import loader
from rounds.data import collection
from rounds.flags import ModelOutput, OneDevice, Replacing, WithSiblings
from rounds.models import checkpoint
from rounds.models.devices import resolve_device
from rounds.reranking.teacher import TeacherJob, write_teacher


@dataclass(kw_only=True)
class Flags(ModelOutput, OneDevice, Replacing, WithSiblings):
    """The folds that teach the ensemble, and the rows that it scores."""

    recipe: str = field(metadata={"help": "recipe of the rounds"})
    folds: list[str] = field(metadata={"help": "folders of candidates with labels, one a fold"})
    data_dir: str = field(metadata={"help": "collection that trains on everything"})
    output_file: str = field(metadata={"help": "JSONL with query, pos, neg and the ensemble's scores"})
    model_paths: list[str] = field(
        default_factory=list,
        metadata={"help": "checkpoints of the rounds on everything, which rank the rows of no fold; default: none"},
    )


def main(flags: Flags) -> None:
    """Score the candidates of all training rows by the ensemble of the second stage, for distil.py to learn from."""
    recipe, device = loader.load(flags.recipe), resolve_device(flags.device)
    checkpoints = [checkpoint.resolve(path, device=device) for path in flags.model_paths]
    if checkpoints:
        checkpoints.insert(0, checkpoint.resolve(None, recipe, device))
    job = TeacherJob(
        folds=[Path(fold) for fold in flags.folds],
        data=collection.read(Path(flags.data_dir)),
        checkpoints=checkpoints,
        settings=recipe.distillation,
        output=Path(flags.output_file),
        model_output=Path(flags.model_output),
        overwrite=flags.overwrite,
        made_from=flags.made_from,
        ensemble=recipe.ensemble,
        raw=flags.load_raw(),
    )
    print(write_teacher(job))


if __name__ == "__main__":
    cli.run(main, Flags)
