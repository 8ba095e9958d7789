"""Generate the sample data in the competition's schema."""

from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from rounds import cli
from rounds.artifacts import store
from rounds.artifacts.manifests import SampleManifest
from rounds.data.synthetic import french_pairs, maths, places, rewrites
from rounds.errors import UserError
from rounds.flags import Replacing, Seeded


@dataclass(kw_only=True)
class Flags(Replacing, Seeded):
    """The kind, size and seed of the sample."""

    output_dir: str = "data/sample"
    questions: int = 1100
    test_questions: int = 250
    task: str = field(
        default="eedi",
        metadata={
            "help": "eedi; outside: other questions in outside.csv; pairs: French questions and answers in pairs.csv; "
            "kbvqa: questions on emblems; prompt_recovery: texts, rewritten under prompts"
        },
    )


def main(flags: Flags) -> None:
    """Generate the sample data in the competition's schema."""
    generators = {
        "eedi": _competition,
        "outside": _outside,
        "pairs": _pairs,
        "kbvqa": _pictures,
        "prompt_recovery": _rewrites,
    }
    if flags.task not in generators:
        raise UserError(f"task {flags.task!r}: there are samples of {', '.join(generators)}")
    if flags.task == "eedi":
        config = {"questions": flags.questions, "test_questions": flags.test_questions, "seed": flags.seed}
    else:
        sizes = {"questions": flags.questions} if flags.task == "outside" else {}
        config = {"task": flags.task, **sizes, "seed": flags.seed}
    folder = Path(flags.output_dir)
    if store.is_finished(folder, config, flags.overwrite, flags.made_from):
        print(f"{folder}: up to date")
        return
    with store.writing(folder, SampleManifest(config=config, made_from=flags.made_from)) as temporary:
        counts = generators[flags.task](temporary, flags)
    print(f"{folder}: {', '.join(f'{value} {name}' for name, value in counts.items())}")


def _competition(folder: Path, flags: Flags) -> dict[str, int]:
    counts = maths.generate(folder, flags.questions, flags.test_questions, flags.seed, _bar)
    return {name.replace("_", " "): value for name, value in counts.items()}


def _outside(folder: Path, flags: Flags) -> dict[str, int]:
    return {"outside rows in outside.csv": maths.generate_outside(folder / "outside.csv", flags.questions, flags.seed)}


def _pairs(folder: Path, flags: Flags) -> dict[str, int]:
    return {"pairs in pairs.csv": french_pairs.generate(folder / "pairs.csv", seed=flags.seed)}


def _pictures(folder: Path, flags: Flags) -> dict[str, int]:
    return places.generate(folder, seed=flags.seed, progress=_bar)


def _rewrites(folder: Path, flags: Flags) -> dict[str, int]:
    return {f"rows in {name}": count for name, count in rewrites.generate(folder, seed=flags.seed).items()}


def _bar(items, total: int):
    return tqdm(items, total=total, desc="sample", disable=None, leave=False)


if __name__ == "__main__":
    cli.run(main, Flags)
