"""Tiny base models with Dense layers between pooling and normalization, as EmbeddingGemma has them."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import torch
from helpers import tiny_architectures
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

from rounds.config import loader
from rounds.config.recipe import Recipe
from rounds.models.random_models import random_model_folder

QUERY_PREFIX, PASSAGE_PREFIX = "task: search result | query: ", "title: none | text: "

WIDTH, INNER = 32, 96  # of tiny models, and of the vector between the two layers


def add_layers(folder: Path, dims: tuple[int, ...] = (WIDTH, INNER, WIDTH), pooling: str = "mean", **settings) -> None:
    """Put seeded Dense layers behind the transformer of a folder, in sentence-transformers' layout.

    Args:
        dims: of the pooled vector, and of each layer's output.
        settings: keyword arguments of `Dense`; by default no bias and no activation, as EmbeddingGemma's.
    """
    transformer = Transformer(str(folder))
    torch.manual_seed(1)
    settings = {"bias": False, "activation_function": torch.nn.Identity(), **settings}
    layers = [Dense(one, other, **settings) for one, other in zip(dims, dims[1:], strict=False)]
    modules = [transformer, Pooling(dims[0], pooling), *layers, Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(folder), create_model_card=False)


def save_gemma(folder: Path, window: int = 64, pooling: str = "mean") -> Path:
    """Save a tiny EmbeddingGemma, and return its folder.

    Args:
        window: the configuration's `sliding_window`, on both sides of a token together.
        pooling: as sentence-transformers names it.
    """
    model = tiny_architectures.build(
        "gemma3_text",
        use_bidirectional_attention=True,
        sliding_window=window,
        layer_types=["sliding_attention", "full_attention"],
        max_position_embeddings=2048,
    )
    tiny_architectures.save(model, folder)
    add_layers(folder, pooling=pooling)
    return folder


def copy_random(kind: str, folder: Path, **settings) -> None:
    """Copy a random model (`random_models`) with a Dense layer, 64 to 48 dimensions; settings as for `add_layers`."""
    shutil.copytree(random_model_folder(kind), folder, ignore=shutil.ignore_patterns("manifest.json"))
    add_layers(folder, (64, 48), **settings)


def recipe_for(folder: Path, method: str = "full", **model) -> Recipe:
    """Return a recipe for a base model, with EmbeddingGemma's prompts; `model` holds further keys of the section."""
    recipe = loader.load("tiny-mistral")
    prompts = {"query_prefix": QUERY_PREFIX, "passage_prefix": PASSAGE_PREFIX, "query_suffix": ""}
    recipe = recipe.replace("prompts", **prompts, query_max_length=200, passage_max_length=200)
    settings = {"name_or_path": str(folder), "bos": None, "eos": None, "pooling": "mean", **model}
    lora = dataclasses.replace(recipe.tuning.lora, targets="all-linear", dropout=0.0)
    tuning = dataclasses.replace(recipe.tuning, method=method, lora=lora)
    return dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, **settings), tuning=tuning)


def stock_vectors(folder: Path, texts: list[str], prompt: str = PASSAGE_PREFIX) -> np.ndarray:
    """Embed texts with a folder's model as sentence-transformers loads it: (texts, dim) float32."""
    embedder = SentenceTransformer(str(folder), device="cpu")
    embedder.max_seq_length = 200
    return embedder.encode(texts, prompt=prompt)
