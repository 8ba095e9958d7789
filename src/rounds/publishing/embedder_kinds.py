"""What a card and its check say of each kind of embedder: tags, similarity, code that loads it, and its arrays."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from rounds.config.recipe import Prompts
from rounds.data.prompts import has_suffixes, prefix_and_suffix
from rounds.models.checkpoint import Checkpoint
from rounds.retrieval.representation import Vectors
from rounds.retrieval.token_vectors import TokenVectors

EMBED = """\
def embed(texts, prefix, suffix, tokens):
    model.max_seq_length = tokens
    return model.encode([prefix + text + suffix for text in texts])


def embed_queries(texts):
    return embed(texts, {query_prefix!r}, {query_suffix!r}, {query_tokens})


def embed_passages(texts):
    return embed(texts, {passage_prefix!r}, {passage_suffix!r}, {passage_tokens})
"""

# The folder holds both limits, and the prefixes where there are no suffixes.
EMBED_TOKENS = """\
def embed_queries(texts):
    return model.encode_query(texts)


def embed_passages(texts):
    return model.encode_document(texts)
"""

EMBED_TOKENS_WITH_SUFFIX = """\
def embed_queries(texts):
    return model.encode_query([{query_prefix!r} + text + {query_suffix!r} for text in texts])


def embed_passages(texts):
    return model.encode_document([{passage_prefix!r} + text + {passage_suffix!r} for text in texts])
"""


@dataclass(frozen=True)
class EmbedderKind:
    """How sentence-transformers and the hub speak of a kind of embedder.

    Attributes:
        tags: of the hub.
        pipeline: the hub's task.
        purpose: a sentence on what the model does with texts.
        embed: format of the code that defines `embed_queries` and `embed_passages` for a `model`.
        embed_with_suffix: the same for recipes whose prompts have suffixes.
        to_vectors: returns the vectors of texts that are given as one array each.
        interaction: sentence-transformers' name for comparing several vectors of a text; empty if there is one.
    """

    tags: tuple[str, ...]
    pipeline: str
    purpose: str
    embed: str
    embed_with_suffix: str
    to_vectors: Callable[[Sequence[np.ndarray]], Vectors]
    interaction: str = ""

    def folder_has_prompts(self, prompts: Prompts) -> bool:
        """Return whether the model's folder alone makes texts what they were in training: prompts and both limits."""
        return bool(self.interaction) and not has_suffixes(prompts)

    def embed_code(self, prompts: Prompts) -> str:
        """Return code that defines `embed_queries` and `embed_passages` for a `model`."""
        code = self.embed_with_suffix if has_suffixes(prompts) else self.embed
        query, passage = (prefix_and_suffix(prompts, kind) for kind in ("query", "passage"))
        return code.format(
            query_prefix=query[0],
            query_suffix=query[1],
            query_tokens=prompts.query_max_length,
            passage_prefix=passage[0],
            passage_suffix=passage[1],
            passage_tokens=prompts.passage_max_length,
        )

    def similarity(self, normalizes: bool) -> str:
        """Return the name that sentence-transformers has for the comparison of two texts."""
        return self.interaction or ("cosine" if normalizes else "dot")

    def comparison(self, normalizes: bool) -> str:
        """Return in words how two texts are compared."""
        measure = "cosine" if normalizes else "inner product"
        if self.interaction:
            return f"MaxSim, the sum over the query's tokens of the largest {measure} with a token of the passage"
        return measure


_SHARED_TAGS = ("feature-extraction", "retrieval", "hard-negatives")

_KINDS = {
    "dense": EmbedderKind(
        tags=("sentence-transformers", "sentence-similarity", *_SHARED_TAGS),
        pipeline="sentence-similarity",
        purpose="It maps queries and passages to vectors whose similarity ranks the passages.",
        embed=EMBED,
        embed_with_suffix=EMBED,
        to_vectors=np.stack,
    ),
    "tokens": EmbedderKind(
        tags=("sentence-transformers", "multi-vector", "colbert", "late-interaction", *_SHARED_TAGS),
        pipeline="feature-extraction",
        purpose="It maps each token of queries and passages to a vector, and late interaction (MaxSim) of these ranks "
        "the passages.",
        embed=EMBED_TOKENS,
        embed_with_suffix=EMBED_TOKENS_WITH_SUFFIX,
        to_vectors=TokenVectors.join,
        interaction="maxsim",
    ),
    "sparse": EmbedderKind(
        tags=("sentence-transformers", "sparse-encoder", "sparse", "splade", *_SHARED_TAGS),
        pipeline="feature-extraction",
        purpose="It maps queries and passages to sparse vectors over the vocabulary, whose inner product ranks the "
        "passages.",
        embed=EMBED,
        embed_with_suffix=EMBED,
        to_vectors=lambda rows: sparse.csr_array(np.stack(rows)),
    ),
}


def of(source: Checkpoint) -> EmbedderKind:
    """Return the kind of a checkpoint."""
    return _KINDS[source.representation]
