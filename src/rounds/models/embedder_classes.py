"""Embedder classes: sentence-transformers has one for each representation, and each saves a layout of its own."""

from sentence_transformers import MultiVectorEncoder, SentenceTransformer, SparseEncoder

EMBEDDER_CLASSES: dict[str, type] = {
    "dense": SentenceTransformer,
    "tokens": MultiVectorEncoder,
    "sparse": SparseEncoder,
}


def representation_name(embedder: SentenceTransformer) -> str:
    """Return the name of the representation (`retrieval.representations.KINDS`) that an embedder computes."""
    return next((name for name, kind in EMBEDDER_CLASSES.items() if isinstance(embedder, kind)), "dense")
