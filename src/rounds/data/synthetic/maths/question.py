"""Question templates, slips (procedures of misconceptions) and drawn questions, and the LaTeX of their values."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from types import SimpleNamespace
from typing import Any, NamedTuple

NAMES = (
    "Amara",
    "Bilal",
    "Chloe",
    "Dev",
    "Elif",
    "Farid",
    "Greta",
    "Hana",
    "Idris",
    "Jonas",
    "Kofi",
    "Leila",
    "Mateo",
    "Nadia",
    "Oskar",
    "Priya",
    "Quinn",
    "Rosa",
    "Sanjay",
    "Tess",
    "Umar",
    "Vera",
    "Wanda",
    "Yusuf",
)
_SLOT = re.compile(r"<(\w+)>")


class PrintedValue(NamedTuple):
    """A value with its own printed form, such as an unsimplified fraction."""

    value: Any
    text: str


@dataclass(frozen=True)
class Slip:
    """A misconception in one template: its text, and the wrong procedure that it leads to."""

    text: str
    procedure: Callable[..., Any]
    arg: Any = None

    def run(self, params: SimpleNamespace) -> Any:
        """Return the wrong answer, or None if the misconception leads to none."""
        try:
            return self.procedure(params) if self.arg is None else self.procedure(params, self.arg)
        except ZeroDivisionError:
            return None


def family(text: str, args: tuple, procedure: Callable[..., Any]) -> tuple[Slip, ...]:
    """Return one slip per argument; it replaces `<k>` in the text (of a pair of words and value, the words do)."""
    pairs = [arg if isinstance(arg, tuple) else (str(arg), arg) for arg in args]
    return tuple(Slip(text.replace("<k>", words), procedure, value) for words, value in pairs)


def num(value: Any) -> str:
    """Return a number as LaTeX without delimiters: integer, terminating decimal or fraction.

    >>> num(Fraction(5, 4)), num(Fraction(-1, 3))
    ('1.25', '-\\\\frac{1}{3}')
    """
    if not isinstance(value, (int, Fraction)):
        return str(value)
    return decimal(value) or frac(value)


def decimal(value: int | Fraction) -> str | None:
    """Return the decimal expansion, or None if it has more than six places."""
    scaled = value * 10**6
    if scaled.denominator != 1:
        return None
    whole, part = divmod(abs(int(scaled)), 10**6)
    digits = f"{part:06d}".rstrip("0")
    return ("-" if value < 0 else "") + str(whole) + ("." + digits if digits else "")


def frac(value: int | Fraction) -> str:
    """Return a fraction in lowest terms as LaTeX; an integer has no fraction bar."""
    if value.denominator == 1:
        return str(int(value))
    return ("-" if value < 0 else "") + f"\\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


def over(top: int, bottom: int) -> PrintedValue | None:
    """Return a fraction that is printed without cancelling, or None if it is not positive."""
    if bottom <= 0 or top <= 0:
        return None
    return PrintedValue(Fraction(top, bottom), math(f"\\frac{{{top}}}{{{bottom}}}"))


def math(text: str) -> str:
    """Return inline LaTeX in Eedi's delimiters."""
    return f"\\( {text} \\)"


def terms(coefficients: tuple, letters: tuple[str, ...]) -> str:
    """Return a sum of terms: `terms((2, -1, 3), ("x^{2}", "x", ""))` is `2 x^{2}-x+3`."""
    out = ""
    for coefficient, letter in zip(coefficients, letters, strict=True):
        if coefficient == 0:
            continue
        size = num(abs(coefficient))
        body = letter if letter and size == "1" else f"{size} {letter}".strip()
        out += ("-" if coefficient < 0 else "+" if out else "") + body
    return out or "0"


# Printers of answers: each takes (value, params) and returns None for a value that it cannot print.


def plain(value: Any, params: SimpleNamespace) -> str | None:
    """Print a whole number or a terminating decimal."""
    text = decimal(value)
    return text and math(text)


def fraction(value: Any, params: SimpleNamespace) -> str:
    """Print a fraction in lowest terms."""
    return math(frac(value))


def unit(name: str, power: int = 1) -> Callable[[Any, SimpleNamespace], str | None]:
    """Return a printer of numbers with a unit: `unit("cm", 2)` prints square centimetres."""
    suffix = f" \\mathrm{{~{name}}}" + (f"^{{{power}}}" if power > 1 else "")

    def show(value: Any, params: SimpleNamespace) -> str | None:
        text = decimal(value)
        return text and math(text + suffix)

    return show


def suffixed(suffix: str, prefix: str = "") -> Callable[[Any, SimpleNamespace], str | None]:
    """Return a printer of numbers between fixed LaTeX, for degrees, per cent or multiples of pi."""

    def show(value: Any, params: SimpleNamespace) -> str | None:
        text = decimal(value)
        return text and math(prefix + text + suffix)

    return show


degrees = suffixed("^{\\circ}")
percent = suffixed(" \\%")
pi = suffixed(" \\pi")


def money(value: Any, params: SimpleNamespace) -> str | None:
    """Print pounds, with two digits of pence if there are any."""
    pence = value * 100
    if pence.denominator != 1:
        return None
    pounds, rest = divmod(int(pence), 100)
    return math(f"£ {pounds}.{rest:02d}" if rest else f"£ {pounds}")


def pair(value: Any, params: SimpleNamespace) -> str | None:
    """Print coordinates."""
    parts = [decimal(part) for part in value]
    return None if None in parts else math(f"({parts[0]}, {parts[1]})")


def ratio(value: Any, params: SimpleNamespace) -> str:
    """Print a ratio `a: b`."""
    return math(": ".join(num(part) for part in value))


def listing(value: Any, params: SimpleNamespace) -> str:
    """Print several numbers, separated by commas."""
    return math(", ".join(num(part) for part in value))


def sums(*letters: str) -> Callable[[Any, SimpleNamespace], str]:
    """Return a printer of coefficients as a sum of terms; `v` in a letter stands for the template's variable."""

    def show(value: Any, params: SimpleNamespace) -> str:
        variable = getattr(params, "v", "x")
        return math(terms(value, tuple(letter.replace("v", variable) for letter in letters)))

    return show


def equals(value: Any, params: SimpleNamespace) -> str | None:
    """Print `x = 3` with the template's variable."""
    text = num(value)
    return math(f"{getattr(params, 'v', 'x')}={text}")


@dataclass(frozen=True, kw_only=True)
class Template:
    """A kind of question: how to draw its numbers, its right answer, and all slips that apply to it.

    `say` returns texts for slots in the wordings, `near` a wrong value that no slip explains, and `ok` whether a value
    is a plausible option. `alone` is false if the wordings refer to the options.
    """

    key: str
    construct: str
    subject: str
    draw: Callable[[random.Random], dict[str, Any]]
    answer: Callable[[SimpleNamespace], Any]
    wordings: tuple[str, ...]
    slips: tuple[Slip, ...]
    show: Callable[[Any, SimpleNamespace], str | None] = plain
    say: Callable[[SimpleNamespace], dict[str, str]] | None = None
    near: Callable[[SimpleNamespace, random.Random], Any] | None = None
    ok: Callable[[Any], bool] | None = None
    alone: bool = True

    def text(self, params: SimpleNamespace, wording: int, names: tuple[str, ...]) -> str:
        """Return the question's text in one of the wordings, with all slots filled in."""
        slots = {"name": names[0], "name2": names[1], **vars(params)}
        if self.say:
            slots |= self.say(params)
        return _SLOT.sub(lambda match: num(slots[match[1]]), self.wordings[wording])

    def print(self, value: Any, params: SimpleNamespace) -> str | None:
        """Return an answer as an option prints it, or None if it is no plausible option."""
        if isinstance(value, PrintedValue):
            return value.text
        if self.ok and not isinstance(value, str) and not self.ok(value):
            return None
        return value if isinstance(value, str) else self.show(value, params)

    def explain(self, params: SimpleNamespace) -> dict[Any, list[tuple[Slip, Any]]]:
        """Return each wrong value that a slip yields, with those slips and their unreduced results."""
        right = bare(self.answer(params))
        explanations: dict[Any, list[tuple[Slip, Any]]] = {}
        for slip in self.slips:
            result = slip.run(params)
            if result is not None and bare(result) != right:
                explanations.setdefault(bare(result), []).append((slip, result))
        return explanations


def bare(value: Any) -> Any:
    """Return the value without its printed form, for comparing answers."""
    return value.value if isinstance(value, PrintedValue) else value


@dataclass(frozen=True)
class Option:
    """One of four answers: `slip` explains its value, `label` is the misconception id in the file."""

    value: Any
    text: str
    slip: Slip | None = None
    label: int | None = None


@dataclass(frozen=True)
class Question:
    """A drawn question; `dialogue` marks questions that ask which of two learners is right."""

    template: Template
    params: SimpleNamespace
    wording: int
    names: tuple[str, ...]
    text: str
    options: tuple[Option, ...]
    correct: int
    dialogue: bool = False
