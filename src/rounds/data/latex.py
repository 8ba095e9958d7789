"""Replace the LaTeX markup of a question by plain characters, so that tokens go to words instead of backslashes."""

import re
from functools import cache

from pylatexenc.latex2text import LatexNodes2Text

# Inline and display mathematics, and environments such as tables.
MATHS = re.compile(r"\\\((.*?)\\\)|\\\[(.*?)\\\]|(\\begin\{(\w+)\}.*?\\end\{\4\})", re.DOTALL)

# Pictures in Markdown, which say what they show: ![alternative text](file)
PICTURE = re.compile(r"!\[([^\]]*)\]\([^)]*\)")


def words(text: str) -> str:
    r"""Return the text with mathematics in plain characters and pictures as their alternative texts; lines stay lines.

    >>> words(r"Simplify \( \frac{1}{5} \times 9 \) ![A red line]()")
    'Simplify 1/5 ×9 A red line'
    """
    plain = MATHS.sub(_to_plain, PICTURE.sub(r"\1", text))
    return "\n".join(line for line in (" ".join(line.split()) for line in plain.splitlines()) if line)


def _to_plain(match: re.Match) -> str:
    source = next(part for part in match.groups() if part is not None)
    plain = " ".join(_parser().latex_to_text(source).split())
    return f" {plain or source.strip()} "  # markup that the parser reduces to nothing stays as it is


@cache
def _parser() -> LatexNodes2Text:
    return LatexNodes2Text(math_mode="text", keep_comments=True, strict_latex_spaces=False)
