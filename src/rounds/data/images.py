"""Texts with an image: a text carries its image as a marker in its first line.

The marker is `<image:PATH#DIGEST>`. So an image passes through files, runs and mining like any text, a text's content
key changes with its image, and only what encodes the text opens the file. Whatever compares words uses `strip_image`.
"""

import functools
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from rounds.errors import UserError

DIGEST_LENGTH = 16  # hexadecimal digits of a file's SHA-256 in a marker

IMAGE_MARKER = re.compile(r"<image:([^\n>]+)#([0-9a-f]{16})>\n?")

NOT_IN_MARKERS = re.compile(r"[\n>\0]")  # what would end an image's path in its marker, and what no path holds


@dataclass(frozen=True)
class ImageReference:
    """An image file, and the digest of its content when the data was made.

    Attributes:
        digest: first `DIGEST_LENGTH` hexadecimal digits of its SHA-256.
    """

    path: str
    digest: str

    def read(self) -> Image.Image:
        """Return the image in RGB.

        Raises:
            UserError: the file is missing, broken, or another image than when the data was made.
        """
        try:
            if image_digest(self.path) != self.digest:
                raise UserError(f"{self.path}: is another picture than when the data was made; make the data anew")
            with Image.open(self.path) as image:
                return image.convert("RGB")
        except (OSError, SyntaxError) as error:
            raise UserError(f"{self.path}: cannot be read ({' '.join(str(error).split())[:100]})") from None


@functools.cache
def image_digest(path: str) -> str:
    """Return the first `DIGEST_LENGTH` hexadecimal digits of the SHA-256 of a file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:DIGEST_LENGTH]


def attach_image(text: str, path: str) -> str:
    """Return the text with the marker of an image file; without a path, the text alone."""
    return f"<image:{path}#{image_digest(path)}>\n{text}" if path else text


def strip_image(text: str) -> str:
    """Return the text without its image marker.

    >>> strip_image("<image:a.png#0123456789abcdef>\\nWhose emblem is this?"), strip_image("No <picture>")
    ('Whose emblem is this?', 'No <picture>')
    """
    marker = IMAGE_MARKER.match(text)
    return text[marker.end() :] if marker else text


def find_image(text: str) -> ImageReference | None:
    """Return the text's image, or None if it has none.

    >>> find_image("<image:a#b.png#0123456789abcdef>\\nWhose?")
    ImageReference(path='a#b.png', digest='0123456789abcdef')
    >>> find_image("Whose?")
    """
    marker = IMAGE_MARKER.match(text)
    return ImageReference(*marker.groups()) if marker else None


def keep_only_image(text: str) -> str:
    """Return the text's image marker without its words; a text without an image stays as it is."""
    marker = IMAGE_MARKER.match(text)
    return marker.group() if marker else text


def map_words(text: str, change: Callable[[str], str]) -> str:
    """Return the text with `change` applied to its words and its image marker kept."""
    marker = IMAGE_MARKER.match(text)
    return marker.group() + change(strip_image(text)) if marker else change(text)


# What a model reads of each text, by the value of `training.pictures`.
MODALITY_FILTERS: dict[str, Callable[[str], str]] = {"with": str, "without": strip_image, "only": keep_only_image}
