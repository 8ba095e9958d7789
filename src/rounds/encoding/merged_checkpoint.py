"""Merge an adapter into its base model and verify that the embeddings stay the same."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer

from rounds.artifacts import store
from rounds.artifacts.manifests import Parent
from rounds.config.recipe import FOUR_BIT_PRECISIONS
from rounds.encoding.encoder import encode
from rounds.errors import UserError
from rounds.models import checkpoint, merging
from rounds.models.checkpoint import Checkpoint
from rounds.models.weights import locate_model
from rounds.retrieval import representations
from rounds.retrieval.representation import Vectors
from rounds.retrieval.vectors import unit_vectors

MIN_COSINE = 0.999  # of a passage's vectors before and after merging

INHERITED = ("round", "epoch", "seed", "split", "data", "lineage_status", "title")  # keys of the adapter's manifest


def merge(source: Checkpoint, output: Path, texts: Sequence[str], overwrite: bool = False) -> float:
    """Write a checkpoint whose weights contain the adapter, so that it loads without peft.

    A checkpoint trained on 4-bit weights is merged into the 16-bit weights that they came from: rounding to 4 bits
    would lose most of the adapter.

    Args:
        source: an adapter, in the precision to merge in.
        texts: passages to compare the vectors of.

    Returns:
        the lowest cosine between a passage's vectors before and after merging.

    Raises:
        UserError: no adapter, a 4-bit base model or precision, or vectors that differ (cosine below `MIN_COSINE`).
    """
    merging.check_mergeable(source)
    if source.precision in FOUR_BIT_PRECISIONS:
        raise UserError(f"precision {source.precision}: merging into 4-bit weights ruins the adapter; use bf16 or fp16")
    merging.check_not_quantized(locate_model(source.recipe.model))
    config = {"adapter": source.weights_digest, "precision": source.precision}
    if store.is_finished(output, config, overwrite):
        return store.read_manifest(output).least_cosine
    with store.drafting(output) as draft:
        adapter_vectors = embed_passages(source.load(), source, texts)
        embedder = merging.write_merged(source, draft.folder)
        merged = dataclasses.replace(source, folder=draft.folder, is_adapter=False)
        merged_vectors = embed_passages(merged.load(), source, texts)
        if representations.is_dense(adapter_vectors):
            cosine = float((unit_vectors(adapter_vectors) * unit_vectors(merged_vectors)).sum(axis=1).min())
        else:
            cosine = float(representations.of(adapter_vectors).cosines(adapter_vectors, merged_vectors).min())
        if not cosine >= MIN_COSINE:  # NaN is refused as well
            raise UserError(
                f"{output}: merged vectors differ from the adapter's (least cosine {cosine:.4f}); nothing was written"
            )
        draft.manifest = checkpoint.build_manifest(
            embedder,
            draft.folder,
            source.recipe,
            source.precision,
            **_manifest_entries(source, config),
            least_cosine=cosine,
        )
    return cosine


def _manifest_entries(source: Checkpoint, config: dict) -> dict[str, Any]:
    """Return what the merged checkpoint's manifest says about its origin."""
    adapter = source.manifest.to_json() if source.manifest else {}
    return {
        "config": config,
        "merged": source.weights_digest,
        "lineage": source.lineage,
        **{key: value for key, value in adapter.items() if key in INHERITED},
        "parent": Parent(name=source.name, weights=source.weights_digest, base=False, kind="adapter"),
    }


def embed_passages(embedder: SentenceTransformer, source: Checkpoint, texts: Sequence[str]) -> Vectors:
    """Embed passages with a model, in the checkpoint's precision."""
    return encode(embedder, texts, source.recipe.prompts, "passage", source.precision)
