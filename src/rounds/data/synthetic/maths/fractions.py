"""Fractions: amounts, the four operations, equivalence, ordering, conversion."""

# ruff: noqa: E501 - the tables keep one slip a line
from __future__ import annotations

from fractions import Fraction
from math import gcd

from .number import ADD_FOR_TAKE, ADD_FOR_TIMES
from .question import Slip, Template, family, fraction, math, over, plain

UPSIDE_DOWN = "Interchanges what goes above the line and what goes below it"
REMAINS = "Hands over what remains when the part itself is wanted"
PART_TO_REST = "Compares a part with what is left over and not with everything"
TOP_AND_BOTTOM_ALIKE = "Treats the numbers above the line and those below it as two separate sums"
UNIT_ONLY = "Finds the size of a single share and goes no further"


def lowest(r, top: int = 9) -> tuple[int, int]:
    """A proper fraction in lowest terms."""
    while True:
        b = r.randint(3, top)
        a = r.randint(1, b - 1)
        if gcd(a, b) == 1:
            return a, b


def two(r) -> dict:
    """Two different proper fractions with different denominators, the larger first."""
    while True:
        (a, b), (c, d) = lowest(r), lowest(r)
        if b != d and Fraction(a, b) > Fraction(c, d):
            return {"a": a, "b": b, "c": c, "d": d}


def mixed(value, p) -> str:
    """A whole part beside a fraction."""
    return math(f"{value[0]} \\frac{{{value[1]}}}{{{value[2]}}}")


def stacked(value, p) -> str:
    """A fraction given as a pair, printed as it stands."""
    return math(f"\\frac{{{value[0]}}}{{{value[1]}}}")


AMOUNTS = (
    Template(
        key="fraction_of_amount",
        construct="Find a non-unit fraction of an amount",
        subject="Fractions of Quantities",
        draw=lambda r: dict(zip("ab", lowest(r), strict=True), k=r.randint(3, 15)),
        answer=lambda p: p.a * p.k,
        ok=lambda v: v > 0,
        say=lambda p: {"n": str(p.b * p.k)},
        wordings=(
            "What is \\( \\frac{<a>}{<b>} \\) of <n>?",
            "<name> has £ <n> and gives away \\( \\frac{<a>}{<b>} \\) of it. How many pounds are given away?",
            "Work out \\( \\frac{<a>}{<b>} \\) of \\( <n> \\mathrm{~kg} \\), in kilograms.",
        ),
        slips=(
            Slip(UNIT_ONLY, lambda p: p.k if p.a > 1 else None),
            Slip(
                "When taking a fraction of a quantity, shares by the upper number and scales by the lower one",
                lambda p: Fraction(p.b * p.k * p.b, p.a),
            ),
            Slip(REMAINS, lambda p: p.b * p.k - p.a * p.k),
            Slip(
                "Shares by the upper number and ignores the lower one when taking a fraction of a quantity",
                lambda p: Fraction(p.b * p.k, p.a) if p.a > 1 else None,
            ),
            Slip(
                "Scales by the upper number and ignores the lower one when taking a fraction of a quantity",
                lambda p: p.b * p.k * p.a,
            ),
            Slip(
                "Takes the lower number away where sharing is needed when taking a fraction of a quantity",
                lambda p: p.b * p.k - p.b,
            ),
            *family(
                "Shares into <k> whatever number stands below the line when taking a fraction of a quantity",
                (("two halves", 2), ("tenths", 10)),
                lambda p, k: Fraction(p.b * p.k * p.a, k) if p.b != k else None,
            ),
        ),
    ),
    Template(
        key="shaded_part",
        construct="Identify the fraction of a shape that is shaded",
        subject="Basic Fractions",
        draw=lambda r: (lambda n: {"n": n, "k": r.choice([k for k in range(2, n) if gcd(k, n) == 1 and 2 * k != n])})(
            r.choice((5, 7, 8, 9, 10, 11, 12))
        ),
        answer=lambda p: over(p.k, p.n),
        near=lambda p, r: over(p.k + r.choice((-1, 1)), p.n),
        show=fraction,
        wordings=(
            "What fraction of this shape is shaded? ![A rectangle cut into <n> equal parts, of which <k> are shaded]()",
            "Which fraction describes the shaded area? ![A circle divided into <n> equal sectors with <k> of them coloured blue]()",
            "How much of the bar is coloured?\n![A bar of <n> equal boxes, the first <k> of them coloured]()",
        ),
        slips=(
            Slip(PART_TO_REST, lambda p: over(p.k, p.n - p.k)),
            Slip(
                "Attends to what is plain and not to what stands out when writing the fraction of a shape that is shaded",
                lambda p: over(p.n - p.k, p.n),
            ),
            Slip(UPSIDE_DOWN, lambda p: over(p.n, p.k)),
            Slip(
                "Believes the number above the line is one whatever the picture holds when writing the fraction of a shape that is shaded",
                lambda p: over(1, p.n),
            ),
            Slip(
                "Lets only the pieces that stand out set the number below the line when writing the fraction of a shape that is shaded",
                lambda p: over(1, p.k),
            ),
            Slip("Compares what is left over with the part", lambda p: over(p.n - p.k, p.k)),
        ),
    ),
)

OPERATIONS = (
    Template(
        key="add_fractions",
        construct="Add proper fractions with different denominators",
        subject="Sums and Differences of Fractions",
        draw=two,
        answer=lambda p: Fraction(p.a, p.b) + Fraction(p.c, p.d),
        show=fraction,
        wordings=(
            "Work out\n\\(\n\\frac{<a>}{<b>} + \\frac{<c>}{<d>}\n\\)",
            "What is \\( \\frac{<a>}{<b>} + \\frac{<c>}{<d>} \\)?",
            "<name> eats \\( \\frac{<a>}{<b>} \\) of a pizza and \\( \\frac{<c>}{<d>} \\) of another of the same size. What fraction of a pizza is that altogether?",
        ),
        slips=(
            Slip(TOP_AND_BOTTOM_ALIKE, lambda p: over(p.a + p.c, p.b + p.d)),
            Slip(
                "Makes the lower numbers agree and leaves the upper ones as they were",
                lambda p: over(p.a + p.c, p.b * p.d),
            ),
            Slip("Keeps whichever lower number is greater", lambda p: over(p.a + p.c, max(p.b, p.d))),
            Slip(
                "When adding fractions, multiplies straight across when the sign asks for a total",
                lambda p: over(p.a * p.c, p.b * p.d),
            ),
            Slip(
                "Builds upper numbers crosswise but then totals the lower ones when adding fractions",
                lambda p: over(p.a * p.d + p.c * p.b, p.b + p.d),
            ),
            Slip(
                "Scales just one of the upper numbers after making the lower ones agree",
                lambda p: over(p.a * p.d + p.c, p.b * p.d),
            ),
        ),
    ),
    Template(
        key="subtract_fractions",
        construct="Subtract proper fractions with different denominators",
        subject="Sums and Differences of Fractions",
        draw=two,
        answer=lambda p: Fraction(p.a, p.b) - Fraction(p.c, p.d),
        show=fraction,
        wordings=(
            "Calculate \\( \\frac{<a>}{<b>} - \\frac{<c>}{<d>} \\)",
            "What should replace the star?\n\\(\n\\frac{<a>}{<b>} - \\frac{<c>}{<d>} = \\bigstar\n\\)",
            "A jug is \\( \\frac{<a>}{<b>} \\) full. Then \\( \\frac{<c>}{<d>} \\) of a jug is poured out. How full is it now?",
        ),
        slips=(
            Slip(TOP_AND_BOTTOM_ALIKE, lambda p: over(abs(p.a - p.c), abs(p.b - p.d))),
            Slip(
                "Makes the lower numbers agree and leaves the upper ones as they were",
                lambda p: over(abs(p.a - p.c), p.b * p.d),
            ),
            Slip("Keeps whichever lower number is greater", lambda p: over(abs(p.a - p.c), max(p.b, p.d))),
            Slip(ADD_FOR_TAKE, lambda p: Fraction(p.a, p.b) + Fraction(p.c, p.d)),
            Slip(
                "Scales just one of the upper numbers after making the lower ones agree",
                lambda p: over(p.a * p.d - p.c, p.b * p.d),
            ),
            Slip(
                "When subtracting fractions, multiplies each upper number by its own lower number while matching them",
                lambda p: over(abs(p.a * p.b - p.c * p.d), p.b * p.d),
            ),
        ),
    ),
    Template(
        key="multiply_fractions",
        construct="Multiply two proper fractions",
        subject="Products of Fractions",
        draw=two,
        answer=lambda p: Fraction(p.a * p.c, p.b * p.d),
        show=fraction,
        wordings=(
            "Work out \\( \\frac{<a>}{<b>} \\times \\frac{<c>}{<d>} \\)",
            "What is \\( \\frac{<a>}{<b>} \\) of \\( \\frac{<c>}{<d>} \\)?",
            "\\(\n\\frac{<a>}{<b>} \\times \\frac{<c>}{<d>} = \\bigstar\n\\)\nWhat belongs behind the star?",
        ),
        slips=(
            Slip(
                "Combines diagonally where straight across is right when multiplying fractions",
                lambda p: over(p.a * p.d, p.b * p.c),
            ),
            Slip(
                "Matches the lower numbers first and then combines the upper ones only when multiplying fractions",
                lambda p: over(p.a * p.d * p.c * p.b, p.b * p.d),
            ),
            Slip(ADD_FOR_TIMES, lambda p: Fraction(p.a, p.b) + Fraction(p.c, p.d)),
            Slip(
                "When multiplying fractions, combines the upper numbers by product and the lower ones by total",
                lambda p: over(p.a * p.c, p.b + p.d),
            ),
            Slip(
                "Totals the upper numbers but forms a product of the lower ones when multiplying fractions",
                lambda p: over(p.a + p.c, p.b * p.d),
            ),
        ),
    ),
    Template(
        key="divide_fractions",
        construct="Divide a proper fraction by a proper fraction",
        subject="Quotients of Fractions",
        draw=two,
        answer=lambda p: Fraction(p.a * p.d, p.b * p.c),
        show=fraction,
        wordings=(
            "Work out \\( \\frac{<a>}{<b>} \\div \\frac{<c>}{<d>} \\)",
            "Calculate\n\\(\n\\frac{<a>}{<b>} \\div \\frac{<c>}{<d>}\n\\)\nGive the answer in its simplest form.",
            "How many times does \\( \\frac{<c>}{<d>} \\) go into \\( \\frac{<a>}{<b>} \\)?",
        ),
        slips=(
            Slip("Turns the wrong one of the two upside down", lambda p: Fraction(p.b * p.c, p.a * p.d)),
            Slip(
                "When dividing by a fraction, changes the sign to its opposite but turns nothing over",
                lambda p: over(p.a * p.c, p.b * p.d),
            ),
            Slip(
                "Turns both over before combining when dividing by a fraction",
                lambda p: over(p.b * p.d, p.a * p.c),
            ),
            Slip(
                "When dividing by a fraction, matches the lower numbers, splits the upper ones, yet keeps the matched number below",
                lambda p: Fraction(p.a * p.d, p.c * p.b * p.b * p.d),
            ),
            Slip(
                "Finds what is left rather than how often something fits when dividing by a fraction",
                lambda p: Fraction(p.a, p.b) - Fraction(p.c, p.d),
            ),
        ),
    ),
    Template(
        key="fraction_divided_by_integer",
        construct="Divide a proper fraction by an integer",
        subject="Quotients of Fractions",
        draw=lambda r: dict(zip("ab", lowest(r), strict=True), k=r.randint(2, 9)),
        answer=lambda p: Fraction(p.a, p.b * p.k),
        show=fraction,
        wordings=(
            "\\( \\frac{<a>}{<b>} \\div <k> = \\)",
            "<a>/<b> of a cake is shared equally by <k> people. What fraction of the cake does each get?",
            "Work out\n\\(\n\\frac{<a>}{<b>} \\div <k>\n\\)",
        ),
        slips=(
            Slip(
                "When sharing a fraction by an integer, applies a whole number above the line although it should go below",
                lambda p: over(p.a * p.k, p.b),
            ),
            Slip("Turns the wrong one of the two upside down", lambda p: Fraction(p.b * p.k, p.a)),
            Slip(
                "Lets a whole number act on both sides of the line when sharing a fraction by an integer",
                lambda p: over(p.a * p.k, p.b * p.k),
            ),
            Slip(
                "Reduces the upper number by a whole number where sharing is needed when sharing a fraction by an integer",
                lambda p: over(p.a - p.k, p.b),
            ),
            Slip(
                "When sharing a fraction by an integer, increases the lower number by a whole number where it should be scaled",
                lambda p: over(p.a, p.b + p.k),
            ),
        ),
    ),
)

FORMS = (
    Template(
        key="mixed_to_improper",
        construct="Convert mixed numbers to improper fractions",
        subject="Mixed and Improper Fractions",
        draw=lambda r: dict(zip("bc", lowest(r, 11), strict=True), a=r.randint(2, 9)),
        answer=lambda p: (p.a * p.c + p.b, p.c),
        show=stacked,
        wordings=(
            "Write \\( <a> \\frac{<b>}{<c>} \\) as an improper fraction.",
            "Which improper fraction equals \\( <a> \\frac{<b>}{<c>} \\)?",
            "\\(\n<a> \\frac{<b>}{<c>} = \\frac{\\bigstar}{<c>}\n\\)\nWhich option is complete?",
        ),
        slips=(
            Slip(
                "Scales up the whole part and then leaves the loose pieces out when converting a mixed number",
                lambda p: (p.a * p.c, p.c),
            ),
            Slip(
                "When converting a mixed number, adds the whole part to the pieces without cutting it up",
                lambda p: (p.a + p.b, p.c),
            ),
            Slip(
                "Cuts up the whole part using the upper number when converting a mixed number",
                lambda p: (p.a * p.b + p.c, p.c),
            ),
            Slip(
                "When converting a mixed number, pushes the whole part against the upper number so that the digits join",
                lambda p: (int(f"{p.a}{p.b}"), p.c),
            ),
            Slip(
                "When converting a mixed number, multiplies the pieces by the whole part",
                lambda p: (p.a * p.b, p.c),
            ),
            Slip(
                "When converting a mixed number, counts correctly but over the wrong kind of piece",
                lambda p: (p.a * p.c + p.b, p.b) if p.b > 1 else None,
            ),
        ),
    ),
    Template(
        key="improper_to_mixed",
        construct="Convert improper fractions to mixed numbers",
        subject="Mixed and Improper Fractions",
        draw=lambda r: dict(zip("bc", lowest(r, 11), strict=True), a=r.randint(2, 9)),
        answer=lambda p: (p.a, p.b, p.c),
        show=mixed,
        say=lambda p: {"n": str(p.a * p.c + p.b)},
        wordings=(
            "Write \\( \\frac{<n>}{<c>} \\) as a mixed number.",
            "What is \\( \\frac{<n>}{<c>} \\) as a whole number and a fraction?",
            "<name> cuts cakes into <c> equal slices and has <n> slices. How many cakes is that?",
        ),
        slips=(
            Slip(
                "When converting an improper fraction, swaps how many wholes there are with how many pieces remain",
                lambda p: (p.b, p.a, p.c),
            ),
            Slip(
                "When converting an improper fraction, writes the number of wholes beneath the pieces that remain",
                lambda p: (p.a, p.b, p.a),
            ),
            Slip(
                "When converting an improper fraction, makes one whole too few and leaves its pieces loose",
                lambda p: (p.a - 1, p.b + p.c, p.c),
            ),
            Slip(
                "When converting an improper fraction, splits a two-digit count at its digits",
                lambda p: (
                    (int(str(p.a * p.c + p.b)[0]), int(str(p.a * p.c + p.b)[1:]), p.c) if p.a * p.c + p.b > 9 else None
                ),
            ),
            Slip(
                "When converting an improper fraction, puts the whole count of pieces beside the wholes already taken out",
                lambda p: (p.a, p.a * p.c + p.b, p.c),
            ),
        ),
    ),
    Template(
        key="simplify_fraction",
        construct="Simplify a fraction by dividing by the highest common factor",
        subject="Cancelling Fractions",
        draw=lambda r: dict(zip("ab", lowest(r), strict=True), k=r.choice((4, 6, 8, 9, 10, 12, 15))),
        answer=lambda p: (p.a, p.b),
        show=stacked,
        near=lambda p, r: (p.a + r.choice((1, 2)), p.b + r.choice((0, 3, 5))),
        say=lambda p: {"x": str(p.a * p.k), "y": str(p.b * p.k)},
        wordings=(
            "Write \\( \\frac{<x>}{<y>} \\) in its simplest form.",
            "What is \\( \\frac{<x>}{<y>} \\) in lowest terms?",
            "Simplify fully:\n\\(\n\\frac{<x>}{<y>}\n\\)",
        ),
        slips=(
            Slip(
                "When simplifying a fraction, cancels once and stops before nothing more is shared",
                lambda p: (p.a * p.k // (2 if p.k % 2 == 0 else 3), p.b * p.k // (2 if p.k % 2 == 0 else 3)),
            ),
            Slip(
                "Takes the same amount off both numbers when simplifying a fraction",
                lambda p: (p.a * p.k - p.k, p.b * p.k - p.k) if p.a > 1 else None,
            ),
            Slip(
                "Shrinks just the number above the line when simplifying a fraction",
                lambda p: (p.a, p.b * p.k),
            ),
            Slip(
                "When simplifying a fraction, shrinks just the number below the line",
                lambda p: (p.a * p.k, p.b),
            ),
            Slip(
                "When simplifying a fraction, halves each number as it pleases, one of them once more than the other",
                lambda p: (p.a, 2 * p.b) if p.k % 2 == 0 else None,
            ),
            Slip(UPSIDE_DOWN, lambda p: (p.b, p.a)),
        ),
    ),
    Template(
        key="equivalent_gap",
        construct="Find a missing numerator in equivalent fractions",
        subject="Fraction Equivalence",
        draw=lambda r: dict(zip("ab", lowest(r), strict=True), k=r.randint(2, 9)),
        answer=lambda p: p.a * p.k,
        ok=lambda v: v > 0,
        say=lambda p: {"y": str(p.b * p.k)},
        wordings=(
            "What replaces the star?\n\\(\n\\frac{<a>}{<b>} = \\frac{\\bigstar}{<y>}\n\\)",
            "\\( \\frac{<a>}{<b>} \\) is equivalent to \\( \\frac{\\bigstar}{<y>} \\). Which number is hidden?",
            "Fill in the gap: \\( \\frac{<a>}{<b>}=\\frac{?}{<y>} \\)",
        ),
        slips=(
            Slip(
                "Keeps the distance between upper and lower number as it was when completing equivalent fractions",
                lambda p: p.a + p.b * p.k - p.b,
            ),
            Slip(
                "When completing equivalent fractions, leaves the upper number as it is when the lower one grows",
                lambda p: p.a,
            ),
            Slip(
                "Writes down the multiplier and not what it produces when completing equivalent fractions",
                lambda p: p.k,
            ),
            Slip(
                "Multiplies the upper number by the new lower number when completing equivalent fractions",
                lambda p: p.a * p.b * p.k,
            ),
            Slip(
                "When completing equivalent fractions, doubles whatever the true multiplier is",
                lambda p: 2 * p.a if p.k != 2 else None,
            ),
            Slip(
                "Adds the multiplier to the upper number when completing equivalent fractions",
                lambda p: p.a + p.k,
            ),
        ),
    ),
    Template(
        key="largest_fraction",
        construct="Order fractions with different numerators and denominators",
        subject="Comparing Fractions",
        draw=lambda r: {"list": tuple(lowest(r, 12) for _ in range(4))},
        answer=lambda p: max(p.list, key=lambda f: Fraction(*f)),
        show=stacked,
        near=lambda p, r: r.choice(p.list),
        wordings=(
            "Which of these fractions is the largest?",
            "Four friends each eat part of a cake of the same size. Who eats the most: the one who eats",
            "Which fraction has the greatest value?",
            "Choose the largest fraction.",
        ),
        slips=(
            Slip(
                "When ordering fractions, lets the number below the line alone decide, more meaning more",
                lambda p: one(p.list, lambda f: f[1]),
            ),
            Slip(
                "When ordering fractions, lets the number below the line alone decide, fewer meaning more",
                lambda p: one(p.list, lambda f: -f[1]),
            ),
            Slip(
                "When ordering fractions, lets the number above the line alone decide",
                lambda p: one(p.list, lambda f: f[0]),
            ),
            Slip(
                "When ordering fractions, judges by how few pieces are missing, whatever their size",
                lambda p: one(p.list, lambda f: f[0] - f[1]),
            ),
            Slip(
                "Picks the opposite end when putting quantities in order",
                lambda p: one(p.list, lambda f: -Fraction(*f)),
            ),
        ),
        alone=False,
    ),
    Template(
        key="fraction_to_decimal",
        construct="Convert a fraction to a decimal",
        subject="Fractions as Decimals",
        draw=lambda r: dict(
            zip(
                "ab",
                r.choice(
                    (
                        (3, 4),
                        (1, 4),
                        (2, 5),
                        (3, 5),
                        (4, 5),
                        (1, 5),
                        (1, 8),
                        (3, 8),
                        (5, 8),
                        (7, 8),
                        (3, 20),
                        (7, 20),
                        (9, 20),
                        (11, 20),
                        (6, 25),
                        (9, 25),
                        (11, 25),
                        (14, 25),
                        (3, 50),
                        (7, 50),
                        (9, 50),
                    )
                ),
                strict=True,
            )
        ),
        answer=lambda p: Fraction(p.a, p.b),
        show=plain,
        wordings=(
            "Write the fraction \\( \\frac{<a>}{<b>} \\) as a decimal number.",
            "Which decimal is equal to \\( \\frac{<a>}{<b>} \\)?",
            "Convert \\( \\frac{<a>}{<b>} \\) to a decimal.",
        ),
        slips=(
            Slip(
                "When turning a fraction into a decimal, reads the line as the point between wholes and parts",
                lambda p: Fraction(f"{p.a}.{p.b}"),
            ),
            Slip(
                "Writes both numbers one after the other behind the point when turning a fraction into a decimal",
                lambda p: Fraction(f"0.{p.a}{p.b}"),
            ),
            Slip(
                "Writes only the lower number behind the point when turning a fraction into a decimal",
                lambda p: Fraction(f"0.{p.b}"),
            ),
            Slip(
                "Writes only the upper number behind the point when turning a fraction into a decimal",
                lambda p: Fraction(f"0.{p.a}"),
            ),
            Slip(UPSIDE_DOWN, lambda p: Fraction(p.b, p.a)),
            Slip(
                "Divides correctly but puts the point one place too late when turning a fraction into a decimal",
                lambda p: Fraction(p.a * 10, p.b),
            ),
            Slip(
                "Divides correctly but puts the point one place too early when turning a fraction into a decimal",
                lambda p: Fraction(p.a, p.b * 10),
            ),
        ),
    ),
)


def one(items: tuple, key) -> tuple | None:
    """The item with the largest key, where that is a single one."""
    best = max(map(key, items))
    found = [item for item in items if key(item) == best]
    return found[0] if len(found) == 1 else None


TEMPLATES = AMOUNTS + OPERATIONS + FORMS
