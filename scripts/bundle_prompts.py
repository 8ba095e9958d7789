"""Write what an offline Kaggle notebook of prompt recovery needs: a dataset's folder, and the notebook."""

from dataclasses import dataclass, field
from pathlib import Path

from rounds import cli
from rounds.artifacts import store
from rounds.flags import Bundled, ModelOutput, Seeded, project_root
from rounds.generation import generator, ledger_rows, predicting, predictions, rows
from rounds.generation.baselines import TITLES
from rounds.generation.embedder import DEFAULT
from rounds.kaggle import bundle
from rounds.kaggle.bundle_file import TrainedSplit
from rounds.kaggle.prompt_bundle import PromptContents, PromptPredictor


@dataclass(kw_only=True)
class Flags(Bundled, ModelOutput, Seeded):
    """What predicts, and the notebook that it is for."""

    data_dir: str = field(metadata={"help": "split of make data TASK=prompt_recovery"})
    baselines: str = field(metadata={"help": "folder that scripts/prompt_baselines.py wrote for the split"})
    model_path: str = field(default="", metadata={"help": "tuned generator; default: a baseline predicts"})
    baseline: str = field(default="fixed", metadata={"help": f"without a generator: {', '.join(TITLES)}"})
    embedder: str = field(default=DEFAULT, metadata={"help": "compares texts for baselines and among draws"})
    competition: str = "llm-prompt-recovery"


def main(flags: Flags) -> None:
    """Write what an offline Kaggle notebook of prompt recovery needs: a dataset's folder, and the notebook."""
    data = Path(flags.data_dir)
    config = rows.read_split_manifest(data).config
    predictor = PromptPredictor(
        fixed=predictions.read_fixed(Path(flags.baselines)),
        baseline="" if flags.model_path else flags.baseline,
        embedder=flags.embedder,
        seed=flags.seed,
    )
    contents = PromptContents(
        split=TrainedSplit(split=config["split"], seed=config["seed"], fold=config["fold"]),
        target=flags.target(),
        project=project_root(),
        predictor=predictor,
        source=generator.find_checkpoint(Path(flags.model_path)) if flags.model_path else None,
        train=data / "train.jsonl",
    )
    lines = bundle.write_both(contents, flags.upload(flags.competition), Path(flags.output_root))
    ledger_rows.name_submission(_columns(contents, flags), flags.name, data, Path(flags.model_output))
    print(*lines, sep="\n")


def _columns(contents: PromptContents, flags: Flags) -> dict[str, str]:
    """Return the ledger's columns that say what predicts, as predictions of any rows have them."""
    if contents.source is None:
        return predictions.baseline_columns(flags.baseline, store.read_manifest(Path(flags.baselines)))
    return predicting.columns(contents.source, flags.embedder, flags.seed)


if __name__ == "__main__":
    cli.run(main, Flags)
