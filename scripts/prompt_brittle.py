"""Show how the prompts that a generator writes change with a space, a newline or the case of a word."""

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from rounds import cli
from rounds.artifacts import hashing, store
from rounds.artifacts.prompt_manifests import BrittlenessManifest
from rounds.evaluation.table import Column, Table
from rounds.flags import OneDevice, Replacing
from rounds.generation import generator, predicting, rows
from rounds.generation.brittleness import brittleness
from rounds.generation.embedder import DEFAULT, PromptEmbedder
from rounds.models.devices import resolve_device


@dataclass(kw_only=True)
class Flags(OneDevice, Replacing):
    """The generator and the rows."""

    model_path: str = field(metadata={"help": "tuned generator"})
    data_dir: str = field(metadata={"help": "split of make data TASK=prompt_recovery; its validation rows are taken"})
    output_dir: str = field(metadata={"help": "folder for the effects"})
    rows: int = field(default=50, metadata={"help": "how many, evenly spaced"})
    embedder: str = field(
        default=DEFAULT, metadata={"help": "minilm, sentence-t5-base, or a model's name or folder: compares prompts"}
    )


def main(flags: Flags) -> None:
    """Show how the prompts that a generator writes change with a space, a newline or the case of a word."""
    data, folder = Path(flags.data_dir), Path(flags.output_dir)
    taken = rows.read_validation(data, flags.rows)
    saved = generator.find_checkpoint(Path(flags.model_path))
    config = {
        "weights": saved.manifest.weights_digest,
        "data": hashing.sha256_file(data / "validation.jsonl"),
        "rows": len(taken),
        "embedder": flags.embedder,
    }
    if not store.is_finished(folder, config, flags.overwrite, flags.made_from):
        device = resolve_device(flags.device)
        with store.drafting(folder) as draft:
            draft.manifest = BrittlenessManifest(
                title=predicting.title(saved.recipe, saved.manifest.step),
                rows=len(taken),
                effects=brittleness(saved.load(device), taken, PromptEmbedder(flags.embedder, device)),
                config=config,
                made_from=flags.made_from,
            )
    _show(store.read_manifest(folder), flags.embedder)


def _show(manifest: BrittlenessManifest, embedder: str) -> None:
    columns = [Column("", is_text=True), Column("changed"), Column(f"mean cosine^3 ({embedder})"), Column("least")]
    cells = [[each.change, f"{each.changed:.1%}", f"{each.mean:.4f}", f"{each.least:.4f}"] for each in manifest.effects]
    Console().print(Table(columns, cells, f"{manifest.title}, {manifest.rows} rows").screen())


if __name__ == "__main__":
    cli.run(main, Flags)
