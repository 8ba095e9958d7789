"""Hold questions out as a private leaderboard, or score a submission against them."""

from dataclasses import dataclass, field
from pathlib import Path

from rounds import cli
from rounds.data import remote_files
from rounds.flags import ModelOutput, Overwriting, Seeded
from rounds.kaggle import private_leaderboard


@dataclass(kw_only=True)
class Flags(ModelOutput, Overwriting, Seeded):
    """The folder, and what to do: hold out with `--raw_dir`, score with `--submission`."""

    folder: str = field(metadata={"help": "the private leaderboard's folder, with the competition's files"})
    raw_dir: str = field(default="", metadata={"help": "hold out of this folder's train.csv"})
    submission: list[str] = field(default_factory=list, metadata={"help": "score these CSVs, each once"})
    size: float = field(default=0.2, metadata={"help": "share of the labelled rows that is held out"})
    unseen: float = field(default=0.6, metadata={"help": "share of these on misconceptions that the rest never labels"})


def main(flags: Flags) -> None:
    """Hold questions out as a private leaderboard, or score a submission against them."""
    folder = Path(flags.folder)
    if flags.raw_dir:
        counts = private_leaderboard.hold_out(
            remote_files.local_path(flags.raw_dir), folder, flags.size, flags.unseen, flags.seed, flags.overwrite
        )
        share = counts.unseen_rows / counts.rows
        print(f"{folder}: {counts.questions} questions held out, {counts.rows} labelled rows ({share:.0%} unseen)")
    ledger_file = Path(flags.model_output) / "ledger.csv"
    csvs = [Path(name) for name in flags.submission]
    unscored = private_leaderboard.select_unscored(csvs, ledger_file)
    for csv in unscored:
        scores = private_leaderboard.score(csv, folder, ledger_file)
        print(f"{csv.stem}: LB public {scores['public']:.5f}, private {scores['private']:.5f}")
    for csv in csvs:
        if csv not in unscored:
            print(f"{csv.stem}: left out: it was scored before, or the ledger calls its ranking by another name")


if __name__ == "__main__":
    cli.run(main, Flags)
