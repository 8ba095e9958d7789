"""Ratio, proportion, speed and scale."""

# ruff: noqa: E501 - the tables keep one slip a line
from __future__ import annotations

from fractions import Fraction
from math import gcd

from .fractions import PART_TO_REST, UNIT_ONLY, UPSIDE_DOWN
from .question import Slip, Template, family, fraction, money, over, ratio, unit

ADDITIVE = "Keeps differences equal where multiples should stay equal"
TIMES_FOR_DIVIDE = "Scales up where sharing out is called for"
OTHER_PERSON = "Answers for the other party"


def coprime(r, low: int = 2, high: int = 9) -> tuple[int, int]:
    """Two different numbers that share no factor."""
    while True:
        a, b = r.randint(low, high), r.randint(low, high)
        if a != b and gcd(a, b) == 1:
            return a, b


def least(a: int, b: int) -> tuple[int, int]:
    """A ratio in lowest terms."""
    return Fraction(a, b).as_integer_ratio()


RATIO = (
    Template(
        key="share_in_ratio",
        construct="Divide a quantity into a given ratio",
        subject="Dividing into a Given Ratio",
        draw=lambda r: dict(zip("ab", coprime(r), strict=True), k=r.randint(3, 15)),
        answer=lambda p: p.a * p.k,
        show=money,
        ok=lambda v: v > 0,
        say=lambda p: {"n": str((p.a + p.b) * p.k)},
        wordings=(
            "<name> and <name2> share £ <n> in the ratio \\( <a>: <b> \\). How much does <name> get?",
            "£ <n> is divided between <name> and <name2> in the ratio \\( <a>: <b> \\). What is <name>'s share?",
            "A prize of £ <n> is split so that the first winner and the second winner get amounts in the ratio \\( <a>: <b> \\). What does the first winner receive?",
        ),
        slips=(
            Slip(
                "When sharing in a ratio, divides everything by one side of a comparison and not by both sides together",
                lambda p: Fraction((p.a + p.b) * p.k, p.a),
            ),
            Slip(UNIT_ONLY, lambda p: p.k),
            Slip(OTHER_PERSON, lambda p: p.b * p.k),
            Slip(
                "When sharing in a ratio, splits evenly, whatever comparison is stated",
                lambda p: Fraction((p.a + p.b) * p.k, 2),
            ),
            Slip(
                "When sharing in a ratio, reads a comparison of two sides as a part of the whole",
                lambda p: Fraction((p.a + p.b) * p.k * p.a, p.b),
            ),
            Slip(
                "When sharing in a ratio, scales everything by one side of a comparison without sharing first",
                lambda p: (p.a + p.b) * p.k * p.a,
            ),
            Slip(
                "Gives how much apart the two sides end up when sharing in a ratio",
                lambda p: abs(p.a - p.b) * p.k if abs(p.a - p.b) > 1 else None,
            ),
        ),
    ),
    Template(
        key="ratio_given_one_part",
        construct="Given one part of a ratio, find the other part",
        subject="Dividing into a Given Ratio",
        draw=lambda r: dict(zip("ab", coprime(r), strict=True), k=r.randint(3, 12)),
        answer=lambda p: p.b * p.k,
        ok=lambda v: v > 0,
        say=lambda p: {"n": str(p.a * p.k)},
        wordings=(
            "Red and blue beads are in the ratio \\( <a>: <b> \\). There are <n> red beads. How many are blue?",
            "The ratio of cats to dogs in a shelter is \\( <a>: <b> \\). The shelter has <n> cats. How many dogs has it?",
            "Sand and cement are mixed in the ratio \\( <a>: <b> \\). How many buckets of cement go with <n> buckets of sand?",
        ),
        slips=(
            Slip(
                "Treats the amount of one kind as the amount of all kinds when one amount in a ratio is known",
                lambda p: Fraction(p.a * p.k * p.b, p.a + p.b),
            ),
            Slip(ADDITIVE, lambda p: p.a * p.k + p.b - p.a),
            Slip(UNIT_ONLY, lambda p: p.k),
            Slip(
                "When one amount in a ratio is known, offers the amount of all kinds when one kind is wanted",
                lambda p: (p.a + p.b) * p.k,
            ),
            Slip(
                "Uses the two sides of a comparison the other way round when one amount in a ratio is known",
                lambda p: Fraction(p.a * p.k * p.a, p.b),
            ),
            Slip(
                "Scales a known amount by the facing number without sharing first when one amount in a ratio is known",
                lambda p: p.a * p.k * p.b,
            ),
        ),
    ),
    Template(
        key="ratio_to_fraction",
        construct="Express one part of a ratio as a fraction of the whole",
        subject="Ratio Notation",
        draw=lambda r: dict(zip("ab", coprime(r, 1, 12), strict=True)),
        answer=lambda p: over(p.a, p.a + p.b),
        show=fraction,
        wordings=(
            "The ratio of boys to girls in a club is \\( <a>: <b> \\). What fraction of the club are boys?",
            "Squash and water are mixed in the ratio \\( <a>: <b> \\). What fraction of the drink is squash?",
            "In a car park the ratio of vans to cars is \\( <a>: <b> \\) and there is nothing else. What fraction of the vehicles are vans?",
        ),
        slips=(
            Slip(PART_TO_REST, lambda p: over(p.a, p.b)),
            Slip(OTHER_PERSON, lambda p: over(p.b, p.a + p.b)),
            Slip("Compares what is left over with the part", lambda p: over(p.b, p.a)),
            Slip(UPSIDE_DOWN, lambda p: over(p.a + p.b, p.a)),
            Slip(
                "When turning a ratio into a fraction, lets both sides together be the whole but counts only one item as the part",
                lambda p: over(1, p.a + p.b) if p.a > 1 else None,
            ),
            Slip(
                "Places both sides of a comparison in one product below the line when turning a ratio into a fraction",
                lambda p: over(p.a, p.a * p.b),
            ),
        ),
    ),
    Template(
        key="simplify_ratio",
        construct="Simplify a ratio with different units",
        subject="Ratio Notation",
        draw=lambda r: dict(
            zip(
                "ab",
                r.choice(
                    (
                        (1, 4),
                        (3, 4),
                        (1, 5),
                        (2, 5),
                        (3, 5),
                        (3, 10),
                        (7, 10),
                        (3, 20),
                        (7, 20),
                        (9, 20),
                        (11, 20),
                        (8, 25),
                        (12, 25),
                    )
                ),
                strict=True,
            ),
            k=r.randint(1, 3),
        ),
        answer=lambda p: least(p.a, p.b * p.k),
        show=ratio,
        ok=lambda v: min(v) > 0,
        say=lambda p: {"x": str(100 * p.a // p.b)},
        wordings=(
            "Write \\( <x> \\mathrm{~cm}: <k> \\mathrm{~m} \\) as a ratio in its simplest form.",
            "Simplify the ratio <x> pence to £ <k>",
            "A model is <x> cm long and the real object <k> m. What is the ratio of the lengths, in its simplest form?",
        ),
        slips=(
            Slip(
                "Compares numbers without looking at what they measure when simplifying a ratio with units",
                lambda p: least(100 * p.a // p.b, p.k),
            ),
            Slip(
                "States the two sides in the reverse order when simplifying a ratio with units",
                lambda p: least(p.b * p.k, p.a),
            ),
            *family(
                "When simplifying a ratio with units, brings the larger kind of measure down by a factor of <k>",
                (("ten", 10), ("a thousand", 1000)),
                lambda p, k: least(100 * p.a // p.b, p.k * k),
            ),
            Slip(
                "Compares one side with both sides together when simplifying a ratio with units",
                lambda p: least(p.a, p.a + p.b * p.k),
            ),
            Slip(
                "Halves both sides once and calls that finished when simplifying a ratio with units",
                lambda p: (50 * p.a // p.b, 50 * p.k) if p.b in (5, 10, 25) else None,
            ),
        ),
    ),
)

PROPORTION = (
    Template(
        key="recipe",
        construct="Solve direct proportion problems by scaling a recipe",
        subject="Proportional Quantities",
        draw=lambda r: dict(zip("ab", coprime(r, 3, 12), strict=True), k=10 * r.randint(2, 12)),
        answer=lambda p: p.b * p.k,
        show=unit("g"),
        ok=lambda v: v > 0,
        say=lambda p: {"n": str(p.a * p.k)},
        wordings=(
            "A recipe for <a> people uses \\( <n> \\mathrm{~g} \\) of flour. How much flour is needed for <b> people?",
            "<a> identical bolts weigh \\( <n> \\mathrm{~g} \\). What do <b> of them weigh?",
            "\\begin{tabular}{|c|c|}\n\\hline Servings & Rice \\\\\n\\hline <a> & <n> g \\\\\n\\hline <b> & \\( \\bigstar \\) \\\\\n\\hline\n\\end{tabular}\nWhich number is hidden by the star?",
        ),
        slips=(
            Slip(UNIT_ONLY, lambda p: p.k),
            Slip(ADDITIVE, lambda p: p.a * p.k + p.b - p.a),
            Slip("Multiplies the whole given amount by the new count", lambda p: p.a * p.k * p.b),
            Slip(
                "Uses the two counts the other way round when scaling",
                lambda p: Fraction(p.a * p.a * p.k, p.b),
            ),
            Slip(
                "When scaling a recipe, doubles or halves, whatever the true scaling is",
                lambda p: 2 * p.a * p.k if p.b > p.a else Fraction(p.a * p.k, 2),
            ),
            Slip(
                "When scaling a recipe, adds one single share for any change of count",
                lambda p: p.a * p.k + p.k if p.b > p.a + 1 else None,
            ),
        ),
    ),
    Template(
        key="inverse_proportion",
        construct="Solve inverse proportion problems in context",
        subject="Inversely Proportional Quantities",
        draw=lambda r: (lambda a, b, k: {"a": a * k, "b": b * k, "n": b * r.randint(1, 4)})(
            *coprime(r, 1, 6), r.randint(1, 3)
        ),
        answer=lambda p: Fraction(p.a * p.n, p.b),
        ok=lambda v: v > 0,
        wordings=(
            "<a> painters need <n> days to paint a hall. How many days do <b> painters need at the same rate?",
            "Food lasts <a> horses for <n> days. For how many days does it last <b> horses?",
            "With <a> pumps a pool empties in <n> hours. How many hours does it take with <b> pumps of the same kind?",
        ),
        slips=(
            Slip(
                "When solving inverse proportion problems, expects one quantity to grow with another although it must fall",
                lambda p: Fraction(p.b * p.n, p.a),
            ),
            Slip(
                "When solving inverse proportion problems, offsets a gain on one side by an equal loss on the other",
                lambda p: p.n + p.a - p.b,
            ),
            Slip(ADDITIVE, lambda p: p.n + p.b - p.a),
            Slip(
                "Gives the whole job in units of effort when solving inverse proportion problems",
                lambda p: p.a * p.n,
            ),
            Slip(
                "When solving inverse proportion problems, assumes that a duration is fixed, whoever takes part",
                lambda p: p.n,
            ),
            Slip(
                "When solving inverse proportion problems, shares the first duration among the new workers",
                lambda p: Fraction(p.n, p.b),
            ),
        ),
    ),
    Template(
        key="exchange_rate",
        construct="Convert from foreign currency to pounds using an exchange rate",
        subject="Exchange Rates",
        draw=lambda r: {
            "e": Fraction(r.choice((105, 110, 115, 120, 125, 130, 140, 150, 160)), 100),
            "n": 20 * r.randint(2, 30),
        },
        answer=lambda p: p.n,
        show=money,
        ok=lambda v: v > 0,
        say=lambda p: {"f": decimal_text(p.n * p.e)},
        wordings=(
            "£ 1 is worth \\( <e> \\) euros. How many pounds are <f> euros worth?",
            "The rate is £ 1 = \\$ <e>. <name> changes \\$ <f> into pounds. How much is that?",
            "A book costs <f> francs. With £ 1 = <e> francs, what is the price in pounds?",
        ),
        slips=(
            Slip(TIMES_FOR_DIVIDE, lambda p: p.n * p.e * p.e),
            Slip(
                "Takes a rate off once instead of dividing by it when converting currency",
                lambda p: p.n * p.e - p.e,
            ),
            Slip(
                "When converting currency, puts a rate on top once, as if it were a fee",
                lambda p: p.n * p.e + p.e,
            ),
            Slip("Assumes that one unit here is one unit there when converting currency", lambda p: p.n * p.e),
            Slip(
                "When converting currency, reads the part behind the point of a rate as a percentage to take off",
                lambda p: p.n * p.e * (2 - p.e),
            ),
        ),
    ),
    Template(
        key="map_scale",
        construct="Use a map scale to convert a map distance to a real distance",
        subject="Scale Drawings and Maps",
        draw=lambda r: {"s": r.choice((10, 20, 25, 40, 50)) * 1000, "n": r.choice((4, 6, 8, 12, 14, 16, 18))},
        answer=lambda p: Fraction(p.s * p.n, 100000),
        show=unit("km"),
        ok=lambda v: v > 0,
        wordings=(
            "A map has the scale \\( 1: <s> \\). Two villages are \\( <n> \\mathrm{~cm} \\) apart on it. How far apart are they really, in km?",
            "On a map drawn to \\( 1: <s> \\) a river is \\( <n> \\mathrm{~cm} \\) long. What is its real length in kilometres?",
            "The scale of a plan is \\( 1: <s> \\). Which real distance does a line of \\( <n> \\mathrm{~cm} \\) stand for?",
        ),
        slips=(
            *family(
                "Takes one of the large units to hold <k> of the small ones when using a map scale",
                (("a thousand", 1000), ("ten thousand", 10000), ("a million", 10**6), ("a hundred", 100)),
                lambda p, k: Fraction(p.s * p.n, k),
            ),
            Slip(
                "When using a map scale, answers for a single step on the plan",
                lambda p: Fraction(p.s, 100000),
            ),
            Slip(
                "Divides by the length that was measured when using a map scale",
                lambda p: Fraction(p.s, 100000 * p.n),
            ),
        ),
    ),
    Template(
        key="speed",
        construct="Calculate speed when the time is given in hours and minutes",
        subject="Speed and Distance",
        draw=lambda r: {
            "h": r.randint(1, 4),
            "m": r.choice((12, 15, 24, 30, 36, 45, 48)),
            "v": 5 * r.randint(4, 18),
        },
        answer=lambda p: p.v,
        show=unit("km/h"),
        ok=lambda v: v > 0,
        say=lambda p: {"d": decimal_text(p.v * (p.h + Fraction(p.m, 60)))},
        wordings=(
            "A coach travels \\( <d> \\mathrm{~km} \\) in <h> hours <m> minutes. What is its average speed?",
            "<name> cycles and drives \\( <d> \\mathrm{~km} \\) in \\( <h> \\mathrm{~h} \\) \\( <m> \\mathrm{~min} \\). Find the average speed in km/h.",
            "A boat covers <d> km. It takes <h> hours and <m> minutes.\nWhat is the average speed of the boat?",
        ),
        slips=(
            Slip(
                "Writes minutes straight behind the point when calculating average speed",
                lambda p: p.v * (p.h + Fraction(p.m, 60)) / (p.h + Fraction(p.m, 100)),
            ),
            Slip(
                "Forms a product of how far and how long when calculating average speed",
                lambda p: p.v * (p.h + Fraction(p.m, 60)) ** 2,
            ),
            Slip(
                "When calculating average speed, leaves the minutes out",
                lambda p: p.v * (p.h + Fraction(p.m, 60)) / p.h,
            ),
            Slip(
                "Rounds a part of an hour up to a whole one when calculating average speed",
                lambda p: p.v * (p.h + Fraction(p.m, 60)) / (p.h + 1),
            ),
            Slip(
                "Divides by a time in minutes but names the rate per hour when calculating average speed",
                lambda p: p.v * (p.h + Fraction(p.m, 60)) / (60 * p.h + p.m),
            ),
            Slip(
                "Divides the duration by the distance when calculating average speed",
                lambda p: 1 / Fraction(p.v),
            ),
            Slip(
                "Adds hours and minutes as if they were alike when calculating average speed",
                lambda p: p.v * (p.h + Fraction(p.m, 60)) / (p.h + p.m),
            ),
        ),
    ),
    Template(
        key="distance",
        construct="Calculate distance from speed and a time in minutes",
        subject="Speed and Distance",
        draw=lambda r: {
            "v": 20 * r.randint(1, 6),
            "m": r.choice((6, 12, 15, 18, 24, 30, 36, 45, 48, 54, 75, 90)),
        },
        answer=lambda p: Fraction(p.v * p.m, 60),
        show=unit("km"),
        ok=lambda v: v > 0,
        wordings=(
            "How far does a car go in <m> minutes at \\( <v> \\mathrm{~km/h} \\)?",
            "A train moves at a constant \\( <v> \\mathrm{~km/h} \\). What distance does it cover in <m> minutes?",
            "<name> drives for <m> minutes at a steady speed of <v> km per hour. Find the distance.",
        ),
        slips=(
            Slip(
                "When calculating distance from speed, uses a rate per hour with a number of minutes as they stand",
                lambda p: p.v * p.m,
            ),
            *family(
                "Turns minutes into hours through dividing by <k> when calculating distance from speed",
                (("a hundred", 100), ("ten", 10)),
                lambda p, k: Fraction(p.v * p.m, k),
            ),
            Slip(
                "Divides a rate by a duration when calculating distance from speed",
                lambda p: Fraction(p.v, p.m),
            ),
            Slip(
                "Divides a rate by a duration in hours when calculating distance from speed",
                lambda p: Fraction(p.v * 60, p.m),
            ),
            Slip(
                "When calculating distance from speed, takes the rate for the distance, however long it lasts",
                lambda p: p.v,
            ),
        ),
    ),
    Template(
        key="unit_price",
        construct="Solve direct proportion problems by finding the cost of one item",
        subject="Proportional Quantities",
        draw=lambda r: {
            "a": r.randint(3, 9),
            "b": r.randint(2, 14),
            "c": Fraction(5 * r.randint(3, 30), 100),
        },
        answer=lambda p: p.b * p.c,
        show=money,
        ok=lambda v: v > 0,
        say=lambda p: {"t": f"{float(p.a * p.c):.2f}"},
        wordings=(
            "<a> pens cost £ <t> altogether. What do <b> of the same pens cost?",
            "<name> pays £ <t> for <a> identical cards. How much would <b> cards cost?",
            "If <a> kg of apples cost £ <t>, what is the cost of <b> kg?",
        ),
        slips=(
            Slip(UNIT_ONLY, lambda p: p.c),
            Slip("Multiplies the whole given amount by the new count", lambda p: p.a * p.c * p.b),
            Slip(
                "When working out the cost of several items, adds the extra items' number to the price",
                lambda p: p.a * p.c + p.b - p.a,
            ),
            Slip("Uses the two counts the other way round when scaling", lambda p: p.a * p.c * p.a / p.b),
            Slip(
                "Prices the new items on top of the first ones when working out the cost of several items",
                lambda p: (p.a + p.b) * p.c,
            ),
            Slip(
                "Divides the given price by the new count when working out the cost of several items",
                lambda p: p.a * p.c / p.b,
            ),
        ),
    ),
)


def decimal_text(value: Fraction) -> str:
    """A decimal, or a mixed form where there is none within two places."""
    return f"{float(value):.2f}".rstrip("0").rstrip(".")


TEMPLATES = RATIO + PROPORTION
