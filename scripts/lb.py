"""Write Kaggle's scores of our submissions into the ledger."""

from dataclasses import dataclass
from pathlib import Path

from rounds import cli
from rounds.evaluation import ledger
from rounds.flags import ModelOutput
from rounds.kaggle.client import COMPETITION, Client, read_scores


@dataclass(kw_only=True)
class Flags(ModelOutput):
    """The competition to ask for scores."""

    competition: str = COMPETITION


def main(flags: Flags) -> None:
    """Write Kaggle's scores of our submissions into the ledger."""
    scores = read_scores(Client(), flags.competition)
    remarks = ledger.score(Path(flags.model_output) / "ledger.csv", scores)
    for name, (public, private) in scores.items():
        mark = f"  ({remarks[name]})" if name in remarks else ""
        print(f"{name}: public {public or '-'}, private {private or '-'}{mark}")
    if not scores:
        print(f"{flags.competition}: no submissions yet")


if __name__ == "__main__":
    cli.run(main, Flags)
