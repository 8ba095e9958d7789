"""Cross-encoder: a sentence-transformers CrossEncoder, which reads query and passage together and scores the pair."""

import json
from pathlib import Path

import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from transformers import AutoConfig

from rounds.config.recipe import Recipe
from rounds.errors import UserError
from rounds.models import backbone, literal_tokenizer, loading, pooling, positions, tokenizer_checks
from rounds.models.precision import resolve_precision
from rounds.models.weights import hub_revision

HEAD_LEARNING_RATE_FACTOR = 10  # the head starts from zero, so it learns faster than the encoder

TEMPLATE_ROLES = {"{query}": "query", "{passage}": "document"}  # placeholder -> sentence-transformers' message role


def load(name_or_path: str, recipe: Recipe | None, device: str) -> CrossEncoder:
    """Load a cross-encoder.

    A plain encoder gets a scoring head that starts from zero; a cross-encoder keeps its own.

    Args:
        name_or_path: a folder or hub name.
        recipe: how to load it; its scores are then logits. None loads it as its own configuration says.

    Raises:
        UserError: the folder does not exist, or the model cannot be loaded.
    """
    if name_or_path.startswith((".", "/")) and not Path(name_or_path).is_dir():
        raise UserError(f"reranker {name_or_path}: no such folder")
    # A model that a recipe trains may start with a head at random. Others score as they are, pooler and all.
    new = () if recipe is None else (*loading.UNUSED, "classifier", "score")
    with loading.one_line_errors(f"reranker {name_or_path}", new):
        model = _load(name_or_path, recipe, device)
    if recipe is None:
        _limit_to_positions(model)
    else:
        positions.check_limit(
            model[0].model,
            f"reranking.max_length {recipe.reranking.max_length}",
            recipe.reranking.max_length,
            0,
            name_or_path,
        )
    template = "" if recipe is None else recipe.reranking.template
    reads_messages = "message" in model[0].modality_config
    tokenizer_checks.prepare_reranker(
        model.tokenizer, model[0].model, template, f"reranker {name_or_path}", reads_messages
    )
    if reads_messages:
        literal_tokenizer.apply_literally(model.tokenizer)
    return model


def require_scores(name_or_path: str, recipe: Recipe) -> None:
    """Raise a `UserError` if a model says nothing of pairs before it is trained: an encoder, whose head is new."""
    if not recipe.reranking.template and not _is_cross_encoder(name_or_path, hub_revision(name_or_path, recipe.model)):
        raise UserError(
            f"recipe {recipe.name}: training.epochs is 0, but the head that scores is new; train for an epoch or more"
        )


def _limit_to_positions(model: CrossEncoder) -> None:
    """Let a model cut pairs where its positions end, in place: its tokenizer may name no limit, or a wrong one."""
    bound, limit = positions.max_tokens(model[0].model), model[0].max_seq_length
    if bound is not None and (limit is None or limit > bound):
        model[0].max_seq_length = bound


def _load(name_or_path: str, recipe: Recipe | None, device: str) -> CrossEncoder:
    if recipe is None:
        return CrossEncoder(name_or_path, device=device, num_labels=1)
    if recipe.reranking.template or _is_cross_encoder(name_or_path, hub_revision(name_or_path, recipe.model)):
        return _load_cross_encoder(name_or_path, recipe, device)
    return _build_from_encoder(name_or_path, recipe, device)


def _is_cross_encoder(name_or_path: str, revision: str | None) -> bool:
    """Return whether sentence-transformers saved it as a CrossEncoder, or its weights hold a classifier's head."""
    config = Path(name_or_path) / "config_sentence_transformers.json"
    if config.is_file() and json.loads(config.read_text(encoding="utf-8")).get("model_type") == "CrossEncoder":
        return True
    architectures = AutoConfig.from_pretrained(name_or_path, revision=revision).architectures or []
    return any(name.endswith("ForSequenceClassification") for name in architectures)


def _loading_arguments(recipe: Recipe, device: str) -> dict[str, dict]:
    """Return the keyword arguments of transformers' weights and configuration."""
    precision = resolve_precision(recipe.model.precision, device)
    return {
        "model_kwargs": backbone.weight_loading_arguments(recipe, precision, device),
        "config_kwargs": backbone.dropout_config(recipe.model.dropout),
    }


def _load_cross_encoder(name_or_path: str, recipe: Recipe, device: str) -> CrossEncoder:
    template = recipe.reranking.template
    processor = {"processor_kwargs": {"chat_template": chat_template(template)}} if template else {}
    return CrossEncoder(
        name_or_path,
        device=device,
        num_labels=1,
        revision=hub_revision(name_or_path, recipe.model),
        max_length=recipe.reranking.max_length,
        activation_fn=torch.nn.Identity(),
        **_loading_arguments(recipe, device),
        **processor,
    )


def _build_from_encoder(name_or_path: str, recipe: Recipe, device: str) -> CrossEncoder:
    """Put a scoring head behind an encoder, pooled as the recipe's embedder is: the head reads what that learned."""
    revision = {"revision": hub_revision(name_or_path, recipe.model)}
    arguments = {key: {**values, **revision} for key, values in _loading_arguments(recipe, device).items()}
    encoder = Transformer(
        name_or_path, max_seq_length=recipe.reranking.max_length, processor_kwargs=revision, **arguments
    )
    dim = encoder.get_embedding_dimension()
    # Zero weights keep the first stage's ranking until the head has learned.
    head = Dense(
        dim,
        1,
        activation_function=None,
        init_weight=torch.zeros(1, dim),
        init_bias=torch.zeros(1),
        module_output_name="scores",
    )
    modules = [encoder, Pooling(dim, pooling.MODES[recipe.model.pooling]), head]
    return CrossEncoder(modules=modules, device=device, activation_fn=torch.nn.Identity())


def chat_template(text: str) -> str:
    """Return a template with `{query}` and `{passage}` as a tokenizer's chat template (Jinja).

    >>> from jinja2 import Template
    >>> pair = [{"role": "query", "content": "1 + 1 = 11"}, {"role": "document", "content": "joins digits"}]
    >>> Template(chat_template("Q: {query} P: {passage}")).render(messages=pair)
    'Q: 1 + 1 = 11 P: joins digits'
    """
    parts = []
    while text:
        placeholder = min((name for name in TEMPLATE_ROLES if name in text), key=text.index, default="")
        before, _, text = text.partition(placeholder) if placeholder else (text, "", "")
        if before:
            parts.append(f"{{{{ {json.dumps(before)} }}}}")
        if placeholder:
            selection = f'selectattr("role", "eq", "{TEMPLATE_ROLES[placeholder]}")'
            parts.append(f'{{{{ messages | {selection} | map(attribute="content") | first }}}}')
    return "".join(parts)
