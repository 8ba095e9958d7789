"""Sample texts: queries, passages, few-shot examples and training rows of the generated sample."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from rounds.artifacts import store
from rounds.config.recipe import Recipe
from rounds.data import collection, splits
from rounds.data.few_shot import ExampleBank, QueryMetadata
from rounds.data.loaders import eedi
from rounds.data.prompts import query_text
from rounds.data.source import MINED
from rounds.data.synthetic import maths

SEED = 42
QUESTIONS = 1500  # of the sample on which `round_section.CPU_MAP` was measured
QUERIES, PASSAGES = 2000, 2587  # the competition's corpus has 2,587 passages
SMALL = {"questions": 40, "queries": 24, "passages": 30}
HELD_OUT = 20  # queries that serve as examples only
NEGATIVES = 15  # at most, of a training row


@dataclass(frozen=True)
class SampleTexts:
    """Hold queries and passages to embed.

    Attributes:
        examples: Few-shot examples of each query; all queries have the same ones.
    """

    queries: list[str]
    examples: list[list[str]]
    passages: list[str]

    def first(self, number: int) -> "SampleTexts":
        """Return the first `number` queries and passages."""
        return SampleTexts(self.queries[:number], self.examples[:number], self.passages[:number])


def generate(folder: Path, small: bool) -> Path:
    """Write the sample's CSV files into a subfolder and return the subfolder."""
    sample_folder = folder / "sample"
    sample_folder.mkdir(exist_ok=True)
    questions = SMALL["questions"] if small else QUESTIONS
    maths.generate(sample_folder, questions=questions, test_questions=questions // 6, seed=SEED)
    return sample_folder


def read(sample_folder: Path, recipe: Recipe, small: bool) -> SampleTexts:
    """Return distinct labelled queries with the recipe's examples, and as many passages as the competition has.

    The sample has fewer passages than that. The others join a question's construct and wrong answer, which gives texts
    of similar length.
    """
    task = eedi.load(sample_folder)
    labelled = [query for query in task.queries if query.id in task.qrels]
    held_out = [
        (QueryMetadata(query_text(query, recipe.prompts)), task.passages[task.qrels[query.id][0]])
        for query in labelled[-HELD_OUT:]
    ]
    held_out_texts = {metadata.text for metadata, _ in held_out}
    texts = dict.fromkeys(query_text(query, recipe.prompts) for query in labelled)
    queries = [text for text in texts if text not in held_out_texts][: SMALL["queries"] if small else QUERIES]
    examples = ExampleBank(held_out, recipe.prompts).choose(QueryMetadata(""), recipe.prompts.examples_number)
    fillers = (f"{query.fields['construct']}: {query.fields['wrong']}" for query in task.queries)
    passages = list(dict.fromkeys([*task.passages.values(), *fillers]))[: SMALL["passages"] if small else PASSAGES]
    return SampleTexts(queries, [examples] * len(queries), passages)


def read_all(sample_folder: Path) -> list[str]:
    """Return all passages and all fields of all queries."""
    task = eedi.load(sample_folder)
    return [*task.passages.values(), *(text for query in task.queries for text in query.fields.values())]


def with_examples(recipe: Recipe, number: int = 2) -> Recipe:
    """Return the recipe with the same few-shot examples before every query."""
    return recipe.replace("prompts", examples="fixed", examples_number=number)


def write_collection(sample_folder: Path, recipe: Recipe, folder: Path) -> Path:
    """Write split v1 of the sample as a collection to `folder` and return it."""
    task = eedi.load(sample_folder)
    collection.write(task, splits.make_split(task, "v1", SEED), recipe.prompts, folder, {})
    return folder


def write_training_rows(collection_folder: Path, limit: int) -> Path:
    """Write training rows with negatives taken from the corpus in order, which needs no encoding.

    Args:
        limit: Maximum number of rows.

    Returns:
        The written JSONL file.
    """
    passages = list(collection.read_pool(collection_folder / collection.POOL).values())
    rows = []
    for number, row in enumerate(collection.read_rows(collection_folder / collection.FINETUNE, ("pos",))[:limit]):
        candidates = [passages[(number * 7 + step) % len(passages)] for step in range(20)]
        rows.append({**row, "neg": [text for text in candidates if text not in row["pos"]][:NEGATIVES]})
    path = collection_folder / MINED
    store.write_jsonl(path, rows)
    return path


def replace_model(recipe: Recipe, **values) -> Recipe:
    """Return the recipe with other values in its `model` section, without validating them again."""
    return dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, **values))
