"""Metric embedder: the embedder by which prompts are compared."""

from collections.abc import Sequence

import numpy as np

from rounds.config import loader
from rounds.generation.minimum_risk import Embed
from rounds.models import checkpoint


def load_embedder(recipe: str, device: str) -> Embed:
    """Load a recipe's base model, and return a function that embeds texts with it, in fp32 and to unit length.

    Raises:
        UserError: there is no such recipe, or its model does not make one dense vector for each text.
    """
    loaded = loader.load(recipe)
    loaded.require_dense("embedder")
    model = checkpoint.resolve(None, loaded, device, "fp32").load()

    def embed(texts: Sequence[str]) -> np.ndarray:
        return model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)

    return embed
