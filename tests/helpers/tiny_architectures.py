"""Tiny random models of the architectures that transformers registers, saved as folders that a recipe can name."""

import dataclasses
import inspect
from pathlib import Path

import torch
from transformers import CONFIG_MAPPING, AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models import auto

from rounds.config import loader
from rounds.config.recipe import Recipe
from rounds.models.random_models import VOCABULARY, random_model_folder

MAX_PARAMETERS = 8_000_000

POSITIONS = 96

WIDTH_NAMES = ("d_model", "dim", "emb_dim", "embed_dim", "embedding_size", "hidden_size", "n_embd", "n_embed")

INNER_NAMES = (
    "d_ff",
    "d_inner",
    "decoder_ffn_dim",
    "encoder_ffn_dim",
    "ffn_dim",
    "hidden_dim",
    "intermediate_size",
    "n_inner",
)

LAYER_NAMES = ("decoder_layers", "encoder_layers", "n_layer", "n_layers") + (
    "num_decoder_layers",
    "num_encoder_layers",
    "num_hidden_layers",
    "num_layers",
)

HEAD_NAMES = (
    "decoder_attention_heads",
    "encoder_attention_heads",
    "n_head",
    "n_heads",
    "num_attention_heads",
    "num_heads",
)

POSITION_NAMES = ("max_position_embeddings", "max_seq_len", "max_sequence_length", "n_ctx", "n_positions")

SIZES = (
    dict.fromkeys(WIDTH_NAMES, 32)
    | dict.fromkeys(INNER_NAMES, 64)
    | dict.fromkeys(LAYER_NAMES, 2)
    | dict.fromkeys(HEAD_NAMES, 4)
    | dict.fromkeys(POSITION_NAMES, POSITIONS)
    | dict.fromkeys(("d_head", "d_kv", "head_dim"), 8)
    | dict.fromkeys(("n_routed_experts", "num_experts", "num_local_experts"), 4)
    | dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 32)
    | {"num_experts_per_tok": 2, "num_key_value_heads": 2, "vocab_size": VOCABULARY}
)

SPECIAL_TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}

LATENT = {"kv_lora_rank": 16, "num_key_value_heads": 4, "q_lora_rank": 16}  # multi-head latent attention
LATENT |= {"head_dim": 8, "qk_head_dim": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8}

CHANGES = {
    **dict.fromkeys(("deepseek_v2", "deepseek_v3", "minicpm3", "youtu"), LATENT),
    **dict.fromkeys(("lfm3", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_next"), {"num_hidden_layers": 4}),
    "dots1": {"n_shared_experts": 1},
    "esmc": {"num_key_value_heads": 4},
    "jamba": {"attn_layer_offset": 1, "attn_layer_period": 2},
    "luke": {"entity_vocab_size": 10},
    "mamba2": {"head_dim": 8, "num_heads": 8},
    "recurrent_gemma": {"num_hidden_layers": 3},
    "roc_bert": {"pronunciation_vocab_size": 10, "shape_vocab_size": 10},
    "codegen": {"rotary_dim": 4},
    "esm": {"pad_token_id": 1},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "gptj": {"rotary_dim": 4},
    "xmod": {"default_language": "en_XX"},
}

ENCODERS = {"mt5": "MT5EncoderModel", "t5": "T5EncoderModel", "umt5": "UMT5EncoderModel"}  # as sentence-transformers


def text_architectures() -> list[str]:
    """Return the model types of `AutoModel` that read token ids only and have a vocabulary."""
    names = []
    for name in sorted(auto.modeling_auto.MODEL_MAPPING_NAMES):
        try:
            model_class = auto.modeling_auto.MODEL_MAPPING[CONFIG_MAPPING[name]]
            if isinstance(model_class, list | tuple):
                model_class = model_class[0]
            reads_text = model_class.main_input_name == "input_ids" and model_class.input_modalities in (
                "text",
                ["text"],
            )
            if reads_text and hasattr(CONFIG_MAPPING[name](), "vocab_size"):
                names.append(name)
        except Exception:  # noqa: BLE001, S112 - configurations and imports of vision and audio fail in many ways
            continue
    return names


def tiny_config(name: str, **changes):
    """Return an architecture's configuration with small sizes."""
    config_class = CONFIG_MAPPING[name]
    default = config_class()
    known = {*default.to_dict(), *inspect.signature(config_class).parameters}
    values = {key: value for key, value in SIZES.items() if key in known and hasattr(default, key)}
    for key, value in SPECIAL_TOKENS.items():
        present = getattr(default, key, None)
        if isinstance(present, list) or (isinstance(present, int) and present >= VOCABULARY):
            values[key] = value
    return config_class(**{**values, **CHANGES.get(name, {}), **changes})


def build(name: str, **changes) -> PreTrainedModel:
    """Build a tiny model of an architecture, of seeded random weights, in evaluation mode.

    Raises:
        ValueError: it has more than `MAX_PARAMETERS` in spite of the small sizes.
    """
    with torch.device("meta"):
        size = sum(parameter.numel() for parameter in _create(name, changes).parameters())
    if size > MAX_PARAMETERS:
        raise ValueError(f"{name}: {size:,} parameters")
    torch.manual_seed(0)
    return _create(name, changes).float().eval()


def _create(name: str, changes: dict) -> PreTrainedModel:
    config = tiny_config(name, **changes)
    if name in ENCODERS:
        import transformers

        return getattr(transformers, ENCODERS[name])(config)
    return AutoModel.from_config(config)


def save(model: PreTrainedModel, folder: Path, tokenizer: PreTrainedTokenizerBase | None = None) -> Recipe:
    """Save a model with a tokenizer, by default that of `random:bert`, and return a recipe for the folder."""
    model.save_pretrained(folder)
    (tokenizer or AutoTokenizer.from_pretrained(random_model_folder("bert"))).save_pretrained(folder)
    recipe = loader.load("tiny-mistral")
    prompts = dataclasses.replace(recipe.prompts, query_max_length=40, passage_max_length=40)
    settings = {"name_or_path": str(folder), "bos": None, "eos": None, "pooling": "mean"}
    return dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, **settings), prompts=prompts)


def embed_alone(model: PreTrainedModel, row: list[int], pooling: str = "mean") -> torch.Tensor:
    """Embed one row of token ids by plain transformers: (dim,), by `mean` or `last_token` pooling."""
    ids = torch.tensor([row])
    with torch.no_grad():
        states = model(input_ids=ids, attention_mask=torch.ones_like(ids))[0][0]
    return states[-1] if pooling == "last_token" else states.mean(0)
