"""Backbone: a recipe's base model as an embedder, with its pooling, normalization and image modules."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense
from sentence_transformers.sentence_transformer.modules import Normalize, Transformer
from torch import nn

from rounds.config.recipe import FOUR_BIT_PRECISIONS, Model, Recipe
from rounds.models import (
    batch_support,
    dense_layers,
    loading,
    multi_vector,
    pooling,
    positions,
    splade,
    tokenizer_checks,
    vision_language,
    vision_tower,
)
from rounds.models.embedder_classes import EMBEDDER_CLASSES
from rounds.models.precision import compute_dtype, loading_attention
from rounds.models.weights import locate_model, locate_vision_model, model_folder

DROPOUT_KEYS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout")  # BERT's and decoders'


def load(
    recipe: Recipe, precision: str, device: str, path: str | None = None, has_head: bool = False
) -> SentenceTransformer:
    """Load a recipe's base model with its pooling, on `device`, in evaluation mode.

    Args:
        precision: a resolved precision (`precision.resolve_precision`).
        path: a folder with all weights, in place of the base model's (a fully fine-tuned checkpoint).
        has_head: the folder's last Dense module is the recipe's projection head, which is not loaded here.

    Raises:
        UserError: the model cannot be loaded, or does not do what the recipe says of it.
    """
    model = recipe.model
    shared = {"trust_remote_code": model.trust_remote_code}
    if path is None:
        shared["revision"] = model.revision
    name, new_head, trusts = path or locate_model(model), (), model.trust_remote_code
    label, layers = path or model.name_or_path, []
    with loading.one_line_errors(f"model {label}"):
        folder = model_folder(name, model.revision)
        is_published = model.representation == "tokens" and multi_vector.is_published(name, shared.get("revision"))
        if model.representation == "dense":
            layers = dense_layers.load(folder, label, trusts, has_head)
        if model.is_sparse:
            new_head = splade.missing_head(folder, label, trusts)
        if model.representation != "dense" and not is_published:
            dense_layers.refuse(folder, label, model.pooling)
    arguments = {
        "model_kwargs": {**weight_loading_arguments(recipe, precision, device), **shared},
        "processor_kwargs": {"padding_side": model.padding_side, **shared},
        "config_kwargs": {**shared, **dropout_config(model.dropout)},
    }
    # The keys of a checkpoint's single file are compared when the model is complete (`weights_io.check_model_keys`).
    is_compared = path is not None and (Path(path) / "model.safetensors").is_file()
    with (
        loading.one_line_errors(f"model {label}", ("",) if is_compared else (*loading.UNUSED, *new_head)),
        vision_language.load_tokenizer_only() if model.vision.is_joint else nullcontext(),
    ):
        if is_published:
            transformer, *published = multi_vector.load_published(name, recipe, device, **arguments, **shared)
        else:
            task = splade.TASK if model.is_sparse else "feature-extraction"
            transformer, published = Transformer(name, transformer_task=task, **arguments), None
    if new_head:
        splade.start_head(transformer.model)
    return assemble(transformer, recipe, device, published, layers)


def assemble(
    transformer: Transformer,
    recipe: Recipe,
    device: str,
    published: list[nn.Module] | None = None,
    layers: Sequence[Dense] = (),
) -> SentenceTransformer:
    """Put a recipe's pooling, normalization and image modules behind a transformer, on `device`, in evaluation mode.

    Args:
        published: the modules behind the transformer of a published multi-vector model, which replace the recipe's.
        layers: the base model's Dense layers between pooling and normalization.

    Raises:
        UserError: the model has too few layers, Dense layers for another pooling, positions for shorter texts or other
            special tokens than the recipe says, or reads no images.
    """
    model = recipe.model
    transformer.register_forward_hook(_finish_token_states)
    if model.representation == "tokens":
        transformer.register_forward_hook(multi_vector.keep_packed)
        modules = [transformer, *(published or multi_vector.build_modules(transformer, model))]
    else:
        modules = [transformer, *pooling.build_modules(transformer, model)]
        if layers:
            dense_layers.check_dimensions(layers, pooling.embedding_dimension(modules), model.pooling)
        for layer in layers:
            layer.register_forward_hook(dense_layers.embed_in_fp32)
        modules += layers
        if model.normalize:
            modules.append(Normalize())
    if model.vision.name_or_path:
        dim = pooling.embedding_dimension(modules)
        folder, revision = locate_vision_model(model), model.vision.revision
        modules.append(vision_tower.load(folder, dim, model.vision, model.normalize, revision).to(device))
    if model.vision.is_joint:
        folder, side = locate_model(model), model.vision.image_size
        modules.append(vision_language.attach(transformer, folder, side, model.revision))
    embedder = EMBEDDER_CLASSES[model.representation](modules=modules, device=device).eval()
    if model.representation == "tokens":
        multi_vector.describe_inputs(embedder, recipe.prompts)
    tokenizer_checks.prepare(embedder.tokenizer, transformer.model, recipe)
    _freeze_pooler(embedder)
    keep_four_bit_layout(embedder)
    if not model.vision.is_joint:  # a sequence with images is not packed: its positions have three dimensions
        batch_support.choose_attention(embedder, model.attention, device)
    positions.check_limits(transformer.model, recipe)
    return embedder


def weight_loading_arguments(recipe: Recipe, precision: str, device: str) -> dict:
    """Return transformers' keyword arguments for attention, precision and quantization of a model's weights."""
    is_quantized = precision in FOUR_BIT_PRECISIONS
    # Half-precision weights only where they are frozen: full fine-tuning keeps fp32 weights and autocasts.
    has_half_weights = recipe.tuning.method != "full" or is_quantized
    dtype = compute_dtype(precision, device) if has_half_weights else torch.float32
    quantization = _quantization_arguments(recipe.model, precision, dtype, device) if is_quantized else {}
    return {**loading_attention(recipe.model.attention), "dtype": dtype, **quantization}


def _finish_token_states(_module, arguments, output: dict) -> dict:
    """Cast token states to fp32 for pooling, and drop those of virtual tokens.

    In bf16 the length of a normalized embedding is off by some 0.2%, and each similarity with it. Virtual tokens come
    first and are no part of the text, and no attention mask counts them.
    """
    length = arguments[0]["input_ids"].shape[1]
    states = {"token_embeddings": output["token_embeddings"][:, -length:].float()}
    if layers := output.get("all_layer_embeddings"):
        states["all_layer_embeddings"] = [layer[:, -length:] for layer in layers]
    return {**output, **states}


def _quantization_arguments(model: Model, precision: str, dtype: torch.dtype, device: str) -> dict:
    """Return keyword arguments for 4-bit weights, quantized while they are loaded (QLoRA: arXiv:2305.14314)."""
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=precision,
        bnb_4bit_use_double_quant=model.double_quant,
        bnb_4bit_compute_dtype=dtype,
    )
    return {"quantization_config": config, "device_map": {"": device}}


def dropout_config(rate: float | None) -> dict[str, float]:
    """Return a model configuration's dropout keys, set to `rate`; a configuration ignores keys that it does not have.

    >>> dropout_config(None)
    {}
    """
    return {} if rate is None else dict.fromkeys(DROPOUT_KEYS, rate)


def _freeze_pooler(embedder: SentenceTransformer) -> None:
    """Freeze BERT's pooler: it feeds no embedding, so it gets no gradients, and DistributedDataParallel would wait."""
    for name, parameter in embedder.named_parameters():
        if ".pooler." in name:
            parameter.requires_grad_(False)


def keep_four_bit_layout(embedder: nn.Module) -> None:
    """Keep bitsandbytes from repacking 4-bit weights for CPUs in evaluation mode: gradients would be garbage after."""
    for module in embedder.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
