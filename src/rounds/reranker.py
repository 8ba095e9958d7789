"""Reranker: a sentence-transformers CrossEncoder's scores of query and passage pairs."""

from pathlib import Path

import numpy as np
from sentence_transformers import CrossEncoder

from rounds.errors import UserError
from rounds.model import backbone

BATCH = 32


def score(name_or_path: str, pairs: list[tuple[str, str]], device: str) -> np.ndarray:
    """Scores (pairs,) float32, as the model's own activation makes them; each distinct pair is scored once.

    Raises:
        UserError: no such folder or model.
    """
    if name_or_path.startswith((".", "/")) and not Path(name_or_path).is_dir():
        raise UserError(f"mining.reranker {name_or_path}: no such folder")
    try:
        model = CrossEncoder(name_or_path, device=device, num_labels=1)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"mining.reranker {name_or_path}: cannot be loaded ({reason})") from None
    distinct = {pair: number for number, pair in enumerate(dict.fromkeys(pairs))}
    found = np.asarray(model.predict(list(distinct), batch_size=BATCH, show_progress_bar=False), dtype=np.float32)
    return found[[distinct[pair] for pair in pairs]]


def digest(name_or_path: str) -> str:
    """SHA-256 over its weights."""
    return backbone.weights_digest(name_or_path)
