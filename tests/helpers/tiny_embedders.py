"""Tiny embedders of random weights, and one whose numbers overflow."""

import dataclasses
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

from rounds.config import loader
from rounds.config.recipe import Prompts, Recipe
from rounds.models import backbone
from rounds.models.weights import locate_model


def model(name: str, padding_side: str = "right") -> tuple[SentenceTransformer, Prompts]:
    """Load a tiny model with the prompts of `tiny-mistral`; `tokens` and `splade` are ways of pooling a BERT."""
    recipe = loader.load("tiny-mistral")
    changes = {"name_or_path": f"random:{name}", "padding_side": padding_side}
    if name == "qwen2":
        changes["bos"] = False
    if name == "bert":
        changes["pooling"] = "mean"
    if name in ("tokens", "splade"):
        changes |= {"name_or_path": "random:bert", "pooling": name}
    recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, **changes))
    return backbone.load(recipe, "fp32", "cpu"), recipe.prompts


def make_numbers_overflow(embedder, text: str, dtypes: tuple[torch.dtype, ...] = (torch.float16,)) -> list[int]:
    """Make the states of a text's last word NaN where they are computed in one of the dtypes.

    Returns:
        a list that gets the number of tokens of each forward pass.
    """
    token, passes = embedder.tokenizer(text, add_special_tokens=False)["input_ids"][-1], []

    def overflow(_module, arguments, output):
        ids = arguments[0]["input_ids"]
        passes.append(ids.numel())
        enabled = torch.is_autocast_enabled("cpu")
        if (torch.get_autocast_dtype("cpu") if enabled else torch.float32) in dtypes:
            output["token_embeddings"] = output["token_embeddings"].masked_fill((ids == token)[..., None], torch.nan)
        return output

    embedder[0].register_forward_hook(overflow)
    return passes


def write_overflowing_model(folder: Path, factor: float) -> Recipe:
    """Write a tiny decoder whose last feed-forward block is enlarged, and return a recipe of it.

    Args:
        factor: of both of the block's matrices: 1e5 lets fp16 overflow in every text, 1e7 lets the weights themselves.
    """
    recipe = loader.load("tiny-mistral")
    base = locate_model(recipe.model)
    transformer = AutoModel.from_pretrained(base)
    for matrix in (transformer.layers[-1].mlp.up_proj, transformer.layers[-1].mlp.down_proj):
        matrix.weight.data.mul_(factor)
    transformer.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return recipe.replace("model", name_or_path=str(folder))
