"""Read what an embedder computes for a batch as vectors of its representation."""

import numpy as np
import torch
from scipy import sparse
from sentence_transformers import SentenceTransformer
from torch import Tensor

from rounds.encoding import batching
from rounds.encoding.batching import Layout
from rounds.models import multi_vector
from rounds.models.embedder_classes import representation_name
from rounds.retrieval import representations
from rounds.retrieval.representation import Representation, Vectors
from rounds.retrieval.token_vectors import TokenVectors, to_offsets


def representation(embedder: SentenceTransformer) -> Representation:
    """Return the representation of an embedder's vectors."""
    return representations.KINDS[representation_name(embedder)]


def has_one_vector(embedder: SentenceTransformer) -> bool:
    """Return whether an embedder gives each text one vector, whatever its tokens."""
    return representation_name(embedder) != "tokens"


def vector_counts(embedder: SentenceTransformer, ids: list[list[int]], kind: str) -> list[int]:
    """Return how many vectors each token sequence gets: one, or as many as it has tokens that are compared.

    Args:
        kind: `query` or `passage`.
    """
    if has_one_vector(embedder):
        return [1] * len(ids)
    expanded = multi_vector.expand_queries(embedder, ids, kind)
    return [int(multi_vector.kept_tokens(embedder, row, kind).sum()) for row in expanded]


def read(
    embedder: SentenceTransformer, features: dict[str, Tensor], ids: list[list[int]], layout: Layout, kind: str
) -> Vectors:
    """Embed a batch and return its vectors, without those of its padding.

    Args:
        features: the model's inputs, as `batching.to_tensors` makes them.
        ids: the token sequences of the batch.
        layout: how they are arranged.
        kind: `query` or `passage`.
    """
    output = embedder(features)
    if representation_name(embedder) != "tokens":
        vectors = output["sentence_embedding"][: len(ids)].float().cpu().numpy()
        return sparse.csr_array(vectors) if representation_name(embedder) == "sparse" else vectors
    states = output["token_embeddings"]
    kept = [multi_vector.kept_tokens(embedder, row, kind) for row in ids]
    places = torch.from_numpy(np.concatenate(batching.token_places(kept, layout, states.shape[1])))
    values = states.flatten(0, 1)[places.to(states.device)]
    return TokenVectors(values.float().cpu().numpy(), to_offsets([row.sum() for row in kept]))
