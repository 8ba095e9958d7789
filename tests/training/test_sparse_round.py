"""A tiny round of a sparse encoder: mined, trained, evaluated, gone on from and published."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.tiny_task import chunks_and_labels
from helpers.training import few_rows, finetune, mine
from sentence_transformers import SparseEncoder

from rounds.config import loader
from rounds.config.recipe import Recipe
from rounds.data import collection
from rounds.encoding.encoder import encode
from rounds.mining.statistics import read_mined
from rounds.models import backbone, checkpoint, peft_methods
from rounds.publishing import stage
from rounds.publishing.stage import PublishJob
from rounds.training.collator import Collator
from rounds.training.dataset import read_training_groups
from rounds.training.loss_module import EmbeddingLoss

RECIPE = loader.load("tiny-splade")


def with_method(method: str) -> Recipe:
    lora = dataclasses.replace(RECIPE.tuning.lora, targets=["query", "value"])
    return dataclasses.replace(RECIPE, tuning=dataclasses.replace(RECIPE.tuning, method=method, lora=lora))


@pytest.fixture(scope="module")
def mined(tiny_collection, tmp_path_factory) -> Path:
    """Negatives that the untrained sparse model ranks high."""
    output = tmp_path_factory.mktemp("sparse") / "finetune_data_minedHN.jsonl"
    mine(RECIPE, tiny_collection, output)
    return output


def test_cached_gradients_equal_plain_ones(mined):
    """Gradient caching gives the loss, regularization included, and the gradients of a single graph."""
    groups, results = read_training_groups(mined, 42, RECIPE), []
    for cached in (False, True):
        embedder = backbone.load(RECIPE, "fp32", "cpu")
        peft_methods.apply(embedder, RECIPE.tuning)
        recipe = RECIPE.replace("training", micro_batch_tokens=200, flops_query=0.1, flops_passage=0.1)
        batch = chunks_and_labels(Collator(groups, embedder, recipe, 42)([{"row": n} for n in range(8)]))
        settings = dataclasses.replace(recipe.training, micro_batch_tokens=200 if cached else 0)
        loss = EmbeddingLoss(embedder.train(), settings, "fp32", normalize=False)(*batch)
        loss.backward()
        gradients = {name: value.grad for name, value in embedder.named_parameters() if value.grad is not None}
        results.append((loss.item(), gradients))
    (plain_loss, plain), (cached_loss, cached) = results
    assert cached_loss == pytest.approx(plain_loss, rel=1e-5) and plain.keys() == cached.keys()
    for name, value in plain.items():
        assert torch.norm(cached[name] - value) <= 1e-4 * torch.norm(value) + 1e-7, name


@pytest.mark.slow
@pytest.mark.parametrize("method", ["full", "lora"])
def test_two_rounds_end_in_a_published_model(method, mined, tiny_collection, tmp_path):
    """Each round lowers the loss, a second goes on from the first, and SparseEncoder reads what is published."""
    recipe = with_method(method)
    data, name = few_rows(mined, tmp_path), f"{'lora_' * (method == 'lora')}epoch_2"
    finetune(recipe, data, tmp_path / "round1", tiny_collection)
    finetune(recipe, data, tmp_path / "round2", tiny_collection, start=tmp_path / "round1")
    metrics = [json.loads((tmp_path / f"round{n}" / name / "metrics.json").read_text("utf-8")) for n in (1, 2)]
    assert metrics[1]["train loss"] < metrics[0]["train loss"]
    assert all(0 < each["query words"] < 1000 and each["FLOPS"] > 0 for each in metrics)
    source = checkpoint.resolve(str(tmp_path / "round2"), device="cpu")
    job = PublishJob(source, collection.read(tiny_collection), None, "you/tiny", tmp_path / "published")
    stage.write_folder(job)
    loaded = SparseEncoder(str(tmp_path / "published"), device="cpu")
    texts = ["Adds the numerators.", "Takes a kite for a rhombus."]
    ours = encode(source.load(), texts, recipe.prompts, "passage", "fp32").toarray()
    np.testing.assert_allclose(loaded.encode(texts, convert_to_sparse_tensor=False).numpy(), ours, atol=1e-5)
    assert "from sentence_transformers import SparseEncoder" in (tmp_path / "published" / "README.md").read_text(
        "utf-8"
    )


def test_mined_negatives_have_statistics(mined, tiny_collection):
    """Cosines of negatives to their positives and the share of false ones come from the sparse vectors."""
    statistics = read_mined(mined, list(collection.read(tiny_collection).passages))
    assert statistics.similarity.sum() == statistics.negatives > 0 and 0 <= statistics.false <= 1
