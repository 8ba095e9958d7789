"""Volume, surface, Pythagoras and similar shapes."""

# ruff: noqa: E501 - the tables keep one slip a line
from __future__ import annotations

from fractions import Fraction

from .geometry import NO_HALF, cm, cm2, cm3, positive
from .number import SMALL_FOR_INDEX
from .proportion import ADDITIVE
from .question import Slip, Template


def num_text(value) -> str:
    """A whole number or a short decimal."""
    return str(value) if Fraction(value).denominator == 1 else f"{float(value):g}"


TRIPLES = ((3, 4, 5), (5, 12, 13), (8, 15, 17), (7, 24, 25), (20, 21, 29), (9, 40, 41), (12, 35, 37))


def triple(r) -> dict:
    """A right-angled triangle with whole sides, the longest last."""
    a, b, c = r.choice(TRIPLES)
    k = r.randint(1, 5)
    return {"a": a * k, "b": b * k, "c": c * k}


SOLIDS = (
    Template(
        key="cuboid_volume",
        construct="Calculate the volume of a cuboid",
        subject="Volumes of Cuboids and Prisms",
        draw=lambda r: dict(zip("abc", sorted(r.sample(range(2, 13), 3)), strict=True)),
        answer=lambda p: p.a * p.b * p.c,
        show=cm3,
        ok=positive,
        wordings=(
            "What is the volume of a cuboid of \\( <a> \\mathrm{~cm} \\) by \\( <b> \\mathrm{~cm} \\) by \\( <c> \\mathrm{~cm} \\)?",
            "Find the volume. ![A cuboid with edges labelled <a> cm, <b> cm and <c> cm]()",
            "A box is <a> cm wide, <b> cm deep and <c> cm tall. How much does it hold, in \\( \\mathrm{cm}^{3} \\)?",
        ),
        slips=(
            Slip("Joins all three lengths by adding", lambda p: p.a + p.b + p.c),
            Slip(
                "When finding the volume of a cuboid, covers the outside when asked what fills a solid",
                lambda p: 2 * (p.a * p.b + p.b * p.c + p.a * p.c),
            ),
            Slip(
                "When finding the volume of a cuboid, covers three sides of a solid when asked what fills it",
                lambda p: p.a * p.b + p.b * p.c + p.a * p.c,
            ),
            Slip(
                "Works with two of the three directions only when finding the volume of a cuboid",
                lambda p: p.a * p.b,
            ),
            Slip(
                "When finding the volume of a cuboid, follows all the edges when asked what fills a solid",
                lambda p: 4 * (p.a + p.b + p.c),
            ),
            Slip(
                "When finding the volume of a cuboid, halves although the solid does not come to a point",
                lambda p: Fraction(p.a * p.b * p.c, 2),
            ),
        ),
    ),
    Template(
        key="surface_area",
        construct="Calculate the surface area of a cuboid",
        subject="Surface Area of Cuboids",
        draw=lambda r: dict(zip("abc", sorted(r.sample(range(2, 13), 3)), strict=True)),
        answer=lambda p: 2 * (p.a * p.b + p.b * p.c + p.a * p.c),
        show=cm2,
        ok=positive,
        wordings=(
            "What is the surface area of a cuboid of \\( <a> \\mathrm{~cm} \\) by \\( <b> \\mathrm{~cm} \\) by \\( <c> \\mathrm{~cm} \\)?",
            "A gift box has edges of <a> cm, <b> cm and <c> cm. What area of paper covers it exactly?",
            "Find the total area of the faces. ![A cuboid with edges labelled <a> cm, <b> cm and <c> cm]()",
        ),
        slips=(
            Slip(
                "When finding surface area, fills a solid when asked what covers it",
                lambda p: p.a * p.b * p.c,
            ),
            Slip(
                "Covers only those sides of a solid that can be seen from one place when finding surface area",
                lambda p: p.a * p.b + p.b * p.c + p.a * p.c,
            ),
            Slip(
                "When finding surface area, covers four sides of a solid and leaves its ends open",
                lambda p: 2 * (p.b * p.c + p.a * p.c),
            ),
            Slip(
                "Gives all sides of a solid the size of one when finding surface area",
                lambda p: 6 * p.a * p.b,
            ),
            Slip(
                "When finding surface area, follows all the edges when asked what covers a solid",
                lambda p: 4 * (p.a + p.b + p.c),
            ),
            Slip(
                "Doubles one pair of sides and counts the rest once when finding surface area",
                lambda p: 2 * p.a * p.b + p.b * p.c + p.a * p.c,
            ),
        ),
    ),
    Template(
        key="triangular_prism",
        construct="Calculate the volume of a triangular prism",
        subject="Volumes of Cuboids and Prisms",
        draw=lambda r: {"b": r.randint(3, 12), "h": 2 * r.randint(2, 6), "l": r.randint(5, 20)},
        answer=lambda p: p.b * p.h * p.l // 2,
        show=cm3,
        ok=positive,
        wordings=(
            "A prism is \\( <l> \\mathrm{~cm} \\) long. Its end is a triangle with base \\( <b> \\mathrm{~cm} \\) and height \\( <h> \\mathrm{~cm} \\). What is its volume?",
            "Find the volume of this prism. ![A triangular prism of length <l> cm; the triangle at its front has base <b> cm and height <h> cm]()",
            "A tent has the shape of a triangular prism. In a model the front is <b> cm wide and <h> cm high and the tent is <l> cm deep. How many cubic centimetres of air are in the model?",
        ),
        slips=(
            Slip(NO_HALF, lambda p: p.b * p.h * p.l),
            Slip(
                "When finding the volume of a prism, ends with the flat face and forgets how deep a solid goes",
                lambda p: p.b * p.h // 2,
            ),
            Slip(
                "When finding the volume of a prism, takes a third, as for solids that end in a tip",
                lambda p: Fraction(p.b * p.h * p.l, 3),
            ),
            Slip("Joins all three lengths by adding", lambda p: p.b + p.h + p.l),
            Slip(
                "Halves twice on the way to what fills a solid when finding the volume of a prism",
                lambda p: Fraction(p.b * p.h * p.l, 4),
            ),
            Slip(
                "When finding the volume of a prism, adds depth to the flat face",
                lambda p: p.b * p.h // 2 + p.l,
            ),
        ),
    ),
)


RIGHT_TRIANGLES = (
    Template(
        key="hypotenuse",
        construct="Calculate the hypotenuse of a right-angled triangle",
        subject="Pythagoras' Theorem",
        draw=triple,
        answer=lambda p: p.c,
        show=cm,
        ok=positive,
        wordings=(
            "The two shorter sides of a right-angled triangle are \\( <a> \\mathrm{~cm} \\) and \\( <b> \\mathrm{~cm} \\). How long is the longest side?",
            "Find the length of the hypotenuse. ![A right-angled triangle with <a> cm and <b> cm on the sides at the right angle]()",
            "A gate is <a> cm high and <b> cm wide. How long is a bar from one corner to the opposite corner?",
        ),
        slips=(
            Slip(
                "Joins two sides directly where their squares should be joined when finding the hypotenuse",
                lambda p: p.a + p.b,
            ),
            Slip(
                "When finding the hypotenuse, joins squares and does not return to a length",
                lambda p: p.a**2 + p.b**2,
            ),
            Slip(
                "Takes a raised digit as a multiplier on every side and goes no further when finding the hypotenuse",
                lambda p: 2 * (p.a + p.b),
            ),
            Slip(
                "Halves the joined squares to return to a length when finding the hypotenuse",
                lambda p: Fraction(p.a**2 + p.b**2, 2),
            ),
            Slip(
                "When finding the hypotenuse, forms the product of two sides of a square corner",
                lambda p: p.a * p.b,
            ),
            Slip(
                "When finding the hypotenuse, fills the shape when asked for its slanting edge",
                lambda p: Fraction(p.a * p.b, 2),
            ),
            Slip(
                "When finding the hypotenuse, averages two sides to guess the slanting edge",
                lambda p: Fraction(p.a + p.b, 2),
            ),
        ),
    ),
    Template(
        key="shorter_side",
        construct="Calculate a shorter side of a right-angled triangle",
        subject="Pythagoras' Theorem",
        draw=triple,
        answer=lambda p: p.a,
        show=cm,
        ok=positive,
        wordings=(
            "A right-angled triangle has a hypotenuse of \\( <c> \\mathrm{~cm} \\) and one other side of \\( <b> \\mathrm{~cm} \\). What is the third side?",
            "Find \\( x \\). ![A right-angled triangle whose longest side is <c> cm, another side is <b> cm and the third side is labelled x]()",
            "A ladder of <c> cm leans against a wall. It reaches <b> cm up the wall. How far is its foot from the wall?",
        ),
        slips=(
            Slip(
                "When using Pythagoras for a shorter side, takes sides apart directly where their squares should be taken apart",
                lambda p: p.c - p.b,
            ),
            Slip(
                "Takes squares apart and does not return to a length when using Pythagoras for a shorter side",
                lambda p: p.c**2 - p.b**2,
            ),
            Slip(
                "When using Pythagoras for a shorter side, takes a raised digit as a multiplier on both sides of a difference",
                lambda p: 2 * (p.c - p.b),
            ),
            Slip(
                "When using Pythagoras for a shorter side, halves the difference of squares to return to a length",
                lambda p: Fraction(p.c**2 - p.b**2, 2),
            ),
            Slip(
                "When using Pythagoras for a shorter side, joins squares although the longest edge is known already",
                lambda p: p.c**2 + p.b**2,
            ),
            Slip(
                "Joins known edges to get one that must be shorter when using Pythagoras for a shorter side",
                lambda p: p.c + p.b,
            ),
        ),
    ),
    Template(
        key="similar_lengths",
        construct="Find missing lengths in similar shapes",
        subject="Similarity: Lengths",
        draw=lambda r: (lambda a, k: {"a": a, "b": a + r.randint(2, 7), "k": k})(
            r.randint(3, 9), r.choice((2, 3, 4, 5, Fraction(3, 2), Fraction(5, 2)))
        ),
        answer=lambda p: p.b * p.k,
        show=cm,
        ok=positive,
        say=lambda p: {"c": num_text(p.a * p.k)},
        wordings=(
            "Two rectangles are similar. The smaller is \\( <a> \\mathrm{~cm} \\) by \\( <b> \\mathrm{~cm} \\). The side of the larger that matches \\( <a> \\mathrm{~cm} \\) is \\( <c> \\mathrm{~cm} \\). How long is its other side?",
            "These triangles are similar. Find \\( y \\). ![Two similar triangles. The first has sides <a> cm and <b> cm. In the second the matching sides are <c> cm and y]()",
            "A photo of <a> cm by <b> cm is enlarged so that <a> cm becomes <c> cm. What does the side of <b> cm become?",
        ),
        slips=(
            Slip(ADDITIVE, lambda p: p.b + p.a * p.k - p.a),
            Slip(
                "When finding lengths in similar shapes, shrinks by the factor although the copy is larger",
                lambda p: p.b / Fraction(p.k),
            ),
            Slip(
                "Applies a factor for flat surfaces to a length when finding lengths in similar shapes",
                lambda p: p.b * p.k**2,
            ),
            Slip(
                "When finding lengths in similar shapes, reports how many times larger a copy is and not its size",
                lambda p: p.k,
            ),
            Slip(
                "When finding lengths in similar shapes, doubles to make a larger copy, whatever the factor is",
                lambda p: 2 * p.b if p.k != 2 else None,
            ),
            Slip("Leaves a matching edge as it was when finding lengths in similar shapes", lambda p: p.b),
        ),
    ),
    Template(
        key="area_factor",
        construct="Use area scale factors in similar shapes",
        subject="Similarity: Areas",
        draw=lambda r: {"k": r.randint(2, 6), "n": r.randint(3, 20)},
        answer=lambda p: p.n * p.k**2,
        show=cm2,
        ok=positive,
        wordings=(
            "A shape with an area of \\( <n> \\mathrm{~cm}^{2} \\) is enlarged by scale factor <k>. What is the area of the image?",
            "Two similar logos have lengths in the ratio \\( 1: <k> \\). The smaller covers \\( <n> \\mathrm{~cm}^{2} \\). What does the larger cover?",
            "Every length of a drawing is made <k> times as long. Its area was \\( <n> \\mathrm{~cm}^{2} \\). What is it now?",
        ),
        slips=(
            Slip(
                "Applies a factor for lengths to a flat surface when scaling the area of similar shapes",
                lambda p: p.n * p.k,
            ),
            Slip(
                "Applies a factor for solids to a flat surface when scaling the area of similar shapes",
                lambda p: p.n * p.k**3,
            ),
            Slip(SMALL_FOR_INDEX, lambda p: p.n * p.k * 2),
            Slip(
                "Grows a surface by adding the factor when scaling the area of similar shapes",
                lambda p: p.n + p.k,
            ),
            Slip(
                "When scaling the area of similar shapes, squares the old surface and not the factor",
                lambda p: p.n**2 * p.k,
            ),
            Slip(
                "Grows a surface by adding the square of the factor when scaling the area of similar shapes",
                lambda p: p.n + p.k**2,
            ),
        ),
    ),
)


TEMPLATES = SOLIDS + RIGHT_TRIANGLES
