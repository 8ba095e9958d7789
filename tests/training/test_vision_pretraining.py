"""Pretraining: bad captions are refused, views stay near their image, and equal captions are no negatives."""

import json

import pytest
import torch
from helpers.tiny_task import refused
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModel

from rounds.config import loader
from rounds.config.recipe import Pretraining, Vision
from rounds.models.vision_tower import VisionTower
from rounds.training import vision_pretraining
from rounds.training.vision_pretraining import Augmentation, ContrastiveModel, augment, symmetric_info_nce


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], ("the file is empty",)),
        ([{"image": "a.png", "text": "one"}], ("has 1 rows", "two or more")),
        ([{"image": "a.png"}], ("line 1", "text")),
    ],
)
def test_captions_that_are_too_few_or_lack_a_key_are_refused(rows, words, tmp_path):
    """The refusal names the file."""
    (tmp_path / "captions.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    with refused("captions.jsonl", *words):
        vision_pretraining.read_captions(tmp_path)


def test_a_folder_without_captions_is_refused(tmp_path):
    """The refusal names the missing file, and the setting that avoids pretraining."""
    with refused("captions.jsonl: no such file", "model.vision.name_or_path"):
        vision_pretraining.read_captions(tmp_path)


def test_views_are_random():
    """Two views of the same images have their shape, and differ."""
    pixels = torch.rand(3, 3, 16, 16)
    first, second = augment(pixels), augment(pixels)
    assert first.shape == pixels.shape and not torch.allclose(first, second)


def test_a_view_without_changes_is_the_image():
    """With all strengths 0, a view equals its image."""
    pixels = torch.rand(3, 3, 16, 16)
    strength = Augmentation(rotation=0, shift=0, zoom=0, light=0)
    assert torch.allclose(augment(pixels, strength), pixels, atol=1e-5)


def test_images_with_equal_captions_are_no_negatives_of_each_other():
    """The loss is the mean InfoNCE of both directions, computed pair by pair, without the pairs that are the same."""
    generator = torch.Generator().manual_seed(0)
    images, captions = torch.nn.functional.normalize(torch.randn(2, 4, 8, generator=generator), dim=-1)
    captions[3] = captions[0]
    is_same = captions @ captions.T > 1 - 1e-4
    loss = symmetric_info_nce(images, captions, is_same, temperature=0.07)
    scores, expected = images @ captions.T / 0.07, 0.0
    for row in range(4):
        kept = [column for column in range(4) if column == row or {row, column} != {0, 3}]
        expected += (scores[row, kept].logsumexp(0) + scores[kept, row].logsumexp(0) - 2 * scores[row, row]) / 8
    assert torch.isclose(loss, expected)


@pytest.fixture
def model() -> ContrastiveModel:
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
    )
    tower = VisionTower(CLIPVisionModel(config), CLIPImageProcessorPil(), 8, Vision("x"), True)
    return ContrastiveModel(tower, Pretraining())


def test_the_loss_reaches_tower_and_head(model):
    """Gradients flow into the tower and its head, and into no caption."""
    captions = torch.randn(4, 8)
    model(torch.rand(4, 3, 16, 16), captions)["loss"].backward()
    assert model.tower.head.weight.grad.abs().sum() > 0 and captions.grad is None
    assert any(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in model.tower.tower.parameters())


def test_the_model_leaves_equal_captions_out(model):
    """If all captions of a batch are equal, their part of the loss is 0, and only that between the views is left."""
    pixels = torch.rand(1, 3, 16, 16).expand(2, -1, -1, -1)
    captions = torch.randn(1, 8).expand(2, -1)
    torch.manual_seed(1)
    loss = float(model(pixels, captions)["loss"].detach())
    assert loss == pytest.approx(loss_between_views(model, pixels), rel=1e-5)


def loss_between_views(model: ContrastiveModel, pixels: torch.Tensor) -> float:
    """Return the part of the model's loss that compares two views, with the random views of seed 1."""
    torch.manual_seed(1)
    with torch.no_grad():
        views = [model.tower.project(model.tower.encode_pixels(augment(pixels))) for _ in range(2)]
    is_same = torch.eye(len(pixels), dtype=torch.bool)
    return float(symmetric_info_nce(*views, is_same, model.settings.temperature))


def test_a_tower_that_learned_no_numbers_is_not_written(tmp_path, monkeypatch):
    """A rate at which weights overflow stops with a line; NaN would pass for a loss of 0 and a tower."""
    rows = [{"image": f"{number}.png", "text": f"place {number}"} for number in range(6)]
    for number, row in enumerate(rows):
        Image.new("RGB", (16, 16), (40 * number, 0, 0)).save(tmp_path / row["image"])
    (tmp_path / "captions.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    monkeypatch.setattr(vision_pretraining, "_embed_captions", lambda *_: torch.randn(6, 8))
    sizes = {"image_size": 16, "patch_size": 8, "hidden_size": 16, "layers": 1, "epochs": 2, "batch_size": 4}
    recipe = loader.load("kbvqa").replace("pretraining", **sizes, learning_rate=1e38)
    with refused("kbvqa", "pretraining.learning_rate", "temperature"):
        vision_pretraining.train(recipe, _OnCpu(), "fp32", tmp_path, tmp_path / "tower", 42)
    assert not (tmp_path / "tower" / "model.safetensors").exists()


class _OnCpu:
    """Stands in for the text model, whose captions' embeddings are given."""

    device = torch.device("cpu")
