"""Reranker: a sentence-transformers CrossEncoder, which reads query and passage together, trained and scoring."""

import json
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from transformers import AutoConfig

from rounds.config.recipe import Recipe
from rounds.errors import UserError
from rounds.models import backbone, pooling
from rounds.models.precision import autocast, resolve_precision

BATCH = 32

HEAD_LEARNING_RATE_FACTOR = 10  # times the learning rate: what starts from zero

MARKS = {"{query}": "query", "{passage}": "document"}


def load(name_or_path: str, recipe: Recipe | None, device: str) -> CrossEncoder:
    """A CrossEncoder whose scores are logits, or by its own activation where there is no recipe.

    What is no reranker yet (a plain encoder) gets a head that starts from zero; a reranker keeps its own.

    Raises:
        UserError: no such folder or model.
    """
    own: dict = {}
    if recipe is not None:
        precision = resolve_precision(recipe.model.precision, device)
        own = {"max_length": recipe.reranking.max_length, "activation_fn": torch.nn.Identity(),
               "model_kwargs": backbone.weight_loading_arguments(recipe, precision, device),
               "config_kwargs": backbone.dropout_config(recipe.model.dropout)}  # fmt: skip
        if recipe.reranking.template:
            own["processor_kwargs"] = {"chat_template": chat_template(recipe.reranking.template)}
    if name_or_path.startswith((".", "/")) and not Path(name_or_path).is_dir():
        raise UserError(f"reranker {name_or_path}: no such folder")
    try:
        if recipe is not None and not recipe.reranking.template and not _is_reranker(name_or_path):
            return _pooled(name_or_path, recipe, device, own)
        return CrossEncoder(name_or_path, device=device, num_labels=1, **own)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"reranker {name_or_path}: cannot be loaded ({reason})") from None


def _is_reranker(name_or_path: str) -> bool:
    """Whether sentence-transformers saved it as one, or its weights hold a classifier's head (as on the hub)."""
    config = Path(name_or_path) / "config_sentence_transformers.json"
    if config.is_file() and json.loads(config.read_text(encoding="utf-8")).get("model_type") == "CrossEncoder":
        return True
    kinds = AutoConfig.from_pretrained(name_or_path).architectures or []
    return any(kind.endswith("ForSequenceClassification") for kind in kinds)


def _pooled(name_or_path: str, recipe: Recipe, device: str, own: dict) -> CrossEncoder:
    """An encoder pooled as the recipe's embedder is, so that what it knows reaches the score from the first step."""
    encoder = Transformer(
        name_or_path, model_kwargs=own["model_kwargs"], config_kwargs=own["config_kwargs"],
        max_seq_length=own["max_length"],
    )  # fmt: skip
    width = encoder.get_embedding_dimension()
    # From zero: at first the ranking is the first stage's.
    head = Dense(
        width, 1, activation_function=None, init_weight=torch.zeros(1, width), init_bias=torch.zeros(1),
        module_output_name="scores",
    )  # fmt: skip
    modules = [encoder, Pooling(width, pooling.MODES[recipe.model.pooling]), head]
    return CrossEncoder(modules=modules, device=device, activation_fn=own["activation_fn"])


def chat_template(text: str) -> str:
    """`{query}` and `{passage}` as places in the form in which tokenizers keep such texts (Jinja).

    >>> from jinja2 import Template
    >>> pair = [{"role": "query", "content": "1 + 1 = 11"}, {"role": "document", "content": "joins digits"}]
    >>> Template(chat_template("Q: {query} P: {passage}")).render(messages=pair)
    'Q: 1 + 1 = 11 P: joins digits'
    """
    parts = []
    while text:
        mark = min((m for m in MARKS if m in text), key=text.index, default="")
        before, _, text = text.partition(mark) if mark else (text, "", "")
        if before:
            parts.append(f"{{{{ {json.dumps(before)} }}}}")
        if mark:
            role = f'selectattr("role", "eq", "{MARKS[mark]}")'
            parts.append(f'{{{{ messages | {role} | map(attribute="content") | first }}}}')
    return "".join(parts)


def score(name_or_path: str, pairs: list[tuple[str, str]], device: str, recipe: Recipe | None = None) -> np.ndarray:
    """Scores (pairs,) float32; each distinct pair is scored once.

    Args:
        recipe: the reranker's own: its scores are then logits. None: as the model's own activation makes them.
    """
    model = load(name_or_path, recipe, device)
    precision = "fp32" if recipe is None else resolve_precision(recipe.model.precision, device)
    distinct = {pair: number for number, pair in enumerate(dict.fromkeys(pairs))}
    with autocast(precision, device):
        found = model.predict(list(distinct), batch_size=BATCH, show_progress_bar=False)
    return np.asarray(found, dtype=np.float32)[[distinct[pair] for pair in pairs]]
