"""Pictures: texts that carry one. Knows no model.

A text on a picture starts with a line `<image:PATH#DIGEST>`. So it passes through files, runs and mining as any text
does, its content key changes with the picture, and only what encodes it looks at the file. What compares words reads
`words`.
"""

import functools
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from rounds.errors import UserError

DIGEST_LENGTH = 16  # of a digest

IMAGE_MARKER = re.compile(r"<image:([^\n>]+)#([0-9a-f]{16})>\n?")


@dataclass(frozen=True)
class ImageReference:
    """A picture's file and what it held when the data was made.

    Attributes:
        digest: first `LENGTH` hexadecimal digits of its SHA-256.
    """

    path: str
    digest: str

    def read(self) -> Image.Image:
        """The picture in RGB.

        Raises:
            UserError: it is missing, broken, or another than when the data was made.
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
    """Of the file's bytes."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:DIGEST_LENGTH]


def attach_image(text: str, path: str) -> str:
    """A text on a picture; without a path, the text as it is."""
    return f"<image:{path}#{image_digest(path)}>\n{text}" if path else text


def strip_image(text: str) -> str:
    """A text without its picture.

    >>> strip_image("<image:a.png#0123456789abcdef>\\nWhose emblem is this?"), strip_image("No <picture>")
    ('Whose emblem is this?', 'No <picture>')
    """
    found = IMAGE_MARKER.match(text)
    return text[found.end() :] if found else text


def find_image(text: str) -> ImageReference | None:
    """A text's picture.

    >>> find_image("<image:a#b.png#0123456789abcdef>\\nWhose?")
    ImageReference(path='a#b.png', digest='0123456789abcdef')
    >>> find_image("Whose?")
    """
    found = IMAGE_MARKER.match(text)
    return ImageReference(*found.groups()) if found else None


def keep_only_image(text: str) -> str:
    """A text's picture without its words; a text without a picture as it is."""
    found = IMAGE_MARKER.match(text)
    return found.group() if found else text


def map_words(text: str, change: Callable[[str], str]) -> str:
    """A text with other words on its picture."""
    found = IMAGE_MARKER.match(text)
    return found.group() + change(strip_image(text)) if found else change(text)


MODALITY_FILTERS = {"with": str, "without": strip_image, "only": keep_only_image}  # what of a text a model is given
