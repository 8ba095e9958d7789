"""Private leaderboard: score submissions on questions that were held out of train.csv before any other stage.

The folder of the leaderboard has the competition's files; the held-out labels are in a file outside it.
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

PUBLIC = 0.3  # share of the held-out questions that make the public score

SOLUTIONS = "solutions"


def solution_of(folder: Path) -> Path:
    """Return the file of the held-out labels: data/solutions/private-sample.csv for data/private-sample."""
    return folder.parent / SOLUTIONS / f"{folder.name}.csv"


def hold_out(raw: Path, folder: Path, size: float, unseen: float, seed: int, overwrite: bool = False) -> HeldOut:
    """Write `folder` (train.csv without the held-out questions, test.csv with them) and the held-out labels.

    Args:
        raw: The folder of the competition's files.
        folder: The folder to write.
        size: Share of the labelled rows to hold out.
        unseen: Share of the held-out rows whose misconception is never a label in the rest.
        seed: Seed of the choice.
        overwrite: Replace a folder that was made with other settings.

    Returns:
        The numbers of held-out `questions`, of their labelled `rows`, and of `unseen_rows` among these.

    Raises:
        UserError: The shares are out of range or the data does not allow them, or the folder has other settings.
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
    questions = splits.hold_out(task, size, unseen, seed)
    table = eedi.read_table(raw / "train.csv", eedi.QUESTION_COLUMNS + eedi.LABEL_COLUMNS)
    is_held_out = table["QuestionId"].str.strip().isin(questions)
    queries = [query for query in task.queries if query.group in questions]
    rows = [query.id for query in queries if query.id in task.qrels]
    if len({row.rpartition("_")[0] for row in rows}) < 2:
        raise UserError(
            f"{raw}: one labelled question would be held out, and a leaderboard has two sides; hold out more"
        )
    rest = [query.id for query in task.queries if query.group not in questions and query.id in task.qrels]
    unseen_rows = len(splits.unseen_queries(task.qrels, rest, rows))
    held_out = HeldOut(questions=len(questions), rows=len(rows), unseen_rows=unseen_rows)
    solution_of(folder).unlink(missing_ok=True)  # a folder without labels is made anew, never scored by older ones
    with store.writing(folder, PrivateLeaderboardManifest(config=config, held_out=held_out)) as temporary:
        _write_csv(table[~is_held_out], temporary / "train.csv")
        _write_csv(table[is_held_out][eedi.QUESTION_COLUMNS], temporary / "test.csv")
        (temporary / "misconception_mapping.csv").write_bytes((raw / "misconception_mapping.csv").read_bytes())
        sample = pd.DataFrame({submission.COLUMNS[0]: [query.id for query in queries]})
        sample[submission.COLUMNS[1]] = " ".join(list(task.passages)[: submission.DEPTH])
        _write_csv(sample, temporary / "sample_submission.csv")
    _write_solution(solution_of(folder), rows, task.qrels, seed)
    return held_out


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table; the csv module quotes what its line ends consist of, so a cell may hold a lone carriage return."""
    table.to_csv(path, index=False, lineterminator="\r\n")


def _write_solution(path: Path, rows: list[str], qrels: dict[str, list[str]], seed: int) -> None:
    """Write the labels of the held-out rows; all rows of a question are public, or all are private."""
    questions = sorted({row.rpartition("_")[0] for row in rows}, key=int)
    public = set(random.Random(f"{seed}-public").sample(questions, round(PUBLIC * len(questions))))
    usage = ["Public" if row.rpartition("_")[0] in public else "Private" for row in rows]
    table = pd.DataFrame(dict(zip(LABELS, (rows, [qrels[row][0] for row in rows], usage), strict=True)))
    path.parent.mkdir(parents=True, exist_ok=True)
    store.write_text(path, table.to_csv(index=False))


def select_unscored(csvs: list[Path], ledger_file: Path) -> list[Path]:
    """Return the submissions that the ledger names without a score; all if there is none.

    What a killed call scored is left out, and so is a ranking that the ledger knows by another name: the ensemble of
    `make best` is called like a distilled embedder's teacher once it has taught.

    Raises:
        UserError: a file is missing.
    """
    store.require_files(*csvs)
    rows = ledger.read(ledger_file)
    scored = {row["submission"].removesuffix(ledger.REPLACED) for row in rows if row["LB private"]}
    waiting = {row["submission"] for row in rows} - scored
    return [csv for csv in csvs if csv.stem in waiting] or csvs


def score(csv: Path, folder: Path, ledger_file: Path) -> dict[str, float]:
    """Return MAP@25 of a submission on the held-out rows, and write it to the ledger as the submission's LB.

    Args:
        csv: The submission, named as in the ledger.
        folder: The folder that `hold_out` wrote.
        ledger_file: The ledger.

    Returns:
        The scores `public` and `private`.

    Raises:
        UserError: A file is missing, the submission is not valid or not named in the ledger, or a submission of this
            name was scored before: a leaderboard that can be asked again and again is a validation set.
    """
    solution = eedi.read_table(solution_of(folder), list(LABELS))
    rows = ledger.read(ledger_file)
    if all(row["submission"] != csv.stem for row in rows):
        raise UserError(f"{ledger_file}: names no submission {csv.stem}; make submit writes and names it")
    named = [row for row in rows if row["submission"].removesuffix(ledger.REPLACED) == csv.stem]
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
    if empty := next((usage for usage, values in scores.items() if not values), None):
        raise UserError(f"{solution_of(folder)}: no row is {empty.lower()}; hold out more questions")
    means = {usage.lower(): round(sum(values) / len(values), 5) for usage, values in scores.items()}
    ledger.score(ledger_file, {csv.stem: (str(means["public"]), str(means["private"]))})
    return means
