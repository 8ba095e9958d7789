"""Sources: the kinds of tasks, and what each of them is read from, a folder or a single file.

Nothing heavy is imported, so that `make help` can name the kinds before the set-up.
"""

from dataclasses import dataclass
from pathlib import Path

from rounds.data.eedi_schema import FILES
from rounds.errors import UserError


@dataclass(frozen=True)
class Source:
    """What a kind of task is read from.

    Attributes:
        content: describes the file, or the folder and its files, in messages.
        is_file: a single file, not a folder.
    """

    content: str
    is_file: bool = False


TASKS = {
    "eedi": Source(f"the folder with {', '.join(FILES)}"),
    "pairs": Source("a CSV, JSONL or parquet file", is_file=True),
    "beir": Source("the folder with corpus.jsonl, queries.jsonl and qrels/"),
    "weak_labels": Source("the folder with questions.jsonl and passages.jsonl"),
    "kbvqa": Source("the folder with the tables of questions and passages and their images"),
}

PROMPT_TASK = "prompt_recovery"  # its data are no retrieval dataset (`rounds.generation`)

PROMPT_VERSIONS = ("v1", "v6", "submission")  # splits of its rows

OFFICIAL_SPLITS = ("official", "dev")  # sides from files of labels, which task beir has

FOLDED = ("v5", "v6")  # splits that have folds

N_FOLDS = 4  # of these splits, unless another number is asked for

MAX_SEED = 2**32 - 1  # the largest that NumPy's generators take

MINED = "finetune_data_minedHN.jsonl"  # the file of a round's training rows with their hard negatives

PSEUDO_LABELS = "pseudo_labels.jsonl"  # the file of outside questions that make pseudo_label writes

IDENTICAL_TASKS = ("pairs", "beir")  # their queries may be passages of the corpus as well


def check_source(kind: str, path: Path, name: str = "") -> None:
    """Refuse a path that is missing, or a file where the kind of task takes a folder, or the other way round.

    Args:
        kind: a kind of task; what another kind takes is not checked.
        path: the file or folder.
        name: how the message calls it; default: the path.

    Raises:
        UserError: the message says what the kind of task takes.
    """
    name, source = name or str(path), TASKS.get(kind)
    if source is None:
        return
    if not path.exists():
        wanted = "file" if source.is_file else "folder"
        way_out = "; make download fetches the competition's, make sample generates one" if kind == "eedi" else ""
        raise UserError(f"{name}: no such {wanted}; task {kind} takes {source.content}{way_out}")
    if path.is_dir() == source.is_file:
        actual = "folder" if source.is_file else "file"
        raise UserError(f"{name}: is a {actual}; task {kind} takes {source.content}")
