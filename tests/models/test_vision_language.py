"""Vision-language models: the image and the text both shape the embedding, in encoding and in training."""

import numpy as np
import pytest
import torch
from helpers.tiny_task import refused
from helpers.tuned_models import perturb, reload
from PIL import Image

from rounds.config import loader
from rounds.config.recipe import Recipe, Vision
from rounds.data.images import attach_image, find_image, keep_only_image, strip_image
from rounds.encoding import batching
from rounds.encoding.batching import Layout
from rounds.encoding.encoder import encode
from rounds.encoding.tokenization import tokenize
from rounds.models import backbone, image_inputs, peft_methods, vision_language

KEYS = {
    "name": "tiny-joint",
    "model": {
        "name_or_path": "random:qwen3_vl",
        "pooling": "last_token",
        "precision": "fp32",
        "vision": {"join": "joint", "image_size": 32},
    },
    "prompts": {"query_prefix": "look: ", "query_suffix": "\nanswer:"},
}


def joint_recipe(**tuning) -> Recipe:
    """Return a recipe of a tiny vision-language model."""
    return loader.from_dict({**KEYS, "tuning": tuning}, "test")


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Two texts with images of different sizes, the same text without an image, and an image alone."""
    folder = tmp_path_factory.mktemp("images")
    for colour, size in (("red", (40, 30)), ("blue", (64, 64))):
        image = Image.new("RGB", size, colour)
        image.paste("white", (3, 3, 20, 12))
        image.save(folder / f"{colour}.png")
    with_images = [attach_image("whose is this", str(folder / f"{colour}.png")) for colour in ("red", "blue")]
    return [*with_images, "whose is this", keep_only_image(with_images[0])]


@pytest.fixture(scope="module")
def embedder():
    """The base model."""
    return backbone.load(joint_recipe(), "fp32", "cpu")


def embed(embedder, texts, recipe) -> np.ndarray:
    """Embed texts as queries."""
    return encode(embedder, texts, recipe.prompts, "query", "fp32")


def test_images_and_words_both_count(embedder, texts):
    """Another image, or none of image or words, gives another embedding."""
    vectors = embed(embedder, texts, joint_recipe())
    assert vectors.shape == (4, 32)
    assert (vectors @ vectors.T - np.eye(4)).max() < 0.99999


def test_other_words_on_one_image_have_another_embedding(embedder, texts):
    """The embedding depends on the words, and not on the batch's other texts."""
    expected = embed(embedder, texts, joint_recipe())[0]
    changed, same = embed(embedder, [texts[0].replace("this", "that"), texts[0]], joint_recipe())
    assert np.allclose(same, expected, atol=1e-5) and not np.allclose(changed, expected, atol=1e-4)


def test_embeddings_are_the_model_s_own(embedder, texts):
    """Against the model called by hand, a text at a time: the image's tokens stand between prefix and words."""
    recipe, tokenizer, model = joint_recipe(), embedder.tokenizer, embedder[0].model
    processor = vision_language.find_patch_loader(embedder).processor
    for text, vector in zip(texts, embed(embedder, texts, recipe), strict=True):
        reference, inputs = find_image(text), {}
        placeholder = "<|vision_start|>" + "<|image_pad|>" * 4 + "<|vision_end|>" if reference else ""
        ids = torch.tensor([tokenizer(f"look: {placeholder}{strip_image(text)}\nanswer:")["input_ids"]])
        if reference:
            inputs = dict(processor([reference.read().resize((32, 32))], return_tensors="pt", do_resize=False))
            inputs["mm_token_type_ids"] = (ids == tokenizer.convert_tokens_to_ids("<|image_pad|>")).int()
        with torch.no_grad():
            state = model(input_ids=ids, attention_mask=torch.ones_like(ids), **inputs).last_hidden_state[0, -1]
        assert np.allclose(vector, torch.nn.functional.normalize(state, dim=0).numpy(), atol=1e-4)


TUNINGS = [("full", "frozen", False), ("full", "tuned", True), ("lora", "frozen", False)]


@pytest.mark.parametrize(("method", "vision", "reaches_vision"), TUNINGS)
def test_gradients_reach_the_vision_part_only_where_it_is_tuned(method, vision, reaches_vision, texts):
    """A batch's gradients reach the weights that read the image with `tuning.vision: tuned`, and only then."""
    recipe = joint_recipe(method=method, vision=vision, lora={"targets": ["q_proj", "v_proj"]})
    embedder = backbone.load(recipe, "fp32", "cpu")
    peft_methods.apply(embedder, recipe.tuning)
    ids = tokenize(embedder.tokenizer, texts, recipe.prompts, "query")
    layout = Layout.for_model(embedder, max(map(len, ids)))
    images = image_inputs.load_image_inputs(embedder, texts).batch(texts, len(texts))
    vectors = embedder(batching.to_tensors(ids, layout) | images)["sentence_embedding"]
    (vectors * torch.randn_like(vectors)).sum().backward()
    weights = [value for name, value in embedder.named_parameters() if ".visual." in name]
    assert any(value.grad is not None and value.grad.abs().sum() > 0 for value in weights) == reaches_vision


@pytest.mark.parametrize(("method", "vision"), [tuning[:2] for tuning in TUNINGS])
def test_a_tuned_model_is_saved_and_loaded(method, vision, texts, tmp_path):
    """A reloaded checkpoint gives the embeddings of the model that was saved."""
    recipe = joint_recipe(method=method, vision=vision, lora={"targets": ["q_proj", "v_proj"]})
    embedder = backbone.load(recipe, "fp32", "cpu")
    peft_methods.apply(embedder, recipe.tuning)
    perturb(embedder, 0.02)
    expected = embed(embedder.eval(), texts, recipe)
    reloaded = reload(embedder, recipe, tmp_path / "epoch_1")
    assert np.allclose(embed(reloaded, texts, recipe), expected, atol=1e-5)


def test_a_size_that_no_patches_fill_is_refused():
    """The image size must be a multiple of the model's step."""
    recipe = joint_recipe().replace("model", vision=Vision(join="joint", image_size=40))
    with refused("model.vision.image_size is 40", "multiple of 16"):
        backbone.load(recipe, "fp32", "cpu")


def test_a_model_that_reads_only_text_is_refused():
    """`join: joint` with a text model is refused by name."""
    with refused("model.vision.join: joint", "does not read images and text"):
        backbone.load(joint_recipe().replace("model", name_or_path="random:qwen2"), "fp32", "cpu")


def test_a_vision_model_beside_a_vision_language_model_is_refused():
    """A recipe cannot name a vision tower beside a model that reads images itself, nor unfreeze parts of one."""
    recipe = joint_recipe()
    with refused("joint takes no model.vision.name_or_path"):
        recipe.replace("model", vision=Vision("clip", join="joint"))
    with refused("visual_embedding"):
        recipe.replace("tuning", method="lora", unfreeze=["visual_embedding"])
