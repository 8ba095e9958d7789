"""Generate the sample data in the competition's schema."""

from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from rounds import cli
from rounds.artifacts import store
from rounds.data.synthetic import french_pairs, maths, places
from rounds.errors import UserError


@dataclass
class Flags:
    """Generate train.csv, test.csv, misconception_mapping.csv and sample_submission.csv."""

    output_dir: str = "data/sample"
    questions: int = 1500
    test_questions: int = 250
    seed: int = 42
    task: str = field(
        default="eedi",
        metadata={"help": "eedi; pairs: French questions and answers in pairs.csv; kbvqa: questions on emblems"},
    )
    overwrite: bool = False


def main(flags: Flags) -> None:
    """Generate the sample data in the competition's schema."""
    config = {"questions": flags.questions, "test_questions": flags.test_questions, "seed": flags.seed}
    folder = Path(flags.output_dir)
    if flags.task == "pairs":
        with store.writing(folder, {"kind": "sample", "config": {"task": "pairs", "seed": flags.seed}}) as temporary:
            rows = french_pairs.generate(temporary / "pairs.csv", seed=flags.seed)
        print(f"{folder / 'pairs.csv'}: {rows} pairs")
        return
    if flags.task == "kbvqa":
        with store.writing(folder, {"kind": "sample", "config": {"task": "kbvqa", "seed": flags.seed}}) as temporary:
            counts = places.generate(temporary, seed=flags.seed, progress=_bar)
        print(f"{folder}: " + ", ".join(f"{value} {name}" for name, value in counts.items()))
        return
    if flags.task != "eedi":
        raise UserError(f"task {flags.task!r}: there are samples of eedi, pairs and kbvqa")
    if store.is_finished(folder, config, flags.overwrite):
        print(f"{folder}: up to date")
        return
    with store.writing(folder, {"kind": "sample", "config": config}) as temporary:
        counts = maths.generate(temporary, **config, progress=_bar)
    print(f"{folder}: " + ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in counts.items()))


def _bar(items, total: int):
    return tqdm(items, total=total, desc="sample", disable=None, leave=False)


if __name__ == "__main__":
    cli.run(main, Flags)
