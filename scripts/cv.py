"""Print what each stage scores on the folds, the fusion learned on all folds but the one it ranks."""

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from rounds import cli
from rounds.evaluation.metrics import MAIN_METRIC
from rounds.reranking import cross_validation, folds, learning_curve, unseen_prior, views


@dataclass
class Flags:
    """The folds to evaluate."""

    folds: list[str] = field(metadata={"help": "folders of candidates, one a fold, each in its last round's folder"})
    output: str = field(default="", metadata={"help": "write OUTPUT.md, OUTPUT.csv and OUTPUT.json"})
    ablate: bool = field(
        default=False, metadata={"help": "add the fusion without one kind of feature, the ensemble with all rounds"}
    )
    unseen_prior: bool = field(
        default=False, metadata={"help": "add the ensemble with an offset for passages that training never labels"}
    )
    without_outside: bool = field(default=False, metadata={"help": "read no votes of outside questions"})


def main(flags: Flags) -> None:
    """Print what each stage scores on the folds, the fusion learned on all folds but the one it ranks."""
    folds.require_distinct([Path(folder) for folder in flags.folds])
    read = [folds.read_fold(Path(folder)) for folder in flags.folds]
    models, candidates = read[0].models, read[0].table
    outside_votes = not flags.without_outside
    fusions = views.default_views(models, outside_votes)
    fusions += views.ablation_views(models, candidates, outside_votes) if flags.ablate else []
    rows = cross_validation.evaluate_stages(read, fusions)
    below, tables = {}, {str(fold.data.folder): fold.table for fold in read}
    obstacle = unseen_prior.find_obstacle(tables) if flags.unseen_prior else ""
    if flags.unseen_prior and not obstacle:
        ensemble = next(row for row in rows if row.label == views.ENSEMBLE)
        row, below["unseen_prior"] = cross_validation.evaluate_unseen_prior(
            read, dict(fusions)[views.ENSEMBLE], ensemble
        )
        rows.append(row)
    table = cross_validation.stage_table(rows, read, cross_validation.title(read, outside_votes))
    for screen in cross_validation.screens(table):
        Console().print(screen.screen())
    label, fusion_views = fusions[0]
    whole = next(row.scores[MAIN_METRIC] for row in rows if row.label == label)
    if flags.unseen_prior:
        print(below.get("unseen_prior") or f"unseen prior: none; {obstacle}")
    if curve := learning_curve.measure(read, fusion_views, whole):
        below["learning_curve"] = curve
    print(curve or "learning curve of the fusion: too few queries with a relevant candidate to draw one")
    if flags.output:
        print(", ".join(map(str, cross_validation.write_table(table, Path(flags.output), below))))


if __name__ == "__main__":
    cli.run(main, Flags)
