"""The kinds of embeddings, and which of them some vectors are: the one place where stages tell them apart."""

from pathlib import Path

from rounds.retrieval.dense import Dense
from rounds.retrieval.representation import Representation, Vectors
from rounds.retrieval.sparse import Sparse
from rounds.retrieval.tokens import Tokens

DENSE = Dense()

KINDS: dict[str, Representation] = {kind.name: kind for kind in (DENSE, Tokens(), Sparse())}


def of(vectors: Vectors) -> Representation:
    """Return the kind of some vectors."""
    return next(kind for kind in KINDS.values() if kind.matches(vectors))


def is_dense(vectors: Vectors) -> bool:
    """Return whether vectors are one for each text, in an array."""
    return DENSE.matches(vectors)


def find(folder: Path) -> Representation | None:
    """Return the kind of the vectors in a folder, which differ by their files; None without any."""
    others = [kind for kind in KINDS.values() if kind is not DENSE]
    return next((kind for kind in (*others, DENSE) if kind.is_in(folder)), None)


def load(folder: Path) -> Vectors | None:
    """Read the vectors of a folder, memory-mapped where they can be; None without any."""
    kind = find(folder)
    return None if kind is None else kind.load(folder)
