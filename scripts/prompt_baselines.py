"""Predict prompts without a generator: copy, one fixed prompt, the nearest training pair's prompt, and two joined."""

from dataclasses import dataclass, field
from pathlib import Path

from rounds import cli
from rounds.artifacts import hashing, store
from rounds.artifacts.prompt_manifests import PromptBaselinesManifest
from rounds.errors import UserError
from rounds.flags import OneDevice, Replacing
from rounds.generation import baselines, predictions, rows
from rounds.generation.embedder import DEFAULT, PromptEmbedder


@dataclass(kw_only=True)
class Flags(OneDevice, Replacing):
    """The rows and the embedder."""

    data_dir: str = field(metadata={"help": "rows of a split; validation rows are predicted, or else test rows"})
    output_dir: str = field(metadata={"help": "folder for the predictions of each baseline"})
    embedder: str = field(default=DEFAULT, metadata={"help": "minilm, sentence-t5-base, or a model's name or folder"})


def main(flags: Flags) -> None:
    """Predict prompts without a generator: copy, one fixed prompt, the nearest training pair's, and two joined."""
    data, folder = Path(flags.data_dir), Path(flags.output_dir)
    split = rows.read_split(data)
    predicted = split.validation or split.test
    if not predicted:
        raise UserError(f"{data}: has neither validation nor test rows to predict; choose another SPLIT or RAW")
    config = {
        "data": {f"{side}.jsonl": hashing.sha256_file(data / f"{side}.jsonl") for side in rows.SIDES},
        "embedder": flags.embedder,
    }
    if store.is_finished(folder, config, flags.overwrite, flags.made_from):
        print(f"{folder}: up to date")
        return
    texts = baselines.predict(split.train, predicted, PromptEmbedder(flags.embedder, flags.device))
    manifest = PromptBaselinesManifest(titles=baselines.TITLES, config=config, made_from=flags.made_from)
    with store.writing(folder, manifest) as temporary:
        for name, predicted_texts in texts.items():
            predictions.write(temporary / name, predicted, predicted_texts)
    print(f"{folder}: {len(texts)} baselines on {len(predicted)} rows; the fixed prompt is {texts['fixed'][0]!r}")


if __name__ == "__main__":
    cli.run(main, Flags)
