"""Marks of pictures in texts: there and back, and refusals of what is not the picture that was meant."""

import pytest
from PIL import Image
from tiny_task import refused

from rounds import bm25, pictures, recipe


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a#b.png"
    Image.new("RGB", (4, 4), "red").save(path)
    pictures.digest.cache_clear()
    return path


def test_a_mark_goes_there_and_back(file):
    """Words, picture, and the picture alone; texts without one stay as they are."""
    text = pictures.mark("Whose\nemblem?", str(file))
    assert pictures.words(text) == "Whose\nemblem?" and pictures.of(text).path == str(file)
    assert pictures.of(pictures.alone(text)) == pictures.of(text) and not pictures.words(pictures.alone(text))
    for plain in ("no picture", "", "<image:x>", " <image:x#0123456789abcdef>"):
        assert pictures.words(plain) == pictures.alone(plain) == plain and pictures.of(plain) is None
    assert pictures.mark("x", "") == "x"


def test_a_picture_is_read_only_as_it_was(file):
    """Changed, broken and missing files are refused by name."""
    picture = pictures.of(pictures.mark("", str(file)))
    assert picture.read().getpixel((0, 0)) == (255, 0, 0)
    Image.new("RGB", (4, 4), "blue").save(file)
    pictures.digest.cache_clear()
    with refused(file, "another picture"):
        picture.read()
    file.write_bytes(b"none")
    pictures.digest.cache_clear()
    with refused(file, "cannot be read"):
        pictures.of(pictures.mark("", str(file))).read()
    file.unlink()
    pictures.digest.cache_clear()
    with refused(file, "cannot be read"):
        picture.read()


def test_words_are_compared_without_marks(file):
    """BM25 scores what is said, whatever is shown."""
    plain, queries = ["red lion", "blue eagle"], ["the red lion"]
    marked = [pictures.mark(text, str(file)) for text in plain]
    assert (bm25.score(queries, plain) == bm25.score([pictures.mark(queries[0], str(file))], marked)).all()


def test_words_change_and_pictures_stay(file):
    """What a probe does to a text leaves its picture's mark alone."""
    text = pictures.mark("Whose emblem?", str(file))
    assert pictures.reworded(text, str.upper) == pictures.mark("WHOSE EMBLEM?", str(file))
    assert pictures.reworded("Whose?", str.upper) == "WHOSE?"


def test_what_reads_words_only_says_so():
    """Stages that would read a picture's mark as words."""
    with refused("bundle: reads words only", "kbvqa has model.vision"):
        recipe.load("kbvqa").check_words_only("bundle")
    recipe.load("minilm").check_words_only("bundle")
