"""Submission stage: rank the test queries, write the checked CSV and record it in the ledger."""

import os
from dataclasses import asdict
from pathlib import Path

from rounds.artifacts import hashing, store
from rounds.artifacts.manifests import SubmissionManifest
from rounds.artifacts.second_stage_manifests import CandidatesManifest
from rounds.config.sections.ensemble import Ensemble
from rounds.data.collection import Collection
from rounds.encoding import run_store
from rounds.errors import Refused, UserError
from rounds.estimate import Estimate
from rounds.evaluation import ledger
from rounds.kaggle import submission
from rounds.models.checkpoint import Checkpoint
from rounds.reranking import folds, fusion, unseen_prior, views
from rounds.reranking.candidates import FILE, Candidates, read_candidates
from rounds.retrieval.run import Run


def submit_fused(
    fold_folders: list[Path],
    table_folder: Path,
    sample: Path,
    output: Path,
    model_output: Path | None = None,
    settings: Ensemble | None = None,
    overwrite: bool = False,
    made_from: dict | None = None,
) -> str:
    """Fit the ensemble on the folds' candidates, rank the test queries by it, and write the checked CSV.

    Args:
        fold_folders: Folders of candidates with known labels.
        table_folder: Folder of the test queries' candidates.
        sample: The competition's sample_submission.csv.
        output: The CSV to write.
        model_output: The folder of the ledger, which then names the submission by its file; None names none.
        settings: The recipe's section `ensemble`; None for the defaults.
        overwrite: Replace a CSV of another configuration.
        made_from: What the pipeline makes the CSV from, which then decides whether it is kept; None without one.

    Returns:
        The line to print.

    Raises:
        UserError: A fold is named twice, the folders fuse different models, the queries to rank have labels, or the
            folds cannot tell an offset.
        Refused: Two folds have questions in common, or folds of other data label queries to rank.
    """
    settings = settings or Ensemble()
    fold_manifests, manifest = _read_manifests(fold_folders, table_folder)
    data = folds.read_collection(table_folder, manifest)
    if data.validation:
        raise UserError(f"{table_folder}: ranks the validation queries of split {data.split}; take SPLIT=submission's")
    store.require_files(sample)
    config = {
        "folds": [hashing.sha256_file(folder / FILE) for folder in fold_folders],
        "table": hashing.sha256_file(table_folder / FILE),
        "sample": hashing.sha256_file(sample),
        "ensemble": asdict(settings),
    }
    line, fused = f"{output}: up to date", None
    if store.is_file_finished(output, config, overwrite, made_from):
        fused = store.read_file_manifest(output)
    if fused is None:
        learned_data = [folds.read_collection(*each) for each in zip(fold_folders, fold_manifests, strict=True)]
        folds.require_disjoint(learned_data)
        _require_held_out(learned_data, data)
        learned = {str(folder): read_candidates(folder / FILE) for folder in fold_folders}
        run, choices = _rank(learned, read_candidates(table_folder / FILE), manifest.members, settings)
        rows = submission.write(run, data.passages, sample, output)
        of_folds = [each.config for each in fold_manifests]
        fused = SubmissionManifest(fused=True, members=manifest.members, folds=of_folds, **choices)
        fused = fused.with_values(config=config, made_from=made_from, sha256=hashing.sha256_file(output))
        store.write_manifest(store.file_manifest(output), fused)
        line = f"{output}: {rows} rows, checked{_shift(fused)}"
    if model_output is not None:  # also of a finished CSV, whose name the ledger may lack
        _name(fused, manifest, data, table_folder, output.stem, model_output)
    return line


def _require_held_out(learned: list[Collection], data: Collection) -> None:
    """Refuse folds of other files that label queries which are to be ranked, as those behind a private leaderboard do.

    Of the same files, a query on both sides is one that test.csv shows as an example.

    Raises:
        Refused: The message counts the queries.
    """
    ranked, files = set(data.test.values()), _raw_files(data)
    for fold in learned:
        if _raw_files(fold) != files and (shared := len(ranked.intersection(fold.validation.values()))):
            raise Refused(
                f"{fold.folder}: labels {shared} of the queries of {data.folder} that are to be ranked; take the folds "
                f"of {data.data}"
            )


def _raw_files(data: Collection) -> dict[str, str] | None:
    """Return the digests of the files that a collection was made from, by name; None if it does not say."""
    return store.read_manifest(data.folder).config.get("data")


def _shift(fused: SubmissionManifest) -> str:
    """Return the end of the line about an ensemble with an unseen prior; empty without one."""
    return "" if fused.unseen_offset is None else f"; unseen prior {fused.unseen_offset:+.{unseen_prior.DIGITS}f}"


def _read_manifests(
    fold_folders: list[Path], table_folder: Path
) -> tuple[list[CandidatesManifest], CandidatesManifest]:
    """Read the manifests of the folds' candidates and of the test queries', which must fuse the same models."""
    folds.require_distinct(fold_folders)
    folds.check_siblings(fold_folders)
    *of_folds, manifest = [folds.read_candidates_manifest(folder) for folder in (*fold_folders, table_folder)]
    models = (manifest.members, folds.count_seeds(manifest))
    if any((each.members, folds.count_seeds(each)) != models for each in of_folds):
        raise UserError(
            f"{table_folder}: fuses other models than {fold_folders[0]}; make both with the same rounds of one recipe, "
            "and the same number of training seeds"
        )
    return of_folds, manifest


def _rank(
    learned: dict[str, Candidates], table: Candidates, models: list[str], settings: Ensemble
) -> tuple[Run, dict[str, object]]:
    """Rank a table's candidates by the ensemble of the folds, and return what its manifest says of the settings.

    Raises:
        UserError: The folds cannot tell the offset that the settings ask for.
    """
    if settings.unseen_prior and (obstacle := unseen_prior.find_obstacle(learned)):
        raise UserError(f"no unseen prior: {obstacle}; leave out ensemble.unseen_prior (--unseen_prior)")
    tables, (_, ensemble) = list(learned.values()), views.default_views(models, settings)[-1]
    choices: dict[str, object] = settings.choices()
    on_network = Estimate("fit the fusion", "networks").update
    probabilities = fusion.fit(tables, ensemble, on_network=on_network).score(table)
    if not settings.unseen_prior:
        return table.to_run(probabilities), choices
    offset = unseen_prior.estimate_on_all(tables, ensemble)
    return table.to_run(unseen_prior.apply_offset(table, probabilities, offset)), {"unseen_offset": offset, **choices}


def _name(
    fused: SubmissionManifest,
    manifest: CandidatesManifest,
    data: Collection,
    table_folder: Path,
    name: str,
    model_output: Path,
) -> None:
    """Write the name of an ensemble's submission into the ledger."""
    choices = [value for value in (fused.unseen_offset, fused.outside_votes, fused.boosted_trees) if value is not None]
    about = {
        "data": data.data,
        "split": data.split,
        "recipe": "ensemble",
        "fingerprint": hashing.sha256_json([fused.members, *fused.folds, manifest.config, *choices])[:12],
        "checkpoint": os.path.relpath(table_folder, model_output),
    }
    ledger.name_submission(model_output / "ledger.csv", about, name)


def submit(source: Checkpoint, data: Collection, sample: Path, output: Path, model_output: Path) -> int:
    """Rank the test queries, write the checked CSV, record it in the ledger, and return its number of rows.

    Args:
        source: The checkpoint that ranks.
        data: The collection with the test queries.
        sample: The competition's sample_submission.csv.
        output: The CSV to write; its name is the submission's name in the ledger.
        model_output: The folder of the ledger and the cached runs.

    Raises:
        UserError: The collection has no test queries, or the ranking makes no valid submission.
    """
    if not data.test:
        raise UserError(f"{data.folder}: the data has no test.csv, so there is nothing to submit")
    examples = run_store.few_shot_examples(source, data, data.test)
    runs = run_store.open_store(source, model_output)
    run, path = runs.run("test", data.test, data.passages, examples=examples, identical=data.identical)
    rows = submission.write(run, data.passages, sample, output)
    config = {"model": source.key, "queries": hashing.sha256_json(data.test), "sample": hashing.sha256_file(sample)}
    run_folder = os.path.relpath(path.parent, model_output)
    manifest = SubmissionManifest(checkpoint=source.name, run=run_folder, config=config)
    store.write_manifest(store.file_manifest(output), manifest)
    name_submission(source, data, output.stem, model_output)
    return rows


def name_submission(source: Checkpoint, data: Collection, name: str, model_output: Path) -> None:
    """Record in the ledger that the checkpoint makes the submission `name`."""
    manifest = source.manifest
    about = {
        "data": data.data,
        "split": data.split,
        "recipe": source.recipe.name,
        "precision": source.precision,
        "round": manifest and manifest.round,
        "epoch": manifest and manifest.epoch,
        "weights": source.weights_digest,
        "fingerprint": hashing.sha256_json(source.key)[:12],
        "checkpoint": os.path.relpath(source.folder, model_output) if source.folder else source.name,
    }
    ledger.name_submission(model_output / "ledger.csv", about, name)
