"""CV table: what each stage scores on the folds, with what stands below the table, kept in files."""

from dataclasses import dataclass
from pathlib import Path

from rounds.artifacts import hashing, store
from rounds.artifacts.second_stage_manifests import CrossValidationManifest, StudentTableManifest
from rounds.config.sections.ensemble import Ensemble
from rounds.errors import UserError
from rounds.evaluation.metrics import MAIN_METRIC
from rounds.evaluation.table import Table
from rounds.reranking import cross_validation, folds, learning_curve, unseen_prior, views
from rounds.reranking.candidates import FILE

UNSEEN_PRIOR, LEARNING_CURVE = "unseen_prior", "learning_curve"  # what stands below the table


@dataclass(frozen=True)
class CrossValidation:
    """The folds to evaluate, and which rows the table has.

    Attributes:
        folds: Folders of candidates, one a fold, each in its last round's folder.
        rerankers: Folder of each fold's reranker; none for a table without the reranker's rows.
        ablate: Add the fusion without one kind of feature, and the ensemble with all rounds.
        unseen_prior: Add the ensemble with an offset for passages that training never labels.
        ensemble: The recipe's section: what the ensemble reads and is made of. Its prior is the key above.
    """

    folds: list[Path]
    rerankers: list[Path]
    ablate: bool = False
    unseen_prior: bool = False
    ensemble: Ensemble = views.DEFAULTS

    def config(self) -> dict:
        """Return the candidates, the rerankers' scores and the choice of rows, for the table's manifest.

        Raises:
            UserError: A folder holds no candidates, or no reranker.
        """
        for folder in self.folds:
            folds.read_candidates_manifest(folder)
        for folder in self.rerankers:
            folds.read_reranker_manifest(folder)
        return {
            "folds": [hashing.sha256_file(folder / FILE) for folder in self.folds],
            "rerankers": [hashing.sha256_file(folder / folds.SCORES) for folder in self.rerankers],
            "ablate": self.ablate,
            "unseen_prior": self.unseen_prior,
            "ensemble": self.ensemble.choices(),
        }


def evaluate(job: CrossValidation) -> tuple[Table, dict[str, object]]:
    """Evaluate each stage, and return the table and what stands below it, by name.

    Raises:
        UserError: A fold is named twice, folds and rerankers are not of one number, or a folder lacks what it should
            hold.
    """
    folds.require_distinct(job.folds)
    folds.check_siblings(job.folds)
    if job.rerankers and len(job.rerankers) != len(job.folds):
        raise UserError(f"{len(job.rerankers)} rerankers of {len(job.folds)} folds; name one for each, or none")
    read = [folds.read_fold(*folders) for folders in _with_rerankers(job)]
    models, tables = read[0].models, {str(fold.data.folder): fold.table for fold in read}
    fusions = views.default_views(models, job.ensemble)
    fusions += views.ablation_views(models, read[0].table, job.ensemble) if job.ablate else []
    rows = cross_validation.evaluate_stages(read, fusions)
    by_label, below = {row.label: row for row in rows}, {}
    if job.unseen_prior and (obstacle := unseen_prior.find_obstacle(tables)):
        below[UNSEEN_PRIOR] = f"unseen prior: none; {obstacle}"
    elif job.unseen_prior:
        ensemble, ensemble_views = by_label[views.ENSEMBLE], dict(fusions)[views.ENSEMBLE]
        row, below[UNSEEN_PRIOR] = cross_validation.evaluate_unseen_prior(read, ensemble_views, ensemble)
        rows.append(row)
    label, fusion_views = fusions[0]
    curve = learning_curve.measure(read, fusion_views, by_label[label].scores[MAIN_METRIC])
    below[LEARNING_CURVE] = (
        curve or "learning curve of the fusion: too few queries with a relevant candidate to draw one"
    )
    return cross_validation.stage_table(rows, read, cross_validation.title(read, job.ensemble)), below


def _with_rerankers(job: CrossValidation) -> list[tuple[Path, ...]]:
    """Return each fold's folder, with its reranker's where there are any."""
    return list(zip(job.folds, job.rerankers, strict=True)) if job.rerankers else [(folder,) for folder in job.folds]


def write(
    table: Table,
    below: dict[str, object],
    output: Path,
    config: dict,
    made_from: dict | None = None,
    kind: type[CrossValidationManifest | StudentTableManifest] = CrossValidationManifest,
) -> list[Path]:
    """Write the table beside `output`, a JSON file, then its manifest, which marks it as finished; return the files."""
    store.file_manifest(output).unlink(missing_ok=True)
    files = cross_validation.write_table(table, output.with_suffix(""), below)
    digests = {file.name: hashing.sha256_file(file) for file in files}
    sha256 = digests.pop(output.name)
    manifest = kind(config=config, made_from=made_from, sha256=sha256, beside=digests)
    store.write_manifest(store.file_manifest(output), manifest)
    return files
