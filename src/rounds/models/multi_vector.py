"""Late interaction: modules that turn a transformer's token states into vectors, and which of them are compared.

The layout is that of sentence-transformers' MultiVectorEncoder: a projection of the token states, a mask that says
which tokens count (ColBERT leaves out the punctuation of passages), and normalization.
"""

import json
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Dense, Normalize
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from sentence_transformers.sentence_transformer.modules import Transformer
from sentence_transformers.util import load_file_path
from torch import nn

from rounds.config.recipe import Model, Prompts, Recipe
from rounds.data.prompts import prefix_and_suffix
from rounds.errors import UserError

STATES = "token_embeddings"  # the modules' key for token states and vectors

TASKS = {"query": "query", "passage": "document"}  # kind of text -> sentence-transformers' task

MODEL_TYPES = ("MultiVectorEncoder", "ColBERT")  # sentence-transformers' and PyLate's

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
        projection.register_forward_hook(_project_in_fp32)
        modules.append(projection)
    modules.append(MultiVectorMask())
    if model.normalize:
        modules.append(Normalize(module_input_name=STATES))
    return modules


def _project_in_fp32(_module, _arguments, output: dict) -> dict:
    return {**output, STATES: output[STATES].float()}


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


def is_published(name: str, revision: str | None = None) -> bool:
    """Return whether a folder or hub model is a multi-vector model: sentence-transformers', PyLate's or ColBERT's own.

    Args:
        name: the folder, or the name on the hub.
        revision: the hub model's revision.
    """
    settings = _read_json(name, "config_sentence_transformers.json", revision)
    if settings.get("model_type") in MODEL_TYPES or "query_prefix" in settings:
        return True
    return "HF_ColBERT" in (_read_json(name, "config.json", revision).get("architectures") or ())


def _read_json(name: str, file: str, revision: str | None) -> dict:
    path = load_file_path(name, file, revision=revision)
    return json.loads(Path(path).read_text(encoding="utf-8")) if path else {}


def load_published(name: str, recipe: Recipe, device: str, **arguments: dict) -> list[nn.Module]:
    """Load the modules of a multi-vector model, with its own projection, mask and query expansion.

    Args:
        name: the folder, or the name on the hub.
        arguments: keyword arguments of `MultiVectorEncoder`, such as `model_kwargs`.

    Raises:
        UserError: it has modules that are not known here, or the recipe's prompts or lengths are not those that it was
            trained with.
    """
    embedder = MultiVectorEncoder(name, device=device, **arguments)
    modules = list(embedder)
    if unknown := [module for module in modules[1:] if not isinstance(module, Dense | MultiVectorMask | Normalize)]:
        raise UserError(f"model {name}: its module {type(unknown[0]).__name__} is not supported; take another model")
    is_normalized = any(isinstance(module, Normalize) for module in modules)
    if is_normalized != recipe.model.normalize:
        raise UserError(f"model {name}: set model.normalize: {str(is_normalized).lower()}, as it was trained")
    _check_prompts(name, embedder, recipe.prompts)
    for module in modules[1:]:
        if isinstance(module, Dense):
            module.float().register_forward_hook(_project_in_fp32)
    return modules


def _check_prompts(name: str, embedder: MultiVectorEncoder, prompts: Prompts) -> None:
    """Refuse prompts and lengths other than the model's own, which silently give worse embeddings."""
    for kind, task in TASKS.items():
        expected, prefix = embedder.prompts.get(task), prefix_and_suffix(prompts, kind)[0]
        if expected and prefix != expected:
            raise UserError(
                f"model {name}: was trained with prompts.{kind}_prefix {expected!r}, not {prefix!r}; set it"
            )
    expansion = embedder[0].query_expansion
    if expansion and expansion["strategy"] == "fixed" and prompts.query_max_length != expansion["length"]:
        raise UserError(
            f"model {name}: expands queries to {expansion['length']} tokens and cuts longer ones; "
            f"set prompts.query_max_length: {expansion['length']}"
        )


def describe_inputs(embedder: MultiVectorEncoder, prompts: Prompts) -> None:
    """Write prefixes and lengths into a model, in place, so that its saved folder reads texts as the recipe does."""
    embedder.prompts = {task: prefix_and_suffix(prompts, kind)[0] for kind, task in TASKS.items()}
    transformer = embedder[0]
    transformer.document_length = prompts.passage_max_length
    if transformer.query_expansion is None:
        transformer.query_length = prompts.query_max_length


def expansion_token(embedder: MultiVectorEncoder) -> int | None:
    """Return the token that short queries are filled up with, as ColBERT does; None for a model that does not."""
    expansion, tokenizer = getattr(embedder[0], "query_expansion", None), embedder.tokenizer
    if not expansion:
        return None
    if expansion["token"] is not None:
        return tokenizer.convert_tokens_to_ids(expansion["token"])
    return tokenizer.eos_token_id if tokenizer.mask_token_id is None else tokenizer.mask_token_id


def hides_expansion(embedder: MultiVectorEncoder) -> bool:
    """Return whether short queries are filled up with tokens that no other token attends to.

    Such a token has a vector, which is compared, but changes no other token's.
    """
    return expansion_token(embedder) is not None and not embedder[0].query_expansion["attend"]


def expand_queries(embedder: MultiVectorEncoder, ids: list[list[int]], kind: str) -> list[list[int]]:
    """Return token sequences, those of queries filled up to the length of the model's query expansion, if it has one.

    A token that no other attends to is written as `~id`, which is below 0.

    Args:
        kind: `query` or `passage`.
    """
    token = expansion_token(embedder)
    if token is None or kind != "query":
        return ids
    length = embedder[0].query_expansion["length"]
    filler = ~token if hides_expansion(embedder) else token
    return [[*row, *[filler] * (length - len(row))] for row in ids]
