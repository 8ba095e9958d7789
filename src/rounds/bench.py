"""Bench: our encoding, mining and training steps beside the peers', on the same texts in one run."""

import dataclasses
import importlib.util
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from rounds import artefact, baseline, collection, encoding, groups, prompts, stages, training
from rounds import prefix as prefix_sharing
from rounds import recipe as recipes
from rounds.errors import UserError
from rounds.groups import Groups
from rounds.model import backbone, checkpoint, flagembedding
from rounds.model.checkpoint import Checkpoint
from rounds.recipe import Recipe

TEXTS = 400
STEPS = 8
WARM_UP = 3
AGREE = 0.999
SHARING, WORDS, PREFIX = 64, 16, 540  # queries behind one set of examples, words of each, tokens of the examples
STOCK = "sentence-transformers"


@dataclass(frozen=True)
class Timing:
    """Seconds of the same work by us and by a peer, measured in one process, one after the other."""

    work: str
    peer: str
    ours: float
    theirs: float


def run(source: Checkpoint, mined: Path, folder: Path) -> list[Timing]:
    """Time our work beside the peers'; ours in the checkpoint's precision, theirs as it comes (fp32).

    Args:
        source: the model of the encoding, mining and training rows.
        mined: mined JSONL of the collection's training rows.
        folder: the collection.

    Raises:
        UserError: a peer's vectors differ from ours, or there are too few rows.
    """
    data, passages = groups.read(mined, 42, source.recipe), list(collection.read(folder).passages.values())
    size = source.recipe.training.batch_size
    if len(data.queries) < size * (WARM_UP + STEPS):
        raise UserError(f"{mined}: has {len(data.queries)} rows, {size * (WARM_UP + STEPS)} are needed to time steps")
    step = f"training step, {size} x {source.recipe.training.group_size}"
    rows = [
        Timing("encode with the recipe's model", STOCK, *_encode(source, data.queries[:TEXTS], passages[:TEXTS])),
        Timing(f"mine for {len(data.queries)} queries", "mine_hard_negatives", *_mine(source, folder)),
        Timing(step, STOCK, *_steps(source, data, size)),
    ]
    return rows + _behind_examples(data, source.device)


def _mine(source: Checkpoint, folder: Path) -> tuple[float, float]:
    """Both load the model, encode training queries and corpus, search and sample."""
    recipe = source.recipe
    rows = artefact.read_jsonl(folder / collection.FINETUNE, ("query", "pos"))

    def ours(scratch: str) -> None:
        where = Path(scratch)
        stages.mine_file(source, recipe.mining, folder / collection.FINETUNE, folder / collection.POOL,
                         where / "mined.jsonl", 42, where, False)  # fmt: skip

    def theirs() -> None:
        embedder = backbone.load(recipe, "fp32", source.device)
        embedder.max_seq_length = recipe.prompts.query_max_length
        baseline.mine(embedder, recipe, folder, rows, recipe.mining.negative_number)

    with tempfile.TemporaryDirectory() as scratch:
        return _seconds(lambda: ours(scratch)), _seconds(theirs)


def _behind_examples(data: Groups, device: str) -> list[Timing]:
    """A decoder (random Mistral, 20M parameters) encodes queries that share few-shot examples."""
    with tempfile.TemporaryDirectory() as scratch:
        recipe = _decoder(Path(scratch))
        source = checkpoint.resolve(None, recipe, device, "fp32")
        embedder = source.load()
        tokenizer = embedder.tokenizer
        short = list(dict.fromkeys(" ".join(query.split()[:WORDS]) for query in data.queries))
        queries, rest = short[:SHARING], short[SHARING:]
        prefix, suffix = prompts.wrap(recipe.prompts, "query")
        texts: list[str] = []
        for query in rest:
            more = [*texts, f"{prefix}{query}{suffix}answer"]
            if len(tokenizer("".join(more))["input_ids"]) > PREFIX:
                break
            texts = more
        before = [texts] * len(queries)
        ids = encoding.tokenize(tokenizer, queries, recipe.prompts, "query", before)
        (lead,) = encoding.lead_texts(tokenizer, [texts], recipe.prompts, "query")
        whole = [f"{lead}{prefix}{query}{suffix}" for query in queries]
        embedder.max_seq_length = max(map(len, ids))

        def ours() -> np.ndarray:
            return encoding.encode(embedder, queries, recipe.prompts, "query", "fp32", before=before)

        peers: dict[str, Callable[[], np.ndarray]] = {
            "not shared": lambda: encoding.encode_ids(embedder, ids, "fp32", "", share_prefix=False),
            STOCK: lambda: embedder.encode(whole, show_progress_bar=False),
        }
        if importlib.util.find_spec("FlagEmbedding"):
            model = flagembedding.load(source)
            peers["FlagICLModel"] = lambda: flagembedding.encode_queries(model, source, queries, before)
        ours()
        seconds, shared = _seconds(ours), prefix_sharing.groups(ids)[0][0]
        own = sum(map(len, ids)) / len(ids) - shared
        title = f"{len(ids)} queries, {shared} shared + {own:.0f} tokens"
        timings = []
        for name, theirs in peers.items():
            _agree(ours(), theirs(), 0.9999)
            timings.append(Timing(title, name, seconds, _seconds(theirs)))
        return timings


def _decoder(folder: Path) -> Recipe:
    """A recipe like bge-en-icl's on a random Mistral that is large enough for matrix products to count."""
    from transformers import AutoTokenizer, MistralConfig, MistralModel

    tiny = recipes.load("tiny-mistral")
    tokenizer = AutoTokenizer.from_pretrained(backbone.locate(tiny.model))
    tokenizer.save_pretrained(folder)
    config = MistralConfig(
        vocab_size=len(tokenizer), hidden_size=512, intermediate_size=1408, num_hidden_layers=6, num_attention_heads=8,
        num_key_value_heads=4, max_position_embeddings=2048, sliding_window=None,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        MistralModel(config).save_pretrained(folder)
    model = dataclasses.replace(tiny.model, name_or_path=str(folder))
    return dataclasses.replace(tiny, model=model).replace(
        "prompts", query_max_length=200, examples="fixed", examples_number=40, examples_max_length=2 * PREFIX
    )


def _agree(ours: np.ndarray, theirs: np.ndarray, least: float = AGREE) -> None:
    cosine = (ours * theirs).sum(axis=1).min()
    if cosine <= least:
        raise UserError(f"the vectors differ (least cosine {cosine:.4f}): their times cannot be compared")


def _encode(source: Checkpoint, queries: list[str], passages: list[str]) -> tuple[float, float]:
    embedder, texts = source.load(), {"query": queries, "passage": passages}

    def ours() -> np.ndarray:
        found = [encoding.encode(embedder, t, source.recipe.prompts, k, source.precision) for k, t in texts.items()]
        return np.concatenate(found)

    def theirs() -> np.ndarray:
        return np.concatenate([_peer_encode(embedder, source, t, k) for k, t in texts.items()])

    _agree(ours(), theirs())
    return _seconds(ours), _seconds(theirs)


def _peer_encode(embedder: SentenceTransformer, source: Checkpoint, texts: list[str], kind: str) -> np.ndarray:
    prefix, suffix = prompts.wrap(source.recipe.prompts, kind)
    embedder.max_seq_length = prompts.max_length(source.recipe.prompts, kind)
    found = embedder.encode([prefix + text + suffix for text in texts], show_progress_bar=False)
    embedder.max_seq_length = source.recipe.prompts.query_max_length
    return found


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _steps(source: Checkpoint, data: Groups, size: int) -> tuple[float, float]:
    """Median seconds of a step: collate, forward, backward, AdamW."""
    group = source.recipe.training.group_size
    ours, peer = source.load().train(), source.load().train()
    peer.max_seq_length = source.recipe.prompts.query_max_length
    collate = groups.Collator(data, ours, source.recipe, 42, False)
    loss = training.ContrastiveLoss(ours, source.recipe.training, source.precision)
    peer_loss = MultipleNegativesRankingLoss(peer, scale=1 / source.recipe.training.temperature)

    def our_loss(rows: list[int]) -> torch.Tensor:
        return loss(*chunks_and_labels(collate([{"row": row} for row in rows])))

    def their_loss(rows: list[int]) -> torch.Tensor:
        drawn = [data.draw(row, 0, group) for row in rows]
        columns = [[data.queries[row] for row in rows], [data.passages[positive] for positive, _ in drawn]]
        columns += [[data.passages[negatives[n]] for _, negatives in drawn] for n in range(group - 1)]
        return peer_loss([peer.preprocess(column) for column in columns], None)

    return _median_step(ours, our_loss, size), _median_step(peer, their_loss, size)


def chunks_and_labels(batch: dict) -> tuple[list[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """A collated batch as the Trainer hands it to the loss."""
    labels = batch.pop("label")
    chunks: dict[str, dict] = {}
    for name, value in batch.items():
        chunk, _, key = name.partition("_")
        chunks.setdefault(chunk, {})[key] = value
    return list(chunks.values()), labels


def _median_step(model: SentenceTransformer, loss: Callable[[list[int]], torch.Tensor], size: int) -> float:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5, fused=True)
    seconds = []
    for step in range(WARM_UP + STEPS):
        start = time.perf_counter()
        loss(list(range(step * size, (step + 1) * size))).backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[WARM_UP:]))
