"""Runs over folds: evaluated runs that agree in everything but the fold, gathered into one row each.

What a run was made from stands in the manifests of its evaluation, of the collection that it was evaluated on, of the
checkpoints and of their mined negatives. Folder names play no part.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rounds.artifacts import hashing, store
from rounds.artifacts.manifests import CheckpointManifest, CollectionManifest, FinetuneManifest
from rounds.data.source import FOLDED, MINED, N_FOLDS, PSEUDO_LABELS
from rounds.errors import UserError
from rounds.evaluation import results
from rounds.evaluation.results import ResultRow, RowKind

BASELINES = (RowKind.CHANCE, RowKind.BM25)

INPUTS = ("script", "train_data", "data_dir", "model_name_or_path", "input_file", "embedder_name_or_path")

MAIN_FACTS = ("recipe", "epochs", "SEED", "TRAIN_SEED", "N_FOLDS", "EXTRA", "EXPLANATIONS")  # in the order of a label

Facts = dict[str, str]


@dataclass(frozen=True)
class FoldRun:
    """A run on one fold.

    Attributes:
        folder: Its evaluation.
        row: The row of its last epoch; the best one was chosen on the validation queries.
        collection: Folder of the fold's collection.
        fold: Number of the fold.
        facts: What the run was made from, apart from the fold, by names that a label shows.
        trained: Folders of the checkpoints that led to it, its own first.
    """

    folder: Path
    row: ResultRow
    collection: Path
    fold: int
    facts: Facts
    trained: list[Path]

    @property
    def identity(self) -> tuple:
        """What runs of one row have in common."""
        return (self.row.short_name, *sorted(self.facts.items()))


@dataclass(frozen=True)
class FoldRow:
    """Runs that differ in nothing but the fold, the lowest fold first."""

    label: str
    runs: list[FoldRun]


def spanned_split(folders: Iterable[Path]) -> str | None:
    """Return the split of which evaluations cover several folds; None for one set of queries, or a missing one."""
    folders = list(folders)
    if not all(map(results.is_saved, folders)):
        return None
    rows = [row for folder in folders for row in results.load(folder)]
    several = len({tuple(row.queries) for row in rows}) > 1 and all(row.split in FOLDED for row in rows)
    return rows[0].split if several else None


def gather(folders: Iterable[Path], model_output: Path, data_root: Path) -> list[FoldRow]:
    """Read evaluations and return one row for each group of runs that agree in everything but the fold.

    Args:
        folders: Evaluations, in the order of the rows.
        model_output: Folder to which the checkpoints' paths are relative.
        data_root: Folder below which the collections lie.

    Raises:
        UserError: An evaluation, its collection or a checkpoint is missing, the rows have different folds, or a query
            would count twice.
    """
    collections = _collections(data_root)
    groups: dict[tuple, list[FoldRun]] = {}
    for folder in folders:
        for run in _read(folder, model_output, collections):
            groups.setdefault(run.identity, []).append(run)
    rows = [sorted(runs, key=lambda run: run.fold) for runs in groups.values()]
    if not rows:
        raise UserError("RUNS: there are no rows but those of BM25 and chance; name rounds")
    labels = _labels([runs[0] for runs in rows])
    gathered = [FoldRow(label, runs) for label, runs in zip(labels, rows, strict=True)]
    for row in gathered:
        _require_distinct(row)
    _require_same_folds(gathered)
    return gathered


def _collections(data_root: Path) -> dict[str, Path]:
    """Return the folder of each collection, keyed by the digest that its readers record."""
    folders = [manifest.parent for manifest in sorted(data_root.glob(f"*/*/{store.MANIFEST}"))]
    records = {folder: store.read_made_from(folder) for folder in folders}
    return {hashing.made_from_digest(record): folder for folder, record in records.items() if record}


def _read(folder: Path, model_output: Path, collections: dict[str, Path]) -> list[FoldRun]:
    """Read the rows of one evaluation that are compared: neither baselines nor variants of a checkpoint."""
    rows = [row for row in results.load(folder) if row.in_chain and row.kind not in BASELINES]
    made_from = store.read_made_from(folder) or {}
    if "data_dir" not in made_from:
        raise UserError(f"{folder}: does not say which data it is of; evaluate again with make, or --replace_stale")
    if made_from["data_dir"] not in collections:
        raise UserError(f"{folder}: the data that it is of are gone or were made anew; run its round again")
    collection = collections[made_from["data_dir"]]
    manifest = store.read_manifest(collection)
    if not isinstance(manifest, CollectionManifest) or manifest.split not in FOLDED:
        raise UserError(f"{folder}: its split has no folds; compare runs of {' or '.join(FOLDED)}")
    return [_describe(folder, row, collection, manifest, model_output) for row in rows]


def _describe(
    folder: Path, row: ResultRow, collection: Path, manifest: CollectionManifest, model_output: Path
) -> FoldRun:
    """Return a run with its facts."""
    facts = {"recipe": row.recipe, "split": row.split, **_data_facts(manifest), "engine": _engine(folder)}
    trained: list[Path] = []
    if row.kind != RowKind.ZERO_SHOT:
        checkpoint = model_output / row.checkpoint
        facts |= _training_facts(checkpoint)
        trained = list(dict.fromkeys(Path(os.path.normpath(folder)) for folder in _chain(checkpoint)))
    return FoldRun(folder, row, collection, manifest.config["fold"], facts, trained)


def _engine(folder: Path) -> str:
    return str((store.read_made_from(folder) or {}).get("engine", ""))


def _data_facts(manifest: CollectionManifest) -> Facts:
    """Return what a collection was made from, apart from its fold.

    Of pseudo-labels the files' names count, not their content, which differs between the folds of one recipe.
    """
    config = manifest.config
    files = config.get("outside", {}).get("files", [])
    return {
        "data": hashing.sha256_json(config["data"])[:8],
        "SEED": str(config["seed"]),
        "N_FOLDS": str(config.get("n_folds", N_FOLDS)),
        "EXTRA": " + ".join(name for name, _ in files),
        "EXTRA's content": " + ".join(digest[:8] for name, digest in files if name != PSEUDO_LABELS),
        "EXPLANATIONS": config.get("explanations", "")[:8],
        **_flat(config["prompts"], "prompts."),
        **_flat({name: value for name, value in config.get("outside", {}).items() if name != "files"}, "outside."),
    }


def _training_facts(checkpoint: Path) -> Facts:
    """Return what a checkpoint was trained with; of an average, what its parents were trained with, joined.

    Raises:
        UserError: The checkpoint is gone, or nothing says how it was trained.
    """
    manifest = store.read_manifest(checkpoint)
    if isinstance(manifest, CheckpointManifest) and manifest.parents:
        parents = [_training_facts(Path(parent.name)) for parent in manifest.parents]
        names = dict.fromkeys(name for parent in parents for name in parent)
        joined = {name: "+".join(dict.fromkeys(parent.get(name, "-") for parent in parents)) for name in names}
        return {**joined, "METHOD": str(manifest.config["method"]), "averaged": str(len(parents))}
    folder = checkpoint.parent
    training = store.read_manifest(folder)
    made_from = store.read_made_from(folder)
    if not isinstance(training, FinetuneManifest) or not made_from:
        raise UserError(f"{folder}: does not say how it was trained; train it with make, or --replace_stale")
    flags = {name: value for name, value in made_from.items() if name not in (*INPUTS, "seed", "epochs", "recipe")}
    recipe = {name: value for name, value in made_from["recipe"].items() if name not in ("name", "files")}
    mined = store.read_made_from(folder.parent / MINED) or {}
    mining = {name: value for name, value in mined.items() if name not in (*INPUTS, "recipe")}
    return {
        "epochs": str(len(training.epochs)),
        "TRAIN_SEED": str(made_from.get("seed", "")),
        **_flat(flags, ""),
        **_flat(mining, "mining "),
        **_flat(recipe, ""),
    }


def _flat(values: object, prefix: str) -> Facts:
    """Return nested values by dotted names.

    >>> _flat({"training": {"epochs": 2}}, "")
    {'training.epochs': '2'}
    """
    if isinstance(values, dict):
        return {key: text for name, value in values.items() for key, text in _flat(value, f"{prefix}{name}.").items()}
    return {prefix.rstrip("."): str(values)}


def _chain(checkpoint: Path) -> Iterable[Path]:
    """Yield the finetune folders that led to a checkpoint, its own first; what is gone is left out."""
    manifest = store.read_manifest(checkpoint)
    if isinstance(manifest, CheckpointManifest) and manifest.parents:
        for parent in manifest.parents:
            yield from _chain(Path(parent.name))
        return
    folder = checkpoint.parent
    training = store.read_manifest(folder)
    if isinstance(training, FinetuneManifest):
        yield folder
        if not training.parent.base:
            yield from _chain(folder.parent / training.parent.name)
        elif training.round > 1:  # `start_from: base` goes on with the round before's negatives
            yield from _chain(folder.parent.with_name(f"round{training.round - 1}") / folder.name / "epoch")


def _labels(runs: list[FoldRun]) -> list[str]:
    """Return a label of each run: its round and the facts that tell it from the others.

    The main facts stand in each label where they differ between any two; other facts only where labels are still equal.
    """
    main = [name for name in MAIN_FACTS if len({run.facts.get(name, "") for run in runs}) > 1]
    labels = [_label(run, main) for run in runs]
    for label in {label for label in labels if labels.count(label) > 1}:
        equal = [number for number, other in enumerate(labels) if other == label]
        names = dict.fromkeys(name for number in equal for name in runs[number].facts)
        further = [name for name in names if len({runs[number].facts.get(name, "") for number in equal}) > 1]
        for number in equal:
            labels[number] = _label(runs[number], [*main, *further])
    return labels


def _label(run: FoldRun, names: list[str]) -> str:
    recipe = f"{run.facts['recipe']}: " if "recipe" in names else ""
    shown = [f"{name}={run.facts[name]}" for name in names if name != "recipe" and run.facts.get(name)]
    return ", ".join([f"{recipe}{run.row.short_name}", *shown])


def _require_distinct(row: FoldRow) -> None:
    """Refuse a row of which two runs share a query."""
    owners: dict[str, FoldRun] = {}
    for run in row.runs:
        for query in run.row.queries:
            if query in owners:
                raise UserError(
                    f"RUNS: {owners[query].folder} and {run.folder} are one row ({row.label}) and share query {query}, "
                    "which would count twice; name each fold once"
                )
            owners[query] = run


def _require_same_folds(rows: list[FoldRow]) -> None:
    """Refuse rows that were not evaluated on the same folds, in the same order of queries."""
    first = rows[0]
    for number, row in enumerate(rows[1:], 1):
        if [run.fold for run in row.runs] != [run.fold for run in first.runs]:
            have = [f"{each.label} has folds {' '.join(str(run.fold) for run in each.runs)}" for each in (first, row)]
            raise UserError(f"RUNS: each row needs the same folds, but {' and '.join(have)}; run the missing ones")
        for run, other in zip(row.runs, first.runs, strict=True):
            if run.row.queries != other.row.queries:
                raise UserError(
                    f"RUNS: {run.folder} and {other.folder} are of fold {run.fold} and have different queries; compare "
                    "runs of one split, one SEED and the same data"
                )
        for earlier in rows[:number]:
            for run, other in zip(row.runs, earlier.runs, strict=True):
                if problem := results.data_differ(run.row, other.row):
                    raise UserError(f"RUNS: {run.folder} and {other.folder} {problem}")
