"""Angles in shapes, on lines and between parallel lines."""

# ruff: noqa: E501 - the tables keep one slip a line
from __future__ import annotations

from fractions import Fraction

from .geometry import positive
from .question import Slip, Template, degrees, family

TOTALS = (
    "Believes that the corners of a three-sided shape make <k> degrees",
    "Believes that <k> degrees lie along one side of a straight edge",
)


ANGLES = (
    Template(
        key="triangle_angle",
        construct="Find a missing angle in a triangle",
        subject="Triangle Angles",
        draw=lambda r: {"a": r.randint(31, 84), "b": r.randint(22, 79)},
        answer=lambda p: 180 - p.a - p.b,
        show=degrees,
        ok=positive,
        wordings=(
            "Two angles of a triangle are \\( <a>^{\\circ} \\) and \\( <b>^{\\circ} \\). What is the third angle?",
            "What is the size of angle \\( x \\)? ![A triangle with its three angles labelled <a> degrees, <b> degrees and x]()",
            "In triangle ABC angle A is \\( <a>^{\\circ} \\) and angle B is \\( <b>^{\\circ} \\).\n\nFind angle C.",
        ),
        slips=(
            *family(TOTALS[0], (360, 200, 100, 90, 270), lambda p, k: k - p.a - p.b),
            Slip("Adds what is known and regards that as the unknown", lambda p: p.a + p.b),
            Slip("Takes only the first known size from the total", lambda p: 180 - p.a),
            Slip("Takes only the second known size from the total", lambda p: 180 - p.b),
            Slip(
                "Supposes that two corners must be alike without being told when finding an angle in a triangle",
                lambda p: p.b,
            ),
        ),
    ),
    Template(
        key="isosceles_base",
        construct="Find a base angle of an isosceles triangle from the angle at the top",
        subject="Triangle Angles",
        draw=lambda r: {"a": 2 * r.choice([k for k in range(11, 80) if k not in (30, 45, 60)])},
        answer=lambda p: (180 - p.a) // 2,
        show=degrees,
        ok=positive,
        wordings=(
            "An isosceles triangle has an angle of \\( <a>^{\\circ} \\) between its two equal sides. What is each of the other angles?",
            "What is the value of \\( y \\)? ![An isosceles triangle standing on its base. The angle at the top is <a> degrees, one base angle is labelled y. Two sides carry marks that show they are equal]()",
            "PQ and PR have the same length and angle QPR is \\( <a>^{\\circ} \\). Find angle PQR.",
        ),
        slips=(
            Slip(
                "Takes the wrong pair of corners to be alike when finding an angle in an isosceles triangle",
                lambda p: p.a,
            ),
            Slip(
                "When finding an angle in an isosceles triangle, shares nothing out after subtracting from the total",
                lambda p: 180 - p.a,
            ),
            Slip(
                "When finding an angle in an isosceles triangle, doubles what is known and subtracts that",
                lambda p: 180 - 2 * p.a,
            ),
            Slip(
                "Shares the whole total and then subtracts when finding an angle in an isosceles triangle",
                lambda p: abs(90 - p.a),
            ),
            Slip("When finding an angle in an isosceles triangle, halves the known corner", lambda p: p.a // 2),
            *family(
                "When finding an angle in an isosceles triangle, believes that the corners of a three-sided shape make <k> degrees",
                (360, 200),
                lambda p, k: Fraction(k - p.a, 2),
            ),
            Slip(
                "Makes every corner of a shape equal as soon as two are when finding an angle in an isosceles triangle",
                lambda p: 60,
            ),
        ),
    ),
    Template(
        key="straight_line",
        construct="Find missing angles on a straight line",
        subject="Angles at a Point and on a Line",
        draw=lambda r: {"a": r.randint(21, 89), "b": r.randint(21, 69)},
        answer=lambda p: 180 - p.a - p.b,
        show=degrees,
        ok=positive,
        wordings=(
            "Three angles on a straight line are \\( <a>^{\\circ} \\), \\( <b>^{\\circ} \\) and \\( x \\). What is \\( x \\)?",
            "Find \\( x \\). ![A straight line with two rays leaving the same point of it. The three angles above the line are <a> degrees, <b> degrees and x]()",
            "Angles of \\( <a>^{\\circ} \\), \\( <b>^{\\circ} \\) and \\( x \\) fit together to make a straight line. How big is \\( x \\)?",
        ),
        slips=(
            *family(TOTALS[1], (360, 200, 100, 90, 270), lambda p, k: k - p.a - p.b),
            Slip("Adds what is known and regards that as the unknown", lambda p: p.a + p.b),
            Slip("Takes only the first known size from the total", lambda p: 180 - p.a),
            Slip("Takes only the second known size from the total", lambda p: 180 - p.b),
            Slip(
                "Makes an unknown equal to its neighbour because they share an arm when finding an angle on a straight line",
                lambda p: p.b,
            ),
        ),
    ),
    Template(
        key="around_point",
        construct="Find missing angles around a point",
        subject="Angles at a Point and on a Line",
        draw=lambda r: {"a": r.randint(61, 139), "b": r.randint(61, 129), "c": r.randint(20, 59)},
        answer=lambda p: 360 - p.a - p.b - p.c,
        show=degrees,
        ok=positive,
        wordings=(
            "Four angles meet at a point. Three are \\( <a>^{\\circ} \\), \\( <b>^{\\circ} \\) and \\( <c>^{\\circ} \\). What is the fourth?",
            "What is \\( w \\)? ![Four rays from one point make angles of <a> degrees, <b> degrees, <c> degrees and w all the way round]()",
            "Angles of \\( <a>^{\\circ} \\), \\( <b>^{\\circ} \\), \\( <c>^{\\circ} \\) and \\( w \\) make a full turn. Find \\( w \\).",
        ),
        slips=(
            *family(
                "When finding an angle around a point, believes that going all the way round makes <k> degrees",
                (180, 400, 300, 450),
                lambda p, k: abs(k - p.a - p.b - p.c),
            ),
            Slip("Adds what is known and regards that as the unknown", lambda p: p.a + p.b + p.c),
            Slip(
                "When finding an angle around a point, makes an unknown equal to the one that faces it, though no straight lines cross",
                lambda p: p.b,
            ),
            Slip(
                "Shares what is missing among all the parts when finding an angle around a point",
                lambda p: Fraction(360 - p.a - p.b - p.c, 4),
            ),
            Slip("Expects equal parts all the way round when finding an angle around a point", lambda p: 90),
        ),
    ),
    Template(
        key="polygon_sum",
        construct="Find the sum of the interior angles of a polygon",
        subject="Polygon Angles",
        draw=lambda r: {"n": r.randint(5, 20)},
        answer=lambda p: 180 * (p.n - 2),
        show=degrees,
        wordings=(
            "What is the sum of the interior angles of a polygon with <n> sides?",
            "The angles inside a <n>-sided shape are added. What is the total?",
            "<name> splits a polygon with <n> sides into triangles from one corner. What do all the interior angles add up to?",
        ),
        slips=(
            *family(
                "Takes the three-sided pieces of a shape to be <k> when finding the interior angle sum of a polygon",
                (
                    ("as many as it has sides", 0),
                    ("one fewer than its sides", 1),
                    ("three fewer than its sides", 3),
                ),
                lambda p, k: 180 * (p.n - k),
            ),
            Slip(
                "Gives every shape one full turn inside when finding the interior angle sum of a polygon",
                lambda p: 360,
            ),
            Slip(
                "When finding the interior angle sum of a polygon, uses a full turn for each piece when cutting up a shape",
                lambda p: 360 * (p.n - 2),
            ),
            Slip(
                "When finding the interior angle sum of a polygon, finds a single corner and not the total",
                lambda p: Fraction(180 * (p.n - 2), p.n),
            ),
            Slip(
                "When finding the interior angle sum of a polygon, gives every corner a right angle",
                lambda p: 90 * p.n,
            ),
            Slip(
                "Takes the same number of sides from the degrees when finding the interior angle sum of a polygon",
                lambda p: 180 * p.n - 2,
            ),
        ),
    ),
    Template(
        key="exterior_angle",
        construct="Find the number of sides of a regular polygon from its exterior angle",
        subject="Polygon Angles",
        draw=lambda r: {"n": r.choice((5, 6, 8, 9, 10, 12, 15, 18, 20, 24, 30, 36, 40))},
        answer=lambda p: p.n,
        say=lambda p: {"e": str(360 // p.n)},
        wordings=(
            "Each exterior angle of a regular polygon is \\( <e>^{\\circ} \\). How many sides has it?",
            "A regular polygon has exterior angles of \\( <e>^{\\circ} \\). Find the number of its sides.",
            "At every corner of its walk round a regular shape a robot turns through \\( <e>^{\\circ} \\). How many sides has the shape?",
        ),
        slips=(
            Slip(
                "Shares half a turn among the corners outside a shape when using exterior angles of a polygon",
                lambda p: Fraction(180, 360 // p.n),
            ),
            Slip(
                "Takes the turn at a corner for the number of edges when using exterior angles of a polygon",
                lambda p: 360 // p.n,
            ),
            Slip(
                "When using exterior angles of a polygon, finds what the turn leaves inside and counts that",
                lambda p: 180 - 360 // p.n,
            ),
            Slip(
                "When using exterior angles of a polygon, removes two after sharing a full turn",
                lambda p: p.n - 2,
            ),
            Slip(
                "When using exterior angles of a polygon, adds two after sharing a full turn",
                lambda p: p.n + 2,
            ),
            Slip(
                "Takes a turn from a full circle when using exterior angles of a polygon",
                lambda p: 360 - 360 // p.n,
            ),
        ),
    ),
    Template(
        key="cointerior",
        construct="Find missing angles using co-interior angles in parallel lines",
        subject="Angles and Parallel Lines",
        draw=lambda r: {"a": r.choice([k for k in range(37, 85) if k != 60])},
        answer=lambda p: 180 - p.a,
        show=degrees,
        ok=positive,
        wordings=(
            "Two parallel lines are cut by a third. One of a pair of co-interior angles is \\( <a>^{\\circ} \\). What is the other?",
            "What is angle \\( k \\)? ![Two parallel lines and a line across them. Between the parallel lines, on the same side of the line across, are the angles <a> degrees and k]()",
            "Angles \\( <a>^{\\circ} \\) and \\( k \\) lie inside two parallel lines on the same side of a transversal. Find \\( k \\).",
        ),
        slips=(
            Slip(
                "Makes two sizes equal because the lines never meet when finding angles in parallel lines",
                lambda p: p.a,
            ),
            *family(
                "Lets a pair on the same side of a crossing line make <k> degrees when finding angles in parallel lines",
                (360, 90, 200, 270),
                lambda p, k: k - p.a,
            ),
            Slip(
                "When finding angles in parallel lines, doubles a known size when lines run side by side",
                lambda p: 2 * p.a,
            ),
        ),
    ),
    Template(
        key="alternate_algebra",
        construct="Form and solve an equation from alternate angles in parallel lines",
        subject="Angles and Parallel Lines",
        draw=lambda r: {"a": r.randint(2, 5), "b": r.randint(3, 20), "x": r.randint(12, 25)},
        answer=lambda p: p.x,
        say=lambda p: {"s": str(p.a * p.x + p.b)},
        wordings=(
            "A pair of alternate angles in parallel lines measure \\( <a> x + <b> \\) and <s> degrees. What is \\( x \\)?",
            "Find \\( x \\). ![Two parallel lines and a line across them that form a Z. The two angles in the Z are labelled <a>x + <b> and <s> degrees]()",
            "Alternate angles are \\( (<a> x + <b>)^{\\circ} \\) and \\( <s>^{\\circ} \\).\nWork out the value of \\( x \\).",
        ),
        ok=positive,
        slips=(
            Slip(
                "Lets facing corners of a zigzag make half a turn together when using alternate angles",
                lambda p: Fraction(180 - p.a * p.x - 2 * p.b, p.a),
            ),
            Slip(
                "When using alternate angles, lets facing corners of a zigzag make a square corner together",
                lambda p: Fraction(90 - p.a * p.x - 2 * p.b, p.a),
            ),
            Slip(
                "Moves a loose number across without changing what it does",
                lambda p: Fraction(p.a * p.x + 2 * p.b, p.a),
            ),
            Slip("Clears the loose number and then believes the work is over", lambda p: p.a * p.x),
            Slip("Removes a multiplier by taking it away", lambda p: p.a * p.x - p.a),
            Slip(
                "When using alternate angles, reports the corner itself and not the letter",
                lambda p: p.a * p.x + p.b,
            ),
        ),
    ),
)


TEMPLATES = ANGLES
