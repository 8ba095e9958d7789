"""Units of length, area, mass and time."""

# ruff: noqa: E501 - the tables keep one slip a line
from __future__ import annotations

from fractions import Fraction

from .number import COUNTS_START
from .question import Slip, Template, family, math, plain, unit

GROWS = "Expects a larger kind of unit to need a larger number of them"


def positive(value) -> bool:
    """A quantity that can be measured."""
    return value > 0


def clock(value, p) -> str | None:
    """Minutes after midnight as a 24-hour time."""
    return math(f"{value // 60:02d}: {value % 60:02d}") if 0 <= value < 1440 else None


def lasting(value, p) -> str | None:
    """Minutes as hours and minutes; more than 59 loose minutes are kept in a pair (hours, minutes)."""
    return math(f"{value[0]}") + " h " + math(f"{value[1]}") + " min" if min(value) >= 0 else None


def span(r) -> dict:
    """A start and an end on the same day, the end's minutes being fewer."""
    h, m = r.randint(6, 14), r.randint(25, 55)
    return {"h": h, "m": m, "g": h + r.randint(2, 6), "n": r.randint(1, m - 3)}


LENGTHS = (
    Template(
        key="millimetres_to_metres",
        construct="Convert from millimetres to metres",
        subject="Units of Length",
        draw=lambda r: {"n": 10 * r.randint(12, 980) + 5},
        answer=lambda p: Fraction(p.n, 1000),
        show=unit("m"),
        wordings=(
            "What is \\( <n> \\mathrm{~mm} \\) in metres?",
            "Convert <n> millimetres to metres.",
            "A beam is \\( <n> \\mathrm{~mm} \\) long.\n\nWrite this length in m.",
        ),
        slips=(
            *family(
                "When converting millimetres to metres, packs <k> of the tiniest length into the large one",
                (("a hundred", 100), ("ten", 10), ("ten thousand", 10000), ("sixty", 60)),
                lambda p, k: Fraction(p.n, k),
            ),
            Slip(GROWS, lambda p: p.n * 1000),
            Slip("Changes the name of the unit and leaves the number", lambda p: p.n),
        ),
    ),
    Template(
        key="kilometres_to_metres",
        construct="Convert from kilometres to metres",
        subject="Units of Length",
        draw=lambda r: {"n": Fraction(r.randint(11, 990), 100)},
        answer=lambda p: p.n * 1000,
        show=unit("m"),
        wordings=(
            "How many metres are \\( <n> \\mathrm{~km} \\)?",
            "<name> runs \\( <n> \\mathrm{~km} \\). How far is this in metres?",
            "Write \\( <n> \\) kilometres in metres.",
        ),
        slips=(
            *family(
                "Packs <k> ordinary strides' worth of length into the travelling one when converting kilometres to metres",
                (("a hundred", 100), ("ten", 10), ("ten thousand", 10000)),
                lambda p, k: p.n * k,
            ),
            Slip(GROWS, lambda p: p.n / 1000),
            Slip("Changes the name of the unit and leaves the number", lambda p: p.n),
        ),
    ),
    Template(
        key="grams_to_kilograms",
        construct="Convert from grams to kilograms",
        subject="Units of Mass",
        draw=lambda r: {"n": 10 * r.randint(12, 980)},
        answer=lambda p: Fraction(p.n, 1000),
        show=unit("kg"),
        wordings=(
            "What is \\( <n> \\mathrm{~g} \\) in kilograms?",
            "A dog weighs \\( <n> \\mathrm{~g} \\). Write this in kg.",
            "Change <n> grams into kilograms.",
        ),
        slips=(
            *family(
                "When converting grams to kilograms, packs <k> of the light measure into the heavy one",
                (("a hundred", 100), ("ten", 10), ("ten thousand", 10000)),
                lambda p, k: Fraction(p.n, k),
            ),
            Slip(GROWS, lambda p: p.n * 1000),
            Slip("Changes the name of the unit and leaves the number", lambda p: p.n),
        ),
    ),
    Template(
        key="area_units",
        construct="Convert from square metres to square centimetres",
        subject="Units of Area",
        draw=lambda r: {"n": Fraction(r.randint(2, 95), r.choice((1, 10)))},
        answer=lambda p: p.n * 10000,
        show=unit("cm", 2),
        wordings=(
            "How many square centimetres are \\( <n> \\mathrm{~m}^{2} \\)?",
            "A carpet covers \\( <n> \\mathrm{~m}^{2} \\). What is this in \\( \\mathrm{cm}^{2} \\)?",
            "Convert \\( <n> \\mathrm{~m}^{2} \\) to \\( \\mathrm{cm}^{2} \\)",
        ),
        slips=(
            Slip(
                "Carries the factor for lengths over to flat surfaces when converting square units",
                lambda p: p.n * 100,
            ),
            Slip(
                "When converting square units, carries the factor for solids over to flat surfaces",
                lambda p: p.n * 10**6,
            ),
            Slip(
                "Doubles the factor for lengths because two directions are involved when converting square units",
                lambda p: p.n * 200,
            ),
            Slip(
                "Squares the quantity itself on changing a unit of surface when converting square units",
                lambda p: (p.n * 100) ** 2,
            ),
            Slip(GROWS, lambda p: p.n / 10000),
            Slip(
                "Believes that a thousand tiny squares fill a large one when converting square units",
                lambda p: p.n * 1000,
            ),
        ),
    ),
    Template(
        key="volume_units",
        construct="Convert from cubic centimetres to litres",
        subject="Units of Capacity",
        draw=lambda r: {"n": 50 * r.randint(3, 199)},
        answer=lambda p: Fraction(p.n, 1000),
        show=lambda v, p: (t := plain(v, p)) and t[:-3] + " \\) litres",
        wordings=(
            "A tank holds \\( <n> \\mathrm{~cm}^{3} \\) of water. How many litres is that?",
            "Write \\( <n> \\mathrm{~cm}^{3} \\) in litres.",
            "How many litres fill a box with a volume of \\( <n> \\mathrm{~cm}^{3} \\)?",
        ),
        slips=(
            *family(
                "Pours <k> tiny cubes into a bottle of one measure when converting to litres",
                (("a hundred", 100), ("ten", 10), ("a million", 10**6), ("ten thousand", 10**4)),
                lambda p, k: Fraction(p.n, k),
            ),
            Slip("Changes the name of the unit and leaves the number", lambda p: p.n),
            Slip(GROWS, lambda p: p.n * 1000),
        ),
    ),
)

TIME = (
    Template(
        key="hours_to_minutes",
        construct="Convert a decimal number of hours to minutes",
        subject="Calculating with Time",
        draw=lambda r: {"h": r.randint(1, 9), "t": r.choice((1, 2, 3, 4, 6, 7, 8, 9))},
        answer=lambda p: 60 * p.h + 6 * p.t,
        show=unit("min"),
        wordings=(
            "How many minutes are \\( <h>.<t> \\) hours?",
            "A film lasts \\( <h>.<t> \\) hours. How long is this in minutes?",
            "Convert \\( <h>.<t> \\) hours to minutes.",
        ),
        slips=(
            *family(
                "Counts <k> of the shorter duration in the longer one",
                (100, 10, 24, 30, 50),
                lambda p, k: Fraction(k * (10 * p.h + p.t), 10),
            ),
            Slip(
                "Takes the digit behind a point for small units as it stands when converting hours to minutes",
                lambda p: 60 * p.h + p.t,
            ),
            Slip(
                "Takes the digit behind a point for tens of small units when converting hours to minutes",
                lambda p: 60 * p.h + 10 * p.t,
            ),
            Slip(
                "When converting hours to minutes, takes the digit behind a point for a number of quarters",
                lambda p: 60 * p.h + 15 * p.t,
            ),
            Slip("Converts the whole part and loses the rest", lambda p: 60 * p.h),
        ),
    ),
    Template(
        key="minutes_to_hours",
        construct="Convert minutes to a decimal number of hours",
        subject="Calculating with Time",
        draw=lambda r: {"n": r.choice([k for k in range(66, 600, 3) if k % 60])},
        answer=lambda p: Fraction(p.n, 60),
        show=lambda v, p: (t := plain(v, p)) and t + " hours",
        wordings=(
            "Write <n> minutes as a decimal number of hours.",
            "A journey takes <n> minutes. How many hours is this?",
            "How many hours are <n> minutes?",
        ),
        slips=(
            *family(
                "Counts <k> of the shorter duration in the longer one",
                (100, 10, 24, 30, 50),
                lambda p, k: Fraction(p.n, k),
            ),
            Slip(
                "Writes left-over small units straight behind the point when converting minutes to hours",
                lambda p: Fraction(f"{p.n // 60}.{p.n % 60:02d}"),
            ),
            Slip("Converts the whole part and loses the rest", lambda p: p.n // 60),
            Slip(GROWS, lambda p: p.n * 60),
        ),
    ),
    Template(
        key="duration",
        construct="Calculate the time between two times that cross the hour",
        subject="Calculating with Time",
        draw=span,
        answer=lambda p: divmod(60 * (p.g - p.h) + p.n - p.m, 60),
        show=lasting,
        say=lambda p: {"s": f"{p.h:02d}: {p.m:02d}", "e": f"{p.g:02d}: {p.n:02d}"},
        wordings=(
            "A train leaves at \\( <s> \\) and arrives at \\( <e> \\). How long is the journey?",
            "How much time passes from \\( <s> \\) to \\( <e> \\)?",
            "<name> starts work at \\( <s> \\) and stops at \\( <e> \\).\nFor how long does <name> work?",
        ),
        slips=(
            *family(
                "Counts <k> of the shorter duration in the longer one",
                (100, 50, 30),
                lambda p, k: (p.g - p.h - 1, k + p.n - p.m),
            ),
            Slip(
                "When finding how long a journey takes, finds the gaps between hands separately, larger minus smaller",
                lambda p: (p.g - p.h, p.m - p.n),
            ),
            Slip(
                "Corrects the small units without giving up a large one when finding how long a journey takes",
                lambda p: (p.g - p.h, 60 + p.n - p.m),
            ),
            Slip(
                "When finding how long a journey takes, gives up one large unit too many",
                lambda p: (p.g - p.h - 2, 60 + p.n - p.m),
            ),
            Slip(
                "Counts the hours between and appends the closing reading when finding how long a journey takes",
                lambda p: (p.g - p.h, p.n),
            ),
        ),
    ),
    Template(
        key="finish_time",
        construct="Find a finishing time after a number of minutes",
        subject="Calculating with Time",
        draw=lambda r: {"h": r.randint(6, 18), "m": r.randint(21, 55), "d": r.randint(41, 95)},
        answer=lambda p: 60 * p.h + p.m + p.d,
        show=clock,
        say=lambda p: {"s": f"{p.h:02d}: {p.m:02d}"},
        wordings=(
            "A lesson begins at \\( <s> \\) and lasts <d> minutes. When does it end?",
            "A cake goes into the oven at \\( <s> \\). It bakes for <d> minutes. At what time is it ready?",
            "It is now \\( <s> \\). What time will it be in <d> minutes?",
        ),
        slips=(
            *family(
                "Counts <k> of the shorter duration in the longer one",
                (100, 50, 30),
                lambda p, k: 60 * (p.h + (p.m + p.d) // k) + (p.m + p.d) % k if (p.m + p.d) % k < 60 else None,
            ),
            Slip(
                "When finding a finishing time, winds the hands back though time goes on",
                lambda p: 60 * p.h + p.m - p.d,
            ),
            Slip(
                "When finding a finishing time, moves the small hand on a clock by nothing when the large one passes the top",
                lambda p: 60 * p.h + (p.m + p.d) % 60,
            ),
            Slip(
                "Rolls a clock over one time too many when finding a finishing time",
                lambda p: 60 * (p.h + 1) + p.m + p.d,
            ),
            Slip(COUNTS_START, lambda p: 60 * p.h + p.m + p.d - 1),
        ),
    ),
)

TEMPLATES = LENGTHS + TIME
