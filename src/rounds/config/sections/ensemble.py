"""Section `ensemble`: how `make best` ranks the test queries."""

from dataclasses import asdict

from pydantic.dataclasses import dataclass

from rounds.config.sections.base import SECTION, Boolean

LEAST_FOLDS = 3  # that estimate an unseen prior: a fold's comes from fusions that leave two folds out


@dataclass(frozen=True, config=SECTION)
class Ensemble:
    """How the ensemble of the second stage ranks the test queries (`make best`, [second-stage.md](second-stage.md))."""

    unseen_prior: Boolean = False
    """Add an offset, estimated on the folds, to the ensemble's scores of passages that training never labels
    ([second-stage.md](second-stage.md#a-prior-on-unseen-labels)). `make cv` measures it either way."""

    outside_votes: Boolean = True
    """Read the votes of outside questions; false: they train the rounds, and the second stage knows nothing of them but
    the candidates that they added ([second-stage.md](second-stage.md#without-votes-of-outside-questions))."""

    boosted_trees: Boolean = True
    """Average the fusion's networks with gradient boosted trees, which read the features of all of them
    ([second-stage.md](second-stage.md#boosted-trees)); false: networks alone. `make cv` measures it either way."""

    def choices(self) -> dict[str, bool]:
        """Return the keys that change the ensemble's models: all but the prior."""
        return {key: value for key, value in asdict(self).items() if key != "unseen_prior"}
