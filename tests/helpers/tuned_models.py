"""Tiny models with a tuning method applied and their trainable weights changed, and checkpoints of them."""

import dataclasses
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer

from rounds.artifacts import store
from rounds.config import loader
from rounds.config.recipe import HoulsbyAdapters, Recipe, VirtualTokens
from rounds.models import checkpoint, peft_methods
from rounds.models.weights import locate_model


def tuned_recipe(method: str, model: str = "mistral", padding_side: str = "right", **tuning) -> Recipe:
    """Return the tiny recipe with another tuning method, on a tiny Mistral or BERT; `tuning` holds further keys."""
    recipe = loader.load("tiny-mistral")
    changed = dataclasses.replace(
        recipe.tuning,
        method=method,
        virtual=VirtualTokens(tokens=5, hidden_size=16),
        bottleneck=HoulsbyAdapters(4),
        **tuning,
    )
    base = dataclasses.replace(recipe.model, padding_side=padding_side)
    if model == "bert":
        changed = dataclasses.replace(changed, lora=dataclasses.replace(changed.lora, targets=["query", "value"]))
        base = dataclasses.replace(base, name_or_path="random:bert", pooling="mean", bos=None, eos=None, dropout=0.0)
    return dataclasses.replace(recipe, tuning=changed, model=base)


def perturb(embedder: SentenceTransformer, step: float = 0.05) -> None:
    """Add seeded noise to the trainable parameters, in place, in the place of a training."""
    with torch.no_grad():
        for parameter in peft_methods.trainable_parameters(embedder).values():
            parameter.add_(step * torch.randn_like(parameter))


def randomize_lora(embedder: SentenceTransformer) -> None:
    """Fill the second factors of LoRA's products, which start at zero, with noise from torch's generator."""
    for name, value in peft_methods.trainable_parameters(embedder).items():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.05)


def build_tuned_model(recipe: Recipe, step: float = 0.05) -> SentenceTransformer:
    """Load a recipe's base model, apply its tuning method and change the trainable weights by noise of size `step`."""
    torch.manual_seed(0)
    embedder = checkpoint.resolve(None, recipe, "cpu").load()
    peft_methods.apply(embedder, recipe.tuning, locate_model(recipe.model))
    perturb(embedder, step)
    return embedder


def save_checkpoint(embedder: SentenceTransformer, recipe: Recipe, folder: Path, **entries) -> Path:
    """Write a checkpoint with its manifest and return its folder; `entries` holds keys of the manifest."""
    entries = {"lineage": {}, "round": 1, "epoch": 1, **entries}
    with store.drafting(folder) as draft:
        draft.manifest = checkpoint.save(embedder, draft.folder, recipe, "fp32", **entries)
    return folder


def reload(embedder: SentenceTransformer, recipe: Recipe, folder: Path) -> SentenceTransformer:
    """Write a checkpoint into `folder` and return the model that is loaded from it."""
    return checkpoint.resolve(str(save_checkpoint(embedder, recipe, folder)), device="cpu").load()
