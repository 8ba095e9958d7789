"""Round work: mining, a whole round and the search of large corpora, with Rounds and with sentence-transformers."""

import dataclasses
import tempfile
import time
from pathlib import Path

import numpy as np
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from transformers import set_seed

from rounds.benchmark.contenders import Contender, timed
from rounds.config.recipe import Recipe
from rounds.data import collection
from rounds.data.passage_pool import ids_of, texts_of
from rounds.encoding import run_store
from rounds.evaluation.stage import evaluate_checkpoint
from rounds.mining import sampling
from rounds.mining.stage import MiningJob, mine_file
from rounds.models import checkpoint
from rounds.models.checkpoint import Checkpoint
from rounds.models.precision import autocast
from rounds.retrieval import search
from rounds.retrieval.representation import VECTORS_FILE
from rounds.retrieval.vectors import unit_vectors
from rounds.training import stock_baseline
from rounds.training.stage import FinetuneJob, finetune_round

SEED = 42


def _mining_job(source: Checkpoint, recipe: Recipe, folder: Path, output: Path) -> MiningJob:
    pool = folder / collection.POOL
    return MiningJob(source, recipe.mining, folder / collection.FINETUNE, pool, output, SEED, output.parent)


def mine(contender: Contender, recipe: Recipe, folder: Path) -> tuple[float, dict[str, list[str]]]:
    """Mine from scratch: load the model, embed training queries and corpus, search, filter and sample.

    Returns:
        Seconds, and query -> texts of its negatives.
    """
    rows = collection.read_rows(folder / collection.FINETUNE, ("pos",))

    def ours() -> dict[str, list[str]]:
        source = checkpoint.resolve(None, recipe, "cpu", contender.precision)
        with tempfile.TemporaryDirectory() as scratch:
            output = Path(scratch) / "mined.jsonl"
            mine_file(_mining_job(source, recipe, folder, output))
            return {row["query"]: row["neg"] for row in collection.read_rows(output, ("neg",))}

    def theirs() -> dict[str, list[str]]:
        embedder = stock_baseline.load_stock_model(recipe, contender.precision, "cpu")
        embedder.max_seq_length = recipe.prompts.query_max_length
        number = recipe.mining.negative_number
        mined = stock_baseline.mine(embedder, recipe, folder, rows, number)
        return {row["anchor"]: [row[f"negative_{n + 1}"] for n in range(number)] for row in mined}

    return timed(ours if contender.is_ours else theirs)


def whole_round(contender: Contender, recipe: Recipe, folder: Path) -> tuple[float, float]:
    """Mine, train one epoch and evaluate.

    Returns:
        Seconds, and MAP@25 of the validation queries.
    """
    start = time.perf_counter()
    run_round = _rounds_round if contender.is_ours else _stock_round
    with tempfile.TemporaryDirectory() as scratch:
        score = run_round(contender, recipe, folder, Path(scratch))
    return time.perf_counter() - start, score


def _rounds_round(contender: Contender, recipe: Recipe, folder: Path, scratch: Path) -> float:
    recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, precision=contender.precision))
    source, mined = checkpoint.resolve(None, recipe, "cpu"), scratch / "mined.jsonl"
    mine_file(_mining_job(source, recipe, folder, mined))
    job = FinetuneJob(
        start=source,
        recipe=recipe.replace("training", epochs=1),
        train_data=mined,
        output=scratch / "train",
        model_output=scratch,
        seed=SEED,
    )
    finetune_round(job)
    trained = checkpoint.resolve(str(scratch / "train"), device="cpu")
    return evaluate_checkpoint(trained, collection.read(folder), scratch, False).metrics["MAP@25"]


def _stock_round(contender: Contender, recipe: Recipe, folder: Path, scratch: Path) -> float:
    data = collection.read(folder)
    rows = collection.read_rows(folder / collection.FINETUNE, ("pos",))
    set_seed(SEED)
    embedder = stock_baseline.load_stock_model(recipe, contender.precision, "cpu")
    embedder.max_seq_length = recipe.prompts.query_max_length
    mined = stock_baseline.mine(embedder, recipe, folder, rows)
    stock_baseline.fit(embedder.float(), mined, scratch, 1, SEED, "cpu", bf16=contender.precision == "bf16")
    relevant = {query: set(passages) for query, passages in data.qrels.items()}
    evaluator = InformationRetrievalEvaluator(
        data.validation, data.passages, relevant, map_at_k=[25], write_csv=False, name="all", batch_size=32
    )
    with autocast(contender.precision, "cpu"):
        return float(evaluator(embedder)["all_cosine_map@25"])


def encode_corpus(contender: Contender, recipe: Recipe, folder: Path) -> tuple[float, int]:
    """Encode a collection's passages and store their vectors beside it.

    Returns:
        Seconds, and the number of passages.
    """
    start = time.perf_counter()
    source = checkpoint.resolve(None, recipe, "cpu", contender.precision)
    passages = collection.read(folder).passages
    runs = run_store.open_store(source, folder.parent)
    vectors, _ = runs.vectors(texts_of(passages), "passage", "corpus", names=ids_of(passages))
    return time.perf_counter() - start, len(vectors)


def mine_encoded(contender: Contender, recipe: Recipe, folder: Path) -> tuple[float, int]:
    """Mine a collection whose passages `encode_corpus` encoded.

    Returns:
        Seconds, and the number of rows.
    """
    start = time.perf_counter()
    source = checkpoint.resolve(None, recipe, "cpu", contender.precision)
    output = folder.parent / "mined.jsonl"
    mine_file(_mining_job(source, recipe, folder, output))
    return time.perf_counter() - start, len(collection.read_rows(output, ("neg",)))


def evaluate_encoded(contender: Contender, recipe: Recipe, folder: Path) -> tuple[float, float]:
    """Evaluate on a collection whose passages `encode_corpus` encoded.

    Returns:
        Seconds, and MAP@25.
    """
    start = time.perf_counter()
    source = checkpoint.resolve(None, recipe, "cpu", contender.precision)
    row = evaluate_checkpoint(source, collection.read(folder), folder.parent, allow_leak=False)
    return time.perf_counter() - start, row.metrics["MAP@25"]


def search_corpus(contender: Contender, queries: int, passages: int, dim: int) -> tuple[float, int]:
    """Rank random passages in a memory-mapped file and mine 15 negatives from ranks 2 to 200.

    Returns:
        Seconds, and the number of queries with too few negatives.
    """
    generator = np.random.default_rng(SEED)
    with tempfile.TemporaryDirectory() as scratch:
        corpus = write_random_vectors(Path(scratch), generator, passages, dim)
        query_vectors = generator.standard_normal((queries, dim), dtype=np.float32)
        query_ids, passage_ids = [f"q{n}" for n in range(queries)], [f"p{n}" for n in range(passages)]
        texts = {passage_id: f"passage {passage_id}" for passage_id in passage_ids}
        qrels = {query: [passage_ids[n]] for n, query in enumerate(query_ids)}
        mining = Recipe("search").mining
        start = time.perf_counter()
        run = search.rank(query_ids, query_vectors, passage_ids, corpus, run_store.DEPTH)
        sampled = sampling.sample_negatives(run, qrels, texts, mining, SEED)
        return time.perf_counter() - start, len(sampled.short)


def write_random_vectors(folder: Path, generator: np.random.Generator, passages: int, dim: int) -> np.ndarray:
    """Write random vectors of unit length to a file and return them memory-mapped, (passages, dim) float32."""
    path = folder / VECTORS_FILE
    corpus = np.lib.format.open_memmap(path, "w+", np.float32, (passages, dim))
    for start in range(0, passages, 50_000):
        block = generator.standard_normal((min(50_000, passages - start), dim), dtype=np.float32)
        corpus[start : start + len(block)] = unit_vectors(block)
    corpus.flush()
    return np.load(path, mmap_mode="r")
