"""Vision towers: how text and image embeddings are fused, and what is frozen, trained and saved."""

import dataclasses

import numpy as np
import pytest
import torch
from helpers.tiny_task import refused
from helpers.tuned_models import perturb, reload
from PIL import Image
from torch import nn
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModel

from rounds.config import loader
from rounds.config.recipe import Projection, Recipe, VirtualTokens, Vision
from rounds.data.images import attach_image, find_image, keep_only_image
from rounds.encoding import canary
from rounds.encoding.encoder import encode
from rounds.models import backbone, image_inputs, peft_methods, vision_tower
from rounds.models.image_inputs import TowerImageInputs
from rounds.models.vision_tower import VisionTower

COLOURS = ("red", "green", "blue", "white")


@pytest.fixture(scope="module")
def tower_folder(tmp_path_factory):
    """A folder with a tiny vision model of random weights, as pretraining writes it."""
    folder = tmp_path_factory.mktemp("tower")
    torch.manual_seed(1)
    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
    )
    size = {"height": 16, "width": 16}
    processor = CLIPImageProcessorPil(size=size, crop_size=size)
    vision_tower.save(VisionTower(CLIPVisionModel(config), processor, 64, Vision("x"), True), folder)
    return folder


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A text with an image of each colour, one without an image, and an image without words."""
    folder = tmp_path_factory.mktemp("images")
    with_images = []
    for colour in COLOURS:
        Image.new("RGB", (20, 16), colour).save(folder / f"{colour}.png")
        with_images.append(attach_image("what is shown", str(folder / f"{colour}.png")))
    return [*with_images, "what is shown", keep_only_image(with_images[0])]


def tower_recipe(tower_folder, tuning: str = "frozen", **vision) -> Recipe:
    """Return a recipe of a tiny text model with a vision tower; `vision` holds further keys of `model.vision`."""
    recipe = loader.from_dict({"name": "tiny", "model": {"name_or_path": "random:bert", "precision": "fp32"}}, "test")
    return recipe.replace("model", vision=Vision(str(tower_folder), **vision)).replace("tuning", vision=tuning)


def load_tower(recipe: Recipe) -> VisionTower:
    """Load a recipe's vision tower."""
    return vision_tower.find_tower(backbone.load(recipe, "fp32", "cpu"))


def load_tuned(recipe: Recipe):
    """Load a recipe's base model with its tuning method applied."""
    embedder = backbone.load(recipe, "fp32", "cpu")
    peft_methods.apply(embedder, recipe.tuning)
    return embedder


def embed(embedder, texts, recipe) -> np.ndarray:
    """Embed texts as queries."""
    return encode(embedder, texts, recipe.prompts, "query", "fp32")


def fuse(tower: VisionTower, text: torch.Tensor, features: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the fused embeddings of text embeddings and a batch's image inputs."""
    return tower({"sentence_embedding": text, **features})["sentence_embedding"]


@pytest.mark.parametrize("join", ["sum", "concat", "projection"])
def test_a_missing_part_contributes_nothing(join, tower_folder, texts):
    """A text without an image is its words, and an image without words its image; with both, it lies between."""
    recipe = tower_recipe(tower_folder, join=join, weight=0.5)
    embedder = backbone.load(recipe, "fp32", "cpu")
    tower = vision_tower.find_tower(embedder)
    vectors = embed(embedder, texts, recipe)
    assert vectors.shape[1] == tower.get_embedding_dimension()
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    text_model = backbone.load(tower_recipe(""), "fp32", "cpu")
    words = torch.from_numpy(embed(text_model, ["what is shown"], recipe))
    features = torch.from_numpy(image_inputs.encode_images(tower, [find_image(texts[0])]))
    both, words_only, image_only = vectors[0], vectors[4], vectors[5]
    with torch.no_grad():
        image, nothing = tower.project(features), torch.zeros(1, tower.dim)
        assert np.allclose(both, tower.fuse(words, image).numpy(), atol=1e-5)
        assert np.allclose(words_only, tower.fuse(words, nothing).numpy(), atol=1e-5)
        assert np.allclose(image_only, tower.fuse(nothing, image).numpy(), atol=1e-5)
    assert both @ words_only > image_only @ words_only and both @ image_only > words_only @ image_only


def test_at_weight_0_images_do_not_count(tower_folder, texts):
    """With `weight: 0`, a text with an image has the embedding of its words."""
    recipe = tower_recipe(tower_folder, weight=0.0)
    vectors = embed(backbone.load(recipe, "fp32", "cpu"), texts[:5], recipe)
    assert np.allclose(vectors[0], vectors[4], atol=1e-6)


def test_at_weight_1_words_do_not_count(tower_folder, texts):
    """With `weight: 1`, a text with an image has the embedding of its image."""
    recipe = tower_recipe(tower_folder, weight=1.0)
    vectors = embed(backbone.load(recipe, "fp32", "cpu"), texts, recipe)
    assert np.allclose(vectors[0], vectors[5], atol=1e-6) and not np.allclose(vectors[0], vectors[1], atol=1e-3)


def test_pixels_and_features_give_the_same_embeddings(tower_folder, texts):
    """The pixels that a trained tower gets give the embeddings of a frozen tower's features."""
    tower = load_tower(tower_recipe(tower_folder))
    text = torch.randn(len(texts), tower.dim)
    with torch.no_grad():
        by_features, by_pixels = (
            fuse(tower, text, TowerImageInputs(tower, texts, keep_pixels).batch(texts, len(texts)))
            for keep_pixels in (False, True)
        )
    assert torch.allclose(by_features, by_pixels, atol=1e-5)


@pytest.mark.parametrize("keep_pixels", [False, True])
def test_padding_rows_change_no_embedding(keep_pixels, tower_folder, texts):
    """A batch of three texts padded to eight rows starts with the three's embeddings, whichever images it holds."""
    tower = load_tower(tower_recipe(tower_folder))
    inputs = TowerImageInputs(tower, texts, keep_pixels)
    text = torch.randn(8, tower.dim)
    with torch.no_grad():
        padded, three = (fuse(tower, text[:rows], inputs.batch(texts[2:5], rows)) for rows in (8, 3))
    assert torch.allclose(padded[:3], three, atol=1e-6)


def test_image_features_are_cached(tower_folder, texts, tmp_path, monkeypatch):
    """Each distinct image is encoded once; a second call reads the cached features."""
    tower = load_tower(tower_recipe(tower_folder))
    tower.feature_cache = tmp_path
    images = [find_image(text) for text in texts]
    first = image_inputs.encode_images(tower, images)
    assert len(list(tmp_path.rglob("*.npy"))) == len(COLOURS)
    monkeypatch.setattr(tower, "encode_pixels", None)
    assert np.array_equal(first, image_inputs.encode_images(tower, images), equal_nan=True)


def test_another_tower_does_not_read_cached_features(tower_folder, texts, tmp_path):
    """Changed weights encode the images anew."""
    tower = load_tower(tower_recipe(tower_folder))
    tower.feature_cache = tmp_path
    images = [find_image(texts[0])]
    first = image_inputs.encode_images(tower, images)
    with torch.no_grad():
        for parameter in tower.tower.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    assert not np.allclose(first, image_inputs.encode_images(tower, images))


TUNINGS = [
    ("full", "frozen", []),
    ("full", "tuned", []),
    ("lora", "frozen", []),
    ("lora", "tuned", []),
    ("bottleneck", "frozen", ["layer_norms", "visual_embedding"]),
    ("prompt", "frozen", []),
]


@pytest.mark.parametrize(("method", "vision", "unfreeze"), TUNINGS)
def test_only_the_named_parts_of_a_tower_are_trained(method, vision, unfreeze, tower_folder):
    """`tuning.vision` trains all of the tower, `unfreeze` the named parts, and the head is always trained."""
    recipe = tower_recipe(tower_folder, vision).replace("tuning", method=method, unfreeze=unfreeze)
    tower = vision_tower.find_tower(load_tuned(recipe))
    names = {name for name, _ in tower.tower.named_parameters()}
    expected = names if vision == "tuned" else set()
    if unfreeze:
        expected = {name for name in names if "norm" in name.lower() or "embeddings." in name}
    assert {name for name, value in tower.tower.named_parameters() if value.requires_grad} == expected
    assert tower.head.weight.requires_grad


@pytest.mark.parametrize(("method", "vision", "unfreeze"), TUNINGS)
def test_a_tuned_tower_is_saved_and_loaded(method, vision, unfreeze, tower_folder, texts, tmp_path):
    """A reloaded checkpoint gives the embeddings of the model that was saved."""
    recipe = tower_recipe(tower_folder, vision).replace("tuning", method=method, unfreeze=unfreeze)
    embedder = load_tuned(recipe)
    perturb(embedder, 0.01)
    expected = embed(embedder.eval(), texts, recipe)
    reloaded = reload(embedder, recipe, tmp_path / "epoch_1")
    assert np.allclose(embed(reloaded, texts, recipe), expected, atol=1e-5)


@pytest.mark.parametrize("vision", ["frozen", "tuned"])
def test_gradients_reach_the_tower_only_where_it_is_tuned(vision, tower_folder, texts):
    """A loss on fused embeddings has gradients for the head always, and for the tower with `tuning.vision: tuned`."""
    recipe = tower_recipe(tower_folder, vision)
    embedder = backbone.load(recipe, "fp32", "cpu").train()
    peft_methods.apply(embedder, recipe.tuning)
    tower = vision_tower.find_tower(embedder)
    features = image_inputs.load_image_inputs(embedder, texts).batch(texts, len(texts))
    vectors = fuse(tower, torch.randn(len(texts), tower.dim), features)
    (vectors * torch.randn_like(vectors)).sum().backward()
    assert tower.head.weight.grad.abs().sum() > 0
    assert any(value.grad is not None for value in tower.tower.parameters()) == (vision == "tuned")


def test_a_head_for_other_dimensions_is_refused(tower_folder):
    """A tower whose head was pretrained for text embeddings of another dimension is refused."""
    recipe = tower_recipe(tower_folder)
    large = loader.load("kbvqa").replace("model", vision=recipe.model.vision)
    with refused("head.safetensors", "64 dimensions", "384"):
        backbone.load(dataclasses.replace(recipe, model=large.model), "fp32", "cpu")


def test_a_folder_without_a_vision_model_is_refused(tower_folder):
    """A folder that holds no vision model is refused by name."""
    with refused("model.vision", "cannot be loaded"):
        vision_tower.load(str(tower_folder.parent), 64, tower_recipe(tower_folder).model.vision, True)


def test_image_keys_without_a_vision_model_are_refused():
    """Tuned vision and training on images only need a vision model in the recipe."""
    recipe = loader.load("minilm")
    for section, key, value in (("tuning", "vision", "tuned"), ("training", "pictures", "only")):
        with refused("model.vision.name_or_path is empty"):
            recipe.replace(section, **{key: value})


def test_values_that_no_fusion_takes_are_refused():
    """An unknown join and a weight outside of 0 to 1 are refused."""
    recipe = loader.load("minilm")
    with refused("model.vision.join", "sum, concat, projection"):
        recipe.replace("model", vision={"join": "add"})
    with refused("model.vision.weight", "0 to 1"):
        recipe.replace("model", vision={"weight": 2.0})


def test_a_tower_stands_between_normalization_and_projection_head(tower_folder):
    """The tower is the last module of a base model, and a projection head comes behind it."""
    recipe = tower_recipe(tower_folder).replace("tuning", method="bottleneck", projection=Projection(dim=8))
    embedder = backbone.load(recipe, "fp32", "cpu")
    assert isinstance(embedder[-1], VisionTower)
    peft_methods.apply(embedder, recipe.tuning)
    names = [type(module).__name__ for module in embedder]
    assert names.index("VisionTower") < names.index("Dense")
    assert isinstance(embedder[names.index("Dense")].linear, nn.Linear)


def visual_token_recipe(tower_folder, method: str, kind: str) -> Recipe:
    """Return a recipe with virtual tokens before the text and before an image's patches."""
    return tower_recipe(tower_folder).replace("tuning", method=method, virtual=VirtualTokens(tokens=3, vision=kind))


VISUAL_TOKENS = [(method, kind) for method in ("prompt", "p_tuning") for kind in ("own", "shared")]


@pytest.mark.parametrize(("method", "kind"), VISUAL_TOKENS)
def test_visual_tokens_change_features_and_their_cache(method, kind, tower_folder, texts, tmp_path):
    """Tokens before the patches change the features, also after a training, and are never answered from the cache."""
    embedder = load_tuned(visual_token_recipe(tower_folder, method, kind))
    tower, plain = vision_tower.find_tower(embedder), load_tower(tower_recipe(tower_folder))
    plain.feature_cache = tower.feature_cache = tmp_path
    images = [find_image(texts[0])]
    without, initial = image_inputs.encode_images(plain, images), image_inputs.encode_images(tower, images)
    perturb(embedder, 0.1)
    trained = image_inputs.encode_images(tower, images)
    assert not np.allclose(without, initial, atol=1e-4) and not np.allclose(initial, trained, atol=1e-4)


@pytest.mark.parametrize(("method", "kind"), VISUAL_TOKENS)
def test_visual_tokens_are_trained(method, kind, tower_folder, texts):
    """The tower counts as trainable, and all weights of its tokens get gradients."""
    tower = vision_tower.find_tower(load_tuned(visual_token_recipe(tower_folder, method, kind)))
    assert vision_tower.is_trainable(tower)
    features = TowerImageInputs(tower, texts, keep_pixels=True).batch(texts, len(texts))
    fuse(tower, torch.randn(len(texts), tower.dim), features).sum().backward()
    assert all(value.grad is not None for value in tower.tower.visual_tokens.parameters())


@pytest.mark.parametrize(("method", "kind"), VISUAL_TOKENS)
def test_visual_tokens_are_saved_and_loaded(method, kind, tower_folder, texts, tmp_path):
    """A reloaded checkpoint gives the embeddings of the model that was saved."""
    recipe = visual_token_recipe(tower_folder, method, kind)
    embedder = load_tuned(recipe)
    perturb(embedder, 0.1)
    expected = embed(embedder.eval(), texts, recipe)
    reloaded = reload(embedder, recipe, tmp_path / "epoch_1")
    assert np.allclose(embed(reloaded, texts, recipe), expected, atol=1e-5)


def test_visual_tokens_need_prompt_tuning():
    """An unknown kind of visual tokens, and visual tokens with other tuning methods, are refused by name."""
    recipe = loader.load("minilm")
    with refused("tuning.virtual.vision", "none, own, shared"):
        recipe.replace("tuning", virtual={"vision": "theirs"})
    with refused("tuning.virtual.vision needs tuning.method prompt or p_tuning"):
        recipe.replace("tuning", virtual=VirtualTokens(vision="own"))


def test_a_half_precision_tower_with_unfrozen_parts_equals_fp32(tower_folder):
    """Frozen weights in bf16 beside layer norms in fp32 give the embeddings of fp32, within rounding."""
    recipe = tower_recipe(tower_folder)
    recipe = recipe.replace("tuning", method="bottleneck", unfreeze=["layer_norms", "visual_embedding"])
    images = []
    for precision in ("fp32", "bf16"):
        embedder = backbone.load(recipe, precision, "cpu")
        peft_methods.apply(embedder, recipe.tuning)
        images.append(canary.embed_canaries(embedder, recipe.prompts, precision)["query"]["picture"][0])
    assert np.dot(*images) > 0.999
