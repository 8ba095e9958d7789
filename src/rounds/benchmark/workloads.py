"""Contest: one piece of work, done by us or by a peer in a process of its own, with its seconds and peak memory."""

import contextlib
import dataclasses
import importlib.util
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.sampler import DefaultBatchSampler
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from transformers import PrinterCallback, TrainerCallback, set_seed

from rounds import process
from rounds.config.recipe import Recipe
from rounds.data import collection
from rounds.data.prompts import max_input_length, prefix_and_suffix
from rounds.encoding import batching, flagembedding, prefix_cache, run_store
from rounds.encoding.batching import Layout
from rounds.encoding.encoder import encode
from rounds.encoding.tokenization import join_examples, tokenize
from rounds.evaluation.stage import evaluate_checkpoint
from rounds.mining import sampling
from rounds.mining.stage import MiningJob, mine_file
from rounds.models import checkpoint
from rounds.models.checkpoint import Checkpoint
from rounds.models.precision import autocast
from rounds.retrieval import search
from rounds.retrieval.vectors import unit_vectors
from rounds.training import losses, stock_baseline
from rounds.training.collator import Collator
from rounds.training.dataset import read_groups
from rounds.training.loss_module import ContrastiveLoss
from rounds.training.stage import finetune_round

OURS, UNSHARED = "rounds", "rounds, prefix not shared"

STOCK, FLAG = "sentence-transformers", "FlagEmbedding"

QUICK = 8.0  # seconds below which work is repeated and the best of three taken

WARM_UP = 8  # steps: new shapes cost compiled kernels

SEED = 42


@dataclass(frozen=True)
class Contender:
    """Who does the work and what it computes in.

    Attributes:
        precision: `fp32`, or `bf16`, each in the party's own way.
    """

    name: str
    precision: str

    @property
    def is_ours(self) -> bool:
        """Whether our code does it."""
        return self.name in (OURS, UNSHARED)


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        seconds: of the work, without imports, loading where that is no part of it, and warming up.
        peak: MiB of memory that the process held at most, mapped files not counted.
        result: what the parties must agree on.
    """

    seconds: float
    peak: float
    result: object


def is_installed(name: str) -> bool:
    """Whether a party is installed."""
    return name != FLAG or importlib.util.find_spec("FlagEmbedding") is not None


def precisions(name: str) -> tuple[str, ...]:
    """What a party computes in on a CPU; FlagEmbedding takes fp32 there, whatever it is told."""
    return ("fp32",) if name == FLAG else ("fp32", "bf16")


def run_alone(work: Callable[..., tuple[float, object]], party: Contender, *arguments) -> Outcome:
    """`work(party, *arguments)` in a fresh process, so that no party profits from another's memory or threads."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_watched, work, party, arguments).result()


def _watched(work: Callable[..., tuple[float, object]], party: Contender, arguments: tuple) -> Outcome:
    process.quiet_libraries()
    if party.is_ours:
        process.keep_freed_memory()
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        with _peak() as peak:
            seconds, result = work(party, *arguments)
    return Outcome(seconds, max(peak), result)


@contextlib.contextmanager
def _peak() -> Iterator[list[float]]:
    """Samples of the process's own memory, MiB."""
    found, over = [_held()], threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            found.append(_held())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()
        found.append(_held())


def _held() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def timed(work: Callable[[], object]) -> tuple[float, object]:
    """Seconds and result; the best of three where it is quick."""
    seconds: list[float] = []
    while len(seconds) < (3 if not seconds or seconds[0] < QUICK else 1):
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
    return min(seconds), result


def encode_texts(
    party: Contender, recipe: Recipe, queries: list[str], before: list[list[str]] | None, passages: list[str]
) -> tuple[float, np.ndarray]:
    """Queries (behind their examples) and passages -> (queries + passages, dim) vectors."""
    work = _encoder(party, recipe)
    work(queries[:8], before and before[:8], passages[:8])
    return timed(lambda: work(queries, before, passages))


Encode = Callable[[list[str], list[list[str]] | None, list[str]], np.ndarray]


def _encoder(party: Contender, recipe: Recipe) -> Encode:
    source = checkpoint.resolve(None, recipe, "cpu", party.precision)
    if party.name == FLAG:
        model, (start, end) = flagembedding.load(source), prefix_and_suffix(recipe.prompts, "passage")

        def theirs(queries, before, passages):
            found = [flagembedding.encode_queries(model, source, queries, before)]
            if passages:
                found.append(model.encode_corpus([start + text + end for text in passages]))
            return np.concatenate(found).astype(np.float32)

        return theirs
    if party.name == STOCK:
        embedder = stock_baseline.stock(recipe, party.precision, "cpu")

        start, end = prefix_and_suffix(recipe.prompts, "passage")

        def stock(queries, before, passages):
            embedder.max_seq_length = max_input_length(recipe.prompts)
            texts = whole_texts(embedder.tokenizer, recipe, queries, before)
            found = [embedder.encode(texts, show_progress_bar=False)]
            if passages:
                embedder.max_seq_length = recipe.prompts.passage_max_length
                found.append(embedder.encode([start + text + end for text in passages], show_progress_bar=False))
            return np.concatenate(found).astype(np.float32)

        return stock
    embedder = source.load()
    if party.name == UNSHARED:
        recipe = recipe.replace("prompts", share_prefix=False)

    def ours(queries, before, passages):
        found = [encode(embedder, queries, recipe.prompts, "query", party.precision, examples=before)]
        if passages:
            found.append(encode(embedder, passages, recipe.prompts, "passage", party.precision))
        return np.concatenate(found)

    return ours


def whole_texts(tokenizer, recipe: Recipe, queries: list[str], before: list[list[str]] | None) -> list[str]:
    """Examples, prompt and query as one text, which is all that a peer takes."""
    prefix_text, suffix = prefix_and_suffix(recipe.prompts, "query")
    leads = join_examples(tokenizer, before, recipe.prompts, "query") if before else [""] * len(queries)
    return [f"{lead}{prefix_text}{query}{suffix}" for lead, query in zip(leads, queries, strict=True)]


def _mining_job(source: Checkpoint, recipe: Recipe, folder: Path, output: Path) -> MiningJob:
    pool = folder / collection.POOL
    return MiningJob(source, recipe.mining, folder / collection.FINETUNE, pool, output, SEED, output.parent)


def mine(party: Contender, recipe: Recipe, folder: Path) -> tuple[float, dict[str, list[str]]]:
    """Load the model, encode training queries and corpus, search, filter and sample -> query -> negatives' texts."""
    rows = collection.read_rows(folder / collection.FINETUNE, ("pos",))

    def ours() -> dict[str, list[str]]:
        source = checkpoint.resolve(None, recipe, "cpu", party.precision)
        with tempfile.TemporaryDirectory() as scratch:
            output = Path(scratch) / "mined.jsonl"
            mine_file(_mining_job(source, recipe, folder, output))
            return {row["query"]: row["neg"] for row in collection.read_rows(output, ("neg",))}

    def theirs() -> dict[str, list[str]]:
        embedder = stock_baseline.stock(recipe, party.precision, "cpu")
        embedder.max_seq_length = recipe.prompts.query_max_length
        number = recipe.mining.negative_number
        mined = stock_baseline.mine(embedder, recipe, folder, rows, number)
        return {row["anchor"]: [row[f"negative_{n + 1}"] for n in range(number)] for row in mined}

    return timed(ours if party.is_ours else theirs)


class _Clock(TrainerCallback):
    """Notes when each step ended and its loss."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.losses: list[float] = []

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.times.append(time.perf_counter())

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        if "loss" in (logs or {}):
            self.losses.append(float(logs["loss"]))


class _InOrder(DefaultBatchSampler):
    def __iter__(self) -> Iterator[list[int]]:
        rows = len(self.sampler)
        return iter([list(range(start, start + self.batch_size)) for start in range(0, rows, self.batch_size)])


class _Unmasked(Collator):
    """Every drawn passage is a candidate for every query, as often as it was drawn: the peer's loss."""

    def __call__(self, rows: list[dict[str, int]]) -> dict:
        batch = super().__call__(rows)
        drawn = [self.groups.draw(row["row"], self.epoch, self.group_size) for row in rows]
        slots = [number for positive, negatives in drawn for number in (positive, *negatives)]
        labels = batch["label"]
        place = dict(zip(labels["passages"].tolist(), labels["passage_order"].tolist(), strict=True))
        starts = np.cumsum([0, *(1 + len(negatives) for _, negatives in drawn[:-1])])
        labels["passage_order"] = torch.tensor([place[number] for number in slots])
        labels["passages"] = torch.arange(len(slots))
        labels["positive"] = torch.tensor(starts)
        labels["known"] = torch.full((len(rows), 1), -2)
        return batch


def steps(party: Contender, recipe: Recipe, mined: Path, count: int) -> tuple[float, list[float]]:
    """Median seconds of a training step by the Trainer, and each step's loss; label masking off."""
    data, size = read_groups(mined, SEED, recipe), recipe.training.batch_size
    rows = range(count * size)
    clock = _Clock()
    set_seed(SEED)
    if party.is_ours:
        embedder = checkpoint.resolve(None, recipe, "cpu", party.precision).load().train()
        collator = _Unmasked(data, embedder, recipe, SEED)
        table = Dataset.from_dict({"row": list(rows)})
        loss = ContrastiveLoss(embedder, recipe.training, party.precision)
        more = {"data_collator": collator}
    else:
        embedder, more = stock_baseline.stock(recipe, "fp32", "cpu").train(), {}
        embedder.max_seq_length = recipe.prompts.query_max_length
        drawn = [data.draw(row, 0, recipe.training.group_size) for row in rows]
        start, end = prefix_and_suffix(recipe.prompts, "passage")
        passages = [start + text + end for text in data.passages]
        queries = whole_texts(embedder.tokenizer, recipe, [data.queries[row] for row in rows], None)
        columns = {"anchor": queries, "positive": [passages[positive] for positive, _ in drawn]}
        for n in range(recipe.training.group_size - 1):
            columns[f"negative_{n + 1}"] = [passages[negatives[n]] for _, negatives in drawn]
        table = Dataset.from_dict(columns)
        loss = MultipleNegativesRankingLoss(embedder, scale=1 / recipe.training.temperature)
    with tempfile.TemporaryDirectory() as scratch:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=scratch, num_train_epochs=1, per_device_train_batch_size=size, learning_rate=1e-5,
            bf16=party.precision == "bf16", use_cpu=True, save_strategy="no", logging_steps=1, report_to="none",
            remove_unused_columns=False, disable_tqdm=True, dataloader_pin_memory=False,
            batch_sampler=lambda rows, batch_size, seed=0, **_: _InOrder(rows, batch_size, False, seed=seed),
        )  # fmt: skip
        trainer = _Trainer(
            model=embedder, args=arguments, train_dataset=table, loss=loss, callbacks=[clock], **more
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return float(np.median(np.diff(clock.times)[WARM_UP - 1 :])), clock.losses


class _Trainer(SentenceTransformerTrainer):
    def add_model_card_callback(self, default_args_dict: dict) -> None:
        """No model card: it would sample the dataset for widget examples."""


def examples_step(
    party: Contender, recipe: Recipe, queries: list[str], before: list[list[str]]
) -> tuple[float, np.ndarray]:
    """Forward and backward pass of queries behind shared examples, and their vectors."""
    if party.is_ours:
        embedder = checkpoint.resolve(None, recipe, "cpu", party.precision).load().train()
    else:
        embedder = stock_baseline.stock(recipe, "fp32", "cpu").train()
    ids = tokenize(embedder.tokenizer, queries, recipe.prompts, "query", before)
    layout = Layout.for_model(embedder, max(map(len, ids)))
    shared = prefix_cache.group_by_prefix(ids, layout)[0][0]

    def forward(ids: list[list[int]]) -> torch.Tensor:
        if party.name == OURS:
            cache = prefix_cache.compute_prefix(embedder, ids[0][:shared])
            own = batching.to_tensors([row[shared:] for row in ids], layout, prefix_length=shared)
            return prefix_cache.embed(embedder, own, cache)[: len(ids)]
        if party.name == UNSHARED:
            return embedder(batching.to_tensors(ids, layout))["sentence_embedding"][: len(ids)]
        texts = whole_texts(embedder.tokenizer, recipe, queries[: len(ids)], before[: len(ids)])
        return embedder(embedder.preprocess(texts))["sentence_embedding"]

    def step(ids: list[list[int]]) -> np.ndarray:
        embedder.zero_grad()
        with autocast(party.precision, "cpu"):
            vectors = forward(ids)
        nothing = torch.zeros(len(ids), len(ids), dtype=torch.bool)
        losses.info_nce(vectors, vectors.roll(1, 0), torch.arange(len(ids)), nothing, 0.05).backward()
        return vectors.detach().float().numpy()

    step(ids[:2])
    return timed(lambda: step(ids))


def whole_round(party: Contender, recipe: Recipe, folder: Path) -> tuple[float, float]:
    """Mine, train one epoch and evaluate -> MAP@25."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        found = (_our_round if party.is_ours else _their_round)(party, recipe, folder, Path(scratch))
    return time.perf_counter() - start, found


def _our_round(party: Contender, recipe: Recipe, folder: Path, scratch: Path) -> float:
    recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, precision=party.precision))
    source, mined = checkpoint.resolve(None, recipe, "cpu"), scratch / "mined.jsonl"
    mine_file(_mining_job(source, recipe, folder, mined))
    finetune_round(
        source, recipe.replace("training", epochs=1), mined, scratch / "train", validation=None, round_number=1,
        seed=SEED, processes=1, tracker="none", allow_leak=False, overwrite=False, model_output=scratch,
    )  # fmt: skip
    trained = checkpoint.resolve(str(scratch / "train"), device="cpu")
    return evaluate_checkpoint(trained, collection.read(folder), scratch, False).metrics["MAP@25"]


def _their_round(party: Contender, recipe: Recipe, folder: Path, scratch: Path) -> float:
    data = collection.read(folder)
    rows = collection.read_rows(folder / collection.FINETUNE, ("pos",))
    set_seed(SEED)
    embedder = stock_baseline.stock(recipe, party.precision, "cpu")
    embedder.max_seq_length = recipe.prompts.query_max_length
    mined = stock_baseline.mine(embedder, recipe, folder, rows)
    stock_baseline.fit(embedder.float(), mined, scratch, 1, SEED, "cpu", bf16=party.precision == "bf16")
    relevant = {query: set(passages) for query, passages in data.qrels.items()}
    evaluator = InformationRetrievalEvaluator(
        data.validation, data.passages, relevant, map_at_k=[25], write_csv=False, name="all", batch_size=32
    )
    with autocast(party.precision, "cpu"):
        return float(evaluator(embedder)["all_cosine_map@25"])


def search_corpus(party: Contender, queries: int, passages: int, dim: int) -> tuple[float, int]:
    """Rank random passages in a memory-mapped file and mine 15 negatives from ranks 2 to 200."""
    generator = np.random.default_rng(SEED)
    with tempfile.TemporaryDirectory() as scratch:
        corpus = np.lib.format.open_memmap(f"{scratch}/vectors.npy", "w+", np.float32, (passages, dim))
        for start in range(0, passages, 50_000):
            block = generator.standard_normal((min(50_000, passages - start), dim), dtype=np.float32)
            corpus[start : start + len(block)] = unit_vectors(block)
        corpus.flush()
        corpus = np.load(f"{scratch}/vectors.npy", mmap_mode="r")
        asked = generator.standard_normal((queries, dim), dtype=np.float32)
        query_ids, passage_ids = [f"q{n}" for n in range(queries)], [f"p{n}" for n in range(passages)]
        texts = {each: f"passage {each}" for each in passage_ids}
        qrels = {query: [passage_ids[n]] for n, query in enumerate(query_ids)}
        how = Recipe("search").mining
        start = time.perf_counter()
        run = search.rank(query_ids, asked, passage_ids, corpus, run_store.DEPTH)
        found = sampling.sample_negatives(run, qrels, texts, how, SEED)
        return time.perf_counter() - start, len(found.short)
