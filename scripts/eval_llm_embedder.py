"""Evaluate a checkpoint on a split's validation queries, beside BM25 and earlier results."""

import itertools
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from rounds import cli
from rounds.artifacts import store
from rounds.artifacts.manifests import EvaluationManifest
from rounds.config.sections.mining import BM25
from rounds.data import collection, splits
from rounds.data.collection import Collection
from rounds.data.source import OFFICIAL_SPLITS
from rounds.evaluation import results, tables
from rounds.evaluation.results import ResultRow
from rounds.evaluation.stage import (
    bm25_row,
    evaluate_checkpoint,
    expand_variants,
    mark_row,
    record,
    resolve_epochs,
)
from rounds.evaluation.table import TABLE_FILE, Table
from rounds.flags import (
    AllowingLeaks,
    Clustered,
    Engine,
    ModelOutput,
    RecipeOfCheckpoint,
    Replacing,
    SeveralDevices,
    Truncated,
    project_root,
)
from rounds.models import checkpoint
from rounds.models.checkpoint import Checkpoint
from rounds.models.devices import resolve_devices


@dataclass(kw_only=True)
class Flags(AllowingLeaks, Clustered, Engine, ModelOutput, RecipeOfCheckpoint, Replacing, SeveralDevices, Truncated):
    """The checkpoint and the split."""

    model_path: str = field(default="", metadata={"help": "checkpoint or finetune folder; default: the recipe's model"})
    lora_path: str = field(default="", metadata={"help": "adapter folder; model_path is then its base model"})
    use_examples_in_query: bool | None = field(
        default=None, metadata={"help": "true or false; default: as the recipe says"}
    )
    data_dir: str = field(default="", metadata={"help": "collection; default: data/SUB_DIR_NAME/validation_VERSION"})
    validation_version: str = "v1"
    sub_dir_name: str = "hn_mine_data_zero_round"
    precision: str | None = field(default=None, metadata={"help": "another precision, beside the checkpoint's own"})
    bm25: bool = field(default=False, metadata={"help": "add the BM25 row"})
    compare: list[str] = field(default_factory=list, metadata={"help": "folders of earlier evaluations, for the table"})
    output_dir: str = field(default="", metadata={"help": "folder for metrics.json; default: nothing is kept"})


def main(flags: Flags) -> None:
    """Evaluate a checkpoint on a split's validation queries, beside BM25 and earlier results."""
    data = _collection(flags)
    checkpoints = _checkpoints(flags)
    config = {
        "models": {mark: source.key for mark, source in checkpoints.items()},
        "validation": data.validation_digest,
        "bm25": flags.bm25 and vars(_bm25_parameters(checkpoints)),
        "allow_leak": flags.allow_leak,
    }
    output = Path(flags.output_dir) if flags.output_dir else None
    if output is not None and store.is_finished(output, config, flags.overwrite, flags.made_from):
        rows = results.load(output)
        table = _table(flags, data, rows)
    else:
        rows = _evaluate(flags, data, checkpoints)
        table = _table(flags, data, rows)
        if output is not None:
            manifest = EvaluationManifest(config=config, made_from=flags.made_from)
            with store.writing(output, manifest) as temporary:
                results.save(rows, temporary)
                table.save(temporary / TABLE_FILE)
    console = Console()
    console.print(table.screen())
    for native, converted in _precision_pairs(rows):
        print(results.difference(native, converted))


def _collection(flags: Flags) -> Collection:
    """Read the collection that is named, or the default one of the split."""
    version = splits.parse_version(flags.validation_version)
    default = project_root() / "data" / flags.sub_dir_name / collection.folder_name(version)
    return collection.read(Path(flags.data_dir) if flags.data_dir else default)


def _checkpoints(flags: Flags) -> dict[str, Checkpoint]:
    """Return the checkpoints to evaluate, keyed by the label of their rows (`last`, `best`, a precision, ...)."""
    path = flags.lora_path or flags.model_path
    recipe = flags.load_recipe(path)
    devices = resolve_devices(flags.device)
    epochs = resolve_epochs(path or None, recipe, devices[0])
    options = {"devices": devices, "cluster": flags.cluster, "shards": flags.shards, "truncate_dim": flags.truncate_dim}
    epochs = {mark: source.with_options(**options) for mark, source in epochs.items()}
    if flags.lora_path and flags.model_path:
        checkpoint.check_base_model(next(iter(epochs.values())), flags.model_path)
    return expand_variants(epochs, flags.precision, flags.use_examples_in_query, flags.engine)


def _bm25_parameters(checkpoints: dict[str, Checkpoint]) -> BM25:
    return next(iter(checkpoints.values())).recipe.mining.bm25


def _evaluate(flags: Flags, data: Collection, checkpoints: dict[str, Checkpoint]) -> list[ResultRow]:
    """Evaluate each checkpoint, and BM25 if asked, and write the rows into the ledger."""
    model_output = Path(flags.model_output)
    rows = [bm25_row(data, _bm25_parameters(checkpoints))] if flags.bm25 else []
    for number, (mark, source) in enumerate(checkpoints.items()):
        row = evaluate_checkpoint(source, data, model_output, flags.allow_leak)
        rows.append(mark_row(row, mark, in_chain=number == 0))
    record(rows, model_output / "ledger.csv")
    return rows


def _table(flags: Flags, data: Collection, rows: list[ResultRow]) -> Table:
    """Put the rows below those of earlier evaluations."""
    earlier = [row for folder in flags.compare for row in results.load(Path(folder))]
    title = f"{data.data}, split {data.split}: {len(data.validation)} queries, {len(data.unseen)} on unseen passages"
    further = results.OFFICIAL_COLUMNS if data.split in OFFICIAL_SPLITS else ()
    return tables.main_table([*earlier, *rows], title, further)


def _precision_pairs(rows: list[ResultRow]) -> list[tuple[ResultRow, ResultRow]]:
    """Return neighbouring rows of the same weights that were computed in two precisions."""
    return [
        (first, second)
        for first, second in itertools.pairwise(rows)
        if first.weights == second.weights and first.precision != second.precision
    ]


if __name__ == "__main__":
    cli.run(main, Flags)
