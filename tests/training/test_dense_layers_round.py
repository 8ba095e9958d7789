"""A tiny round of a base model with Dense layers: gradients, two rounds and what is published."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import dense_bases
from helpers.tiny_task import chunks_and_labels
from helpers.training import few_rows, finetune
from safetensors.torch import load_file

from rounds.data import collection
from rounds.encoding.encoder import encode
from rounds.models import backbone, checkpoint, peft_methods
from rounds.publishing import stage
from rounds.publishing.stage import PublishJob
from rounds.training.collator import Collator
from rounds.training.dataset import read_training_groups
from rounds.training.loss_module import EmbeddingLoss

TEXTS = ["Adds the numerators.", "Takes a kite for a rhombus."]


@pytest.fixture(scope="module")
def gemma(tmp_path_factory) -> Path:
    """The folder of a tiny EmbeddingGemma."""
    return dense_bases.save_gemma(tmp_path_factory.mktemp("gemma"))


def test_cached_gradients_equal_plain_ones(gemma, tiny_mined):
    """Gradient caching gives the layers, too, the gradients of a single graph, also for cut vectors."""
    recipe = dense_bases.recipe_for(gemma).replace("training", micro_batch_tokens=300, matryoshka_dims=[32, 16])
    groups, results = read_training_groups(tiny_mined, 42, recipe), []
    for budget in (0, 300):
        embedder = backbone.load(recipe, "fp32", "cpu")
        peft_methods.apply(embedder, recipe.tuning)
        batch = chunks_and_labels(Collator(groups, embedder, recipe, 42)([{"row": n} for n in range(6)]))
        settings = recipe.replace("training", micro_batch_tokens=budget).training
        EmbeddingLoss(embedder.train(), settings, "fp32")(*batch).backward()
        results.append({name: value.grad for name, value in embedder.named_parameters() if value.grad is not None})
    plain, cached = results
    assert plain.keys() == cached.keys() and sum(".linear." in name for name in plain) == 2
    for name, value in plain.items():
        assert torch.norm(cached[name] - value) <= 1e-4 * torch.norm(value) + 1e-7, name


@pytest.mark.slow
@pytest.mark.parametrize(("method", "learning_rate"), [("full", 1e-4), ("lora", 1e-3)])
def test_two_rounds_end_in_a_published_model(method, learning_rate, gemma, tiny_mined, tiny_collection, tmp_path):
    """Each round lowers the loss, a second goes on from the first, and SentenceTransformer reads what is published."""
    recipe = dense_bases.recipe_for(gemma, method).replace("training", learning_rate=learning_rate)
    recipe = recipe.replace("prompts", query_max_length=60, passage_max_length=40)
    data, name = few_rows(tiny_mined, tmp_path), f"{'lora_' * (method == 'lora')}epoch_2"
    finetune(recipe, data, tmp_path / "round1", tiny_collection)
    finetune(recipe, data, tmp_path / "round2", tiny_collection, start=tmp_path / "round1")
    metrics = [json.loads((tmp_path / f"round{n}" / name / "metrics.json").read_text("utf-8")) for n in (1, 2)]
    assert metrics[1]["train loss"] < metrics[0]["train loss"]
    source = checkpoint.resolve(str(tmp_path / "round2"), device="cpu")
    stage.write_folder(PublishJob(source, collection.read(tiny_collection), None, "you/tiny", tmp_path / "published"))
    ours = encode(source.load(), TEXTS, recipe.prompts, "passage", "fp32")
    np.testing.assert_allclose(dense_bases.stock_vectors(tmp_path / "published", TEXTS), ours, atol=1e-5)
    layers = [load_file(folder / "2_Dense" / "model.safetensors") for folder in (gemma, tmp_path / "published")]
    assert torch.equal(*(layer["linear.weight"] for layer in layers)) == (method == "lora")
