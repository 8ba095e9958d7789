"""Tiny random decoders that answer yes or no, as rerankers with a template."""

from pathlib import Path

import torch
from transformers import AutoTokenizer, Gemma2Config, Gemma2ForCausalLM, Qwen2Config, Qwen2ForCausalLM

from rounds.config import loader
from rounds.config.recipe import Recipe
from rounds.models.weights import locate_model

TEMPLATE = "Question: {query}\nMistake: {passage}\nIs it this one?"

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


def build(folder: Path, kind: str = "qwen2", attention: str = "auto", **changes) -> Recipe:
    """Save a random language model whose words include `yes` and `no`; return its recipe.

    Those of kind `gemma2` change their logits by a soft cap.
    """
    torch.manual_seed(3)
    recipe = loader.load("tiny-qwen2")
    tokenizer = AutoTokenizer.from_pretrained(locate_model(recipe.model))
    tokenizer.add_tokens(["yes", "no"])
    config_class, model_class = {
        "qwen2": (Qwen2Config, Qwen2ForCausalLM),
        "gemma2": (Gemma2Config, Gemma2ForCausalLM),
    }[kind]
    own = {"head_dim": 16, "final_logit_softcapping": 0.05} if kind == "gemma2" else {}
    model_class(config_class(vocab_size=len(tokenizer), **SIZES, **own, **changes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    recipe = recipe.replace("model", name_or_path=str(folder), attention=attention, precision="fp32")
    recipe = recipe.replace("tuning", method="full")
    return recipe.replace("reranking", max_length=512, template=TEMPLATE)
