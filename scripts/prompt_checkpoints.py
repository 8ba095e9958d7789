"""Score what each checkpoint of a tuned generator writes, beside its losses."""

from dataclasses import dataclass, field
from pathlib import Path

from rounds import cli
from rounds.artifacts import hashing, store
from rounds.artifacts.prompt_manifests import CheckpointScoresManifest, GeneratorManifest
from rounds.errors import UserError
from rounds.flags import OneDevice, Replacing
from rounds.generation import checkpoint_scores, generator, predicting, rows
from rounds.generation.embedder import DEFAULT, PromptEmbedder
from rounds.models.devices import resolve_device


@dataclass(kw_only=True)
class Flags(OneDevice, Replacing):
    """The checkpoints and the rows."""

    model_path: str = field(metadata={"help": "folder of all checkpoints of a tuning"})
    data_dir: str = field(metadata={"help": "split of make data TASK=prompt_recovery; its validation rows are taken"})
    output_dir: str = field(metadata={"help": "folder for the scores"})
    rows: int = field(default=100, metadata={"help": "how many, evenly spaced"})
    embedder: str = field(default=DEFAULT, metadata={"help": "minilm, sentence-t5-base, or a model's name or folder"})


def main(flags: Flags) -> None:
    """Score what each checkpoint of a tuned generator writes, beside its losses."""
    data, train, folder = Path(flags.data_dir), Path(flags.model_path), Path(flags.output_dir)
    taken = rows.read_validation(data, flags.rows)
    tuned, last = store.read_manifest(train), generator.find_checkpoint(train)
    if not isinstance(tuned, GeneratorManifest):
        raise UserError(f"{train}: is one checkpoint; name the folder of all checkpoints of a tuning")
    config = {
        "weights": last.manifest.weights_digest,
        "steps": [step.step for step in tuned.checkpoints],
        "data": hashing.sha256_file(data / "validation.jsonl"),
        "rows": len(taken),
        "embedder": flags.embedder,
    }
    if store.is_finished(folder, config, flags.overwrite, flags.made_from):
        print(f"{folder}: up to date")
        return
    device = resolve_device(flags.device)
    with store.drafting(folder) as draft:
        draft.manifest = CheckpointScoresManifest(
            title=predicting.title(last.recipe, last.manifest.step),
            rows=len(taken),
            embedder=flags.embedder,
            checkpoints=checkpoint_scores.score(train, tuned, taken, PromptEmbedder(flags.embedder, device), device),
            config=config,
            made_from=flags.made_from,
        )
    print(f"{folder}: {len(tuned.checkpoints)} checkpoints scored on {len(taken)} rows")


if __name__ == "__main__":
    cli.run(main, Flags)
