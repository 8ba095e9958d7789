"""Corpus work: write random corpora in BEIR's layout and make collections of them; imports no model library."""

import random
import time
from pathlib import Path

from rounds.artifacts import store
from rounds.benchmark.contenders import Contender
from rounds.config.recipe import Recipe
from rounds.data import collection, official_split
from rounds.data.loaders import registry
from rounds.data.loaders.registry import Columns

WORDS = """above adding after all among amount and angle answers area asked before behind below between both bracket but
calculating change common compound converting count decimal degrees digit distance dividing divisor does each edge end
equal equation every factor far finding first for form fraction frequency from gives goes gradient hours how inside
integer into its known large leaves length letter line linear long lower make many mean measure median minutes missing
negative not nothing number off once one only order other out over pair parallel part percentage pieces place point
polygon power probability product quadratic quantity raised rate ratio reading round same sequence shape sharing side
sign single small solid solving speed square stand step straight sum surface symbol table takes term than that then
three time together total triangle turn two units unknown upper using value way what when where who whole with without
working writing""".split()  # a random Mistral's tokenizer knows each as one token

PASSAGE_WORDS, QUERY_WORDS = 60, 10

QUERIES = 200  # to train on, and as many to evaluate

SEED = 42


def write_beir(folder: Path, passages: int) -> None:
    """Write random passages of `PASSAGE_WORDS` words, and queries with one relevant passage each."""
    generator = random.Random(SEED)

    def write(prefix: str, count: int, words: int) -> None:
        rows = ({"_id": f"{prefix}{n}", "text": draw(generator, words)} for n in range(count))
        store.write_jsonl(folder / f"{'corpus' if prefix == 'p' else 'queries'}.jsonl", rows)

    (folder / "qrels").mkdir(parents=True)
    write("p", passages, PASSAGE_WORDS)
    write("q", 2 * QUERIES, QUERY_WORDS)
    for start, part in ((0, "train"), (QUERIES, "test")):
        lines = (f"q{start + n}\tp{generator.randrange(passages)}\t1\n" for n in range(QUERIES))
        store.write_text(folder / "qrels" / f"{part}.tsv", "query-id\tcorpus-id\tscore\n" + "".join(lines))


def draw(generator: random.Random, words: int) -> str:
    """Return a text of random words."""
    return " ".join(generator.choices(WORDS, k=words))


def make_collection(contender: Contender, recipe: Recipe, raw: Path, folder: Path) -> tuple[float, int]:
    """Load a folder in BEIR's layout and write its collection.

    Returns:
        Seconds, and the number of passages.
    """
    start = time.perf_counter()
    dataset, _ = registry.load_dataset("beir", raw, Columns())
    divided, split, _ = official_split.divide(dataset, "official", SEED)
    collection.write(divided, split, recipe.prompts, folder, {})
    return time.perf_counter() - start, len(dataset.passages)
