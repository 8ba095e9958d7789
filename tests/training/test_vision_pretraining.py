"""Pretraining: captions are read with care, views stay views of their picture, equal captions are no negatives."""

import json

import pytest
import torch
from helpers.tiny_task import refused
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModel

from rounds.config.recipe import Pretraining, Vision
from rounds.models.vision_tower import VisionTower
from rounds.training import vision_pretraining
from rounds.training.vision_pretraining import Contrast


@pytest.fixture
def contrast():
    torch.manual_seed(0)
    config = CLIPVisionConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
                              image_size=16, patch_size=8)  # fmt: skip
    eyes = VisionTower(CLIPVisionModel(config), CLIPImageProcessorPil(), 8, Vision("x"), True)
    return Contrast(eyes, Pretraining())


@pytest.mark.parametrize(("lines", "words"), [
    ([], ("the file is empty",)),
    ([{"image": "a.png", "text": "one"}], ("has 1 rows", "two or more")),
    ([{"image": "a.png"}], ("line 1", "text")),
])  # fmt: skip
def test_captions_that_are_too_few_or_lack_a_key_are_refused(lines, words, tmp_path):
    """With the file's name."""
    (tmp_path / "captions.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    with refused("captions.jsonl", *words):
        vision_pretraining.read_captions(tmp_path)


def test_a_folder_without_captions_is_refused(tmp_path):
    """With the name of what is missing."""
    with refused("captions.jsonl: no such file", "model.vision.name_or_path"):
        vision_pretraining.read_captions(tmp_path)


def test_views_differ_but_stay_near(monkeypatch):
    """Another view each time, of the same shape; with nothing to vary, the picture itself."""
    pixels = torch.rand(3, 3, 16, 16)
    one, other = vision_pretraining.varied(pixels), vision_pretraining.varied(pixels)
    assert one.shape == pixels.shape and not torch.allclose(one, other)
    for name in ("TURN", "SHIFT", "ZOOM", "LIGHT"):
        monkeypatch.setattr(vision_pretraining, name, 0.0)
    assert torch.allclose(vision_pretraining.varied(pixels), pixels, atol=1e-5)


def test_pictures_of_one_caption_are_no_negatives_of_each_other(contrast):
    """Against the sum written out: the loss of captions and pictures, a picture's twins left out."""
    views, captions = torch.nn.functional.normalize(torch.randn(2, 4, 8), dim=-1)
    captions[3] = captions[0]
    same = captions @ captions.T > 1 - 1e-4
    found = contrast._both_ways(views, captions, same)
    scores, expected = views @ captions.T / contrast.how.temperature, 0.0
    for row in range(4):
        kept = [column for column in range(4) if column == row or {row, column} != {0, 3}]
        expected += (scores[row, kept].logsumexp(0) + scores[kept, row].logsumexp(0) - 2 * scores[row, row]) / 8
    assert torch.isclose(found, expected)


def test_the_loss_reaches_tower_and_head(contrast):
    """And no caption takes gradients."""
    captions = torch.randn(4, 8)
    contrast(torch.rand(4, 3, 16, 16), captions)["loss"].backward()
    assert contrast.eyes.head.weight.grad.abs().sum() > 0 and captions.grad is None
    assert any(value.grad is not None and value.grad.abs().sum() > 0 for value in contrast.eyes.tower.parameters())
