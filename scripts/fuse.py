"""Rank the test queries by what the folds' candidates teach, and write the submission."""

from dataclasses import dataclass, field
from pathlib import Path

from rounds import cli
from rounds.data import remote_files
from rounds.flags import ModelOutput, OfEnsemble, Replacing
from rounds.kaggle.stage import submit_fused


@dataclass(kw_only=True)
class Flags(ModelOutput, OfEnsemble, Replacing):
    """The folds to learn from, and the queries to rank."""

    folds: list[str] = field(metadata={"help": "folders of candidates with labels, one a fold"})
    table: str = field(metadata={"help": "folder of the test queries' candidates"})
    raw_dir: str = field(metadata={"help": "folder with sample_submission.csv"})
    output_file: str = field(metadata={"help": "the submission"})
    named: bool = field(default=False, metadata={"help": "write the submission's name into the ledger"})
    unseen_prior: bool = field(
        default=False, metadata={"help": "shift the scores of passages that training never labels, as the folds tell"}
    )


def main(flags: Flags) -> None:
    """Rank the test queries by what the folds' candidates teach, and write the submission."""
    sample = remote_files.local_path(flags.raw_dir) / "sample_submission.csv"
    line = submit_fused(
        [Path(fold) for fold in flags.folds],
        Path(flags.table),
        sample,
        Path(flags.output_file),
        Path(flags.model_output) if flags.named else None,
        flags.ensemble(flags.unseen_prior),
        flags.overwrite,
        flags.made_from,
    )
    print(line)


if __name__ == "__main__":
    cli.run(main, Flags)
