"""Loaders of pairs, BEIR's layout and weak labels return datasets, and refuse bad files in one line."""

import csv
import json
from pathlib import Path

import pandas as pd
import pyarrow.parquet
import pytest
from helpers.tiny_task import refused
from helpers.training import finetune, mine

from rounds.artifacts import hashing, store
from rounds.config import loader
from rounds.data import collection, lineage, splits
from rounds.data.loaders import beir, pairs, registry, tables, weak_labels
from rounds.data.loaders.registry import Columns
from rounds.data.loaders.weak_labels import AnswerIndex
from rounds.data.synthetic import french_pairs
from rounds.encoding.encoder import encode
from rounds.models import checkpoint
from rounds.training.dataset import read_training_groups

ROWS = [
    {"frage": "Was ist rot?", "antwort": "Die Rose ist rot.", "thema": "Blumen"},
    {"frage": "Was ist blau?", "antwort": "Das Meer ist blau.", "thema": "Wasser"},
    {"frage": "Was  ist rot?", "antwort": "Der Mohn ist rot.", "thema": "Blumen"},
    {"frage": "Was blüht?", "antwort": "Die  Rose ist rot.", "thema": "Blumen"},
]


def written(path: Path, rows: list[dict]) -> Path:
    table = pd.DataFrame(rows)
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    elif path.suffix == ".jsonl":
        table.to_json(path, orient="records", lines=True)
    else:
        table.to_parquet(path)
    return path


def jsonl(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.mark.parametrize("kind", registry.LOADERS)
def test_a_file_in_a_folder_s_place_is_refused(kind, tmp_path):
    """Each kind of task says what it takes where RAW names a file for a folder, or a folder for a file."""
    (tmp_path / "data.csv").write_text("a\n1\n", encoding="utf-8")
    wrong, is_a = (tmp_path, "is a folder") if kind == "pairs" else (tmp_path / "data.csv", "is a file")
    with refused(wrong, is_a, f"task {kind} takes"):
        registry.load_dataset(kind, wrong, Columns())
    with refused("nowhere", "no such", f"task {kind} takes"):
        registry.load_dataset(kind, Path("nowhere"), Columns())


def test_files_of_one_name_have_digests_of_their_own(tmp_path):
    """Images of one name in two folders are two entries, each with the digest of its content."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.jpg").write_text(folder, encoding="utf-8")
    digests = registry.source_digests("kbvqa", tmp_path)
    assert digests == {name: hashing.sha256_file(tmp_path / name) for name in ("a/1.jpg", "b/1.jpg")}
    assert list(registry.source_digests("pairs", tmp_path / "a" / "1.jpg")) == ["1.jpg"]


def test_files_in_linked_folders_have_digests(tmp_path):
    """A folder of labels may be a symbolic link; one that leads back to a folder above it is read once."""
    raw, labels = tmp_path / "raw", tmp_path / "labels"
    for folder in (raw, labels):
        folder.mkdir()
    (labels / "test.tsv").write_text("query-id", encoding="utf-8")
    (raw / "qrels").symlink_to(labels)
    (labels / "back").symlink_to(raw)
    digests = registry.source_digests("beir", raw)
    assert digests == {"qrels/test.tsv": hashing.sha256_file(labels / "test.tsv")}


@pytest.mark.parametrize("ending", pairs.FILE_ENDINGS)
def test_all_file_types_give_the_same_dataset(ending, tmp_path):
    """Queries and passages that differ only in white space are one; the group column sets the queries' groups."""
    task = pairs.load(written(tmp_path / f"blumen{ending}", ROWS), "frage", "antwort", "thema")
    assert [query.fields["question"] for query in task.queries] == ["Was ist rot?", "Was ist blau?", "Was blüht?"]
    assert [query.group for query in task.queries] == ["Blumen", "Wasser", "Blumen"]
    assert list(task.passages.values()) == ["Die Rose ist rot.", "Das Meer ist blau.", "Der Mohn ist rot."]
    assert task.qrels == {"q0": ["p0", "p2"], "q1": ["p1"], "q2": ["p0"]} and task.name == "blumen"


def test_queries_keep_their_groups_when_rows_are_put_before_them(tmp_path):
    """Without a column of groups a group is its query's text, whatever rows stand before it."""
    rows = [{"query": f"question {number}", "positive": "a"} for number in range(3)]
    before = pairs.load(written(tmp_path / "a.csv", rows))
    more = [{"query": "a new one", "positive": "b"}, {**rows[0], "query": " question  0"}, *rows[1:]]
    after = pairs.load(written(tmp_path / "b.csv", more))
    assert [query.group for query in after.queries][1:] == [query.group for query in before.queries]
    trained = lineage.question_digests(before, {before.queries[1].group})
    held_out = lineage.question_digests(after, {query.group for query in after.queries})
    assert lineage.overlap(trained, held_out) == [after.queries[2].group]
    assert len({query.group for query in after.queries}) == 4


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"query": "question"}, ["question is missing", "frage", "--query_column"]),
        ({"group": "topic"}, ["topic is missing"]),
        ({"query": "antwort"}, ["column antwort cannot be query and positive"]),
        ({"row": {"frage": " ", "antwort": "a", "thema": "x"}}, ["row 6", "frage is empty"]),
        ({"row": {"frage": "Was ist rot?", "antwort": "a", "thema": "x"}}, ["row 6", "earlier row"]),
    ],
)
def test_broken_pairs_are_one_line(change, parts, tmp_path):
    """A wrong column or an empty cell is named with file and row."""
    path = written(tmp_path / "b.csv", [*ROWS, *([change["row"]] if "row" in change else [])])
    with refused(path, *parts):
        pairs.load(path, change.get("query", "frage"), "antwort", change.get("group", "thema"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("query,positive,source\na,b,c\nd,e\n", "row 3 has 2 cells, the header has 3"),
        ("query,positive\n\na,b\nd,e,f\n", "row 4 has 3 cells"),
        ("query,positive,positive\na,b,c\n", "column positive appears twice"),
        ('query,positive\na,b\n"c,d\ne,f\n', "row 3: unexpected end"),
    ],
)
def test_a_csv_file_whose_cells_are_of_unknown_columns_is_refused(content, says, tmp_path):
    """A row that is short, long or swallowed by a quote, or a name that two columns have, is no table."""
    path = tmp_path / "a.csv"
    path.write_text(content, encoding="utf-8")
    with refused(path, says):
        pairs.load(path)


def test_csv_cells_are_read_as_they_are(tmp_path):
    """Long texts, quotes, line ends within quotes and Windows line ends give the texts that were written."""
    texts = ["x" * 200_000, 'says "a, b"', "two\nlines", "two\r\nlines", "NA", "1.0", "\u2028 and \u0085"]
    path = tmp_path / "a.csv"
    with open(path, "w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([("query", "positive"), *((f"q{n}", text) for n, text in enumerate(texts))])
    assert [row["positive"] for _, row in tables.read_table(path)] == texts


def test_a_parquet_file_of_an_unknown_time_zone_is_one_line(tmp_path):
    """Cells that cannot become Python values are named as the file's fault."""
    zone = pyarrow.timestamp("ms", tz="Nowhere/Nothing")
    cells = {"query": ["a"], "positive": ["b"], "at": pyarrow.array([0], zone)}
    pyarrow.parquet.write_table(pyarrow.table(cells), tmp_path / "a.parquet")
    with refused(tmp_path / "a.parquet", "cannot be read as parquet"):
        pairs.load(tmp_path / "a.parquet")


@pytest.mark.parametrize("name", ["none.csv", "empty.csv", "text.jsonl", "odd.txt", "odd.parquet"])
def test_files_that_are_no_tables_are_one_line(name, tmp_path):
    """A file that is missing, empty or of another format is named."""
    path = tmp_path / name
    if name != "none.csv":
        path.write_text("" if name == "empty.csv" else "no {table", encoding="utf-8")
    with refused(path):
        pairs.load(path)


def beir_folder(folder: Path) -> Path:
    (folder / "qrels").mkdir(parents=True)
    jsonl(folder / "corpus.jsonl", [{"_id": "d1", "title": "T", "text": "one"}, {"_id": "d2", "text": "two"}])
    jsonl(folder / "queries.jsonl", [{"_id": "a", "text": "which?"}, {"_id": "b", "text": "what?"}])
    header = "query-id\tcorpus-id\tscore\n"
    (folder / "qrels" / "train.tsv").write_text(f"{header}a\td1\t1\na\td2\t2\n", encoding="utf-8")
    (folder / "qrels" / "test.tsv").write_text(f"{header}b\td2\t1\nb\td1\t0\n", encoding="utf-8")
    return folder


def test_beir_layout_is_read(tmp_path):
    """Titles precede texts; a query may have several relevant passages; a score of 0 is no label."""
    task = beir.load(beir_folder(tmp_path / "scifact"))
    assert task.passages == {"d1": "T one", "d2": "two"}
    assert task.qrels == {"b": ["d2"], "a": ["d1", "d2"]} and task.name == "scifact"


@pytest.mark.parametrize(
    ("file", "text", "parts"),
    [
        ("corpus.jsonl", '{"_id": "d1"}\n', ["line 1", "text is missing"]),
        ("queries.jsonl", "no json\n", ["line 1", "not JSON"]),
        ("queries.jsonl", '{"_id": "a", "text": "x"}\n{"_id": "a", "text": "y"}\n', ["line 2", "appears twice"]),
        ("qrels/test.tsv", "a\td9\t1\n", ["line 1", "passage d9 is not there"]),
        ("qrels/test.tsv", "a d1 1\n", ["line 1", "not three columns"]),
    ],
)
def test_broken_beir_files_are_one_line(file, text, parts, tmp_path):
    """A broken file is named with the line."""
    folder = beir_folder(tmp_path / "b")
    (folder / file).write_text(text, encoding="utf-8")
    with refused(folder / file, *parts):
        beir.load(folder)


PASSAGES = {
    "1": "The tower was built by Gustave Eiffel in 1889.",
    "2": "Eiffel, G. died in 1923. He knew no defeat.",
    "3": "Eiffelton is a village.",
    "4": "An engineer, Alexandre Gustave Eiffel-Bonickhausen, built bridges.",
    "5": "Nobody of the city was there.",
}


def weak(folder: Path, *questions: dict) -> Path:
    folder.mkdir()
    jsonl(folder / "passages.jsonl", [{"id": key, "text": text} for key, text in PASSAGES.items()])
    jsonl(folder / "questions.jsonl", list(questions))
    return folder


def test_passages_with_the_answer_are_relevant_and_those_with_an_alias_excluded(tmp_path):
    """Answers match as whole, normalized words; passages that hold only an alias are excluded from the negatives."""
    question = {"id": "q", "question": "Who built it?", "answer": "Gustave Eiffel!", "aliases": ["Eiffel", "the"]}
    task, skipped = weak_labels.load(weak(tmp_path / "w", question))
    assert task.qrels == {"q": ["1", "4"]} and task.excluded == {"q": ["2"]}
    assert skipped.answers == {"q": ["the"]} and not skipped.unanswered


def test_aliases_label_passages_if_none_holds_the_answer(tmp_path):
    """Without a passage that holds the answer, those with an alias are relevant, and none is excluded."""
    question = {"id": "q", "question": "Who?", "answer": "Monsieur Eiffel", "aliases": ["Eiffel"]}
    none = {"id": "r", "question": "Where?", "answer": "Atlantis"}
    task, skipped = weak_labels.load(weak(tmp_path / "w", question, none))
    assert task.qrels == {"q": ["1", "2", "4"]} and task.excluded == {"q": []}
    assert skipped.unanswered == ["r"]


@pytest.mark.parametrize("answer", ["", "?!", "the", "in the", "No.", "A"])
def test_uninformative_answers(answer):
    """Answers that normalize to nothing or to stop words are uninformative; with another word they are not."""
    assert weak_labels.is_uninformative(answer) and not weak_labels.is_uninformative(f"{answer} 1889")


@pytest.mark.parametrize("answer", ["built", "eiffel", "1923", "was", "gustave eiffel", "knew no", "city was there"])
def test_the_index_finds_what_a_scan_finds(answer):
    """The index finds the same passages as a slow loop over words: whole words only."""
    wanted = weak_labels.normalize(answer).split()
    slow = []
    for identifier, text in PASSAGES.items():
        words = weak_labels.normalize(text).split()
        if any(words[n : n + len(wanted)] == wanted for n in range(len(words))):
            slow.append(identifier)
    assert AnswerIndex(PASSAGES).find_answer(answer) == slow


def test_excluded_passages_are_never_negatives(tiny, tmp_path):
    """Excluded passages are not mined for their query, and are masked in its batches."""
    questions = [
        {"id": str(n), "question": f"Who built bridge {n}?", "answer": f"Builder{n}", "aliases": [f"Nick{n}"]}
        for n in range(12)
    ]
    folder = weak(tmp_path / "w", *questions)
    texts = [(f"a{n}", f"Builder{n} built it.") for n in range(12)] + [(f"b{n}", f"Nick{n} did.") for n in range(12)]
    jsonl(folder / "passages.jsonl", [{"id": key, "text": text} for key, text in texts])
    task, _ = registry.load_dataset("weak_labels", folder, Columns())
    where = tmp_path / "c"
    collection.write(task, splits.make_split(task, "submission"), tiny.prompts, where, {})
    recipe = tiny.replace("mining", negative_number=20, range_for_sampling="0-24")
    mine(recipe, where, tmp_path / "m.jsonl", seed=1)
    for row in store.read_jsonl(tmp_path / "m.jsonl", ("neg_id",)):
        number = row["query_id"]
        assert len(row["neg_id"]) == 20 and not {f"a{number}", f"b{number}"} & set(row["neg_id"])
    data = read_training_groups(tmp_path / "m.jsonl", 1, tiny)
    for row, query in enumerate(data.queries):
        number = query.split()[-1].rstrip("?")
        assert {data.passages[each] for each in data.false_negatives[row]} == {
            f"Builder{number} built it.",
            f"Nick{number} did.",
        }


def test_the_french_sample_has_no_leaks(tmp_path):
    """Splits keep an animal's three questions together, no question names its animal, no passage answers two."""
    rows = french_pairs.generate(tmp_path / "pairs.csv", animals=40)
    task = pairs.load(tmp_path / "pairs.csv", "question", "passage", "animal")
    assert rows == len(task.queries) == len(task.passages) == 120
    assert all(len(relevant) == 1 for relevant in task.qrels.values())
    assert not any(query.group in query.fields["question"] for query in task.queries)
    split = splits.make_split(task, "v3")
    assert len(split.validation) == 8 and not split.validation & split.train


@pytest.mark.slow
def test_a_round_of_pairs_runs(tiny, tmp_path):
    """Mining, training and evaluation run on the French sample, and MAP@25 is that of ranking by hand.

    Each query has one relevant passage, so its average precision is one over that passage's rank.
    """
    french_pairs.generate(tmp_path / "pairs.csv", animals=30)
    task, _ = registry.load_dataset("pairs", tmp_path / "pairs.csv", Columns("question", "passage", "animal"))
    where = tmp_path / "c"
    collection.write(task, splits.make_split(task, "v3"), tiny.prompts, where, {})
    recipe = tiny.replace("training", epochs=1, matryoshka_dims=[64, 16])
    mine(recipe, where, tmp_path / "m.jsonl", seed=1)
    finetune(recipe, tmp_path / "m.jsonl", tmp_path / "train", where)
    metrics = store.read_json(tmp_path / "train" / "lora_epoch_1" / "metrics.json")
    data, trained = collection.read(where), checkpoint.resolve(str(tmp_path / "train"), device="cpu")
    embedder, prompts = trained.load(), trained.recipe.prompts
    queries = encode(embedder, list(data.validation.values()), prompts, "query", trained.precision)
    passages = encode(embedder, list(data.passages.values()), prompts, "passage", trained.precision)
    precisions = []
    for identifier, query in zip(data.validation, queries, strict=True):
        scores = dict(zip(data.passages, (passages @ query).tolist(), strict=True))
        (relevant,) = data.qrels[identifier]
        rank = sum(score >= scores[relevant] for score in scores.values())
        precisions.append(1 / rank if rank <= 25 else 0.0)
    assert metrics["MAP@25"] == pytest.approx(sum(precisions) / len(precisions), abs=1e-6)
    assert metrics["validation loss"] > 0 and metrics["train loss"] > 0


def test_an_unknown_task_is_refused():
    """An unknown task is refused with the names of those that exist."""
    with refused("task 'pair'", "pairs"):
        registry.load_dataset("pair", Path("x"), Columns())


def test_the_multilingual_recipe_trains_as_its_reference_does():
    """The recipe has a batch of 64 with gradient caching, E5's prefixes, and its reference's dimensions."""
    recipe = loader.load("multilingual-e5-large-matryoshka")
    training = recipe.training
    assert (training.batch_size, training.epochs, training.learning_rate) == (64, 1, 2e-5)
    assert training.micro_batch_tokens and training.gradient_accumulation_steps == 1
    assert (recipe.prompts.query_prefix, recipe.prompts.passage_prefix) == ("query: ", "passage: ")
    assert training.matryoshka_dims == [1024, 768, 512, 256, 128, 64]
