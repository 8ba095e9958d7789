"""Dual encoder: queries and passages embedded by weights of their own, in sentence-transformers' Router."""

from collections.abc import Callable

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router

KINDS = ("query", "passage")  # kinds of text, which are also the names of the encoders' folders

_ENCODERS = "rounds_encoders"


def set_encoders(embedder: SentenceTransformer, encoders: dict[str, SentenceTransformer]) -> None:
    """Replace an embedder's modules by two encoders, in place.

    Args:
        encoders: an encoder for each of `KINDS`.
    """
    router = Router.for_query_document(list(encoders["query"]), list(encoders["passage"]))
    for name in list(embedder._modules):
        del embedder._modules[name]
    embedder.add_module("0", router)
    embedder.__dict__[_ENCODERS] = encoders  # not a submodule: its parameters are the Router's


def is_dual(embedder: SentenceTransformer) -> bool:
    """Return whether an embedder has an encoder for each kind of text."""
    return _ENCODERS in embedder.__dict__


def encoder_for(embedder: SentenceTransformer, kind: str) -> SentenceTransformer:
    """Return the encoder of one of `KINDS`: the embedder itself where both kinds share it."""
    if not is_dual(embedder):
        return embedder
    encoder = embedder.__dict__[_ENCODERS][kind]
    encoder.training = embedder.training
    return encoder


def apply_to_each(embedder: SentenceTransformer, function: Callable[[SentenceTransformer, str], object]) -> None:
    """Call a function with each encoder and the name of its subfolder, which is empty for a shared encoder."""
    for kind in KINDS if is_dual(embedder) else ("",):
        function(encoder_for(embedder, kind), kind)
