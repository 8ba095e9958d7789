"""Split a dataset as its own files of labels do, so that scores compare with published ones: `official` and `dev`.

`official` trains on `train` and evaluates `test`, exactly as they are. `dev` evaluates `dev`, or a fifth of `train`'s
queries where there is no such file, and trains on the rest of `train`: to choose a recipe by, without looking at test.
"""

from dataclasses import replace

from sklearn.model_selection import train_test_split

from rounds.data.dataset import Grades, RetrievalDataset, relevant_passages
from rounds.data.splits import Split
from rounds.errors import UserError

DEV_SHARE = 0.2


def divide(dataset: RetrievalDataset, version: str, seed: int = 42) -> tuple[RetrievalDataset, Split, list[str]]:
    """Return the dataset with the labels of the two sides alone, its split, and messages about what was left out.

    A query that both files label is evaluated and not trained on. Without a file of training labels, the side is
    empty: the base model can be evaluated.

    Args:
        dataset: as `beir.load` returns it, each query a group of its own.
        version: `official` or `dev`.
        seed: of the fifth of `train` that `dev` takes where there is no file.

    Raises:
        UserError: the dataset has no such labels, or none of its evaluated queries has a relevant passage.
    """
    if not dataset.labels:
        raise UserError(
            f"split {version}: only task beir has files of labels (train, dev, test); choose one of v1 to v5"
        )
    train = dataset.labels.get("train", {})
    if version == "official":
        evaluated = _part(dataset, "test", version)
    elif "dev" in dataset.labels:
        evaluated = dataset.labels["dev"]
    else:
        _part(dataset, "train", version)
        if len(train) < 2:
            raise UserError(
                f"{dataset.name}: qrels/train.tsv labels {len(train)} queries, too few to take a fifth of them for "
                "split dev; add qrels/dev.tsv"
            )
        drawn = set(train_test_split(sorted(train), test_size=DEV_SHARE, random_state=seed)[1])
        evaluated = {query: judged for query, judged in train.items() if query in drawn}
        train = {query: judged for query, judged in train.items() if query not in drawn}
    if not any(map(relevant_passages, evaluated.values())):
        raise UserError(f"{dataset.name}: split {version}: no evaluated query has a passage of grade 1 or above")
    both = train.keys() & evaluated.keys()
    messages = [f"{len(both)} training queries are evaluated too; they are not trained on"] if both else []
    trained = {query: judged for query, judged in train.items() if query not in both and relevant_passages(judged)}
    grades: Grades = {**trained, **evaluated}
    qrels = {query: relevant_passages(judged) for query, judged in grades.items()}
    return replace(dataset, qrels=qrels, grades=grades), Split(version, set(trained), set(evaluated)), messages


def _part(dataset: RetrievalDataset, name: str, version: str) -> Grades:
    if name not in dataset.labels:
        raise UserError(
            f"{dataset.name}: no qrels/{name}.tsv, which split {version} needs; there are {', '.join(dataset.labels)}"
        )
    return dataset.labels[name]
