"""Late interaction: modules that turn a transformer's token states into vectors, and which of them are compared.

The layout is that of sentence-transformers' MultiVectorEncoder: a projection of the token states, a mask that says
which tokens count (ColBERT leaves out the punctuation of passages), and normalization.
"""

import numpy as np
import torch
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Dense, Normalize
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from sentence_transformers.sentence_transformer.modules import Transformer
from torch import nn

from rounds.config.recipe import Model

STATES = "token_embeddings"  # the modules' key for token states and vectors

TASKS = {"query": "query", "passage": "document"}  # kind of text -> sentence-transformers' task

PROJECTION_SEED = 0  # the base model's projection must be the same whenever it is loaded


def build_modules(transformer: Transformer, model: Model) -> list[nn.Module]:
    """Return the modules behind a transformer: projection, mask and, if the recipe normalizes, normalization.

    The projection starts orthogonal, so that it keeps what the model knows.
    """
    modules: list[nn.Module] = []
    if model.token_dim is not None:
        dim = transformer.get_embedding_dimension()
        projection = Dense(dim, model.token_dim, False, nn.Identity(), module_input_name=STATES)
        generator = torch.Generator().manual_seed(PROJECTION_SEED)
        nn.init.orthogonal_(projection.linear.weight, generator=generator)
        modules.append(projection)
    modules.append(MultiVectorMask())
    if model.normalize:
        modules.append(Normalize(module_input_name=STATES))
    return modules


def keep_packed(_module, _arguments, output: dict) -> dict:
    """Hide from the mask that our batch is packed: it would pad it, and which tokens count is told by `kept_tokens`.

    A forward hook of the transformer. The library's own packed batches, which have `seq_idx`, stay as they are.
    """
    return output if "seq_idx" in output else {key: output[key] for key in output if key != "cu_seq_lens_q"}


def kept_tokens(embedder: MultiVectorEncoder, ids: list[int], kind: str) -> np.ndarray:
    """Return which tokens of a text have a vector that is compared, as the model's mask says: (tokens,) bool.

    All do if the mask would leave none.

    Args:
        kind: `query` or `passage`.
    """
    mask, task = find_mask(embedder), TASKS[kind]
    kept = np.ones(len(ids), dtype=bool)
    if task in mask.skiplist_tasks and mask._skiplist_ids is not None:
        kept &= ~np.isin(ids, mask._skiplist_ids.numpy())
    if task != "query" and mask.keep_only_token_ids:
        kept &= np.isin(ids, mask.keep_only_token_ids)
    return kept if kept.any() else np.ones_like(kept)


def find_mask(embedder: MultiVectorEncoder) -> MultiVectorMask:
    """Return the module that says which tokens are compared."""
    return next(module for module in embedder if isinstance(module, MultiVectorMask))
