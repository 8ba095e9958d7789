"""Towers: queries and passages encoded by weights of their own, as sentence-transformers' Router keeps them."""

from collections.abc import Callable

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router

KINDS = ("query", "passage")

_SIDES = "rounds_sides"


def set_encoders(embedder: SentenceTransformer, sides: dict[str, SentenceTransformer]) -> None:
    """Put two encoders into `embedder`, in place of its own modules.

    Args:
        sides: by kind, `query` and `passage`.
    """
    router = Router.for_query_document(list(sides["query"]), list(sides["passage"]))
    for name in list(embedder._modules):
        del embedder._modules[name]
    embedder.add_module("0", router)
    embedder.__dict__[_SIDES] = sides  # not a submodule: its parameters are the Router's


def is_dual(embedder: SentenceTransformer) -> bool:
    """Whether an embedder has two sides."""
    return _SIDES in embedder.__dict__


def encoder_for(embedder: SentenceTransformer, kind: str) -> SentenceTransformer:
    """The encoder of one kind of text; the embedder itself where both kinds share it."""
    if not is_dual(embedder):
        return embedder
    side = embedder.__dict__[_SIDES][kind]
    side.training = embedder.training
    return side


def apply_to_each(embedder: SentenceTransformer, work: Callable[[SentenceTransformer, str], object]) -> None:
    """Do something with every side, and with the name of its subfolder (empty for an encoder that is shared)."""
    for kind in KINDS if is_dual(embedder) else ("",):
        work(encoder_for(embedder, kind), kind)
