"""Coordinates, straight-line graphs and transformations."""

# ruff: noqa: E501 - the tables keep one slip a line
from __future__ import annotations

from fractions import Fraction

from .algebra import small
from .number import ADD_FOR_TAKE, SIGN_LOST
from .question import Slip, Template, frac, math, num, pair, terms

ACROSS_AND_UP = "Gives the upright measure before the level one"
LEVEL_OVER_UPRIGHT = "Compares the level change with the upright one in the wrong order"
OTHER_MIRROR = "Uses the other of the two mirrors"


def point(r, high: int = 8) -> tuple[int, int]:
    """A point with non-zero coordinates of different sizes."""
    x = small(r, high)
    return x, small(r, high, (x, -x))


def line(value, p) -> str:
    """`y=mx+c` for a pair (m, c)."""
    return math("y=" + terms(value, ("x", "")))


def vector(value, p) -> str:
    """A column vector."""
    return math(f"\\left(\\begin{{array}}{{c}}{value[0]} \\\\ {value[1]}\\end{{array}}\\right)")


def slope(value, p) -> str:
    """A gradient as a fraction in lowest terms."""
    return math(frac(value))


def two_points(r) -> dict:
    """Two points whose joining line has a whole gradient other than 1 and -1."""
    (x, y), run, gradient = point(r), r.randint(2, 5), small(r, 5, (1, -1))
    return {"x": x, "y": y, "u": x + run, "w": y + run * gradient}


COORDINATES = (
    Template(
        key="read_point",
        construct="Read coordinates in all four quadrants",
        subject="Coordinates in Four Quadrants",
        draw=lambda r: dict(zip("xy", point(r), strict=True)),
        answer=lambda p: (p.x, p.y),
        show=pair,
        say=lambda p: {
            "h": f"{abs(p.x)} squares {'right' if p.x > 0 else 'left'}",
            "k": f"{abs(p.y)} squares {'up' if p.y > 0 else 'down'}",
        },
        wordings=(
            "What are the coordinates of point P? ![A square grid with axes through the origin. P is marked <h> and <k> from the origin]()",
            "Where is the cross? ![Axes with a scale of one unit per square. A cross stands <h> of the centre, then <k>]()",
            "Starting at the origin, <name> goes <h> and then <k>.\nAt which point does this end?",
        ),
        slips=(
            Slip(ACROSS_AND_UP, lambda p: (p.y, p.x)),
            Slip(SIGN_LOST, lambda p: (abs(p.x), abs(p.y))),
            Slip(
                "Mistakes which side of the centre is below nought for the level measure when reading coordinates",
                lambda p: (-p.x, p.y),
            ),
            Slip(
                "When reading coordinates, mistakes which side of the centre is below nought for the upright measure",
                lambda p: (p.x, -p.y),
            ),
            Slip(
                "When reading coordinates, starts a scale with one where the axes cross",
                lambda p: (p.x + 1, p.y + 1),
            ),
        ),
    ),
    Template(
        key="midpoint",
        construct="Find the midpoint of two coordinates",
        subject="Midpoints",
        draw=lambda r: (lambda m, d: {"a": m[0] - d[0], "b": m[1] - d[1], "c": m[0] + d[0], "d": m[1] + d[1]})(
            point(r), point(r, 6)
        ),
        answer=lambda p: (Fraction(p.a + p.c, 2), Fraction(p.b + p.d, 2)),
        show=pair,
        wordings=(
            "What is the midpoint of \\( (<a>, <b>) \\) and \\( (<c>, <d>) \\)?",
            "A is \\( (<a>, <b>) \\) and B is \\( (<c>, <d>) \\). Find the point halfway between A and B.",
            "M lies exactly in the middle of the line from \\( (<a>, <b>) \\) to \\( (<c>, <d>) \\). What are the coordinates of M?",
        ),
        slips=(
            Slip(
                "Halves the distances instead of the totals when finding a midpoint",
                lambda p: (Fraction(p.c - p.a, 2), Fraction(p.d - p.b, 2)),
            ),
            Slip(
                "Forms totals and does not halve them when finding a midpoint",
                lambda p: (p.a + p.c, p.b + p.d),
            ),
            Slip(
                "Forms distances and does not halve them when finding a midpoint",
                lambda p: (p.c - p.a, p.d - p.b),
            ),
            Slip(ACROSS_AND_UP, lambda p: (Fraction(p.b + p.d, 2), Fraction(p.a + p.c, 2))),
            Slip(
                "When finding a midpoint, averages within each place and not between places",
                lambda p: (Fraction(p.a + p.b, 2), Fraction(p.c + p.d, 2)),
            ),
            Slip(
                "When finding a midpoint, halves the far end only",
                lambda p: (Fraction(p.c, 2), Fraction(p.d, 2)),
            ),
        ),
    ),
    Template(
        key="reflect_point",
        construct="Reflect a point in one of the axes",
        subject="Reflections",
        draw=lambda r: dict(zip("xy", point(r), strict=True)),
        answer=lambda p: (p.x, -p.y),
        show=pair,
        wordings=(
            "The point \\( (<x>, <y>) \\) is mirrored in the \\( x \\)-axis. At which point is its image?",
            "Where does \\( (<x>, <y>) \\) go under a reflection in the \\( x \\)-axis?",
            "<name> reflects the corner \\( (<x>, <y>) \\) of a shape in the \\( x \\)-axis. Where does it land?",
        ),
        slips=(
            Slip(OTHER_MIRROR, lambda p: (-p.x, p.y)),
            Slip(
                "Turns half a circle where a flip is described when reflecting in an axis",
                lambda p: (-p.x, -p.y),
            ),
            Slip(
                "Flips over the slanting line through the centre when reflecting in an axis",
                lambda p: (p.y, p.x),
            ),
            Slip("Slides towards the mirror and stops on it when reflecting in an axis", lambda p: (p.x, 0)),
            Slip(
                "Moves a quarter turn where a flip is described when reflecting in an axis",
                lambda p: (-p.y, p.x),
            ),
        ),
    ),
    Template(
        key="translate_point",
        construct="Translate a point by a vector",
        subject="Translations",
        draw=lambda r: dict(zip("xyuw", (*point(r), *point(r)), strict=True)),
        answer=lambda p: (p.x + p.u, p.y + p.w),
        show=pair,
        say=lambda p: {"vector": f"\\left(\\begin{{array}}{{c}}{p.u} \\\\ {p.w}\\end{{array}}\\right)"},
        wordings=(
            "The point \\( (<x>, <y>) \\) is translated by \\( <vector> \\). What are its new coordinates?",
            "Where is \\( (<x>, <y>) \\) moved by the vector\n\\(\n<vector>\n\\)?",
            "<name> slides a shape along \\( <vector> \\). One corner was at \\( (<x>, <y>) \\). Where is it now?",
        ),
        slips=(
            Slip(
                "Applies the level shift upright and the upright shift level",
                lambda p: (p.x + p.w, p.y + p.u),
            ),
            Slip("Moves backwards along a given shift", lambda p: (p.x - p.u, p.y - p.w)),
            Slip("Takes a description of a move for a place when translating by a vector", lambda p: (p.u, p.w)),
            Slip(
                "Scales by the numbers of a shift when translating by a vector",
                lambda p: (p.x * p.u, p.y * p.w),
            ),
            Slip(
                "When translating by a vector, carries out the level part of a shift only",
                lambda p: (p.x + p.u, p.y),
            ),
            Slip(
                "When translating by a vector, carries out the upright part of a shift only",
                lambda p: (p.x, p.y + p.w),
            ),
            Slip(ACROSS_AND_UP, lambda p: (p.y + p.w, p.x + p.u)),
        ),
    ),
    Template(
        key="describe_translation",
        construct="Describe a translation using vector notation",
        subject="Translations",
        draw=lambda r: dict(zip("xyuw", (*point(r), *point(r)), strict=True)),
        answer=lambda p: (p.u, p.w),
        show=vector,
        say=lambda p: {"s": num(p.x + p.u), "t": num(p.y + p.w)},
        wordings=(
            "Which vector maps \\( (<x>, <y>) \\) to \\( (<s>, <t>) \\)?",
            "Shape S is moved to shape T. Which vector describes this? ![Two congruent triangles on a grid. One corner of S is at (<x>, <y>), the same corner of T is at (<s>, <t>)]()",
            "Find the translation that takes A \\( (<x>, <y>) \\) to B \\( (<s>, <t>) \\)",
        ),
        slips=(
            Slip("Moves backwards along a given shift", lambda p: (-p.u, -p.w)),
            Slip("Applies the level shift upright and the upright shift level", lambda p: (p.w, p.u)),
            Slip(
                "Takes the place of arrival for a description of the move when describing a translation",
                lambda p: (p.x + p.u, p.y + p.w),
            ),
            Slip(SIGN_LOST, lambda p: (abs(p.u), abs(p.w))),
            Slip(
                "Joins start and arrival by addition to describe a move when describing a translation",
                lambda p: (2 * p.x + p.u, 2 * p.y + p.w),
            ),
        ),
    ),
)

LINES = (
    Template(
        key="gradient",
        construct="Calculate the gradient between two points",
        subject="Gradient from Two Points",
        draw=two_points,
        answer=lambda p: Fraction(p.w - p.y, p.u - p.x),
        show=slope,
        wordings=(
            "What is the gradient of the line through \\( (<x>, <y>) \\) and \\( (<u>, <w>) \\)?",
            "Find the gradient of this line. ![A straight line on a grid that passes through the points (<x>, <y>) and (<u>, <w>)]()",
            "A \\( (<x>, <y>) \\) and B \\( (<u>, <w>) \\) lie on a straight line.\n\nCalculate its gradient.",
        ),
        slips=(
            Slip(LEVEL_OVER_UPRIGHT, lambda p: Fraction(p.u - p.x, p.w - p.y)),
            Slip(
                "When finding the gradient of a line, gives only how far a line climbs, without how far it runs",
                lambda p: p.w - p.y,
            ),
            Slip(
                "When finding the gradient of a line, gives only how far a line runs, without how far it climbs",
                lambda p: p.u - p.x,
            ),
            Slip(
                "When finding the gradient of a line, takes the two ends in opposite orders above and below",
                lambda p: -Fraction(p.w - p.y, p.u - p.x),
            ),
            Slip(
                "Totals the two ends rather than comparing them when finding the gradient of a line",
                lambda p: Fraction(p.w + p.y, p.u + p.x),
            ),
            Slip(
                "When finding the gradient of a line, forms a product of climb and run",
                lambda p: (p.w - p.y) * (p.u - p.x),
            ),
        ),
    ),
    Template(
        key="line_equation_gradient",
        construct="Identify the gradient from an equation that needs rearranging",
        subject="Reading the Equation of a Line",
        draw=lambda r: {"m": small(r, 9, (1,)), "c": r.randint(1, 9), "k": r.randint(2, 6)},
        answer=lambda p: p.m,
        show=slope,
        say=lambda p: {"e": terms((p.m * p.k, p.c * p.k), ("x", ""))},
        wordings=(
            "What is the gradient of the line \\( <k> y = <e> \\)?",
            "A line has the equation\n\\(\n<k> y = <e>\n\\)\nWhat is its gradient?",
            "How steep is the graph of \\( <k> y = <e> \\)? Choose its gradient.",
        ),
        slips=(
            Slip(
                "When reading the gradient from an equation, reads off the number beside a letter without first isolating the other",
                lambda p: p.m * p.k,
            ),
            Slip(
                "Takes the loose number for the steepness when reading the gradient from an equation",
                lambda p: p.c * p.k,
            ),
            Slip(
                "When reading the gradient from an equation, isolates correctly but then reports where the axis is crossed",
                lambda p: p.c,
            ),
            Slip(
                "When reading the gradient from an equation, divides the wrong way round while isolating",
                lambda p: Fraction(1, p.m),
            ),
            Slip(
                "Isolates by taking away when reading the gradient from an equation",
                lambda p: p.m * p.k - p.k,
            ),
            Slip(
                "When reading the gradient from an equation, changes the sign of the steepness while isolating",
                lambda p: -p.m,
            ),
        ),
    ),
    Template(
        key="y_intercept",
        construct="Find the y intercept of a line from its equation",
        subject="Reading the Equation of a Line",
        draw=lambda r: (lambda m: {"m": m, "c": m * small(r, 4)})(small(r, 6, (1, -1))),
        answer=lambda p: (0, p.c),
        show=pair,
        say=lambda p: {"e": terms((p.m, p.c), ("x", ""))},
        wordings=(
            "Where does the line \\( y = <e> \\) cross the \\( y \\)-axis?",
            "Give the coordinates of the \\( y \\)-intercept of \\( y = <e> \\)",
            "The graph of \\( y = <e> \\) is drawn. At which point does it meet the vertical axis?",
        ),
        slips=(
            Slip(
                "When finding the intercept of a line, confuses which measure is nought on the upright axis",
                lambda p: (p.c, 0),
            ),
            Slip(
                "When finding the intercept of a line, takes the number beside the letter for the crossing",
                lambda p: (0, p.m),
            ),
            Slip(
                "When finding the intercept of a line, sets the wrong letter to nought when looking for a crossing",
                lambda p: (Fraction(-p.c, p.m), 0),
            ),
            Slip(
                "When finding the intercept of a line, uses both numbers of a rule as a place",
                lambda p: (p.m, p.c),
            ),
            Slip(
                "When finding the intercept of a line, turns the sign of a crossing, as if it had been moved over",
                lambda p: (0, -p.c),
            ),
        ),
    ),
    Template(
        key="parallel_line",
        construct="Find the equation of a line parallel to another through a point on the y axis",
        subject="Parallel Lines and Their Equations",
        draw=lambda r: (lambda m: {"m": m, "c": small(r, 9, (m, -m)), "k": small(r, 9, (m, -m))})(small(r, 6, (1, -1))),
        answer=lambda p: (p.m, p.k),
        show=line,
        say=lambda p: {"e": terms((p.m, p.c), ("x", ""))},
        wordings=(
            "Which line is parallel to \\( y = <e> \\) and passes through \\( (0, <k>) \\)?",
            "A line through \\( (0, <k>) \\) never meets \\( y = <e> \\). What is its equation?",
            "Find the equation of the line parallel to \\( y = <e> \\) with \\( y \\)-intercept <k>.",
        ),
        slips=(
            Slip(
                "Demands an opposite steepness for lines that never meet when finding a parallel line",
                lambda p: (-p.m, p.k),
            ),
            Slip(
                "Demands a steepness turned over and negated for lines that never meet when finding a parallel line",
                lambda p: (Fraction(-1, p.m), p.k),
            ),
            Slip(
                "Keeps the crossing and replaces the steepness when finding a parallel line",
                lambda p: (p.k, p.c),
            ),
            Slip(
                "When finding a parallel line, exchanges the places of steepness and crossing",
                lambda p: (p.k, p.m),
            ),
            Slip(
                "When finding a parallel line, shifts by a crossing on top of the old one",
                lambda p: (p.m, p.c + p.k),
            ),
            Slip(
                "Demands a steepness turned over for lines that never meet when finding a parallel line",
                lambda p: (Fraction(1, p.m), p.k),
            ),
        ),
    ),
    Template(
        key="perpendicular_gradient",
        construct="Find the gradient of a perpendicular line",
        subject="Lines at Right Angles",
        draw=lambda r: (lambda a, b: {"a": a, "b": b})(small(r, 9), r.choice((2, 3, 4, 5, 7))),
        answer=lambda p: Fraction(-p.b, p.a),
        show=slope,
        say=lambda p: {"m": frac(Fraction(p.a, p.b))},
        wordings=(
            "A line has gradient \\( <m> \\). What is the gradient of a line at right angles to it?",
            "Lines L and M are perpendicular. L has gradient \\( <m> \\). Find the gradient of M.",
            "What is the gradient of any line perpendicular to \\( y = <m> x + 2 \\)?",
        ),
        slips=(
            Slip(
                "Negates a steepness without turning it over when finding a perpendicular gradient",
                lambda p: Fraction(-p.a, p.b),
            ),
            Slip(
                "When finding a perpendicular gradient, turns a steepness over without negating it",
                lambda p: Fraction(p.b, p.a),
            ),
            Slip(
                "Believes that square corners leave a steepness as it is when finding a perpendicular gradient",
                lambda p: Fraction(p.a, p.b),
            ),
            Slip(
                "When finding a perpendicular gradient, subtracts a steepness from one to turn a corner",
                lambda p: 1 - Fraction(p.a, p.b),
            ),
        ),
    ),
    Template(
        key="axis_parallel_line",
        construct="Recognise the equations of horizontal and vertical lines",
        subject="Lines Parallel to the Axes",
        draw=lambda r: dict(zip("xy", point(r), strict=True)),
        answer=lambda p: ("x", p.x),
        show=lambda v, p: math(f"{v[0]}={v[1]}"),
        near=lambda p, r: (r.choice("xy"), p.x + r.choice((-2, -1, 1, 2))),
        wordings=(
            "What is the equation of the vertical line through \\( (<x>, <y>) \\)?",
            "Which equation belongs to this line? ![A graph with a line parallel to the y-axis that goes through the point (<x>, <y>)]()",
            "A line is parallel to the \\( y \\)-axis and contains \\( (<x>, <y>) \\). What is its equation?",
        ),
        slips=(
            Slip(
                "Names a line after the axis that it runs beside when naming horizontal and vertical lines",
                lambda p: ("y", p.x),
            ),
            Slip(
                "Confuses upright lines with level ones when naming horizontal and vertical lines",
                lambda p: ("y", p.y),
            ),
            Slip(
                "Reads the right letter but the number of the other direction when naming horizontal and vertical lines",
                lambda p: ("x", p.y),
            ),
            Slip(
                "When naming horizontal and vertical lines, writes both measures of a point into one rule",
                lambda p: ("y", f"{p.x} x"),
            ),
            Slip(
                "Writes a rule that links the letters whenever a point is given when naming horizontal and vertical lines",
                lambda p: ("y", terms((1, p.y - p.x), ("x", ""))),
            ),
            Slip(
                "Flips the sign of the measure that fixes a line when naming horizontal and vertical lines",
                lambda p: ("x", -p.x),
            ),
        ),
    ),
    Template(
        key="table_of_values",
        construct="Given a negative x value, find the corresponding y value for a quadratic curve",
        subject="Tables of Values for Quadratics",
        draw=lambda r: {"x": r.randint(2, 9), "b": r.randint(2, 9), "c": r.randint(1, 12)},
        answer=lambda p: p.x**2 - p.b * p.x + p.c,
        wordings=(
            "\\( y = x^{2} + <b> x + <c> \\)\n\\begin{tabular}{|c|c|}\n\\hline \\( x \\) & \\( -<x> \\) \\\\\n\\hline \\( y \\) & \\( \\bigstar \\) \\\\\n\\hline\n\\end{tabular}\nWhich number is hidden by the star?",
            "The curve \\( y = x^{2} + <b> x + <c> \\) is plotted. What is \\( y \\) when \\( x = -<x> \\)?",
            "Which value of \\( y \\) belongs to \\( x = -<x> \\) in a table for \\( y = x^{2} + <b> x + <c> \\)?",
        ),
        slips=(
            Slip(
                "Lets a stroke survive being multiplied by itself when completing a table of values for a curve",
                lambda p: -(p.x**2) - p.b * p.x + p.c,
            ),
            Slip(
                "When completing a table of values for a curve, loses a stroke in the middle step only",
                lambda p: p.x**2 + p.b * p.x + p.c,
            ),
            Slip("Takes a raised digit as something to multiply by", lambda p: -2 * p.x - p.b * p.x + p.c),
            Slip(
                "Skips the middle part of a rule when completing a table of values for a curve",
                lambda p: p.x**2 + p.c,
            ),
            Slip(
                "Adds where a letter stands beside its multiplier when completing a table of values for a curve",
                lambda p: p.x**2 + p.b - p.x + p.c,
            ),
            Slip(ADD_FOR_TAKE, lambda p: p.x**2 - p.b * p.x - p.c),
        ),
    ),
)

TEMPLATES = COORDINATES + LINES
