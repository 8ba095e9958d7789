"""Encoding work: embed texts, queries behind few-shot examples too, and score pairs, with Rounds and with peers."""

import functools
from collections.abc import Callable

import numpy as np

from rounds.benchmark.contenders import FLAG, STOCK, UNSHARED, Contender, timed
from rounds.config.recipe import Recipe
from rounds.data.prompts import max_input_length, prefix_and_suffix
from rounds.encoding import flagembedding
from rounds.encoding.decoder_scorer import DecoderScorer
from rounds.encoding.encoder import encode
from rounds.encoding.tokenization import join_examples
from rounds.errors import UserError
from rounds.models import checkpoint, cross_encoder
from rounds.models.precision import DTYPES
from rounds.models.weights import locate_model
from rounds.training import stock_baseline

# Takes queries, the examples before each (or None) and passages; returns (queries + passages, dim) vectors.
EncodeFunction = Callable[[list[str], list[list[str]] | None, list[str]], np.ndarray]


def encode_texts(
    contender: Contender,
    recipe: Recipe,
    queries: list[str],
    examples: list[list[str]] | None,
    passages: list[str],
) -> tuple[float, np.ndarray]:
    """Embed queries behind their examples, and passages.

    Returns:
        Seconds, and (queries + passages, dim) vectors.
    """
    make_encoder = {FLAG: _flagembedding_encoder, STOCK: _stock_encoder}.get(contender.name, _rounds_encoder)
    work = make_encoder(contender, recipe)
    work(queries[:8], examples and examples[:8], passages[:8])  # warm up
    return timed(lambda: work(queries, examples, passages))


def _rounds_encoder(contender: Contender, recipe: Recipe) -> EncodeFunction:
    embedder = checkpoint.resolve(None, recipe, "cpu", contender.precision).load()
    prompts = recipe.replace("prompts", share_prefix=False).prompts if contender.name == UNSHARED else recipe.prompts

    def work(queries, examples, passages):
        vectors = [encode(embedder, queries, prompts, "query", contender.precision, examples=examples)]
        if passages:
            vectors.append(encode(embedder, passages, prompts, "passage", contender.precision))
        return np.concatenate(vectors)

    return work


def _stock_encoder(contender: Contender, recipe: Recipe) -> EncodeFunction:
    embedder = stock_baseline.load_stock_model(recipe, contender.precision, "cpu")
    prefix, suffix = prefix_and_suffix(recipe.prompts, "passage")

    def work(queries, examples, passages):
        embedder.max_seq_length = max_input_length(recipe.prompts)
        texts = join_query_texts(embedder.tokenizer, recipe, queries, examples)
        vectors = [embedder.encode(texts, show_progress_bar=False)]
        if passages:
            embedder.max_seq_length = recipe.prompts.passage_max_length
            vectors.append(embedder.encode([prefix + text + suffix for text in passages], show_progress_bar=False))
        return np.concatenate(vectors).astype(np.float32)

    return work


def _flagembedding_encoder(contender: Contender, recipe: Recipe) -> EncodeFunction:
    source = checkpoint.resolve(None, recipe, "cpu", contender.precision)
    model = flagembedding.load(source)
    prefix, suffix = prefix_and_suffix(recipe.prompts, "passage")

    def work(queries, examples, passages):
        vectors = [flagembedding.encode_queries(model, source, queries, examples)]
        if passages:
            vectors.append(model.encode_corpus([prefix + text + suffix for text in passages]))
        return np.concatenate(vectors).astype(np.float32)

    return work


def score_pairs(contender: Contender, recipe: Recipe, pairs: list[tuple[str, str]]) -> tuple[float, np.ndarray]:
    """Score pairs of query and passage with a decoder that answers yes or no.

    Returns:
        Seconds, and (pairs,) scores.
    """
    recipe = recipe.replace("model", precision=contender.precision)
    recipe = recipe.replace("prompts", share_prefix=contender.name != UNSHARED)
    model = cross_encoder.load(locate_model(recipe.model), recipe, "cpu")
    if contender.is_ours:
        scorer = DecoderScorer.find(model, recipe)
        if scorer is None:
            raise UserError(f"recipe {recipe.name}: its decoder changes its logits, so that no beginning can be shared")
        work = functools.partial(scorer.score, precision=contender.precision)
    else:
        model = model.to(DTYPES[contender.precision])
        work = functools.partial(model.predict, show_progress_bar=False)
    work(pairs[:8])  # warm up
    seconds, scores = timed(lambda: work(pairs))
    return seconds, np.asarray(scores, dtype=np.float32)


def join_query_texts(tokenizer, recipe: Recipe, queries: list[str], examples: list[list[str]] | None) -> list[str]:
    """Join examples, prompt and query into one text each, the only input that peer libraries take."""
    prefix, suffix = prefix_and_suffix(recipe.prompts, "query")
    leads = join_examples(tokenizer, examples, recipe.prompts, "query") if examples else [""] * len(queries)
    return [f"{lead}{prefix}{query}{suffix}" for lead, query in zip(leads, queries, strict=True)]
