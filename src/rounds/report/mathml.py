"""MathML: convert LaTeX to elements that browsers render natively, so that the page needs no script and no font."""

import html
from functools import cache
from xml.etree import ElementTree

from latex2mathml.converter import convert_to_element

from rounds.data.latex import find_formulas, replace_pictures

# Elements and attributes that a formula may hold. Anything else that latex2mathml writes (for \href, \style, \class)
# could act outside its formula.
TAGS = frozenset(
    "math menclose merror mfenced mfrac mi mmultiscripts mn mo mover mpadded mphantom mroot mrow ms mspace msqrt "
    "mstyle msub msubsup msup mtable mtd mtext mtr munder munderover".split()
)

ATTRIBUTES = frozenset(
    "accent columnalign columnlines columnspacing depth display displaystyle fence form height largeop linethickness "
    "lspace mathcolor mathvariant maxsize minsize movablelimits notation rowlines rspace scriptlevel separator "
    "stretchy voffset width xmlns".split()
)


def split_formulas(text: str) -> list[tuple[str, bool]]:
    r"""Split a text into (part, is LaTeX) pairs, in order; Markdown images become their alt texts in brackets.

    >>> split_formulas(r"Add \( \frac{1}{2} \)!")
    [('Add ', False), ('\\frac{1}{2}', True), ('!', False)]
    """
    text = replace_pictures(text, "[{}]")
    parts, end = [], 0
    for formula in find_formulas(text):
        parts += [(text[end : formula.start], False), (formula.source.strip(), True)]
        end = formula.end
    parts.append((text[end:], False))
    return [(part, is_latex) for part, is_latex in parts if part]


@cache
def convert(source: str) -> str | None:
    r"""Convert LaTeX to a `<math>` element with its text escaped; return None if it is invalid or not allowed.

    >>> convert("x")
    '<math xmlns="http://www.w3.org/1998/Math/MathML" display="inline"><mrow><mi>x</mi></mrow></math>'
    >>> "<b>" in convert(r"\text{<b>}"), convert(r"\frac{")
    (False, None)
    """
    try:
        return _convert(source)
    except Exception:  # latex2mathml raises errors of many types on invalid input, IndexError among them
        return None


def _convert(source: str) -> str | None:
    root = convert_to_element(source)
    for element in root.iter():
        if element.tag not in TAGS:
            return None
        element.text = html.unescape(element.text) if element.text else element.text
        element.tail = html.unescape(element.tail) if element.tail else element.tail
        element.attrib = {name: value for name, value in element.attrib.items() if name in ATTRIBUTES}
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)
