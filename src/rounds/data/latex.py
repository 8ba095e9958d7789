"""LaTeX: from the markup of a question to what it says, so that tokens go to words instead of backslashes."""

import re
from functools import cache

from pylatexenc.latex2text import LatexNodes2Text

# Inline and display mathematics, tables outside of it, and pictures, which say what they show: ![alt text](file)
MATHS = re.compile(r"\\\((.*?)\\\)|\\\[(.*?)\\\]|(\\begin\{(\w+)\}.*?\\end\{\4\})", re.DOTALL)

PICTURE = re.compile(r"!\[([^\]]*)\]\([^)]*\)")


def words(text: str) -> str:
    r"""The text with its mathematics in plain characters and its pictures as their alt texts; lines stay lines.

    >>> words(r"Simplify \( \frac{1}{5} \times 9 \) ![A red line]()")
    'Simplify 1/5 ×9 A red line'
    """
    plain = MATHS.sub(_plain, PICTURE.sub(r"\1", text))
    return "\n".join(line for line in (" ".join(line.split()) for line in plain.splitlines()) if line)


def _plain(found: re.Match) -> str:
    source = next(part for part in found.groups() if part is not None)
    words = " ".join(_parser().latex_to_text(source).split())
    return f" {words or source.strip()} "  # never nothing where something was


@cache
def _parser() -> LatexNodes2Text:
    return LatexNodes2Text(math_mode="text", keep_comments=True, strict_latex_spaces=False)
