"""MathML: a text's LaTeX as elements that browsers draw by themselves, so that a page needs no script and no font."""

import html
from functools import cache
from xml.etree import ElementTree

from latex2mathml.converter import convert_to_element

from rounds.data.latex import MATHS, PICTURE

# What latex2mathml may write. Anything else (\href, \style, \class) would let a text reach beyond its formula.
TAGS = {
    "math", "menclose", "merror", "mfenced", "mfrac", "mi", "mmultiscripts", "mn", "mo", "mover", "mpadded", "mphantom",
    "mroot", "mrow", "ms", "mspace", "msqrt", "mstyle", "msub", "msubsup", "msup", "mtable", "mtd", "mtext", "mtr",
    "munder", "munderover",
}  # fmt: skip

ATTRIBUTES = {
    "accent", "columnalign", "columnlines", "columnspacing", "depth", "display", "displaystyle", "fence", "form",
    "height", "largeop", "linethickness", "lspace", "mathcolor", "mathvariant", "maxsize", "minsize", "movablelimits",
    "notation", "rowlines", "rspace", "scriptlevel", "separator", "stretchy", "voffset", "width", "xmlns",
}  # fmt: skip


def parts(text: str) -> list[tuple[str, bool]]:
    r"""A text as pieces with whether each is LaTeX; pictures are their alt texts.

    >>> parts(r"Add \( \frac{1}{2} \)!")
    [('Add ', False), ('\\frac{1}{2}', True), ('!', False)]
    """
    text = PICTURE.sub(r"[\1]", text)
    found, end = [], 0
    for match in MATHS.finditer(text):
        source = next(group for group in match.groups()[:3] if group is not None)
        found += [(text[end : match.start()], False), (source.strip(), True)]
        end = match.end()
    return [part for part in (*found, (text[end:], False)) if part[0]]


@cache
def convert(source: str) -> str | None:
    r"""A formula's `<math>` element, its text escaped; None where it is no LaTeX that can be read.

    >>> convert("x")
    '<math xmlns="http://www.w3.org/1998/Math/MathML" display="inline"><mrow><mi>x</mi></mrow></math>'
    >>> "<b>" in convert(r"\text{<b>}"), convert(r"\frac{")
    (False, None)
    """
    try:
        root = convert_to_element(source)
    except Exception:  # it raises of many kinds, IndexError among them, on what people type
        return None
    for element in root.iter():
        if element.tag not in TAGS:
            return None
        element.text, element.tail = (html.unescape(each) if each else each for each in (element.text, element.tail))
        element.attrib = {name: value for name, value in element.attrib.items() if name in ATTRIBUTES}
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)
