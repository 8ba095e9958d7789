"""Write and check a submission of predicted prompts, and print (or run) the line that submits it."""

from dataclasses import dataclass, field
from pathlib import Path

from rounds import cli
from rounds.errors import UserError
from rounds.flags import ModelOutput
from rounds.generation import ledger_rows, predictions, rows
from rounds.kaggle import prompt_submission
from rounds.kaggle.client import Client


@dataclass(kw_only=True)
class Flags(ModelOutput):
    """The predictions of the test rows."""

    data_dir: str = field(metadata={"help": "rows of a split, with test rows"})
    predictions: list[str] = field(metadata={"help": "folders with predictions.jsonl of the test rows, to be joined"})
    output_file: str = field(metadata={"help": "the CSV to write"})
    sample: str = field(default="", metadata={"help": "sample_submission.csv; default: the test rows' ids"})
    kaggle: bool = field(default=False, metadata={"help": "submit it, too"})
    competition: str = "llm-prompt-recovery"


def main(flags: Flags) -> None:
    """Write and check a submission of predicted prompts, and print (or run) the line that submits it."""
    test = rows.read_split(Path(flags.data_dir)).test
    if not test:
        raise UserError(f"{flags.data_dir}: has no test rows; RAW must be a folder with test.csv")
    joined = predictions.join([predictions.read(Path(folder), test) for folder in flags.predictions])
    output, sample = Path(flags.output_file), Path(flags.sample) if flags.sample else None
    by_id = {row.id: text for row, text in zip(test, joined.texts, strict=True)}
    count = prompt_submission.write(by_id, sample, output)
    print(f"{output}: {count} rows, checked against {sample or 'the test rows'}")
    ledger_rows.name_submission(joined.columns, output.stem, Path(flags.data_dir), Path(flags.model_output))
    Client(dry=not flags.kaggle).run("competitions", "submit", flags.competition, "-f", output, "-m", output.stem)


if __name__ == "__main__":
    cli.run(main, Flags)
