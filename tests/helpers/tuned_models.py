"""Tiny models with a tuning method applied and their trainable weights changed."""

import dataclasses

import torch

from rounds.config import loader
from rounds.config.recipe import HoulsbyAdapters, VirtualTokens
from rounds.models import checkpoint, peft_methods
from rounds.models.weights import locate_model


def recipe_of(method: str, model: str = "mistral", side: str = "right", **tuned):
    """The tiny recipe by another method, or on a tiny BERT."""
    recipe = loader.load("tiny-mistral")
    virtual = VirtualTokens(tokens=5, hidden_size=16)
    changed = dataclasses.replace(recipe.tuning, method=method, virtual=virtual, bottleneck=HoulsbyAdapters(4), **tuned)
    if model == "bert":
        lora = dataclasses.replace(recipe.tuning.lora, targets=["query", "value"])
        changed = dataclasses.replace(changed, lora=lora)
        base = dataclasses.replace(
            recipe.model, name_or_path="random:bert", pooling="mean", bos=None, eos=None, dropout=0.0
        )
        recipe = dataclasses.replace(recipe, model=base)
    return dataclasses.replace(recipe, tuning=changed).replace("model", padding_side=side)


def tuned(recipe, step: float = 0.05):
    """A model whose trainable weights were pushed off their start."""
    torch.manual_seed(0)
    embedder = checkpoint.resolve(None, recipe, "cpu").load()
    peft_methods.apply(embedder, recipe.tuning, locate_model(recipe.model))
    with torch.no_grad():
        for parameter in peft_methods.trainable_parameters(embedder).values():
            parameter.add_(step * torch.randn_like(parameter))
    return embedder
