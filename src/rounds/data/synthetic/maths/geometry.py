"""Perimeter and area."""

# ruff: noqa: E501 - the tables keep one slip a line
from __future__ import annotations

from fractions import Fraction

from .number import SMALL_FOR_INDEX
from .question import Slip, Template, pi, unit

BOUNDARY_FOR_SURFACE = "Walks round the edge when asked what lies inside"
SURFACE_FOR_BOUNDARY = "Fills the inside when asked how far it is round"
NO_HALF = "Forgets that a pointed shape fills half of the box around it"
SLANT = "Uses a leaning length where an upright one is needed"
SEEN_ONLY = "Counts only what is written on the picture"

cm, cm2, cm3 = unit("cm"), unit("cm", 2), unit("cm", 3)


def positive(value) -> bool:
    """A size that can be measured."""
    return value > 0


LENGTH_AND_AREA = (
    Template(
        key="rectangle_perimeter",
        construct="Calculate the perimeter of a rectangle",
        subject="Perimeters",
        draw=lambda r: {"a": r.randint(4, 20), "b": r.randint(3, 15)},
        answer=lambda p: 2 * (p.a + p.b),
        show=cm,
        ok=positive,
        wordings=(
            "A rectangle is \\( <a> \\mathrm{~cm} \\) long and \\( <b> \\mathrm{~cm} \\) wide. What is its perimeter?",
            "What is the perimeter of this shape? ![A rectangle with one long side marked <a> cm and one short side marked <b> cm]()",
            "<name> puts ribbon round the edge of a card that measures <a> cm by <b> cm. How much ribbon is needed?",
        ),
        slips=(
            Slip(SURFACE_FOR_BOUNDARY, lambda p: p.a * p.b),
            Slip(SEEN_ONLY, lambda p: p.a + p.b),
            Slip(
                "Doubles only the first measure on a walk round the edge when finding the perimeter of a rectangle",
                lambda p: 2 * p.a + p.b,
            ),
            Slip(
                "When finding the perimeter of a rectangle, doubles only the second measure on a walk round the edge",
                lambda p: p.a + 2 * p.b,
            ),
            Slip(
                "When finding the perimeter of a rectangle, takes all the edges to be as long as the first",
                lambda p: 4 * p.a,
            ),
            Slip(
                "When finding the perimeter of a rectangle, doubles what is inside to get what is round it",
                lambda p: 2 * p.a * p.b,
            ),
        ),
    ),
    Template(
        key="triangle_area",
        construct="Calculate the area of a triangle with an extra length given",
        subject="Areas of Triangles and Quadrilaterals",
        draw=lambda r: {"b": r.randint(4, 16), "h": 2 * r.randint(2, 8), "e": r.randint(1, 5)},
        answer=lambda p: p.b * p.h // 2,
        show=cm2,
        ok=positive,
        say=lambda p: {"s": str(p.h + p.e)},
        wordings=(
            "A triangle has base \\( <b> \\mathrm{~cm} \\), height \\( <h> \\mathrm{~cm} \\) and a sloping side of \\( <s> \\mathrm{~cm} \\). What is its area?",
            "Find the area. ![A triangle with base <b> cm, a dashed vertical height of <h> cm and a slanted side of <s> cm]()",
            "The base of a triangular sail is <b> cm, its height <h> cm and one more side <s> cm. Work out its area.",
        ),
        slips=(
            Slip(NO_HALF, lambda p: p.b * p.h),
            Slip(SLANT, lambda p: Fraction(p.b * (p.h + p.e), 2)),
            Slip(
                "Uses a leaning length and also skips the halving when measuring a triangle's area",
                lambda p: p.b * (p.h + p.e),
            ),
            Slip(BOUNDARY_FOR_SURFACE, lambda p: p.b + p.h + p.h + p.e),
            Slip("Multiplies every length in sight", lambda p: p.b * p.h * (p.h + p.e)),
            Slip(
                "Halves each length before multiplying when measuring a triangle's area",
                lambda p: Fraction(p.b * p.h, 4),
            ),
            Slip(
                "Adds two lengths and halves the total to fill a shape when measuring a triangle's area",
                lambda p: Fraction(p.b + p.h, 2),
            ),
        ),
    ),
    Template(
        key="parallelogram_area",
        construct="Calculate the area of a parallelogram",
        subject="Areas of Triangles and Quadrilaterals",
        draw=lambda r: {"b": r.randint(5, 18), "h": r.randint(3, 10), "e": r.randint(1, 5)},
        answer=lambda p: p.b * p.h,
        show=cm2,
        ok=positive,
        say=lambda p: {"s": str(p.h + p.e)},
        wordings=(
            "A parallelogram has base \\( <b> \\mathrm{~cm} \\), perpendicular height \\( <h> \\mathrm{~cm} \\) and a sloping side of \\( <s> \\mathrm{~cm} \\). Find its area.",
            "How much surface does this shape cover? ![A parallelogram with base <b> cm, slanted side <s> cm and a dashed perpendicular height of <h> cm]()",
            "How many square centimetres does this tile cover? ![A leaning tile with opposite sides parallel: base <b> cm, side <s> cm, height <h> cm]()",
        ),
        slips=(
            Slip(SLANT, lambda p: p.b * (p.h + p.e)),
            Slip(
                "When measuring a parallelogram's area, halves although the shape does not come to a point",
                lambda p: Fraction(p.b * p.h, 2),
            ),
            Slip(BOUNDARY_FOR_SURFACE, lambda p: 2 * (p.b + p.h + p.e)),
            Slip("Multiplies every length in sight", lambda p: p.b * p.h * (p.h + p.e)),
            Slip(
                "When measuring a parallelogram's area, pairs the upright length with the leaning one",
                lambda p: p.h * (p.h + p.e),
            ),
            Slip(
                "When measuring a parallelogram's area, adds two lengths where they should be multiplied to fill a shape",
                lambda p: p.b + p.h,
            ),
        ),
    ),
    Template(
        key="trapezium_area",
        construct="Calculate the area of a trapezium",
        subject="Areas of Triangles and Quadrilaterals",
        draw=lambda r: {"a": r.randint(3, 9), "d": r.randint(1, 8), "h": 2 * r.randint(2, 7)},
        answer=lambda p: (2 * p.a + p.d) * p.h // 2,
        show=cm2,
        ok=positive,
        say=lambda p: {"b": str(p.a + p.d)},
        wordings=(
            "The parallel sides of a trapezium are \\( <a> \\mathrm{~cm} \\) and \\( <b> \\mathrm{~cm} \\) and its height is \\( <h> \\mathrm{~cm} \\). What is its area?",
            "Find the area of this trapezium. ![A trapezium with parallel sides of <a> cm at the top and <b> cm at the bottom, which are <h> cm apart]()",
            "A garden bed has the shape of a trapezium with parallel sides <a> cm and <b> cm, <h> cm apart, in a scale drawing. What area has the drawing?",
        ),
        slips=(
            Slip(
                "When measuring a trapezium's area, skips the halving when two facing edges are joined",
                lambda p: (2 * p.a + p.d) * p.h,
            ),
            Slip(
                "Lets the longer of two facing edges do the work of both when measuring a trapezium's area",
                lambda p: (p.a + p.d) * p.h,
            ),
            Slip(
                "When measuring a trapezium's area, lets the shorter of two facing edges do the work of both",
                lambda p: p.a * p.h,
            ),
            Slip(
                "Multiplies facing edges together instead of adding them when measuring a trapezium's area",
                lambda p: Fraction(p.a * (p.a + p.d) * p.h, 2),
            ),
            Slip("Multiplies every length in sight", lambda p: p.a * (p.a + p.d) * p.h),
            Slip("Adds every length in sight when measuring a trapezium's area", lambda p: 2 * p.a + p.d + p.h),
            Slip(
                "Halves just the first of two facing edges when measuring a trapezium's area",
                lambda p: (Fraction(p.a, 2) + p.a + p.d) * p.h,
            ),
        ),
    ),
    Template(
        key="compound_area",
        construct="Calculate the area of a compound shape made of two rectangles",
        subject="Areas of Composite Shapes",
        draw=lambda r: {
            "w": r.randint(8, 14),
            "h": r.randint(8, 14),
            "u": r.randint(2, 6),
            "v": r.randint(2, 6),
        },
        answer=lambda p: p.w * p.h - (p.w - p.u) * (p.h - p.v),
        show=cm2,
        ok=positive,
        wordings=(
            "What is the area of this L-shape? ![An L-shape. Its left edge is <h> cm, its bottom edge <w> cm, its top edge <u> cm and its right edge <v> cm. Two edges are unlabelled]()",
            "An L-shaped room is drawn to scale: outer sides <w> cm and <h> cm, both arms end in edges, of <u> cm for the upright arm and <v> cm for the level one. Find its area.",
            "Work out the area. ![Two rectangles joined to form the letter L: height <h> cm, width <w> cm, the upright part is <u> cm wide and the level part is <v> cm high]()",
        ),
        slips=(
            Slip(
                "When finding a compound area, counts the place where two pieces overlap once for each piece",
                lambda p: p.u * p.h + p.w * p.v,
            ),
            Slip(
                "Fills in a missing corner as if it were there when finding a compound area",
                lambda p: p.w * p.h,
            ),
            Slip(
                "When finding a compound area, takes the overlap of two pieces away from both of them",
                lambda p: p.u * p.h + p.w * p.v - 2 * p.u * p.v,
            ),
            Slip(BOUNDARY_FOR_SURFACE, lambda p: 2 * (p.w + p.h)),
            Slip(SEEN_ONLY, lambda p: p.w + p.h + p.u + p.v),
            Slip("Multiplies every length in sight", lambda p: p.w * p.h * p.u * p.v),
            Slip(
                "When finding a compound area, finds the piece that has been cut away",
                lambda p: (p.w - p.u) * (p.h - p.v),
            ),
        ),
    ),
    Template(
        key="compound_perimeter",
        construct="Calculate the perimeter of a compound shape with missing lengths",
        subject="Perimeters",
        draw=lambda r: {
            "w": r.randint(8, 18),
            "h": r.randint(8, 18),
            "u": r.randint(2, 6),
            "v": r.randint(2, 6),
        },
        answer=lambda p: 2 * (p.w + p.h),
        show=cm,
        ok=positive,
        wordings=(
            "What is the perimeter of this L-shape? ![An L-shape. Its left edge is <h> cm, its bottom edge <w> cm, its top edge <u> cm and its right edge <v> cm. Two edges are unlabelled]()",
            "A fence goes all the way round an L-shaped plot. In a drawing the outer sides are <w> cm and <h> cm and the arms are <u> cm and <v> cm wide. How long is the fence in the drawing?",
            "Find the distance round the edge. ![A rectangle of <w> cm by <h> cm from which a smaller rectangle has been cut at one corner, leaving edges of <u> cm and <v> cm beside the cut]()",
        ),
        slips=(
            Slip(SEEN_ONLY, lambda p: p.w + p.h + p.u + p.v),
            Slip(SURFACE_FOR_BOUNDARY, lambda p: p.w * p.h - (p.w - p.u) * (p.h - p.v)),
            Slip(
                "When finding the perimeter of a compound shape, goes round both pieces and includes the seam between them",
                lambda p: 2 * (p.u + p.h) + 2 * (p.w - p.u + p.v),
            ),
            Slip(
                "Finds one hidden edge and overlooks the other when finding the perimeter of a compound shape",
                lambda p: p.w + p.h + p.u + p.v + p.w - p.u,
            ),
            Slip(
                "When finding the perimeter of a compound shape, supposes that hidden edges are as long as the short ones on show",
                lambda p: p.w + p.h + 2 * (p.u + p.v),
            ),
            Slip(
                "Doubles only the pieces on show that are short when finding the perimeter of a compound shape",
                lambda p: 2 * (p.u + p.v),
            ),
        ),
    ),
    Template(
        key="circle_area",
        construct="Calculate the area of a circle in terms of pi given the diameter",
        subject="Area of Circles",
        draw=lambda r: {"r": r.randint(3, 15)},
        answer=lambda p: p.r**2,
        show=lambda v, p: pi(v, p) and pi(v, p)[:-3] + " \\mathrm{~cm}^{2} \\)",
        ok=positive,
        say=lambda p: {"d": str(2 * p.r)},
        wordings=(
            "A circle has a diameter of \\( <d> \\mathrm{~cm} \\). What is its area in terms of \\( \\pi \\)?",
            "What is the exact area? ![A circle with a line through its centre from edge to edge, labelled <d> cm]()",
            "A round table top is <d> cm across. Give its area as a multiple of \\( \\pi \\)",
        ),
        slips=(
            Slip(
                "Puts the full width where half of it belongs when measuring a circle's area",
                lambda p: 4 * p.r**2,
            ),
            Slip(SMALL_FOR_INDEX, lambda p: 2 * p.r),
            Slip(
                "When measuring a circle's area, puts the full width where half of it belongs and then takes a raised digit as a multiplier",
                lambda p: 4 * p.r,
            ),
            Slip("Leaves an exponent out of the working", lambda p: p.r),
            Slip("Halves the square of the full width when measuring a circle's area", lambda p: 2 * p.r**2),
            Slip("Halves a length that is already half", lambda p: Fraction(p.r**2, 4)),
        ),
    ),
    Template(
        key="circumference",
        construct="Calculate the circumference of a circle in terms of pi given the radius",
        subject="Circumference",
        draw=lambda r: {"r": r.randint(3, 25)},
        answer=lambda p: 2 * p.r,
        show=lambda v, p: pi(v, p) and pi(v, p)[:-3] + " \\mathrm{~cm} \\)",
        ok=positive,
        wordings=(
            "A circle has a radius of \\( <r> \\mathrm{~cm} \\). What is its circumference in terms of \\( \\pi \\)?",
            "How far is it round this circle? ![A circle with a line from its centre to the edge, labelled <r> cm]()",
            "The hand of a clock is <r> cm long. How far does its tip travel in one full turn? Leave \\( \\pi \\) in your answer.",
        ),
        slips=(
            Slip(
                "Takes half the width where all of it belongs when finding the circumference of a circle",
                lambda p: p.r,
            ),
            Slip(SURFACE_FOR_BOUNDARY, lambda p: p.r**2),
            Slip(
                "Doubles a length that is already doubled when finding the circumference of a circle",
                lambda p: 4 * p.r,
            ),
            Slip(
                "When finding the circumference of a circle, squares and doubles in one formula",
                lambda p: 2 * p.r**2,
            ),
            Slip("Halves a length that is already half", lambda p: Fraction(p.r, 2)),
        ),
    ),
)


TEMPLATES = LENGTH_AND_AREA
