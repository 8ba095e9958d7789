"""Encode: a random 7B decoder in bge-en-icl's shape embeds queries behind examples, and so do its peers."""

from collections.abc import Callable
from unittest import mock

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from rounds.benchmark import models
from rounds.benchmark.bench import Bench, Load, cosines, spread, unshared
from rounds.benchmark.encoding_work import join_query_texts
from rounds.benchmark.report import Section, Skipped
from rounds.benchmark.texts import Texts
from rounds.config.recipe import Recipe
from rounds.data.prompts import max_input_length
from rounds.encoding import flagembedding
from rounds.encoding.encoder import encode
from rounds.models.checkpoint import Checkpoint
from rounds.models.inference_options import InferenceOptions
from rounds.models.weights import locate_model

PEERS_QUERIES = 128
BATCH = 32
LEAST_COSINE = 0.99  # of two implementations that both compute in bf16


def run(bench: Bench, section: Section) -> None:
    """encode queries behind shared examples and passages with a random 7B in bf16, beside the peers"""
    models.free()
    rate = bench.matrix_rate(torch.bfloat16)
    section.note("matrix product in bf16", teraflops=rate)
    recipe = models.recipe_for("random:mistral", "bf16")
    shape = bench.shape(models.SEVEN_B)
    seconds, embedder = bench.time(lambda: models.embedder(shape, recipe, "bf16", bench.device))
    weights = models.count(embedder[0].model)
    section.note(f"draw {shape.name} on the device", seconds=seconds, weights=weights, peak_gib=bench.peak_gib())
    given = bench.texts(recipe)
    ours = _embed(embedder, recipe, given.first(64), "query")  # warm up
    for kind in ("query", "passage"):
        models.free()
        load = Load.of(embedder, recipe, *_of_kind(given, kind))
        seconds, ours = bench.time(lambda kind=kind: _embed(embedder, recipe, given, kind))
        section.note(
            f"{shape.name}: {len(ours)} {'queries behind 2 shared examples' if kind == 'query' else 'passages'}",
            seconds=seconds,
            tokens=load.whole,
            tokens_per_second=load.whole / seconds,
            computed_tokens_per_second=load.computed / seconds,
            share_of_matrix_rate=2 * weights * load.computed / seconds / 1e12 / rate,
            peak_gib=bench.peak_gib(),
        )
        section.check(f"{kind}: share of finite vectors", float(np.isfinite(ours).all(1).mean()), _is_sound(ours))
    _beside_peers(bench, section, embedder, recipe)


def _is_sound(vectors: np.ndarray) -> bool:
    return bool(np.isfinite(vectors).all())


def _of_kind(given: Texts, kind: str) -> tuple:
    return (given.queries, kind, given.before) if kind == "query" else (given.passages, kind, None)


def _embed(embedder: SentenceTransformer, recipe: Recipe, given: Texts, kind: str) -> np.ndarray:
    found, kind, before = _of_kind(given, kind)
    return encode(embedder, found, recipe.prompts, kind, "bf16", examples=before)


def _beside_peers(bench: Bench, section: Section, embedder: SentenceTransformer, recipe: Recipe) -> None:
    """Some queries by each party with the same weights: seconds, and cosine to ours."""
    given = bench.texts(recipe, PEERS_QUERIES)
    tokens = Load.of(embedder, unshared(recipe), given.queries, "query", given.before).whole
    section.content["queries_of_peers"] = len(given.queries)
    parties: dict[str, Callable[[Texts], np.ndarray]] = {
        "rounds": lambda some: _embed(embedder, recipe, some, "query"),
        "rounds, prefix not shared": lambda some: _embed(embedder, unshared(recipe), some, "query"),
        "sentence-transformers": _stock(embedder, recipe),
        "transformers": lambda some: _plain(embedder, recipe, some),
    }
    try:
        parties["FlagEmbedding"] = _flag(bench, embedder, recipe)
    except Skipped as reason:
        section.note("FlagEmbedding", left_out=str(reason))
    ours = None
    for name, embed in parties.items():
        models.free()
        try:
            embed(given.first(BATCH))
            seconds, vectors = bench.time(lambda embed=embed: embed(given))
        except Exception as error:
            if name != "FlagEmbedding":
                raise
            section.note(name, left_out=f"{type(error).__name__}: {str(error)[:120]}")  # its versions, not our fault
            continue
        ours = vectors if ours is None else ours
        least = float(cosines(ours, vectors).min())
        section.note(
            f"{len(given.queries)} queries behind 2 examples: {name}",
            seconds=seconds,
            tokens_per_second=tokens / seconds,
            peak_gib=bench.peak_gib(),
            least_cosine=least,
        )
        if vectors is not ours:
            section.check(f"cosine of {name} to rounds, at least {LEAST_COSINE}", least, least >= LEAST_COSINE)
    section.note("different queries", mean_cosine=spread(ours))


def _texts(embedder: SentenceTransformer, recipe: Recipe, given: Texts) -> list[str]:
    return join_query_texts(embedder.tokenizer, recipe, given.queries, given.before)


def _stock(embedder: SentenceTransformer, recipe: Recipe) -> Callable[[Texts], np.ndarray]:
    stock = models.stock(embedder, recipe)
    stock.max_seq_length = max_input_length(recipe.prompts)
    return lambda given: stock.encode(_texts(embedder, recipe, given), batch_size=BATCH, show_progress_bar=False)


def _plain(embedder: SentenceTransformer, recipe: Recipe, given: Texts) -> np.ndarray:
    """As a model's card says: pad, take the last token's state, normalize."""
    model, found = embedder[0].model, []
    for start in range(0, len(given.queries), BATCH):
        some = Texts(given.queries[start : start + BATCH], given.before[start : start + BATCH], [])
        batch = embedder.tokenizer(_texts(embedder, recipe, some), padding=True, return_tensors="pt")
        batch = {name: batch[name].to(embedder.device) for name in ("input_ids", "attention_mask")}
        with torch.inference_mode():
            states = model(**batch, use_cache=False).last_hidden_state
        last = batch["attention_mask"].sum(1) - 1
        vectors = states[torch.arange(len(states), device=states.device), last].float()
        found.append(torch.nn.functional.normalize(vectors, dim=1).cpu().numpy())
    return np.concatenate(found)


def _flag(bench: Bench, embedder: SentenceTransformer, recipe: Recipe) -> Callable[[Texts], np.ndarray]:
    """FlagICLModel around the weights that are already there.

    Raises:
        Skipped: FlagEmbedding is not installed, or does not work with these versions.
    """
    try:
        from FlagEmbedding.inference.embedder.decoder_only import icl
    except ImportError as error:
        raise Skipped(f"cannot be imported ({str(error)[:120]})") from None
    source = Checkpoint(recipe, "", InferenceOptions("bf16", (bench.device,)), lineage={})
    folder = locate_model(recipe.model)
    with mock.patch.object(icl.AutoModel, "from_pretrained", lambda *_, **__: embedder[0].model):
        model = flagembedding.build(source, folder)
    return lambda given: flagembedding.encode_queries(model, source, given.queries, given.before)
