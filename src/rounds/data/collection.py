"""Collection: the queries, corpus, labels and fine-tuning rows of one split, in one folder.

| file | content |
|---|---|
| `candidate_pool.jsonl` | corpus: `_id`, `text` (BEIR's keys); `name`, `explanation` if `prompts.passage` joins these |
| `{train,validation,test}_queries.jsonl` | `_id`, `text`, `question_id`, `construct`, `subject` |
| `{train,validation}_qrels.tsv` | `query-id`, `corpus-id`, `score` (BEIR) |
| `finetune_data.jsonl` | FlagEmbedding's `query`, `pos`, `neg`, `prompt`, and the ids behind them |
| `questions.json` | QuestionIds of both sides, each with a digest of its text |
| `split.json` | sizes and overlaps |
| `outside_dropped.jsonl` | outside rows that do not train, and why; only where there are outside rows |

Outside rows (`EXTRA=`) stand last in `finetune_data.jsonl`, with their source under `outside`. Queries and qrels are
the competition's alone, so an outside label makes no misconception seen.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from rounds.artifacts import hashing, jsonl, store
from rounds.artifacts.manifests import CollectionManifest
from rounds.config.recipe import Prompts
from rounds.data import lineage, splits
from rounds.data.cells import read_id
from rounds.data.dataset import Grades, Query, RetrievalDataset, relevant_passages
from rounds.data.few_shot import ExampleBank, QueryMetadata
from rounds.data.outside import OutsideQuestions
from rounds.data.passage_pool import read_pool
from rounds.data.prompts import has_passage_parts, passage_texts, query_text
from rounds.data.source import N_FOLDS
from rounds.data.splits import Split
from rounds.errors import UserError

POOL = "candidate_pool.jsonl"

FINETUNE = "finetune_data.jsonl"

DROPPED = "outside_dropped.jsonl"

OUTSIDE = "outside"  # key of a fine-tuning row that names an outside question's source

SILENT = "silent"  # key of an outside row that trains, and does not vote in second stages


@dataclass(frozen=True)
class Collection:
    """What evaluation, mining and submission read of a split.

    Attributes:
        folder: the collection's folder.
        data: name of the data.
        split: name of the split.
        passages: passage id -> text, in corpus order; those of a large corpus are read when asked for.
        validation, test: query id -> text.
        metadata: id -> metadata of each validation and test query.
        qrels: validation query id -> relevant passage ids.
        grades: query id -> grade of each judged passage; empty where all labels have grade 1.
        identical: id of a validation or test query -> passages that are the query itself, which no ranking holds.
        unseen: validation queries whose passages train does not label.
        questions: `train` and `validation`, each QuestionId -> digest.
        names: passage id -> name, where `prompts.passage` joins names with something; otherwise empty.
        explanations: passage id -> explanation, for passages that have one.
        n_folds: number of folds of the split, if it has folds.
        outside: counts and sources of outside questions (`OutsideQuestions.describe`); empty without any.
    """

    folder: Path
    data: str
    split: str
    passages: Mapping[str, str]
    validation: dict[str, str]
    test: dict[str, str]
    metadata: dict[str, QueryMetadata]
    qrels: dict[str, list[str]]
    unseen: set[str]
    questions: dict[str, dict[str, str]]
    identical: dict[str, list[str]] = field(default_factory=dict)
    grades: Grades = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    explanations: dict[str, str] = field(default_factory=dict)
    n_folds: int = N_FOLDS
    outside: dict = field(default_factory=dict)

    @cached_property
    def validation_digest(self) -> str:
        """A short digest of the validation set: its queries, labels and corpus."""
        further = [part for part in (self.identical, self.grades) if part]
        content = [self.validation, self.qrels, self.passages, sorted(self.unseen), *further]
        return hashing.sha256_json(content)[:12]

    @cached_property
    def labels_digest(self) -> str:
        """A short digest of the validation queries' ids and labels, whatever prompts make of their texts."""
        return hashing.sha256_json([self.qrels, self.grades])[:12]

    def name(self, passage: str) -> str:
        """Return a passage as people read it: without its explanation, if it has one."""
        return self.names[passage] if self.names else self.passages[passage]


def folder_name(split: str) -> str:
    """Return the folder name of a split: `validation_v1` for `v1`; `submission` stays."""
    return split if split == "submission" else f"validation_{split}"


def write(
    dataset: RetrievalDataset,
    split: Split,
    prompts: Prompts,
    folder: Path,
    config: dict,
    made_from: dict | None = None,
    outside: OutsideQuestions | None = None,
) -> dict:
    """Write a collection and return the content of its `split.json`.

    Args:
        prompts: the recipe's query format and instruction.
        config: everything that shapes the collection, for its manifest.
        made_from: the command that makes it and what that reads, for its manifest; None without a pipeline stage.
        outside: outside questions that train too.
    """
    train, validation = dataset.labelled(split.train), dataset.labelled(split.validation)
    questions = {
        "train": lineage.question_digests(dataset, {query.group for query in train}),
        "validation": lineage.question_digests(dataset, {query.group for query in validation}),
    }
    description = splits.describe(dataset, split)
    passages = passage_texts(dataset, prompts)
    if outside is not None:
        description["outside"] = outside.describe()
    manifest = CollectionManifest(data=dataset.name, split=split.name, config=config, made_from=made_from)
    with store.writing(folder, manifest) as temporary:
        store.write_jsonl(temporary / POOL, _pool_rows(dataset, passages, has_passage_parts(prompts)))
        for name, queries in (("train", train), ("validation", validation), ("test", dataset.test_queries)):
            rows = (_query_row(query, dataset, prompts) for query in queries)
            store.write_jsonl(temporary / f"{name}_queries.jsonl", rows)
        for name, queries in (("train", train), ("validation", validation)):
            _write_qrels(temporary / f"{name}_qrels.tsv", queries, dataset)
        rows = (_finetune_row(query, dataset, passages, prompts) for query in train)
        store.write_jsonl(temporary / FINETUNE, itertools.chain(rows, _outside_rows(outside, passages, prompts)))
        if outside is not None:
            store.write_jsonl(temporary / DROPPED, (entry.to_dict() for entry in outside.dropped))
        store.write_json(temporary / "questions.json", questions)
        store.write_json(temporary / "split.json", description)
    return description


def _pool_rows(dataset: RetrievalDataset, passages: Mapping[str, str], has_parts: bool) -> Iterator[dict]:
    for key, text in passages.items():
        row = {"_id": key, "text": text}
        if has_parts:
            row |= {"name": dataset.passages[key], "explanation": dataset.explanations.get(key, "")}
        yield row


def _query_row(query: Query, dataset: RetrievalDataset, prompts: Prompts) -> dict:
    row = {"_id": query.id, "text": query_text(query, prompts), **_topic(query)}
    identical = dataset.identical.get(query.id)
    return {**row, "identical": identical} if identical else row


def _finetune_row(query: Query, dataset: RetrievalDataset, passages: Mapping[str, str], prompts: Prompts) -> dict:
    positives, identical = dataset.qrels[query.id], dataset.identical.get(query.id)
    excluded = dict.fromkeys([*dataset.excluded.get(query.id, ()), *(identical or ())])
    return {
        "query": query_text(query, prompts),
        "pos": [passages[passage] for passage in positives],
        "neg": [],
        "prompt": prompts.task,
        "query_id": query.id,
        **_topic(query),
        "question_digest": lineage.digest(query.fields.get("question", "")),
        "pos_id": positives,
        **({"excluded": [passages[passage] for passage in excluded]} if excluded else {}),
        **({} if identical is None else {"identical": identical}),
    }


def _outside_rows(outside: OutsideQuestions | None, passages: Mapping[str, str], prompts: Prompts) -> Iterator[dict]:
    """Yield the fine-tuning rows of outside questions, each with its source."""
    if outside is not None:
        for query in outside.dataset.queries:
            row = _finetune_row(query, outside.dataset, passages, prompts)
            source = outside.sources[query.id]
            yield {**row, OUTSIDE: source, **({SILENT: True} if source in outside.origins.chosen else {})}


def own_rows(rows: Iterable[dict]) -> list[dict]:
    """Return the fine-tuning rows without those of outside questions."""
    return [row for row in rows if OUTSIDE not in row]


def outside_rows(rows: Iterable[dict]) -> list[dict]:
    """Return the fine-tuning rows of outside questions."""
    return [row for row in rows if OUTSIDE in row]


def _topic(query: Query) -> dict[str, str]:
    return {
        "question_id": query.group,
        "construct": query.fields.get("construct", ""),
        "subject": query.fields.get("subject", ""),
    }


def _write_qrels(path: Path, queries: list[Query], dataset: RetrievalDataset) -> None:
    lines = [
        f"{query.id}\t{passage}\t{grade}\n"
        for query in queries
        for passage, grade in (dataset.grades.get(query.id) or dict.fromkeys(dataset.qrels[query.id], 1)).items()
    ]
    store.write_text(path, "query-id\tcorpus-id\tscore\n" + "".join(lines))


def _read_grades(path: Path) -> Grades:
    store.require_files(path)
    grades: Grades = {}
    lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    for number, line in enumerate(lines[1:], 2):
        parts = line.split("\t")
        if len(parts) != 3 or not parts[2].removeprefix("-").isdecimal():
            raise UserError(
                f"{path} line {number}: not three columns (query-id, corpus-id, score), the last a whole number"
            )
        grades.setdefault(parts[0], {})[parts[1]] = int(parts[2])
    return grades


def is_collection(folder: Path) -> bool:
    """Return whether a folder is a finished collection."""
    return isinstance(store.read_manifest(folder), CollectionManifest)


def read(folder: Path) -> Collection:
    """Read a collection that `write` made.

    Raises:
        UserError: the folder is not a finished collection, or one of its files is missing or broken.
    """
    manifest = store.read_manifest(folder)
    if not isinstance(manifest, CollectionManifest):
        raise UserError(f"{folder}: no collection there; make it with gen_data_for_hn_mine.py")
    grades = _read_grades(folder / "validation_qrels.tsv")
    qrels, train = (
        {query: relevant_passages(judged) for query, judged in side.items()}
        for side in (grades, _read_grades(folder / "train_qrels.tsv"))
    )
    has_grades = any(grade != 1 for judged in grades.values() for grade in judged.values())
    rows = [_read_queries(folder / f"{name}_queries.jsonl") for name in ("validation", "test")]
    validation, test = ({row["_id"]: query_metadata(row, "text") for row in side} for side in rows)
    parts = _read_parts(folder / POOL)
    return Collection(
        folder=folder,
        data=manifest.data,
        split=manifest.split,
        passages=read_pool(folder / POOL),
        validation={key: query.text for key, query in validation.items()},
        test={key: query.text for key, query in test.items()},
        metadata={**validation, **test},
        qrels=qrels,
        unseen=splits.unseen_queries({**train, **qrels}, list(train), list(qrels)),
        questions=store.read_json(folder / "questions.json"),
        identical={row["_id"]: row["identical"] for side in rows for row in side if "identical" in row},
        grades=grades if has_grades else {},
        names={row["_id"]: row["name"] for row in parts},
        explanations={row["_id"]: row["explanation"] for row in parts if row["explanation"]},
        n_folds=manifest.config.get("n_folds", N_FOLDS),
        outside=store.read_json(folder / "split.json").get("outside", {}),
    )


def _read_parts(pool: Path) -> list[dict]:
    """Return the rows of a corpus if they hold the parts of the passages, otherwise none."""
    rows = jsonl.read_lines(pool)
    _, first = next(rows, (0, {}))
    return [first, *(row for _, row in rows)] if {"name", "explanation"} <= first.keys() else []


def read_rows(path: Path, lists: tuple[str, ...]) -> list[dict]:
    """Read FlagEmbedding-style JSONL: `query` is a text, each key of `lists` (`pos`, `neg`) a list of texts.

    Raises:
        UserError: the file is missing, or a line is broken, lacks a key, or has a value of another type or a
            `query_id` with a blank.
    """
    if path.is_file() and not path.stat().st_size:
        raise UserError(
            f"{path}: is empty: it holds no training queries; its split can only be evaluated (make evaluate ROUND=0)"
        )
    rows = store.read_jsonl(path, ("query", *lists))
    for number, row in enumerate(rows, 1):
        place = f"{path} line {number}"
        if not isinstance(row["query"], str):
            raise UserError(f"{place}: query is not a text")
        for key in (*lists, *({"excluded"} & row.keys())):
            if not isinstance(row[key], list) or not all(isinstance(text, str) for text in row[key]):
                raise UserError(f"{place}: {key} must be a list of texts")
        if "query_id" in row:
            read_id(row["query_id"], place, "query_id")
    return rows


def _read_queries(path: Path) -> list[dict]:
    if path.is_file() and path.stat().st_size == 0:  # the split has no such queries
        return []
    return store.read_jsonl(path, ("_id", "text"))


def query_metadata(row: dict, text_key: str = "query") -> QueryMetadata:
    """Return the metadata of a row's query, whose text is under `text_key`."""
    values = (row.get(key) for key in ("question_id", "construct", "subject"))
    return QueryMetadata(row[text_key], *("" if value is None else str(value) for value in values))


def example_bank(rows: list[dict], prompts: Prompts) -> ExampleBank | None:
    """Return the few-shot examples in rows of `finetune_data.jsonl`, or None if the recipe has no examples.

    Outside questions are no examples.
    """
    if prompts.examples == "none":
        return None
    return ExampleBank(((query_metadata(row), row["pos"][0]) for row in own_rows(rows) if row["pos"]), prompts)
