"""Texts: the generated sample as queries, passages, few-shot examples and training rows of the measurements."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from rounds.artifacts import store
from rounds.config.recipe import Recipe
from rounds.data import collection, splits
from rounds.data.few_shot import ExampleBank, QueryMetadata
from rounds.data.loaders import eedi
from rounds.data.prompts import query_text
from rounds.data.synthetic import maths

SEED = 42
QUERIES, PASSAGES = 2000, 2587  # as many as the competition's corpus has
SMALL = {"questions": 40, "queries": 24, "passages": 30}
HELD_OUT = 20  # queries that only serve as examples


@dataclass(frozen=True)
class Texts:
    """Queries and passages to embed.

    Attributes:
        before: the few-shot examples of each query, the same for all.
    """

    queries: list[str]
    before: list[list[str]]
    passages: list[str]

    def first(self, number: int) -> "Texts":
        """The first queries and passages only."""
        return Texts(self.queries[:number], self.before[:number], self.passages[:number])


def generate(folder: Path, small: bool) -> Path:
    """Write the sample's CSVs into a subfolder and return it."""
    raw = folder / "sample"
    raw.mkdir(exist_ok=True)
    questions = SMALL["questions"] if small else 1500
    maths.generate(raw, questions=questions, test_questions=questions // 6, seed=SEED)
    return raw


def of(raw: Path, recipe: Recipe, small: bool) -> Texts:
    """Labelled queries behind the recipe's examples, and as many distinct passages as the competition has.

    The sample has fewer passages than that: the others are questions' constructs and answers, texts of their length.
    """
    task = eedi.load(raw)
    labelled = [query for query in task.queries if query.id in task.qrels]
    asked = list(dict.fromkeys(query_text(query, recipe.prompts) for query in labelled))
    held_out = [
        (QueryMetadata(query_text(query, recipe.prompts)), task.passages[task.qrels[query.id][0]])
        for query in labelled[-HELD_OUT:]
    ]
    own = {given.text for given, _ in held_out}
    queries = [text for text in asked if text not in own][: SMALL["queries"] if small else QUERIES]
    shared = ExampleBank(held_out, recipe.prompts).choose(QueryMetadata(""), recipe.prompts.examples_number)
    others = (f"{query.fields['construct']}: {query.fields['wrong']}" for query in task.queries)
    passages = list(dict.fromkeys([*task.passages.values(), *others]))[: SMALL["passages"] if small else PASSAGES]
    return Texts(queries, [shared] * len(queries), passages)


def with_examples(recipe: Recipe, number: int = 2) -> Recipe:
    """The recipe with the same few-shot examples before every query."""
    return recipe.replace("prompts", examples="fixed", examples_number=number)


def collect(raw: Path, recipe: Recipe, folder: Path) -> Path:
    """Write split v1 of the sample as a collection and return its folder."""
    task = eedi.load(raw)
    collection.write(task, splits.make_split(task, "v1", SEED), recipe.prompts, folder, {})
    return folder


def mined(folder: Path, rows: int) -> Path:
    """Write training rows with negatives drawn from the corpus in order, which costs no encoding.

    Args:
        folder: the collection.
    """
    passages = list(collection.read_pool(folder / collection.POOL).values())
    found = []
    for number, row in enumerate(collection.read_rows(folder / collection.FINETUNE, ("pos",))[:rows]):
        others = [passages[(number * 7 + step) % len(passages)] for step in range(20)]
        found.append({**row, "neg": [text for text in others if text not in row["pos"]][:15]})
    path = folder / "finetune_data_minedHN.jsonl"
    store.write_jsonl(path, found)
    return path


def replace_model(recipe: Recipe, **changed) -> Recipe:
    """The recipe with other values in its section `model`."""
    return dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, **changed))
