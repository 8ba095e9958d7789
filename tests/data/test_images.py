"""Image markers in texts: attaching, finding and stripping them, and refusals of images that have changed."""

import pytest
from helpers.tiny_task import refused
from PIL import Image

from rounds.config import loader
from rounds.data.images import attach_image, find_image, image_digest, keep_only_image, map_words, strip_image
from rounds.retrieval import bm25


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a#b.png"
    Image.new("RGB", (4, 4), "red").save(path)
    image_digest.cache_clear()
    return path


def test_markers_are_attached_found_and_stripped(file):
    """A marker is attached, found and stripped without loss; texts without an image stay as they are."""
    text = attach_image("Whose\nemblem?", str(file))
    assert strip_image(text) == "Whose\nemblem?" and find_image(text).path == str(file)
    assert find_image(keep_only_image(text)) == find_image(text) and not strip_image(keep_only_image(text))
    for plain in ("no picture", "", "<image:x>", " <image:x#0123456789abcdef>"):
        assert strip_image(plain) == keep_only_image(plain) == plain and find_image(plain) is None
    assert attach_image("x", "") == "x"


def test_a_picture_is_read_only_as_it_was(file):
    """Changed, broken and missing image files are refused by name."""
    picture = find_image(attach_image("", str(file)))
    assert picture.read().getpixel((0, 0)) == (255, 0, 0)
    Image.new("RGB", (4, 4), "blue").save(file)
    image_digest.cache_clear()
    with refused(file, "another picture"):
        picture.read()
    file.write_bytes(b"none")
    image_digest.cache_clear()
    with refused(file, "cannot be read"):
        find_image(attach_image("", str(file))).read()
    file.unlink()
    image_digest.cache_clear()
    with refused(file, "cannot be read"):
        picture.read()


def test_words_are_compared_without_marks(file):
    """BM25 scores the same with and without image markers."""
    plain, queries = ["red lion", "blue eagle"], ["the red lion"]
    marked = [attach_image(text, str(file)) for text in plain]
    assert (bm25.score(queries, plain) == bm25.score([attach_image(queries[0], str(file))], marked)).all()


def test_words_change_and_pictures_stay(file):
    """`map_words` changes the words and keeps the marker."""
    text = attach_image("Whose emblem?", str(file))
    assert map_words(text, str.upper) == attach_image("WHOSE EMBLEM?", str(file))
    assert map_words("Whose?", str.upper) == "WHOSE?"


def test_text_only_stages_refuse_recipes_with_images():
    """Stages that would read an image marker as words refuse a recipe with `model.vision`."""
    with refused("bundle: reads words only", "kbvqa has model.vision"):
        loader.load("kbvqa").require_text_only("bundle")
    loader.load("minilm").require_text_only("bundle")
