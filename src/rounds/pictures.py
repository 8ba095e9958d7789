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

LENGTH = 16  # of a digest
MARK = re.compile(r"<image:([^\n>]+)#([0-9a-f]{16})>\n?")


@dataclass(frozen=True)
class Picture:
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
            if digest(self.path) != self.digest:
                raise UserError(f"{self.path}: is another picture than when the data was made; make the data anew")
            with Image.open(self.path) as image:
                return image.convert("RGB")
        except (OSError, SyntaxError) as error:
            raise UserError(f"{self.path}: cannot be read ({' '.join(str(error).split())[:100]})") from None


@functools.cache
def digest(path: str) -> str:
    """Of the file's bytes."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:LENGTH]


def mark(text: str, path: str) -> str:
    """A text on a picture; without a path, the text as it is."""
    return f"<image:{path}#{digest(path)}>\n{text}" if path else text


def words(text: str) -> str:
    """A text without its picture.

    >>> words("<image:a.png#0123456789abcdef>\\nWhose emblem is this?"), words("No <picture>")
    ('Whose emblem is this?', 'No <picture>')
    """
    found = MARK.match(text)
    return text[found.end() :] if found else text


def of(text: str) -> Picture | None:
    """A text's picture.

    >>> of("<image:a#b.png#0123456789abcdef>\\nWhose?")
    Picture(path='a#b.png', digest='0123456789abcdef')
    >>> of("Whose?")
    """
    found = MARK.match(text)
    return Picture(*found.groups()) if found else None


def alone(text: str) -> str:
    """A text's picture without its words; a text without a picture as it is."""
    found = MARK.match(text)
    return found.group() if found else text


def reworded(text: str, change: Callable[[str], str]) -> str:
    """A text with other words on its picture."""
    found = MARK.match(text)
    return found.group() + change(words(text)) if found else change(text)


SHOWN = {"with": str, "without": words, "only": alone}  # what of a text a model is given
