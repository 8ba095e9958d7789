"""Sources: what each kind of task is read from, a folder or a single file."""

from pathlib import Path

from rounds.data.eedi_schema import FILES
from rounds.errors import UserError

SINGLE_FILES = {"pairs": "a CSV, JSONL or parquet file"}

FOLDERS = {
    "eedi": f"the folder with {', '.join(FILES)}",
    "beir": "the folder with corpus.jsonl, queries.jsonl and qrels/",
    "weak_labels": "the folder with questions.jsonl and passages.jsonl",
    "kbvqa": "the folder with the tables of questions and passages and their images",
}


def check_source(kind: str, path: Path, name: str = "") -> None:
    """Refuse a path that is missing, or a file where the kind of task takes a folder, or the other way round.

    Args:
        kind: a kind of task; what another kind takes is not checked.
        path: the file or folder.
        name: how the message calls it; default: the path.

    Raises:
        UserError: the message says what the kind of task takes.
    """
    name, wanted = name or str(path), {**SINGLE_FILES, **FOLDERS}.get(kind)
    if wanted is None:
        return
    takes_file = kind in SINGLE_FILES
    if not path.exists():
        raise UserError(f"{name}: no such {'file' if takes_file else 'folder'}; task {kind} takes {wanted}")
    if path.is_dir() == takes_file:
        raise UserError(f"{name}: is a {'folder' if takes_file else 'file'}; task {kind} takes {wanted}")
