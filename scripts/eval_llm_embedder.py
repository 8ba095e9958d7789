"""Evaluate a checkpoint on a split's validation queries, beside BM25 and earlier results."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from rounds import cli
from rounds.artifacts import store
from rounds.config import loader
from rounds.data import collection, splits
from rounds.evaluation import results, tables
from rounds.evaluation.stage import bm25_row, epochs_of, evaluate_checkpoint, marked, record, variants
from rounds.models import checkpoint
from rounds.models.devices import resolve_devices

ROOT = Path(os.path.relpath(Path(__file__).resolve().parent.parent))


@dataclass
class Flags:
    """Which checkpoint, on which split."""

    model_path: str = field(default="", metadata={"help": "checkpoint or finetune folder; default: the recipe's model"})
    lora_path: str = field(default="", metadata={"help": "adapter folder; model_path is then its base model"})
    use_examples_in_query: bool | None = field(
        default=None, metadata={"help": "true or false; default: as the recipe says"}
    )
    data_dir: str = field(default="", metadata={"help": "collection; default: data/SUB_DIR_NAME/validation_VERSION"})
    validation_version: str = "v1"
    sub_dir_name: str = "hn_mine_data_zero_round"
    recipe: str = field(default="", metadata={"help": "recipe name or YAML file; default: the checkpoint's own"})
    precision: str | None = field(default=None, metadata={"help": "another precision, beside the checkpoint's own"})
    truncate_dim: int | None = field(default=None, metadata={"help": "vectors' first numbers only, this many"})
    engine: str = field(default="rounds", metadata={"help": "rounds, or flagembedding (its own model class encodes)"})
    device: str = field(
        default="",
        metadata={"help": "cpu, cuda or cuda:N, or several, such as cuda:0,cuda:1; default: a GPU where there is one"},
    )
    bm25: bool = field(default=False, metadata={"help": "add the BM25 row"})
    compare: list[str] = field(default_factory=list, metadata={"help": "folders of earlier evaluations, for the table"})
    output_dir: str = field(default="", metadata={"help": "folder for metrics.json; default: nothing is kept"})
    model_output: str = field(default=str(ROOT / "model_output"), metadata={"help": "holds ledger.csv"})
    allow_leak: bool = field(default=False, metadata={"help": "evaluate a polluted checkpoint, marked POLLUTED"})
    overwrite: bool = False


def main(flags: Flags) -> None:
    """Evaluate a checkpoint on a split's validation queries, beside BM25 and earlier results."""
    version = splits.parse_version(flags.validation_version)
    default = ROOT / "data" / flags.sub_dir_name / collection.folder_name(version)
    data = collection.read(Path(flags.data_dir) if flags.data_dir else default)
    path = flags.lora_path or flags.model_path
    recipe = loader.load(flags.recipe or loader.DEFAULT_RECIPE) if flags.recipe or not path else None
    model_output = Path(flags.model_output)
    devices = resolve_devices(flags.device)
    epochs = epochs_of(path or None, recipe, devices[0])
    epochs = {mark: source.on(devices).cut(flags.truncate_dim) for mark, source in epochs.items()}
    if flags.lora_path and flags.model_path:
        checkpoint.check_base(next(iter(epochs.values())), flags.model_path)
    sources = variants(epochs, flags.precision, flags.use_examples_in_query, flags.engine)
    config = {
        "models": {mark: source.key for mark, source in sources.items()},
        "validation": collection.validation_digest(data),
        "bm25": flags.bm25,
        "allow_leak": flags.allow_leak,
    }
    output = Path(flags.output_dir) if flags.output_dir else None
    if output is not None and store.is_finished(output, config, flags.overwrite):
        rows = results.load(output)
    else:
        rows = [
            marked(evaluate_checkpoint(source, data, model_output, flags.allow_leak), mark, number > 0)
            for number, (mark, source) in enumerate(sources.items())
        ]
        rows = [bm25_row(data), *rows] if flags.bm25 else rows
        record(rows, model_output / "ledger.csv")
        if output is not None:
            with store.writing(output, {"kind": "evaluation", "config": config}) as temporary:
                results.save(rows, temporary)
    earlier = [row for folder in flags.compare for row in results.load(Path(folder))]
    title = f"{data.data}, split {data.split}: {len(data.validation)} queries, {len(data.unseen)} on unseen passages"
    console = Console(width=None)
    console.print(tables.screen([*earlier, *rows], title))
    if len(sources) == 2 * len(epochs):  # in two precisions
        for own, other in zip(rows[-len(sources) :: 2], rows[-len(sources) + 1 :: 2], strict=True):
            console.print(results.difference(own, other))


if __name__ == "__main__":
    cli.run(main, Flags)
