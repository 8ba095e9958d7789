"""Write the training, validation and test rows of a split of prompt recovery."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from rounds import cli
from rounds.artifacts import hashing, store
from rounds.artifacts.prompt_manifests import PromptSplitManifest
from rounds.data import remote_files
from rounds.errors import UserError
from rounds.flags import Replacing, Seeded
from rounds.generation import raw, rows, splits


@dataclass(kw_only=True)
class Flags(Replacing, Seeded):
    """The rows and the split."""

    raw_dir: str = field(metadata={"help": "file of rows with prompts, or folder with train.csv and test.csv"})
    output_dir: str = field(metadata={"help": "folder for train.jsonl, validation.jsonl and test.jsonl"})
    validation_version: str = field(
        default="v1", metadata={"help": "v1 (by row), v6 (by prompt), or submission (train on everything)"}
    )
    fold: int = field(default=0, metadata={"help": "v6 only: 0 to 3"})
    validation_rows: int | None = field(
        default=None, metadata={"help": "validation rows to keep, evenly spaced; the others are left out of all sides"}
    )


def main(flags: Flags) -> None:
    """Write the training, validation and test rows of a split of prompt recovery."""
    source, folder = remote_files.local_path(flags.raw_dir), Path(flags.output_dir)
    if flags.validation_rows is not None and flags.validation_rows < 1:
        raise UserError(f"validation_rows {flags.validation_rows}: must be at least 1")
    with_prompts, test = raw.load(source)
    config = {
        "data": {file.name: hashing.sha256_file(file) for file in raw.table_files(source)},
        "split": flags.validation_version,
        "seed": flags.seed,
        "fold": flags.fold,
        "validation_rows": flags.validation_rows,
    }
    if store.is_finished(folder, config, flags.overwrite, flags.made_from):
        print(f"{folder}: up to date")
        return
    split = splits.divide(with_prompts, test, flags.validation_version, flags.seed, flags.fold)
    if flags.validation_rows is not None:
        if 0 < len(split.validation) < flags.validation_rows:
            print(f"validation_rows {flags.validation_rows}: the split has {len(split.validation)}, and all are kept")
        split = dataclasses.replace(split, validation=rows.spread(split.validation, flags.validation_rows))
    rows.check_prompts(split, flags.validation_version)
    manifest = PromptSplitManifest(
        data=source.stem, split=flags.validation_version, config=config, made_from=flags.made_from
    )
    rows.write_split(split, folder, manifest)
    print(
        f"{folder}: {len(split.train)} training rows, {len(split.validation)} validation rows "
        f"({len(rows.shared_prompts(split))} of them with a prompt of training, {len(rows.repeated_texts(split))} with "
        f"the texts of a training row), {len(split.test)} test rows"
    )


if __name__ == "__main__":
    cli.run(main, Flags)
