"""Marks of pictures in texts: there and back, and refusals of what is not the picture that was meant."""

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


def test_a_mark_goes_there_and_back(file):
    """Words, picture, and the picture alone; texts without one stay as they are."""
    text = attach_image("Whose\nemblem?", str(file))
    assert strip_image(text) == "Whose\nemblem?" and find_image(text).path == str(file)
    assert find_image(keep_only_image(text)) == find_image(text) and not strip_image(keep_only_image(text))
    for plain in ("no picture", "", "<image:x>", " <image:x#0123456789abcdef>"):
        assert strip_image(plain) == keep_only_image(plain) == plain and find_image(plain) is None
    assert attach_image("x", "") == "x"


def test_a_picture_is_read_only_as_it_was(file):
    """Changed, broken and missing files are refused by name."""
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
    """BM25 scores what is said, whatever is shown."""
    plain, queries = ["red lion", "blue eagle"], ["the red lion"]
    marked = [attach_image(text, str(file)) for text in plain]
    assert (bm25.score(queries, plain) == bm25.score([attach_image(queries[0], str(file))], marked)).all()


def test_words_change_and_pictures_stay(file):
    """What a probe does to a text leaves its picture's mark alone."""
    text = attach_image("Whose emblem?", str(file))
    assert map_words(text, str.upper) == attach_image("WHOSE EMBLEM?", str(file))
    assert map_words("Whose?", str.upper) == "WHOSE?"


def test_what_reads_words_only_says_so():
    """Stages that would read a picture's mark as words."""
    with refused("bundle: reads words only", "kbvqa has model.vision"):
        loader.load("kbvqa").require_text_only("bundle")
    loader.load("minilm").require_text_only("bundle")
