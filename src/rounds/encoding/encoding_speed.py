"""Encoding speed: tokens a second on the data's own texts, beside what the device's matrix products allow."""

import time
from dataclasses import dataclass

from sentence_transformers import SentenceTransformer

from rounds.config.recipe import Prompts
from rounds.encoding import prefix_cache
from rounds.encoding.batching import Layout
from rounds.encoding.encoder import EncodingOptions, encode_ids, select_rows
from rounds.encoding.tokenization import tokenize
from rounds.models import dual_encoder, image_inputs, token_bound

WARM_UP = 8  # texts that are encoded before the clock starts


@dataclass(frozen=True)
class EncodingSpeed:
    """What encoding some texts took.

    Attributes:
        tokens: tokens that went through the model; those of a shared prefix count once.
        seconds: duration.
        bound: tokens per second that the device's matrix products allow (`models.token_bound`).
    """

    tokens: int
    seconds: float
    bound: float

    @property
    def speed(self) -> float:
        """Return the tokens per second."""
        return self.tokens / self.seconds


def measure_speed(
    embedder: SentenceTransformer, texts: list[str], prompts: Prompts, kind: str, precision: str
) -> EncodingSpeed:
    """Encode texts with the recipe's prompts, and time it without loading and warming up.

    Args:
        texts: distinct texts, at least one.
        kind: `query` or `passage`.
        precision: `fp32`, `bf16`, `fp16`, `nf4` or `fp4`.
    """
    embedder = dual_encoder.encoder_for(embedder, kind)
    ids = tokenize(embedder.tokenizer, texts, prompts, kind)
    images = image_inputs.image_arrays(embedder, texts)
    options = EncodingOptions(share_prefix=prompts.share_prefix, kind=kind)
    encode_ids(embedder, ids[:WARM_UP], precision, options, select_rows(images, range(len(ids[:WARM_UP]))))
    start = time.perf_counter()
    encode_ids(embedder, ids, precision, options, images)
    seconds = time.perf_counter() - start
    tokens = count_computed_tokens(embedder, ids, prompts.share_prefix)
    return EncodingSpeed(tokens, seconds, token_bound.tokens_per_second(embedder[0].model, precision, trains=False))


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
