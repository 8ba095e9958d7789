"""Joint: a model that reads pictures and words in one sequence gets both, in encoding and in training."""

import numpy as np
import pytest
import torch
from helpers.tiny_task import refused
from PIL import Image

from rounds.artifacts import store
from rounds.config import loader
from rounds.config.recipe import Recipe, Vision
from rounds.data.images import attach_image, find_image, keep_only_image, strip_image
from rounds.encoding import batching
from rounds.encoding.batching import Layout
from rounds.encoding.encoder import encode
from rounds.encoding.tokenization import tokenize
from rounds.models import backbone, checkpoint, peft_methods, vision_language, vision_tower

OWN = {"model": {"name_or_path": "random:qwen3_vl", "pooling": "last_token", "precision": "fp32",
                 "vision": {"join": "joint", "image_size": 32}},
       "prompts": {"query_prefix": "look: ", "query_suffix": "\nanswer:"}}  # fmt: skip


def recipe_of(**tuned) -> Recipe:
    return loader.from_dict({"name": "tiny-joint", **OWN, "tuning": tuned}, "test")


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Two texts on pictures of different sizes, the same words without, and a picture alone."""
    folder = tmp_path_factory.mktemp("pictures")
    for colour, size in (("red", (40, 30)), ("blue", (64, 64))):
        image = Image.new("RGB", size, colour)
        image.paste("white", (3, 3, 20, 12))
        image.save(folder / f"{colour}.png")
    marked = [attach_image("whose is this", str(folder / f"{colour}.png")) for colour in ("red", "blue")]
    return [*marked, "whose is this", keep_only_image(marked[0])]


@pytest.fixture(scope="module")
def embedder():
    return backbone.load(recipe_of(), "fp32", "cpu")


def vectors(embedder, texts, own) -> np.ndarray:
    return encode(embedder, texts, own.prompts, "query", "fp32")


def test_pictures_and_words_both_count(embedder, texts):
    """Another picture, other words, or none of either give other vectors."""
    found = vectors(embedder, texts, recipe_of())
    assert found.shape == (4, 32)
    similar = found @ found.T - np.eye(4)
    assert similar.max() < 0.99999
    again = vectors(embedder, [texts[0].replace("this", "that"), texts[0]], recipe_of())
    assert np.allclose(again[1], found[0], atol=1e-5) and not np.allclose(again[0], found[0], atol=1e-4)


def test_vectors_are_the_model_s_own(embedder, texts):
    """Against the model called by hand, a text at a time: its picture's tokens between prefix and words."""
    own, tokenizer, model = recipe_of(), embedder.tokenizer, embedder[0].model
    found = vectors(embedder, texts, own)
    for row, text in enumerate(texts):
        picture = find_image(text)
        literal = "<|vision_start|>" + "<|image_pad|>" * 4 + "<|vision_end|>" if picture else ""
        ids = torch.tensor([tokenizer(f"look: {literal}{strip_image(text)}\nanswer:")["input_ids"]])
        shown = {}
        if picture:
            image = picture.read().resize((32, 32))
            shown = vision_language.find_patch_loader(embedder).processor([image], return_tensors="pt", do_resize=False)
            shown = {**shown, "mm_token_type_ids": (ids == tokenizer.convert_tokens_to_ids("<|image_pad|>")).int()}
        with torch.no_grad():
            state = model(input_ids=ids, attention_mask=torch.ones_like(ids), **shown).last_hidden_state[0, -1]
        assert np.allclose(found[row], torch.nn.functional.normalize(state, dim=0).numpy(), atol=1e-4)


@pytest.mark.parametrize(("method", "tuned", "moves"), [("full", "frozen", False), ("full", "tuned", True),
                                                        ("lora", "frozen", False)])  # fmt: skip
def test_what_is_tuned_comes_back(method, tuned, moves, texts, tmp_path):
    """Gradients reach the part that looks where it is tuned; a checkpoint's vectors are those that were saved."""
    own = recipe_of(method=method, vision=tuned, lora={"targets": ["q_proj", "v_proj"]})
    embedder = backbone.load(own, "fp32", "cpu")
    peft_methods.apply(embedder, own.tuning)
    ids = tokenize(embedder.tokenizer, texts, own.prompts, "query")
    layout = Layout.for_model(embedder, max(map(len, ids)))
    features = batching.to_tensors(ids, layout) | vision_tower.image_inputs(embedder, texts).batch(texts, len(texts))
    out = embedder(features)["sentence_embedding"]
    (out * torch.randn_like(out)).sum().backward()
    seeing = [value for name, value in embedder.named_parameters() if ".visual." in name]
    assert any(value.grad is not None and value.grad.abs().sum() > 0 for value in seeing) == moves
    with torch.no_grad():
        for value in peft_methods.trainable_parameters(embedder).values():
            value.add_(0.02 * torch.randn_like(value))
    embedder.eval()
    expected, manifest = vectors(embedder, texts, own), {}
    with store.writing(tmp_path / "epoch_1", manifest) as temporary:
        about = {"lineage": {}, "round": 1, "epoch": 1}
        manifest.update(checkpoint.save(embedder, temporary, own, "fp32", about))
    again = checkpoint.resolve(str(tmp_path / "epoch_1"), device="cpu").load()
    assert np.allclose(vectors(again, texts, own), expected, atol=1e-5)


def test_models_that_read_words_only_are_refused():
    """By name; so are sizes that no patches fill, and a vision model beside one that sees."""
    own = recipe_of()
    with refused("model.vision.image_size is 40", "multiple of 16"):
        backbone.load(own.replace("model", vision=Vision(join="joint", image_size=40)), "fp32", "cpu")
    with refused("model.vision.join: joint", "does not read pictures and words"):
        backbone.load(own.replace("model", name_or_path="random:qwen2"), "fp32", "cpu")
    with refused("joint takes no model.vision.name_or_path"):
        own.replace("model", vision=Vision("clip", join="joint"))
    with refused("visual_embedding"):
        own.replace("tuning", method="lora", unfreeze=["visual_embedding"])
