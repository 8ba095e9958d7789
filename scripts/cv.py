"""Print what each stage scores on the folds, the fusion learned on all folds but the one it ranks."""

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from rounds import cli
from rounds.artifacts import store
from rounds.flags import OfEnsemble, TableFile
from rounds.reranking import cross_validation, cv_table
from rounds.reranking.cv_table import CrossValidation


@dataclass(kw_only=True)
class Flags(OfEnsemble, TableFile):
    """The folds to evaluate."""

    folds: list[str] = field(metadata={"help": "folders of candidates, one a fold, each in its last round's folder"})
    rerankers: list[str] = field(
        default_factory=list, metadata={"help": "folders of rerankers, one a fold; default: no reranker"}
    )
    ablate: bool = field(
        default=False, metadata={"help": "add the fusion without one kind of feature, the ensemble with all rounds"}
    )
    unseen_prior: bool = field(
        default=False, metadata={"help": "add the ensemble with an offset for passages that training never labels"}
    )


def main(flags: Flags) -> None:
    """Print what each stage scores on the folds, the fusion learned on all folds but the one it ranks."""
    output = flags.table_file()
    job = CrossValidation(
        folds=list(map(Path, flags.folds)),
        rerankers=list(map(Path, flags.rerankers)),
        ablate=flags.ablate,
        unseen_prior=flags.unseen_prior,
        ensemble=flags.ensemble(),
    )
    config = job.config()
    if output is not None and store.is_file_finished(output, config, flags.overwrite, flags.made_from):
        print(f"{output}: up to date")
        return
    table, below = cv_table.evaluate(job)
    for screen in cross_validation.screens(table):
        Console().print(screen.screen())
    for note in below.values():
        print(note)
    if output is not None:
        print(", ".join(map(str, cv_table.write(table, below, output, config, flags.made_from))))


if __name__ == "__main__":
    cli.run(main, Flags)
