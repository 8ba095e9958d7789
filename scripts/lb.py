"""Write Kaggle's scores of our submissions into the ledger."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from rounds import cli
from rounds.evaluation import ledger
from rounds.kaggle.client import COMPETITION, Client, read_scores

ROOT = Path(os.path.relpath(Path(__file__).resolve().parent.parent))


@dataclass
class Flags:
    """Which competition."""

    competition: str = COMPETITION
    model_output: str = field(default=str(ROOT / "model_output"), metadata={"help": "holds ledger.csv"})


def main(flags: Flags) -> None:
    """Write Kaggle's scores of our submissions into the ledger."""
    scores = read_scores(Client(), flags.competition)
    unknown = ledger.score(Path(flags.model_output) / "ledger.csv", scores)
    for name, (public, private) in scores.items():
        mark = "  (no row of the ledger has this name)" if name in unknown else ""
        print(f"{name}: public {public or '-'}, private {private or '-'}{mark}")
    if not scores:
        print(f"{flags.competition}: no submissions yet")


if __name__ == "__main__":
    cli.run(main, Flags)
