"""Replace the LaTeX markup of a question by plain characters, so that tokens go to words instead of backslashes."""

import logging
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from pylatexenc.latex2text import LatexNodes2Text, MacroTextSpec, get_default_latex_context_db
from pylatexenc.latexwalker import LatexGroupNode, LatexMacroNode, LatexNode

# Mathematics, inline and displayed, and environments such as tables.
_OPENING = re.compile(r"\\(?:([(\[])|begin\{(\w+)\})")

_CLOSING = re.compile(r"\\(?:([)\]])|end\{(\w+)\})")

_CLOSES = {"(": ")", "[": "]"}

_PERCENT = re.compile(r"((?<!\\)(?:\\\\)*)%")  # in a formula, meant as a percent sign and not to begin a comment

_PLACEHOLDER = re.compile(r"%(\(\w+\))?s")  # what pylatexenc leaves where an argument is missing

_RAISED = re.compile(r"(?<!\\)[\^_]\{")  # where a superscript or subscript in braces begins

# What pylatexenc would take apart: `\binom{5}{2}` is not 52.
_LOST = re.compile(r"\\([td]?binom|over|choose|atop)(?![a-zA-Z])|\\cfrac\s*\[")

_ATOM = re.compile(r"[\w.,%]*")  # what needs no parentheses in a fraction, or as an exponent

_MACRO = re.compile(r"\\[a-zA-Z]+\s*(\{\s*[\w.]*\s*\})?|.")  # likewise, of LaTeX: `\circ`, `\text{nd}`

_END = "\ue000"  # marks where a fraction or an exponent ends, until it is known what follows

_START = "\ue001"  # likewise, where a fraction begins

_SIMPLE_FRACTION = rf"{_START}([^{_START}{_END}]*){_END}"

# Signs that pylatexenc does not know, and would leave out.
_SIGNS = {
    "bigstar": "★",
    "degree": "°",
    "triangle": "△",
    "pounds": "£",
    "euro": "€",
    "cent": "¢",
    "ne": "≠",
    "colon": ":",
}

_SUPERSCRIPTS = str.maketrans("0123456789n", "⁰¹²³⁴⁵⁶⁷⁸⁹ⁿ")

MAX_NESTING = 40  # braces within braces that are parsed: the parser calls itself at each level


class Formula(NamedTuple):
    """Mathematics in a text, from `start` to `end`, and its LaTeX without `\\(`, `\\)` and the like."""

    start: int
    end: int
    source: str


def find_formulas(text: str) -> Iterator[Formula]:
    r"""Yield the formulas of a text in order; one that is never closed is none. Takes linear time.

    >>> [formula.source for formula in find_formulas(r"\( Add \(1\) and \[2\] to \begin{a} 3 \end{a}")]
    [' Add \\(1', '2', '\\begin{a} 3 \\end{a}']
    """
    closings: dict[str, list[re.Match]] = defaultdict(list)
    for match in _CLOSING.finditer(text):
        closings[match[1] or f"end {match[2]}"].append(match)
    starts = {name: [match.start() for match in matches] for name, matches in closings.items()}
    position = 0
    while opening := _OPENING.search(text, position):
        name = _CLOSES[opening[1]] if opening[1] else f"end {opening[2]}"
        number = bisect_left(starts.get(name, []), opening.end())
        if number == len(starts.get(name, [])):
            position = opening.end()
            continue
        closing = closings[name][number]
        inside = text[opening.end() : closing.start()] if opening[1] else text[opening.start() : closing.end()]
        yield Formula(opening.start(), closing.end(), inside)
        position = closing.end()


def replace_pictures(text: str, template: str) -> str:
    r"""Replace pictures in Markdown, `![alternative text](file)`, by a template of their alternative text.

    >>> replace_pictures("See ![A red line]() and ![this", "[{}]")
    'See [A red line] and ![this'
    """
    parts, written, position, bracket, parenthesis = [], 0, 0, -1, -1
    while (start := text.find("![", position)) >= 0:
        # Each of the two searches goes on where the last one ended, so that they pass over the text once.
        bracket = bracket if bracket >= start + 2 else text.find("]", start + 2)
        if bracket < 0:
            break
        position = start + 1
        if text[bracket + 1 : bracket + 2] != "(":
            continue
        parenthesis = parenthesis if parenthesis >= bracket + 2 else text.find(")", bracket + 2)
        if parenthesis < 0:
            break
        parts += [text[written:start], template.format(text[start + 2 : bracket])]
        written = position = parenthesis + 1
    return "".join([*parts, text[written:]])


def words(text: str) -> str:
    r"""Return the text with mathematics in plain characters and pictures as their alternative texts; lines stay lines.

    >>> words(r"Simplify \( \frac{1}{5} \times 9 \) ![A red line]()")
    'Simplify 1/5 ×9 A red line'
    """
    text = replace_pictures(text, "{}")
    parts, end = [], 0
    for formula in find_formulas(text):
        parts += [text[end : formula.start], _to_plain(formula.source)]
        end = formula.end
    plain = "".join([*parts, text[end:]])
    return "\n".join(line for line in (" ".join(line.split()) for line in plain.splitlines()) if line)


def _to_plain(source: str) -> str:
    """Return LaTeX in plain characters; what the parser cannot take, or reduces to nothing, stays as it is."""
    plain = ""
    if _nesting(source) <= MAX_NESTING and not _LOST.search(source):
        try:
            fractions = re.sub(r"\\[cdt]frac(?![a-zA-Z])", r"\\frac", source)
            marked = _mark_raised(_PERCENT.sub(r"\1\\%", fractions))
            plain = " ".join(_resolve_marks(_parser().latex_to_text(marked)).split())
        except Exception:  # pylatexenc raises errors of many types on invalid markup, RecursionError among them
            plain = ""
    if _PLACEHOLDER.search(plain) and not _PLACEHOLDER.search(source):  # a macro without its arguments: `\frac{1}`
        plain = ""
    return f" {plain or source.strip()} "


def _mark_raised(source: str) -> str:
    r"""Put superscripts and subscripts that are more than a number or a word into parentheses, and mark their ends.

    >>> _mark_raised(r"x^{a+b} 2^{3}4").replace(_END, "|")
    'x^{(a+b)}| 2^{3}|4'
    """
    parts, position = [], 0
    for match in _RAISED.finditer(source):
        if match.start() < position:
            continue
        if (end := _closing_brace(source, match.end())) < 0:
            break
        content = _mark_raised(source[match.end() : end].strip())
        atomic = _ATOM.fullmatch(content.replace(_END, "")) or _MACRO.fullmatch(content)
        parts += [source[position : match.end()], content if atomic else f"({content})", "}", _END]
        position = end + 1
    return "".join([*parts, source[position:]])


def _resolve_marks(text: str) -> str:
    r"""Replace the marks by blanks where something would run together, and by parentheses around powers.

    >>> _resolve_marks(f"2{_START}1/3{_END}{_START}1/2{_END} {_START}2/3{_END}^2")
    '2 1/3 1/2 (2/3)^2'
    """
    text = re.sub(rf"{_SIMPLE_FRACTION}(?=\s*\^)|(?<=\^){_SIMPLE_FRACTION}", r"(\1\2)", text)
    text = re.sub(rf"{_END}(?=[\w({_START}])|(?<=[\w)]){_START}", " ", text)
    return text.replace(_START, "").replace(_END, "")


def _closing_brace(source: str, start: int) -> int:
    """Return the place of the brace that closes one before `start`; -1 if there is none."""
    depth = 1
    for match in re.compile(r"\\.|[{}]", re.DOTALL).finditer(source, start):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth == 0:
            return match.start()
    return -1


def _nesting(source: str) -> int:
    """Return how deep braces stand within braces."""
    depth = deepest = 0
    for brace in re.findall(r"[{}]", source):
        depth = max(depth + (1 if brace == "{" else -1), 0)
        deepest = max(deepest, depth)
    return deepest


@cache
def _parser() -> LatexNodes2Text:
    logging.getLogger("pylatexenc").setLevel(logging.ERROR)  # it warns of each macro without its arguments
    macros = get_default_latex_context_db()
    specs = [MacroTextSpec("sqrt", simplify_repl=_root), MacroTextSpec("frac", simplify_repl=_fraction)]
    specs += [MacroTextSpec(name, simplify_repl=sign) for name, sign in _SIGNS.items()]
    macros.add_context_category("mathematics", prepend=True, macros=specs)
    return LatexNodes2Text(macros, math_mode="text", keep_comments=True, strict_latex_spaces=False)


def _fraction(node: LatexMacroNode, l2tobj: LatexNodes2Text) -> str:
    r"""Return `\frac{x+1}{2}` as `(x+1)/2`; without parentheses, as pylatexenc writes it, it would be another number.

    Args:
        node: the macro, whose arguments are numerator and denominator.
        l2tobj: the converter; pylatexenc passes it by this name.
    """
    parts = [_argument(part, l2tobj).strip() for part in node.nodeargd.argnlist]
    return _START + "/".join(part if _ATOM.fullmatch(part) else f"({part})" for part in parts) + _END


def _root(node: LatexMacroNode, l2tobj: LatexNodes2Text) -> str:
    r"""Return `\sqrt[3]{8}` as `³√(8)`; without its index, as pylatexenc writes it, it would be a square root.

    Args:
        node: the macro, whose arguments are the index, None without one, and what stands below the root.
        l2tobj: the converter; pylatexenc passes it by this name.
    """
    index, radicand = (_argument(part, l2tobj) for part in node.nodeargd.argnlist)
    return f"{index.strip().translate(_SUPERSCRIPTS)}√({radicand})"


def _argument(part: LatexNode | None, converter: LatexNodes2Text) -> str:
    """Return an argument in plain characters, without its braces or brackets."""
    if part is None:
        return ""
    return converter.nodelist_to_text(part.nodelist if part.isNodeType(LatexGroupNode) else [part])
