"""Encoding speed: tokens a second on the data's own texts, beside what the device's matrix products allow."""

import functools
import math
import time
from dataclasses import dataclass

from sentence_transformers import SentenceTransformer

from rounds.config.recipe import Prompts
from rounds.encoding import prefix_cache
from rounds.encoding.batching import Layout
from rounds.encoding.encoder import EncodingOptions, ImageFeatures, encode_ids, select_rows
from rounds.encoding.tokenization import tokenize
from rounds.models import dual_encoder, image_inputs, token_bound

WARM_UP = 8  # texts that are encoded before the clock starts

BOUND_REPEATS = 3  # products: ten would take longer than some models' encoding


@dataclass(frozen=True)
class EncodingSpeed:
    """What encoding some texts took.

    Attributes:
        texts: number of texts.
        tokens: tokens that went through the model; those of a shared prefix count once.
        seconds: duration.
        bound: tokens per second that the device's matrix products allow (`models.token_bound`).
    """

    texts: int
    tokens: int
    seconds: float
    bound: float

    @property
    def speed(self) -> float:
        """Return the tokens per second."""
        return self.tokens / self.seconds


def measure_speed(
    embedder: SentenceTransformer,
    texts: list[str],
    prompts: Prompts,
    kind: str,
    precision: str,
    seconds: float = math.inf,
) -> EncodingSpeed:
    """Encode texts with the recipe's prompts, and time it without loading and warming up.

    Args:
        texts: distinct texts, at least one.
        kind: `query` or `passage`.
        precision: `fp32`, `bf16`, `fp16`, `nf4` or `fp4`.
        seconds: time for encoding; a model that would take longer encodes as many of the texts as it is sure to manage,
            at least one.
    """
    embedder = dual_encoder.encoder_for(embedder, kind)
    ids = tokenize(embedder.tokenizer, texts, prompts, kind)
    images = image_inputs.image_arrays(embedder, texts)
    options = EncodingOptions(share_prefix=prompts.share_prefix, kind=kind)
    timed = functools.partial(_time_encoding, embedder, ids, precision, options, images)
    count, last = 1, timed(1)
    spent = last
    while count < min(WARM_UP, len(ids)) and spent + 2 * last < seconds / 2:
        count *= 2
        last = timed(count)
        spent += last
    ids = ids[: max(int(min((seconds - spent) / last * count, len(ids))), 1)]
    duration = timed(len(ids))
    tokens = count_computed_tokens(embedder, ids, prompts.share_prefix)
    bound = token_bound.tokens_per_second(embedder[0].model, precision, trains=False, repeats=BOUND_REPEATS)
    return EncodingSpeed(len(ids), tokens, duration, bound)


def _time_encoding(
    embedder: SentenceTransformer,
    ids: list[list[int]],
    precision: str,
    options: EncodingOptions,
    images: ImageFeatures,
    count: int,
) -> float:
    """Return the seconds of encoding the first `count` texts."""
    ids = ids[:count]
    start = time.perf_counter()
    encode_ids(embedder, ids, precision, options, select_rows(images, range(len(ids))))
    return time.perf_counter() - start


def count_computed_tokens(embedder: SentenceTransformer, ids: list[list[int]], share_prefix: bool) -> int:
    """Return the tokens of texts that go through the model: those of a shared prefix once for its group.

    Args:
        ids: token ids of each text.
        share_prefix: the recipe's `prompts.share_prefix`.
    """
    longest = max(map(len, ids))
    if not (share_prefix and prefix_cache.can_share(embedder, longest)):
        return sum(map(len, ids))
    groups = prefix_cache.group_by_prefix(ids, Layout.for_model(embedder, longest))
    return prefix_cache.count_tokens(ids, groups)
