"""Backbone: a recipe's base model from a hub, a folder, a Python package or random weights."""

from contextlib import nullcontext

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Transformer

from rounds.config.recipe import FOUR_BIT_PRECISIONS, Model, Recipe
from rounds.errors import UserError
from rounds.models import pooling, vision_language, vision_tower
from rounds.models.precision import compute_dtype, resolve_attention
from rounds.models.weights import locate_model, locate_vision_model


def load(recipe: Recipe, precision: str, device: str, path: str | None = None) -> SentenceTransformer:
    """The base model with the recipe's pooling, on `device`, in evaluation mode.

    Args:
        path: a folder with all weights that takes the base model's place (a fully fine-tuned checkpoint).
    """
    model = recipe.model
    shared = {"trust_remote_code": model.trust_remote_code}
    if path is None:
        shared["revision"] = model.revision
    try:
        with vision_language.load_tokenizer_only() if model.vision.is_joint else nullcontext():
            transformer = Transformer(
                path or locate_model(model),
                model_kwargs={**weight_loading_arguments(recipe, precision, device), **shared},
                processor_kwargs={"padding_side": model.padding_side, **shared},
                config_kwargs={**shared, **dropout_config(model.dropout)},
            )
    except (OSError, ValueError, ImportError) as error:
        raise UserError(
            f"model {path or model.name_or_path}: cannot be loaded ({' '.join(str(error).split())[:200]})"
        ) from None
    return assemble(transformer, recipe, device)


def assemble(transformer: Transformer, recipe: Recipe, device: str) -> SentenceTransformer:
    """The recipe's pooling behind a transformer that is already loaded; arguments and result as `load`'s."""
    model = recipe.model
    transformer.register_forward_hook(_in_full)
    modules = [transformer, *pooling.build_modules(transformer, model)]
    if model.normalize:
        modules.append(Normalize())
    if model.vision.name_or_path:
        dim = pooling.find_pooling(modules).get_embedding_dimension()
        seeing = locate_vision_model(model)
        modules.append(vision_tower.load(seeing, dim, model.vision, model.normalize, model.vision.revision).to(device))
    if model.vision.is_joint:
        modules.append(
            vision_language.attach(transformer, locate_model(model), model.vision.image_size, model.revision)
        )
    embedder = SentenceTransformer(modules=modules, device=device).eval()
    _prepare_tokenizer(embedder, model)
    _freeze_pooler(embedder)
    for module in embedder.modules():
        # In evaluation mode bitsandbytes repacks the weights for CPUs, and gradients through them are then garbage.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return embedder


def weight_loading_arguments(recipe: Recipe, precision: str, device: str) -> dict:
    """transformers' keyword arguments for attention, precision and quantization of a model's weights."""
    # Half-precision weights only where they are frozen: full fine-tuning keeps fp32 weights and autocasts.
    half = recipe.tuning.method != "full" or precision in FOUR_BIT_PRECISIONS
    dtype = compute_dtype(precision, device) if half else torch.float32
    quantized = _four_bits(recipe.model, precision, dtype, device) if precision in FOUR_BIT_PRECISIONS else {}
    # A sequence with pictures is not packed: its positions have three dimensions.
    attention = "sdpa" if recipe.model.vision.is_joint else resolve_attention(recipe.model.attention, device)
    return {"attn_implementation": attention, "dtype": dtype, **quantized}


def _in_full(module, arguments, output: dict) -> dict:
    """Pool and normalize in fp32: in bf16 a unit vector's length is off by some 0.2%, and each similarity with it.

    Virtual tokens stand before the text's own and are dropped: they belong to no text, and no mask counts them.
    """
    length = arguments[0]["input_ids"].shape[1]
    found = {**output, "token_embeddings": output["token_embeddings"][:, -length:].float()}
    if layers := output.get("all_layer_embeddings"):
        found["all_layer_embeddings"] = [states[:, -length:] for states in layers]
    return found


def _four_bits(model: Model, precision: str, dtype: torch.dtype, device: str) -> dict:
    """Keyword arguments with which transformers quantizes the weights while loading them (QLoRA: arXiv:2305.14314)."""
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=precision,
        bnb_4bit_use_double_quant=model.double_quant,
        bnb_4bit_compute_dtype=dtype,
    )
    return {"quantization_config": config, "device_map": {"": device}}


def dropout_config(rate: float | None) -> dict[str, float]:
    """Config keys of BERT's and of the decoders' dropout rates; a config ignores those that it does not have."""
    names = ("hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout")
    return {} if rate is None else dict.fromkeys(names, rate)


def _prepare_tokenizer(embedder: SentenceTransformer, model: Model) -> None:
    """Set what the recipe states and assert what it expects: wrong special tokens give silently worse vectors."""
    tokenizer = embedder.tokenizer
    tokenizer.padding_side = model.padding_side
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    for attempt in ("as it comes", "told so"):
        ids = tokenizer("a text")["input_ids"]
        found = {"bos": ids[0] == tokenizer.bos_token_id, "eos": ids[-1] == tokenizer.eos_token_id}
        expected = {name: value for name in found if (value := getattr(model, name)) is not None}
        wrong = [name for name, value in expected.items() if value != found[name]]
        # transformers 5 forgets what tokenizer_config.json says of BOS and EOS, and setting one alone drops the other.
        if wrong and attempt == "as it comes" and len(expected) == 2:
            tokenizer.add_bos_token, tokenizer.add_eos_token = model.bos, model.eos
        elif wrong:
            name = wrong[0]
            raise UserError(
                f"model {model.name_or_path}: the recipe says {name}: {str(expected[name]).lower()}, "
                f"but its tokenizer {'adds' if found[name] else 'does not add'} one"
            )


def _freeze_pooler(embedder: SentenceTransformer) -> None:
    """BERT's pooler feeds no embedding here: without gradients, it would stall DistributedDataParallel."""
    for name, parameter in embedder.named_parameters():
        if ".pooler." in name:
            parameter.requires_grad_(False)
