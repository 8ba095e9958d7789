"""Hold questions out as a private leaderboard, or score a submission against them."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from rounds import cli
from rounds.kaggle import private_leaderboard

ROOT = Path(os.path.relpath(Path(__file__).resolve().parent.parent))


@dataclass
class Flags:
    """The folder, and what to do: hold out with `--raw_dir`, score with `--submission`."""

    folder: str = field(metadata={"help": "the private leaderboard's folder, with the competition's files"})
    raw_dir: str = field(default="", metadata={"help": "hold out of this folder's train.csv"})
    submission: str = field(default="", metadata={"help": "score this CSV, once"})
    size: float = field(default=0.2, metadata={"help": "share of the labelled rows that is held out"})
    unseen: float = field(default=0.6, metadata={"help": "share of these on misconceptions that the rest never labels"})
    seed: int = 42
    model_output: str = field(default=str(ROOT / "model_output"), metadata={"help": "holds ledger.csv"})
    overwrite: bool = False


def main(flags: Flags) -> None:
    """Hold questions out as a private leaderboard, or score a submission against them."""
    folder = Path(flags.folder)
    if flags.raw_dir:
        found = private_leaderboard.hold_out(
            Path(flags.raw_dir), folder, flags.size, flags.unseen, flags.seed, flags.overwrite
        )
        share = found["unseen_rows"] / found["rows"]
        print(f"{folder}: {found['questions']} questions held out, {found['rows']} labelled rows ({share:.0%} unseen)")
    if flags.submission:
        csv = Path(flags.submission)
        scores = private_leaderboard.score(csv, folder, Path(flags.model_output) / "ledger.csv")
        print(f"{csv.stem}: LB public {scores['public']:.5f}, private {scores['private']:.5f}")


if __name__ == "__main__":
    cli.run(main, Flags)
