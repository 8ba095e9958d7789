"""Vision: how a text's words and its picture meet, what is frozen, kept and saved, and that training sees pictures."""

import dataclasses

import numpy as np
import pytest
import torch
from helpers.tiny_task import refused
from PIL import Image
from torch import nn
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModel

from rounds.artifacts import store
from rounds.config import loader
from rounds.config.recipe import Projection, Recipe, VirtualTokens, Vision
from rounds.data.images import attach_image, find_image, keep_only_image
from rounds.encoding import canary
from rounds.encoding.encoder import encode
from rounds.models import backbone, checkpoint, peft_methods, vision_tower
from rounds.models.vision_tower import TowerImageInputs, VisionTower

COLOURS = ("red", "green", "blue", "white")


@pytest.fixture(scope="module")
def tower(tmp_path_factory):
    """A folder with a tiny vision model of random weights, as pretraining writes it."""
    folder = tmp_path_factory.mktemp("tower")
    torch.manual_seed(1)
    config = CLIPVisionConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
                              image_size=16, patch_size=8)  # fmt: skip
    size = {"height": 16, "width": 16}
    processor = CLIPImageProcessorPil(size=size, crop_size=size)
    vision_tower.save(VisionTower(CLIPVisionModel(config), processor, 64, Vision("x"), True), folder)
    return folder


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A text on a picture of each colour, one without a picture, and a picture without words."""
    folder = tmp_path_factory.mktemp("pictures")
    found = []
    for colour in COLOURS:
        Image.new("RGB", (20, 16), colour).save(folder / f"{colour}.png")
        found.append(attach_image("what is shown", str(folder / f"{colour}.png")))
    return [*found, "what is shown", keep_only_image(found[0])]


def recipe_of(tower, tuned: str = "frozen", **seeing) -> Recipe:
    found = loader.from_dict({"name": "tiny", "model": {"name_or_path": "random:bert", "precision": "fp32"}}, "test")
    own = Vision(str(tower), **seeing)
    return found.replace("model", vision=own).replace("tuning", vision=tuned)


def vectors(embedder, texts, own) -> np.ndarray:
    return encode(embedder, texts, own.prompts, "query", "fp32")


@pytest.mark.parametrize("join", ["sum", "concat", "projection"])
def test_a_text_without_a_picture_is_its_words_and_the_other_way_round(join, tower, texts):
    """A missing part has no say; with both, the vector lies between them."""
    own = recipe_of(tower, join=join, weight=0.5)
    embedder = backbone.load(own, "fp32", "cpu")
    found = vectors(embedder, texts, own)
    eyes = vision_tower.find_tower(embedder)
    assert found.shape[1] == eyes.get_embedding_dimension() and np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    plain = backbone.load(recipe_of(""), "fp32", "cpu")
    words = torch.from_numpy(vectors(plain, ["what is shown"], own))
    looked = torch.from_numpy(vision_tower.encode_images(eyes, [find_image(texts[0])]))
    with torch.no_grad():
        picture, nothing = eyes.project(looked), torch.zeros(1, eyes.dim)
        expected = [eyes.join(words, picture), eyes.join(words, nothing), eyes.join(nothing, picture)]
    for row, each in zip((0, 4, 5), expected, strict=True):
        assert np.allclose(found[row], each.numpy(), atol=1e-5)
    assert found[0] @ found[4] > found[5] @ found[4] and found[0] @ found[5] > found[4] @ found[5]


def test_the_weight_moves_between_words_and_picture(tower, texts):
    """At 0 pictures do not matter, at 1 words do not."""
    by = {}
    for weight in (0.0, 1.0):
        own = recipe_of(tower, weight=weight)
        by[weight] = vectors(backbone.load(own, "fp32", "cpu"), texts[:5], own)
    assert np.allclose(by[0.0][0], by[0.0][4], atol=1e-6)
    alone = vectors(backbone.load(own, "fp32", "cpu"), texts[5:], own)
    assert np.allclose(by[1.0][0], alone[0], atol=1e-6) and not np.allclose(by[1.0][0], by[1.0][1], atol=1e-3)


def test_pixels_and_features_say_the_same(tower, texts):
    """What a trained tower is given in a batch gives the vectors of a frozen one's features."""
    own = recipe_of(tower)
    embedder = backbone.load(own, "fp32", "cpu")
    eyes = vision_tower.find_tower(embedder)
    text = torch.randn(len(texts), eyes.dim)
    with torch.no_grad():
        found = [
            eyes({"sentence_embedding": text, **TowerImageInputs(eyes, texts, trained).batch(texts, len(texts))})[
                "sentence_embedding"
            ]
            for trained in (False, True)
        ]
    assert torch.allclose(*found, atol=1e-5)


def test_rows_that_fill_a_batch_change_nothing(tower, texts):
    """A batch of three filled up to eight has the three's vectors first, whichever pictures it holds."""
    eyes = vision_tower.find_tower(backbone.load(recipe_of(tower), "fp32", "cpu"))
    for trained in (False, True):
        sight = TowerImageInputs(eyes, texts, trained)
        text = torch.randn(8, eyes.dim)
        with torch.no_grad():
            whole = eyes({"sentence_embedding": text, **sight.batch(texts[2:5], 8)})["sentence_embedding"]
            three = eyes({"sentence_embedding": text[:3], **sight.batch(texts[2:5], 3)})["sentence_embedding"]
        assert torch.allclose(whole[:3], three, atol=1e-6)


def test_pictures_are_looked_at_once(tower, texts, tmp_path, monkeypatch):
    """A second call reads the kept features; another tower keeps its own."""
    eyes = vision_tower.find_tower(backbone.load(recipe_of(tower), "fp32", "cpu"))
    eyes.cache = tmp_path
    shown = [find_image(text) for text in texts]
    first = vision_tower.encode_images(eyes, shown)
    assert len(list(tmp_path.rglob("*.npy"))) == len(COLOURS)
    monkeypatch.setattr(eyes, "encode", None)
    assert np.array_equal(first, vision_tower.encode_images(eyes, shown), equal_nan=True)
    monkeypatch.undo()
    with torch.no_grad():
        eyes.tower.post_layernorm.weight.add_(1) if hasattr(eyes.tower, "post_layernorm") else next(
            eyes.tower.parameters()
        ).add_(1)
    assert not np.allclose(first[0], vision_tower.encode_images(eyes, shown)[0])


@pytest.mark.parametrize(("method", "tuned", "unfreeze", "moves"), [
    ("full", "frozen", [], False), ("full", "tuned", [], True), ("lora", "frozen", [], False),
    ("lora", "tuned", [], True), ("bottleneck", "frozen", ["layer_norms", "visual_embedding"], None),
    ("prompt", "frozen", [], False),
])  # fmt: skip
def test_what_is_tuned_is_saved_and_comes_back(method, tuned, unfreeze, moves, tower, texts, tmp_path):
    """Which of the tower's weights take gradients; a checkpoint's vectors are those of the model that was saved."""
    own = recipe_of(tower, tuned).replace("tuning", method=method, unfreeze=unfreeze)
    embedder = backbone.load(own, "fp32", "cpu")
    peft_methods.apply(embedder, own.tuning)
    eyes = vision_tower.find_tower(embedder)
    seeing = {name: value.requires_grad for name, value in eyes.tower.named_parameters()}
    if moves is None:
        assert {name for name, on in seeing.items() if on} == {
            name for name in seeing if "norm" in name.lower() or "embeddings." in name
        }
    else:
        assert set(seeing.values()) == {moves}
    assert eyes.head.weight.requires_grad
    with torch.no_grad():
        for value in peft_methods.trainable_parameters(embedder).values():
            value.add_(0.01 * torch.randn_like(value))
    embedder.eval()
    expected = vectors(embedder, texts, own)
    folder = tmp_path / "epoch_1"
    manifest: dict = {}
    with store.writing(folder, manifest) as temporary:
        about = {"lineage": {}, "round": 1, "epoch": 1}
        manifest.update(checkpoint.save(embedder, temporary, own, "fp32", about))
    again = checkpoint.resolve(str(folder), device="cpu").load()
    assert np.allclose(vectors(again, texts, own), expected, atol=1e-5)


def test_a_batch_trains_what_looks(tower, texts):
    """Gradients of a loss on joined vectors reach the head always, and the tower where it is tuned."""
    for tuned in ("frozen", "tuned"):
        own = recipe_of(tower, tuned)
        embedder = backbone.load(own, "fp32", "cpu").train()
        peft_methods.apply(embedder, own.tuning)
        eyes = vision_tower.find_tower(embedder)
        features = TowerImageInputs(eyes, texts, vision_tower.is_trainable(eyes)).batch(texts, len(texts))
        out = eyes({"sentence_embedding": torch.randn(len(texts), eyes.dim), **features})["sentence_embedding"]
        (out * torch.randn_like(out)).sum().backward()
        assert eyes.head.weight.grad.abs().sum() > 0
        touched = any(value.grad is not None for value in eyes.tower.parameters())
        assert touched == (tuned == "tuned")


def test_a_head_for_other_vectors_is_refused(tower):
    """The folder's head and the text model must fit; so must the folder be a vision model."""
    own = recipe_of(tower)
    with refused("head.safetensors", "64 dimensions", "384"):
        large = loader.load("kbvqa").replace("model", vision=own.model.vision)
        backbone.load(dataclasses.replace(own, model=large.model), "fp32", "cpu")
    with refused("model.vision", "cannot be loaded"):
        vision_tower.load(str(tower.parent), 64, own.model.vision, True)


def test_keys_that_need_eyes_are_refused_without():
    """Tuned vision and training on pictures only, where no vision model is named."""
    own = loader.load("minilm")
    for section, key, value in (("tuning", "vision", "tuned"), ("training", "pictures", "only")):
        with refused("model.vision.name_or_path is empty"):
            own.replace(section, **{key: value})
    with refused("model.vision.join", "sum, concat, projection"):
        own.replace("model", vision={"join": "add"})
    with refused("model.vision.weight", "0 to 1"):
        own.replace("model", vision={"weight": 2.0})


def test_a_vision_module_is_the_last(tower):
    """Behind pooling and normalization, before a projection head."""
    own = recipe_of(tower).replace("tuning", method="bottleneck", projection=Projection(dim=8))
    embedder = backbone.load(own, "fp32", "cpu")
    assert isinstance(embedder[-1], VisionTower)
    peft_methods.apply(embedder, own.tuning)
    names = [type(module).__name__ for module in embedder]
    assert names.index("VisionTower") < names.index("Dense") and isinstance(
        embedder[names.index("Dense")].linear, nn.Linear
    )


@pytest.mark.parametrize("method", ["prompt", "p_tuning"])
@pytest.mark.parametrize("kind", ["own", "shared"])
def test_visual_tokens_are_trained_saved_and_not_mistaken(kind, method, tower, texts, tmp_path):
    """Tokens before the patches change what the tower sees, take gradients and come back, features of their own too."""
    own = recipe_of(tower).replace("tuning", method=method, virtual=VirtualTokens(tokens=3, vision=kind))
    plain = vision_tower.find_tower(backbone.load(recipe_of(tower), "fp32", "cpu"))
    embedder = backbone.load(own, "fp32", "cpu")
    peft_methods.apply(embedder, own.tuning)
    eyes = vision_tower.find_tower(embedder)
    assert vision_tower.is_trainable(eyes)
    shown = [find_image(texts[0])]
    plain.cache = eyes.cache = tmp_path / "seen"
    before = vision_tower.encode_images(plain, shown), vision_tower.encode_images(eyes, shown)
    assert not np.allclose(*before, atol=1e-4)
    sight = TowerImageInputs(eyes, texts, True).batch(texts, len(texts))
    eyes({"sentence_embedding": torch.randn(len(texts), eyes.dim), **sight})["sentence_embedding"].sum().backward()
    assert all(value.grad is not None for value in eyes.tower.visual_tokens.parameters())
    with torch.no_grad():
        for value in peft_methods.trainable_parameters(embedder).values():
            value.add_(0.1 * torch.randn_like(value))
    embedder.eval()
    assert not np.allclose(before[1], vision_tower.encode_images(eyes, shown), atol=1e-4)
    expected, manifest = vectors(embedder, texts, own), {}
    with store.writing(tmp_path / "epoch_1", manifest) as temporary:
        about = {"lineage": {}, "round": 1, "epoch": 1}
        manifest.update(checkpoint.save(embedder, temporary, own, "fp32", about))
    again = checkpoint.resolve(str(tmp_path / "epoch_1"), device="cpu").load()
    assert np.allclose(vectors(again, texts, own), expected, atol=1e-5)


def test_visual_tokens_need_eyes_and_prompting():
    """Refused by name."""
    own = loader.load("minilm")
    with refused("tuning.virtual.vision", "none, own, shared"):
        own.replace("tuning", virtual={"vision": "theirs"})
    with refused("tuning.virtual.vision needs tuning.method prompt or p_tuning"):
        own.replace("tuning", virtual=VirtualTokens(vision="own"))


def test_a_tower_in_half_precision_looks_with_what_is_unfrozen(tower, texts):
    """Frozen weights in bf16 beside layer norms in fp32 see what all of them in fp32 see."""
    own = recipe_of(tower).replace("tuning", method="bottleneck", unfreeze=["layer_norms", "visual_embedding"])
    found = []
    for precision in ("fp32", "bf16"):
        embedder = backbone.load(own, precision, "cpu")
        peft_methods.apply(embedder, own.tuning)
        found.append(canary.embed_canaries(embedder, own.prompts, precision)["query"]["picture"][0])
    assert np.dot(*found) > 0.999
