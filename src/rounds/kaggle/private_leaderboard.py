"""Private leaderboard: questions held out of train.csv before anything else sees them, which score submissions.

The folder that comes of it has the competition's files; the held-out labels stand in a file outside it.
"""

import random
from pathlib import Path

import pandas as pd

from rounds.artifacts import hashing, store
from rounds.artifacts.manifests import HeldOut, PrivateLeaderboardManifest
from rounds.data import splits
from rounds.data.loaders import eedi
from rounds.errors import UserError
from rounds.evaluation import ledger
from rounds.kaggle import submission

LABELS = ("QuestionId_Answer", "MisconceptionId", "Usage")

PUBLIC = 0.3  # share of the held-out questions that the public score takes

SOLUTIONS = "solutions"


def solution_of(folder: Path) -> Path:
    """`data/private-sample` -> `data/solutions/private-sample.csv`."""
    return folder.parent / SOLUTIONS / f"{folder.name}.csv"


def hold_out(raw: Path, folder: Path, size: float, unseen: float, seed: int, overwrite: bool = False) -> HeldOut:
    """Write `folder` (train.csv without the held-out questions, test.csv with them) and its solution.

    Args:
        size: share of the labelled rows.
        unseen: share of these whose misconception the rest never labels.

    Returns:
        how many questions and rows are held out, and how many of them unseen.
    """
    task = eedi.load(raw)
    config = {
        "data": {name: hashing.sha256_file(raw / name) for name in eedi.FILES[::2]},
        "size": size,
        "unseen": unseen,
        "seed": seed,
    }
    if store.is_finished(folder, config, overwrite) and solution_of(folder).is_file():
        return store.read_manifest(folder).held_out
    apart = splits.hold_out(task, size, unseen, seed)
    table = eedi.read_table(raw / "train.csv", eedi.QUESTION_COLUMNS + eedi.LABEL_COLUMNS)
    is_apart = table["QuestionId"].str.strip().isin(apart)
    held = [query for query in task.queries if query.group in apart]
    rows = [query.id for query in held if query.id in task.qrels]
    rest = [query.id for query in task.queries if query.group not in apart and query.id in task.qrels]
    unseen_rows = len(splits.unseen_queries(task.qrels, rest, rows))
    held_out = HeldOut(questions=len(apart), rows=len(rows), unseen_rows=unseen_rows)
    with store.writing(folder, PrivateLeaderboardManifest(config=config, held_out=held_out)) as temporary:
        table[~is_apart].to_csv(temporary / "train.csv", index=False)
        table[is_apart][eedi.QUESTION_COLUMNS].to_csv(temporary / "test.csv", index=False)
        (temporary / "misconception_mapping.csv").write_bytes((raw / "misconception_mapping.csv").read_bytes())
        sample = pd.DataFrame({submission.COLUMNS[0]: [query.id for query in held]})
        sample[submission.COLUMNS[1]] = " ".join(list(task.passages)[: submission.DEPTH])
        sample.to_csv(temporary / "sample_submission.csv", index=False)
        _write_solution(solution_of(folder), rows, task.qrels, seed)
    return held_out


def _write_solution(path: Path, rows: list[str], qrels: dict[str, list[str]], seed: int) -> None:
    """Public or private goes by question."""
    questions = sorted({row.rpartition("_")[0] for row in rows}, key=int)
    public = set(random.Random(f"{seed}-public").sample(questions, round(PUBLIC * len(questions))))
    usage = ["Public" if row.rpartition("_")[0] in public else "Private" for row in rows]
    table = pd.DataFrame(dict(zip(LABELS, (rows, [qrels[row][0] for row in rows], usage), strict=True)))
    path.parent.mkdir(parents=True, exist_ok=True)
    store.write_text(path, table.to_csv(index=False))


def score(csv: Path, folder: Path, ledger_file: Path) -> dict[str, float]:
    """MAP@25 of a submission on the held-out rows, written to the ledger as its LB.

    Args:
        folder: as `hold_out` wrote it.

    Returns:
        `public` and `private`.

    Raises:
        UserError: no such files, a submission that is not valid, one that the ledger does not name, or a name that
            was scored before: a leaderboard that answers again and again is a validation set.
    """
    solution = eedi.read_table(solution_of(folder), list(LABELS))
    named = [row for row in ledger.read(ledger_file) if row["submission"] == csv.stem]
    if not named:
        raise UserError(f"{ledger_file}: names no submission {csv.stem}; make submit writes and names it")
    if before := next((row for row in named if row["LB private"]), None):
        raise UserError(
            f"submission {csv.stem}: was scored before (public {before['LB public']}, private {before['LB private']}); "
            "a name is scored once"
        )
    passages = eedi.load(folder).passages
    submission.validate(csv, folder / "sample_submission.csv", passages)
    ranked = dict(zip(*(eedi.read_table(csv, submission.COLUMNS)[name] for name in submission.COLUMNS), strict=True))
    scores: dict[str, list[float]] = {"Public": [], "Private": []}
    for row, label, usage in solution[list(LABELS)].itertuples(index=False):
        ids = ranked[row].split(" ")
        scores[usage].append(1 / (ids.index(label) + 1) if label in ids else 0.0)
    found = {usage.lower(): round(sum(values) / max(len(values), 1), 5) for usage, values in scores.items()}
    ledger.score(ledger_file, {csv.stem: (str(found["public"]), str(found["private"]))})
    return found
