"""Expressions: brackets, like terms and indices."""

# ruff: noqa: E501 - the tables keep one slip a line
from __future__ import annotations

from fractions import Fraction
from math import gcd

from .number import SIGN_LOST, SMALL_FOR_INDEX
from .question import Slip, Template, frac, math, num, sums, terms

LETTERS = ("x", "y", "n", "t", "p", "k", "m")
SAME_SIDE = "Repeats an operation that should be reversed"
FIRST_ONLY = "Lets a factor outside act on just the first thing inside"
ANSWERS_POSITION = "Mixes up where something stands with what stands there"
SWITCHES_BOTH = "Gives every part the opposite sign from the one it should have"


def letter(r) -> str:
    """A letter for the unknown."""
    return r.choice(LETTERS)


def signed(value: int) -> str:
    """A number with its sign, for the middle of an expression."""
    return f"+{value}" if value >= 0 else f"{value}"


def bracket(value, p) -> str:
    """`(x+a)(x+b)` for a pair (a, b)."""
    return math("".join(f"({p.v}{signed(part)})" for part in value))


def common(value, p) -> str:
    """`k(ax+b)` for a triple (k, a, b)."""
    return math(f"{num(value[0])}({terms(value[1:], (p.v, ''))})")


def small(r, high: int = 9, but: tuple[int, ...] = ()) -> int:
    """A non-zero integer up to high in size, none of `but`."""
    return r.choice([v for v in range(-high, high + 1) if v and v not in but])


def coprime(r) -> tuple[int, int]:
    """Two numbers that share no factor."""
    while True:
        a, b = r.randint(2, 9), r.randint(1, 9)
        if gcd(a, b) == 1:
            return a, b


linear = sums("v", "")
quadratic = sums("v^{2}", "v", "")

BRACKETS = (
    Template(
        key="expand_single",
        construct="Expand a single bracket with a positive integer outside",
        subject="Multiplying Out One Bracket",
        draw=lambda r: {"v": letter(r), "a": r.randint(2, 9), "b": r.randint(1, 5), "c": r.randint(2, 9)},
        answer=lambda p: (p.a * p.b, p.a * p.c),
        show=linear,
        say=lambda p: {"i": terms((p.b, p.c), (p.v, ""))},
        wordings=(
            "Expand \\( <a>(<i>) \\)",
            "Which expression is equivalent to \\( <a>(<i>) \\)?",
            "Multiply out the bracket:\n\\(\n<a>(<i>)\n\\)",
        ),
        slips=(
            Slip(FIRST_ONLY, lambda p: (p.a * p.b, p.c)),
            Slip(
                "Lets a factor outside act on just the last thing inside when expanding a single bracket",
                lambda p: (p.b, p.a * p.c),
            ),
            Slip("Attaches an outside number by adding it to each part", lambda p: (p.a + p.b, p.a + p.c)),
            Slip(
                "When expanding a single bracket, scales the first part but merely adds to the last one",
                lambda p: (p.a * p.b, p.a + p.c),
            ),
            Slip("Fuses unlike parts into a single one", lambda p: (p.a * (p.b + p.c), 0)),
            Slip(
                "Takes the product of the inner parts as well when expanding a single bracket",
                lambda p: (p.a * p.b * p.c, 0),
            ),
        ),
    ),
    Template(
        key="expand_negative",
        construct="Expand a single bracket with a negative integer outside",
        subject="Multiplying Out One Bracket",
        draw=lambda r: {"v": letter(r), "a": r.randint(2, 9), "b": r.randint(1, 5), "c": r.randint(2, 9)},
        answer=lambda p: (-p.a * p.b, p.a * p.c),
        show=linear,
        say=lambda p: {"i": terms((p.b, -p.c), (p.v, ""))},
        wordings=(
            "Expand \\( -<a>(<i>) \\)",
            "\\( -<a>(<i>) \\equiv \\bigstar \\) What is hidden by the star?",
            "<name> multiplies out \\( -<a>(<i>) \\). What is the result?",
        ),
        slips=(
            Slip(
                "Carries a stroke in front only as far as the first part when expanding a bracket with a negative outside",
                lambda p: (-p.a * p.b, -p.a * p.c),
            ),
            Slip(FIRST_ONLY, lambda p: (-p.a * p.b, -p.c)),
            Slip(
                "Switches the last sign yet scales only the first part when expanding a bracket with a negative outside",
                lambda p: (-p.a * p.b, p.c),
            ),
            Slip(SIGN_LOST, lambda p: (p.a * p.b, -p.a * p.c)),
            Slip("Attaches an outside number by adding it to each part", lambda p: (p.b - p.a, -p.c - p.a)),
        ),
    ),
    Template(
        key="expand_double",
        construct="Expand two brackets with linear terms",
        subject="Products of Two Brackets",
        draw=lambda r: (lambda a: {"v": letter(r), "a": a, "b": small(r, 9, (a, -a))})(small(r)),
        answer=lambda p: (1, p.a + p.b, p.a * p.b),
        show=quadratic,
        say=lambda p: {"x": f"({p.v}{signed(p.a)})({p.v}{signed(p.b)})"},
        wordings=(
            "Expand and simplify \\( <x> \\)",
            "Which expression is the same as \\( <x> \\)?",
            "Multiply out these brackets:\n\\(\n<x>\n\\)",
        ),
        slips=(
            Slip(
                "Pairs front with front and back with back only when expanding double brackets",
                lambda p: (1, 0, p.a * p.b),
            ),
            Slip(
                "When expanding double brackets, totals the loose numbers where their product belongs",
                lambda p: (1, p.a + p.b, p.a + p.b),
            ),
            Slip(
                "Puts product and total of the loose numbers in each other's place when expanding double brackets",
                lambda p: (1, p.a * p.b, p.a + p.b),
            ),
            Slip(
                "When expanding double brackets, loses the sign of the loose product",
                lambda p: (1, p.a + p.b, -p.a * p.b),
            ),
            Slip(
                "When expanding double brackets, loses the sign of the middle part",
                lambda p: (1, -p.a - p.b, p.a * p.b),
            ),
            Slip(
                "Doubles rather than multiplies where both fronts meet when expanding double brackets",
                lambda p: (0, 2 + p.a + p.b, p.a * p.b),
            ),
            Slip(
                "When expanding double brackets, uses only one of the two crosswise products",
                lambda p: (1, p.a, p.a * p.b),
            ),
        ),
    ),
    Template(
        key="square_bracket",
        construct="Expand the square of a linear bracket",
        subject="Products of Two Brackets",
        draw=lambda r: {"v": letter(r), "a": small(r, 12, (1, -1, 2, -2))},
        answer=lambda p: (1, 2 * p.a, p.a**2),
        show=quadratic,
        say=lambda p: {"x": f"({p.v}{signed(p.a)})^{{2}}", "i": f"{p.v}{signed(p.a)}"},
        wordings=(
            "Expand and simplify \\( <x> \\)",
            "What is \\( <x> \\) without brackets?",
            "Every side of a square tile has length \\( <i> \\). Which expression gives its area?",
        ),
        slips=(
            Slip("Hands a power to each part separately when squaring a bracket", lambda p: (1, 0, p.a**2)),
            Slip(
                "When squaring a bracket, builds just one of the two equal middle parts",
                lambda p: (1, p.a, p.a**2),
            ),
            Slip(
                "When squaring a bracket, doubles the loose number where it should meet itself",
                lambda p: (1, 2 * p.a, 2 * p.a),
            ),
            Slip(
                "Lets every end part keep the sign it began with when squaring a bracket",
                lambda p: (1, 2 * p.a, -(p.a**2)) if p.a < 0 else None,
            ),
            Slip(
                "When squaring a bracket, reads a power of a bracket as two copies of it added",
                lambda p: (0, 2, 2 * p.a),
            ),
            Slip(
                "Squares the loose number again for the middle part when squaring a bracket",
                lambda p: (1, p.a**2, p.a**2),
            ),
        ),
    ),
    Template(
        key="factorise_common",
        construct="Factorise a linear expression into a single bracket",
        subject="Factorising Linear Expressions",
        draw=lambda r: (lambda a, b, k: {"v": letter(r), "a": a, "b": b, "k": k})(
            *coprime(r), r.choice((4, 6, 8, 9, 10, 12))
        ),
        answer=lambda p: (p.k, p.a, p.b),
        show=common,
        ok=lambda v: v[0] > 1,
        say=lambda p: {"x": terms((p.k * p.a, p.k * p.b), (p.v, ""))},
        wordings=(
            "Factorise fully \\( <x> \\)",
            "Which is the complete factorisation of \\( <x> \\)?",
            "Write as a product with a single bracket, as far as possible:\n\\(\n<x>\n\\)",
        ),
        slips=(
            Slip(
                "When factorising into a single bracket, pulls something out of the front but leaves the rest as it was",
                lambda p: (p.k, p.a, p.k * p.b),
            ),
            Slip(
                "When factorising into a single bracket, stops while the inside still shares a divisor",
                lambda p: (
                    p.k // (2 if p.k % 2 == 0 else 3),
                    p.a * (2 if p.k % 2 == 0 else 3),
                    p.b * (2 if p.k % 2 == 0 else 3),
                ),
            ),
            Slip(
                "When factorising into a single bracket, takes the divisor away from each part to get the inside",
                lambda p: (p.k, p.k * p.a - p.k, p.k * p.b - p.k),
            ),
            Slip(
                "Writes the inside in the reverse order of sizes when factorising into a single bracket",
                lambda p: (p.k, p.b, p.a),
            ),
            Slip(
                "When factorising into a single bracket, pulls out the front number although the rest is not a multiple of it",
                lambda p: (p.k * p.a, 1, p.b),
            ),
            Slip(
                "When factorising into a single bracket, leaves nothing but one behind after pulling a divisor out of the end",
                lambda p: (p.k, p.a, 1) if p.b > 1 else None,
            ),
        ),
    ),
    Template(
        key="factorise_quadratic",
        construct="Factorise a quadratic with a leading coefficient of one",
        subject="Factorising Quadratic Expressions",
        draw=lambda r: (lambda a: {"v": letter(r), "a": a, "b": small(r, 9, (a, -a, -1, 1))})(small(r)),
        answer=lambda p: tuple(sorted((p.a, p.b))),
        show=bracket,
        say=lambda p: {"x": terms((1, p.a + p.b, p.a * p.b), (f"{p.v}^{{2}}", p.v, ""))},
        near=lambda p, r: tuple(sorted((p.a + r.choice((-2, 2)), p.b + r.choice((-1, 1))))),
        ok=lambda v: 0 not in v,
        wordings=(
            "Factorise \\( <x> \\)",
            "Which pair of brackets multiplies to give \\( <x> \\)?",
            "Write \\( <x> \\) as a product of two brackets.",
        ),
        slips=(
            Slip(SWITCHES_BOTH, lambda p: tuple(sorted((-p.a, -p.b)))),
            Slip(
                "Splits the middle number additively without checking the end when factorising a quadratic",
                lambda p: tuple(sorted((1, p.a + p.b - 1))),
            ),
            Slip(
                "When factorising a quadratic, splits the end number multiplicatively without checking the middle",
                lambda p: tuple(sorted((1, p.a * p.b))),
            ),
            Slip(
                "Copies the two visible numbers into the brackets when factorising a quadratic",
                lambda p: tuple(sorted((p.a + p.b, p.a * p.b))),
            ),
            Slip(
                "Finds the right sizes but gives the minus to the wrong one when factorising a quadratic",
                lambda p: tuple(sorted((-p.a, p.b))) if p.a * p.b < 0 else None,
            ),
            Slip(
                "When factorising a quadratic, gives opposite signs although the end number is positive",
                lambda p: tuple(sorted((-p.a, p.b))) if p.a * p.b > 0 else None,
            ),
        ),
    ),
    Template(
        key="collect_terms",
        construct="Simplify an expression by collecting like terms",
        subject="Collecting Like Terms",
        draw=lambda r: {
            "v": letter(r),
            "a": r.randint(5, 12),
            "b": r.randint(1, 9),
            "c": r.randint(2, 4),
            "d": r.randint(1, 9),
        },
        answer=lambda p: (p.a - p.c, p.b + p.d),
        show=linear,
        say=lambda p: {"x": f"{p.a} {p.v}+{p.b}-{p.c} {p.v}+{p.d}"},
        wordings=(
            "Simplify \\( <x> \\)",
            "Collect like terms:\n\\(\n<x>\n\\)",
            "Which expression is equal to \\( <x> \\)?",
        ),
        slips=(
            Slip(
                "Detaches a minus from the part it belongs to and gives it to the next when collecting like terms",
                lambda p: (p.a + p.c, p.b - p.d),
            ),
            Slip(
                "When collecting like terms, adds everything of one kind and ignores a minus between",
                lambda p: (p.a + p.c, p.b + p.d),
            ),
            Slip("Fuses unlike parts into a single one", lambda p: (p.a - p.c + p.b + p.d, 0)),
            Slip(
                "When collecting like terms, lets one minus rule everything that follows",
                lambda p: (p.a - p.c, p.b - p.d),
            ),
            Slip("When collecting like terms, forms products from like parts", lambda p: (p.a * p.c, p.b * p.d)),
            Slip(
                "Keeps the letters but loses count of the loose numbers when collecting like terms",
                lambda p: (p.a - p.c, 0),
            ),
        ),
    ),
)


INDICES = (
    Template(
        key="index_multiply",
        construct="Multiply terms in index form with coefficients",
        subject="Index Laws",
        draw=lambda r: {
            "v": letter(r),
            "a": r.randint(2, 9),
            "b": r.randint(2, 9),
            "m": r.randint(2, 9),
            "n": r.randint(2, 9),
        },
        answer=lambda p: (p.a * p.b, p.m + p.n),
        show=lambda v, p: math(f"{v[0]} {p.v}^{{{v[1]}}}"),
        wordings=(
            "Simplify \\( <a> <v>^{<m>} \\times <b> <v>^{<n>} \\)",
            "Which expression equals \\( <a> <v>^{<m>} \\times <b> <v>^{<n>} \\)?",
            "Write as a single term:\n\\(\n<a> <v>^{<m>} \\times <b> <v>^{<n>}\n\\)",
        ),
        slips=(
            Slip(
                "Combines small raised numbers in the way the large ones are combined",
                lambda p: (p.a * p.b, p.m * p.n),
            ),
            Slip(
                "Combines large numbers in the way the raised ones are combined",
                lambda p: (p.a + p.b, p.m + p.n),
            ),
            Slip("Gets both kinds of combination the wrong way about", lambda p: (p.a + p.b, p.m * p.n)),
            Slip(
                "When multiplying terms with indices, subtracts raised numbers when terms are multiplied",
                lambda p: (p.a * p.b, p.m - p.n),
            ),
            Slip("Keeps whichever raised number is greater", lambda p: (p.a * p.b, max(p.m, p.n))),
            Slip(
                "When multiplying terms with indices, includes a hidden one when combining raised numbers",
                lambda p: (p.a * p.b, p.m + p.n + 1),
            ),
        ),
    ),
    Template(
        key="index_divide",
        construct="Divide terms in index form with coefficients",
        subject="Index Laws",
        draw=lambda r: (lambda b, k, n, d: {"v": letter(r), "a": b * k, "b": b, "m": n * d, "n": n})(
            r.randint(2, 6), r.randint(2, 9), r.randint(2, 5), r.randint(3, 4)
        ),
        answer=lambda p: (p.a // p.b, p.m - p.n),
        show=lambda v, p: math(f"{num(v[0])} {p.v}^{{{num(v[1])}}}"),
        wordings=(
            "Simplify \\( <a> <v>^{<m>} \\div <b> <v>^{<n>} \\)",
            "Simplify\n\\(\n\\frac{<a> <v>^{<m>}}{<b> <v>^{<n>}}\n\\)",
            "\\( <a> <v>^{<m>} \\div <b> <v>^{<n>} = \\bigstar \\) Which term is hidden?",
        ),
        slips=(
            Slip(
                "Combines small raised numbers in the way the large ones are combined",
                lambda p: (p.a // p.b, Fraction(p.m, p.n)),
            ),
            Slip(
                "Combines large numbers in the way the raised ones are combined",
                lambda p: (p.a - p.b, p.m - p.n),
            ),
            Slip(
                "Gets both kinds of combination the wrong way about",
                lambda p: (p.a - p.b, Fraction(p.m, p.n)),
            ),
            Slip(
                "When dividing terms with indices, adds raised numbers although one term is shared out by another",
                lambda p: (p.a // p.b, p.m + p.n),
            ),
            Slip("Keeps whichever raised number is greater", lambda p: (p.a // p.b, p.m)),
        ),
    ),
    Template(
        key="power_of_power",
        construct="Raise a term with a coefficient to a power",
        subject="Index Laws",
        draw=lambda r: {
            "v": letter(r),
            "a": r.randint(2, 5),
            "m": r.randint(2, 7),
            "n": r.choice((2, 2, 3, 4)),
        },
        answer=lambda p: (p.a**p.n, p.m * p.n),
        show=lambda v, p: math(f"{v[0] if v[0] > 1 else ''} {p.v}^{{{v[1]}}}"),
        wordings=(
            "Simplify \\( \\left(<a> <v>^{<m>}\\right)^{<n>} \\)",
            "What is \\( \\left(<a> <v>^{<m>}\\right)^{<n>} \\) without brackets?",
            "Expand the bracket:\n\\(\n\\left(<a> <v>^{<m>}\\right)^{<n>}\n\\)",
        ),
        slips=(
            Slip(
                "Lets an outer exponent act on the letter only when raising a power to a power",
                lambda p: (p.a, p.m * p.n),
            ),
            Slip(
                "When raising a power to a power, uses an outer exponent as a multiplier of the large number",
                lambda p: (p.a * p.n, p.m * p.n),
            ),
            Slip(
                "When raising a power to a power, puts stacked raised numbers together by adding",
                lambda p: (p.a**p.n, p.m + p.n),
            ),
            Slip(
                "Raises one raised number to the other when raising a power to a power",
                lambda p: (p.a**p.n, p.m**p.n),
            ),
            Slip(
                "When raising a power to a power, lets an outer exponent act on the large number only",
                lambda p: (p.a**p.n, p.m),
            ),
            Slip(
                "When raising a power to a power, multiplies the large number and adds the raised ones",
                lambda p: (p.a * p.n, p.m + p.n),
            ),
        ),
    ),
    Template(
        key="negative_index",
        construct="Evaluate a number raised to a negative integer",
        subject="Index Laws",
        draw=lambda r: {"a": r.randint(2, 12), "n": r.randint(2, 5)},
        answer=lambda p: Fraction(1, p.a**p.n),
        show=lambda v, p: math(frac(v)),
        wordings=(
            "Which number has the same value as \\( <a>^{-<n>} \\)?",
            "Evaluate \\( <a>^{-<n>} \\)",
            "Which of these numbers is equal to this power?\n\\(\n<a>^{-<n>}\n\\)",
        ),
        slips=(
            Slip(
                "When evaluating a negative index, moves a raised stroke down in front of the whole result",
                lambda p: -(p.a**p.n),
            ),
            Slip(SMALL_FOR_INDEX, lambda p: -p.a * p.n),
            Slip(
                "Reads a raised stroke as sharing by the raised number when evaluating a negative index",
                lambda p: Fraction(p.a, p.n),
            ),
            Slip(
                "Turns the number over but treats the power as a multiplier when evaluating a negative index",
                lambda p: Fraction(1, p.a * p.n),
            ),
            Slip(
                "When evaluating a negative index, turns over and also keeps the stroke",
                lambda p: Fraction(-1, p.a**p.n),
            ),
            Slip("When evaluating a negative index, discards a raised stroke", lambda p: p.a**p.n),
        ),
    ),
)


TEMPLATES = BRACKETS + INDICES
