"""Raw data of prompt recovery: one file, or the competition's folder, into which further training files may be put."""

from pathlib import Path

from rounds.artifacts import store
from rounds.data.loaders.tables import FILE_ENDINGS
from rounds.errors import UserError
from rounds.generation.rows import PromptRow, read_rows

SAMPLE = "sample_submission.csv"
FILES = ("train.csv", "test.csv", SAMPLE)


def load(path: Path) -> tuple[list[PromptRow], list[PromptRow]]:
    """Return the rows with prompts and the test rows.

    Args:
        path: a CSV, JSONL or parquet file of rows with prompts, which has no test rows; or a folder, where `test` is
            the file of test rows and all other files but `sample_submission.csv` hold rows with prompts.

    Raises:
        UserError: there is no such file or folder, a folder has no such rows, or a file cannot be used.
    """
    if path.is_file():
        return read_rows(path), []
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder of rows (id, original_text, rewrite_prompt, rewritten_text)")
    files = table_files(path)
    test = [file for file in files if file.stem == "test"]
    if len(test) > 1:
        raise UserError(f"{path}: has {' and '.join(file.name for file in test)}; leave one file of test rows")
    train = [file for file in files if file.stem != "test"]
    if not train:
        raise UserError(f"{path}: has no file of rows with prompts, such as train.csv")
    rows: dict[str, PromptRow] = {}
    for file in train:
        for row in read_rows(file):
            if row.id in rows:
                raise UserError(f"{file}: id {row.id!r} is also in another file of {path}; give each row its own")
            rows[row.id] = row
    return list(rows.values()), read_rows(test[0], is_test=True) if test else []


def table_files(path: Path) -> list[Path]:
    """Return the files that rows are read from, in the order of their names."""
    if path.is_file():
        return [path]
    return sorted(
        file
        for file in path.iterdir()
        if file.suffix.lower() in FILE_ENDINGS and file.name not in (SAMPLE, store.MANIFEST) and file.is_file()
    )
