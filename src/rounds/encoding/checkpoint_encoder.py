"""Load a checkpoint when the first text needs it, and encode on all of its devices."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

from rounds.encoding import canary, flagembedding
from rounds.encoding.encoder import EncodingOptions, encode, encode_ids
from rounds.encoding.text_blocks import find_cuts
from rounds.encoding.tokenization import Cuts
from rounds.encoding.workers import EncodingWorker, encode_on_workers, start_workers
from rounds.errors import UserError
from rounds.models import dual_encoder, vision_tower
from rounds.models.checkpoint import Checkpoint
from rounds.retrieval.vectors import find_not_finite, list_names


@dataclass
class CheckpointEncoder:
    """A checkpoint whose weights are loaded with the first text.

    Attributes:
        embedder: the loaded model. Where it is given, this process alone encodes.
        workers: processes on the checkpoint's other devices; they end with this object.
        image_cache: folder of the vision towers' image features; None computes them anew each time.
    """

    checkpoint: Checkpoint
    embedder: SentenceTransformer | None = None
    workers: list[EncodingWorker] = field(default_factory=list)
    image_cache: Path | None = None

    def encode(
        self, texts: Sequence[str], kind: str, examples: list[list[str]] | None, options: EncodingOptions
    ) -> np.ndarray:
        """Embed texts with the checkpoint's engine, in its precision: (texts, dim) float32.

        Args:
            kind: `query` or `passage`.
            examples: few-shot examples of each text.
        """
        source = self.checkpoint
        if source.options.engine == "flagembedding":
            vectors = flagembedding.encode(source, texts, kind, examples, options.on_cuts)
            if len(lost := find_not_finite(vectors)):
                names = list_names(options.names_of(lost))
                raise UserError(f"engine flagembedding: gives no finite numbers in {source.precision} for {names}")
            result = options.allocate(vectors.shape)
            result[:] = vectors
            return result
        if self.embedder is None:
            self._load()
        if self.image_cache:
            vision_tower.set_feature_cache(self.embedder, self.image_cache)
        backend = functools.partial(encode_on_workers, self.workers) if self.workers else encode_ids
        return encode(self.embedder, texts, source.recipe.prompts, kind, source.precision, examples, options, backend)

    def find_cuts(self, texts: Sequence[str], kind: str, examples: list[list[str]] | None) -> Cuts:
        """Return what the model does not read of texts, by tokenizing them."""
        if self.checkpoint.options.engine == "flagembedding":
            return Cuts()
        if self.embedder is None:
            self._load()
        tokenizer = dual_encoder.encoder_for(self.embedder, kind).tokenizer
        return find_cuts(tokenizer, texts, self.checkpoint.recipe.prompts, kind, examples)

    def _load(self) -> None:
        source = self.checkpoint
        needs_one_device = source.is_dual_encoder or source.recipe.model.vision.is_joint
        if needs_one_device and len(source.options.devices) > 1:
            raise UserError(f"{source.name}: separate or joint encoders encode on one device; name one")
        self.workers = start_workers(source)  # before this process loads its own, so that all load at once
        self.embedder = source.load()
        canary.check(source, self.embedder)
