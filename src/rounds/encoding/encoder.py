"""Embed texts: each distinct text once, sorted by length, in batches of a few fixed shapes."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from transformers.cache_utils import Cache

from rounds.config.recipe import Prompts
from rounds.encoding import batch_loop, batching, model_outputs, prefix_cache, text_blocks
from rounds.encoding.batch_loop import BlockProgress
from rounds.encoding.batching import Layout
from rounds.encoding.text_blocks import TextBlocks
from rounds.encoding.tokenization import Cuts, Tally, report_once, tokenize, tokenize_with_cuts
from rounds.estimate import Counter, Estimate, OnProgress, ignore
from rounds.models import dual_encoder, image_inputs, multi_vector
from rounds.models.precision import autocast, describe_overflow, widened
from rounds.retrieval import representations
from rounds.retrieval.representation import Allocate, Vectors

ImageFeatures = dict[str, np.ndarray] | None  # name -> (rows, ...), as `image_inputs.image_arrays` returns them

allocate_in_memory: Allocate = functools.partial(np.empty, dtype=np.float32)


@dataclass(frozen=True)
class EncodingOptions:
    """Options of encoding that do not depend on the recipe's prompts.

    Attributes:
        title: label of the progress bar.
        share_prefix: compute the start that token sequences have in common once, where the model allows it.
        allocate: returns an array for a shape; by default in memory. A memory-mapped file holds the vectors of a
            corpus that is larger than memory.
        names: the id of each text, for messages; empty for numbers.
        on_cuts: gets what was left out of the texts.
        on_tally: gets how many texts could not be read as they are; otherwise it is printed.
        on_overflow: gets the number of texts whose vectors were computed again; otherwise it is printed.
        on_tokens: gets the number of tokens computed so far and that of all, before the first batch and after each.
        kind: `query` or `passage`, where a model that embeds tokens leaves out some of passages.
        checks_numbers: compute vectors that hold NaN or infinity again in a wider precision, and refuse those that
            still do; otherwise they are returned.
    """

    title: str = ""
    share_prefix: bool = True
    allocate: Allocate = allocate_in_memory
    names: Sequence[str] = ()
    on_cuts: Callable[[Cuts], None] | None = None
    on_tally: Callable[[Tally], None] | None = None
    on_overflow: Callable[[int], None] | None = None
    on_tokens: OnProgress = ignore
    kind: str = "passage"
    checks_numbers: bool = True

    def names_of(self, rows: Sequence[int]) -> list[str]:
        """Return the names of some rows."""
        return [self.names[row] if self.names else f"text {row + 1}" for row in rows]


DEFAULT_OPTIONS = EncodingOptions()

Backend = Callable[[SentenceTransformer, list[list[int]], str, EncodingOptions, ImageFeatures], Vectors]


def encode(
    embedder: SentenceTransformer,
    texts: Sequence[str],
    prompts: Prompts,
    kind: str,
    precision: str,
    examples: Sequence[Sequence[str]] | None = None,
    options: EncodingOptions = DEFAULT_OPTIONS,
    backend: Backend | None = None,
) -> Vectors:
    """Embed texts with the recipe's prompts.

    Args:
        kind: `query` or `passage`.
        precision: `fp32`, `bf16`, `fp16`, `nf4` or `fp4`.
        examples: few-shot examples of each text (`few_shot.select_examples`).
        options: `title` defaults to the kind of text; the recipe's `share_prefix` must be on as well.
        backend: embeds token ids in place of `encode_ids`, such as `workers.encode_on_workers` on several devices.

    Returns:
        (texts, dim) float32, of unit length if the recipe normalizes; or the vectors of another kind of model
        (`retrieval.representations`). The batch's shape changes a text's vector within rounding (bf16: cosine above
        0.999).

    Raises:
        UserError: a text's vector is not finite in any precision that the weights allow.
    """
    embedder = dual_encoder.encoder_for(embedder, kind)
    options = dataclasses.replace(
        options,
        title=options.title or f"encode {kind} texts",
        share_prefix=options.share_prefix and prompts.share_prefix,
        kind=kind,
    )
    backend = backend or encode_ids
    if len(texts) > text_blocks.BLOCK_TEXTS:
        return _encode_in_blocks(embedder, TextBlocks(texts, examples), prompts, precision, options, backend)
    rows = list(zip(texts, map(tuple, examples) if examples is not None else itertools.repeat(()), strict=False))
    place = {row: number for number, row in enumerate(dict.fromkeys(rows))}
    places = [place[row] for row in rows]
    distinct_texts = [text for text, _ in place]
    distinct_examples = [chosen for _, chosen in place] if examples is not None else None
    tally = Tally() if options.on_tally else None
    ids, cuts = tokenize_with_cuts(embedder.tokenizer, distinct_texts, prompts, kind, distinct_examples, tally=tally)
    if options.on_tally:
        options.on_tally(tally)
    if options.on_cuts:
        options.on_cuts(cuts.of_rows(places))
    repeats = len(place) < len(rows)
    names = dict(zip(places[::-1], options.names_of(range(len(rows)))[::-1], strict=True))  # of a text's first row
    distinct_options = dataclasses.replace(
        options,
        allocate=allocate_in_memory if repeats else options.allocate,
        names=[names[number] for number in range(len(place))],
        on_tokens=_estimate(embedder, options, len(place)).update,
    )
    image_features = image_inputs.image_arrays(embedder, distinct_texts)
    vectors = backend(embedder, ids, precision, distinct_options, image_features)
    return representations.of(vectors).take(vectors, places, options.allocate) if repeats else vectors


def _estimate(embedder: SentenceTransformer, options: EncodingOptions, count: int) -> Estimate:
    """Return what prints how long encoding `count` texts takes, once for the same model."""
    kind = "queries" if options.kind == "query" else "passages"
    warms_up = embedder.device.type != "cpu"
    return Estimate(f"{options.title}, {count:,} {kind}", "tokens", warms_up, owner=embedder)


def _encode_in_blocks(
    embedder: SentenceTransformer,
    blocks: TextBlocks,
    prompts: Prompts,
    precision: str,
    options: EncodingOptions,
    backend: Backend,
) -> Vectors:
    """Embed texts block by block, as `encode` does; what it prints counts the texts of all blocks."""
    representation, kind = model_outputs.representation(embedder), options.kind
    tally, cuts, lost = Tally(), Cuts(), []
    builder = representation.builder(text_blocks.count_vectors(embedder, blocks, prompts, kind), options.allocate)
    progress = BlockProgress(_estimate(embedder, options, blocks.distinct_count), blocks.distinct_count)
    for number, block in enumerate(blocks, 1):
        ids, block_cuts = block.tokenize(embedder.tokenizer, prompts, kind, tally)
        cuts.update(block_cuts)
        block_options = dataclasses.replace(
            options,
            title=f"{options.title} {number}/{len(blocks)}",
            allocate=allocate_in_memory,
            names=options.names_of(block.first_rows.tolist()),
            on_overflow=lost.append,
            on_tokens=progress.update,
        )
        progress.start(len(ids))
        image_features = image_inputs.image_arrays(embedder, block.texts)
        vectors = backend(embedder, ids, precision, block_options, image_features)
        for rows, places in block.parts():
            is_whole = len(places) == len(ids) == len(block.rows)
            builder.put(rows, vectors if is_whole else representation.select(vectors, places))
    if options.on_tally:
        options.on_tally(tally)
    else:
        tally.report(prompts, kind)
    tell_overflow(precision, embedder, options, sum(lost), tally.texts)
    if options.on_cuts:
        options.on_cuts(cuts)
    return builder.finish()


def select_rows(image_features: ImageFeatures, rows: Sequence[int]) -> ImageFeatures:
    """Return the image features of some rows; None if there are none."""
    return image_features and {name: values[rows] for name, values in image_features.items()}


def encode_ids(
    embedder: SentenceTransformer,
    ids: list[list[int]],
    precision: str,
    options: EncodingOptions = DEFAULT_OPTIONS,
    image_features: ImageFeatures = None,
) -> Vectors:
    """Embed token ids.

    Args:
        options: no progress bar is shown without a `title`.
        image_features: features of each row's image (`image_inputs.image_arrays`).

    Returns:
        (rows, dim) float32, or the vectors of another kind of model, in the order of `ids`.

    Raises:
        UserError: a single row does not fit into memory, or a vector of the batch just computed is not finite, whatever
            the precision.
    """
    ids = multi_vector.expand_queries(embedder, ids, options.kind)
    longest = max(map(len, ids))
    shares_prefix = options.share_prefix and prefix_cache.can_share(embedder, longest)
    representation = model_outputs.representation(embedder)
    builder = representation.builder(model_outputs.vector_counts(embedder, ids, options.kind), options.allocate)
    lost_count = 0
    with (
        _evaluating(embedder),
        torch.inference_mode(),
        autocast(precision, str(embedder.device)),
        batch_loop.progress_bar(len(ids), options.title) as bar,
    ):
        layout = Layout.for_model(embedder, longest)
        groups = prefix_cache.group_by_prefix(ids, layout) if shares_prefix else [(0, list(range(len(ids))))]
        tokens = Counter(options.on_tokens, prefix_cache.count_tokens(ids, groups))
        for length, rows in groups:
            group = _PrefixGroup(
                embedder=embedder,
                layout=layout.after_prefix(length),
                ids=[ids[row] for row in rows],
                prefix_length=length,
                cache=prefix_cache.compute_prefix(embedder, ids[rows[0]][:length]) if length else None,
                image_features=select_rows(image_features, rows),
                kind=options.kind,
            )
            tokens.done += length  # reported with the group's first batch
            for places, output in batch_loop.within_memory(group.lengths, group.layout, group.embed):
                batch = [rows[place] for place in places]
                lost = representation.find_not_finite(output) if options.checks_numbers else []
                if len(lost):
                    lost_count += len(lost)
                    lost_rows = [batch[place] for place in lost]
                    builder.put(lost_rows, _recompute(embedder, ids, lost_rows, precision, options, image_features))
                    finite = np.setdiff1d(np.arange(len(batch)), lost)
                    batch, output = [batch[place] for place in finite], representation.select(output, finite)
                builder.put(batch, output)
                bar.update(len(places))
                tokens.add(sum(group.lengths[place] for place in places))
    tell_overflow(precision, embedder, options, lost_count, len(ids))
    return builder.finish()


def _recompute(
    embedder: SentenceTransformer,
    ids: list[list[int]],
    rows: list[int],
    precision: str,
    options: EncodingOptions,
    image_features: ImageFeatures,
) -> Vectors:
    """Embed rows whose vectors are not finite in a wider precision."""
    names = options.names_of(rows)
    with widened(embedder, precision, names) as wider:
        silent = dataclasses.replace(options, title="", on_overflow=None, on_tokens=ignore)
        again = dataclasses.replace(silent, allocate=allocate_in_memory, names=names)
        return encode_ids(embedder, [ids[row] for row in rows], wider, again, select_rows(image_features, rows))


def tell_overflow(
    precision: str, embedder: SentenceTransformer, options: EncodingOptions, lost: int, count: int
) -> None:
    """Hand on how many texts were computed again, or print it."""
    if lost and options.on_overflow:
        options.on_overflow(lost)
    elif lost:
        report_once(describe_overflow(embedder, precision, lost, count, "texts"))


@contextmanager
def _evaluating(embedder: SentenceTransformer) -> Iterator[None]:
    """Put a model into evaluation mode (no dropout) and back into its mode afterwards."""
    was_training = embedder.training
    embedder.eval()
    try:
        yield
    finally:
        embedder.train(was_training)


@dataclass(frozen=True)
class _PrefixGroup:
    """Token sequences that share a prefix, and what embedding them takes.

    Attributes:
        ids: token ids of each sequence, prefix included.
        prefix_length: tokens of the prefix; 0 for none.
        cache: the prefix's keys and values; None without a prefix.
        kind: `query` or `passage`.
    """

    embedder: SentenceTransformer
    layout: Layout
    ids: list[list[int]]
    prefix_length: int
    cache: Cache | None
    image_features: ImageFeatures
    kind: str

    @functools.cached_property
    def lengths(self) -> list[int]:
        """Tokens of each sequence behind the prefix."""
        return [len(ids) - self.prefix_length for ids in self.ids]

    def embed(self, rows: list[int], budget: int) -> Vectors:
        """Embed a batch of the sequences."""
        suffixes = [self.ids[row][self.prefix_length :] for row in rows]
        features = batching.to_tensors(suffixes, self.layout, budget, self.prefix_length)
        filled = rows + rows[:1] * (batching.count_rows(features) - len(rows))
        for name, values in (self.image_features or {}).items():
            features[name] = torch.from_numpy(values[filled])
        features = {key: value.to(self.embedder.device) for key, value in features.items()}
        if self.cache:
            return prefix_cache.embed(self.embedder, features, self.cache)[: len(rows)].float().cpu().numpy()
        return model_outputs.read(self.embedder, features, suffixes, self.layout, self.kind)


def token_states(
    embedder: SentenceTransformer, texts: Sequence[str], prompts: Prompts, kind: str, precision: str, title: str
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Embed each token of texts for late interaction: the model's states before pooling.

    Special tokens are left out of every text that has other tokens.

    Args:
        kind: `query` or `passage`.
        title: label of the progress bar.

    Returns:
        for each text (tokens,) int64 token ids and (tokens, dim) float32 of unit length.
    """
    embedder = dual_encoder.encoder_for(embedder, kind).eval()
    ids = tokenize(embedder.tokenizer, texts, prompts, kind)
    special = embedder.tokenizer.all_special_ids
    states_of_texts = []
    options = EncodingOptions(title, kind=kind)
    options = dataclasses.replace(options, on_tokens=_estimate(embedder, options, len(ids)).update)
    for row_ids, states in zip(ids, _states_of_ids(embedder, ids, precision, options), strict=True):
        kept = ~np.isin(row_ids, special)
        kept |= not kept.any()
        states_of_texts.append((np.array(row_ids)[kept], states[kept]))
    return states_of_texts


def _states_of_ids(
    embedder: SentenceTransformer, ids: list[list[int]], precision: str, options: EncodingOptions
) -> list[np.ndarray]:
    """Return the (tokens, dim) states of each row; those that are not finite are computed in a wider precision."""
    layout = Layout.for_model(embedder, max(map(len, ids)))
    states_of_rows: list = [None] * len(ids)
    compute = functools.partial(_batch_states, embedder, layout, ids)
    lost_count, tokens = 0, Counter(options.on_tokens, sum(map(len, ids)))
    with (
        torch.inference_mode(),
        autocast(precision, str(embedder.device)),
        batch_loop.progress_bar(len(ids), options.title) as bar,
    ):
        for rows, batch_states in batch_loop.within_memory(list(map(len, ids)), layout, compute):
            for row, states in zip(rows, batch_states, strict=True):
                states_of_rows[row] = states
            if lost := [row for row in rows if not np.isfinite(states_of_rows[row]).all()]:
                lost_count += len(lost)
                names = options.names_of(lost)
                with widened(embedder, precision, names) as wider:
                    again = _states_of_ids(embedder, [ids[row] for row in lost], wider, EncodingOptions(names=names))
                for row, states in zip(lost, again, strict=True):
                    states_of_rows[row] = states
            bar.update(len(rows))
            tokens.add(sum(len(ids[row]) for row in rows))
    tell_overflow(precision, embedder, options, lost_count, len(ids))
    return states_of_rows


def _batch_states(
    embedder: SentenceTransformer, layout: Layout, ids: list[list[int]], rows: list[int], budget: int
) -> list[np.ndarray]:
    """Return (tokens, dim) for each row of one batch."""
    features = batching.to_tensors([ids[row] for row in rows], layout, budget)
    features = {key: value.to(embedder.device) for key, value in features.items()}
    states = torch.nn.functional.normalize(embedder(dict(features))["token_embeddings"].float(), dim=-1).cpu().numpy()
    if layout.packed:
        return np.split(states[0], np.cumsum([len(ids[row]) for row in rows]))[: len(rows)]
    masks = features["attention_mask"].bool().cpu().numpy()
    return [row_states[mask] for row_states, mask in zip(states, masks, strict=True)][: len(rows)]
