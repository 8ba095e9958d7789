"""Rounding, estimating, place value, powers and roots."""

# ruff: noqa: E501 - the tables keep one slip a line
from __future__ import annotations

from fractions import Fraction

from .number import ALWAYS_UP, CUTS_OFF, SMALL_FOR_INDEX
from .question import PrintedValue, Slip, Template, decimal, family, math


def rounded(value: Fraction, step: Fraction) -> Fraction:
    """To the nearest multiple of step, halves up."""
    return (value / step + Fraction(1, 2)).__floor__() * step


def padded(value: Fraction, dp: int) -> PrintedValue:
    """A decimal with exactly dp places, trailing zeros kept."""
    text = decimal(value)
    whole, _, part = text.partition(".")
    return PrintedValue(value, math(f"{whole}.{part.ljust(dp, '0')}" if dp else whole))


ROUNDING = (
    Template(
        key="round_integer",
        construct="Round a four-digit integer to the nearest hundred",
        subject="Rounding Whole Numbers",
        draw=lambda r: {"n": 1000 * r.randint(2, 9) + 100 * r.randint(1, 8) + 10 * r.randint(1, 9) + r.randint(1, 9)},
        answer=lambda p: int(rounded(Fraction(p.n), Fraction(100))),
        wordings=(
            "What is <n> rounded to the nearest hundred?",
            "<n> people visit a museum. Give this number to the nearest \\( 100 \\)",
            "Round \\( <n> \\) to the nearest \\( 100 \\)",
        ),
        slips=(
            Slip(CUTS_OFF, lambda p: p.n // 100 * 100 if p.n % 100 >= 50 else None),
            Slip(ALWAYS_UP, lambda p: p.n // 100 * 100 + 100 if p.n % 100 < 50 else None),
            Slip(
                "When rounding a whole number, keeps the neighbours on the right after adjusting a digit",
                lambda p: p.n + 100 if p.n % 100 >= 50 else None,
            ),
            Slip(
                "Does not fill the emptied places with noughts when rounding a whole number",
                lambda p: int(rounded(Fraction(p.n), Fraction(100))) // 100,
            ),
            *family(
                "When rounding a whole number, settles on <k> as the place to adjust, whichever was named",
                (("tens", 10), ("thousands", 1000)),
                lambda p, k: int(rounded(Fraction(p.n), Fraction(k))),
            ),
            Slip(
                "When rounding a whole number, goes down by one when the next digit is small",
                lambda p: p.n // 100 * 100 - 100 if p.n % 100 < 50 else None,
            ),
        ),
    ),
    Template(
        key="round_decimal",
        construct="Round a decimal with four places to two places",
        subject="Decimal Places",
        draw=lambda r: {
            "n": Fraction(
                r.randint(11, 98) * 10000
                + r.randint(1, 9) * 1000
                + r.randint(1, 8) * 100
                + r.randint(1, 9) * 10
                + r.randint(1, 9),
                10000,
            )
        },
        answer=lambda p: padded(rounded(p.n, Fraction(1, 100)), 2),
        wordings=(
            "What is \\( <n> \\) to \\( 2 \\) decimal places?",
            "A calculator shows <n>. Write this correct to two decimal places.",
            "Round \\( <n> \\) to \\( 2 \\) d.p.",
        ),
        slips=(
            Slip(
                CUTS_OFF,
                lambda p: padded(Fraction(int(p.n * 100), 100), 2) if p.n * 100 % 1 >= Fraction(1, 2) else None,
            ),
            Slip(
                ALWAYS_UP,
                lambda p: padded(Fraction(int(p.n * 100) + 1, 100), 2) if p.n * 100 % 1 < Fraction(1, 2) else None,
            ),
            Slip(
                "Counts the required figures from the front of the number when rounding to decimal places",
                lambda p: rounded(p.n, Fraction(1)),
            ),
            *family(
                "When rounding to decimal places, keeps <k> after the point, whichever number was asked for",
                (("one digit", 1), ("three digits", 3)),
                lambda p, k: padded(rounded(p.n, Fraction(1, 10**k)), k),
            ),
            Slip(
                "Changes both neighbours of the cut at once when rounding to decimal places",
                lambda p: padded(rounded(p.n, Fraction(1, 100)) + Fraction(1, 10), 2),
            ),
        ),
    ),
    Template(
        key="significant_figures",
        construct="Round decimals less than one to two significant figures",
        subject="Significant Figures",
        draw=lambda r: {
            "n": Fraction(
                r.choice((1, 2, 3, 4, 5, 6, 7, 8)) * 1000 + r.randint(11, 98) * 10 + r.randint(1, 9),
                10 ** r.choice((6,)),
            )
        },
        answer=lambda p: rounded(p.n, Fraction(1, 10**4)),
        show=lambda v, p: math(decimal(v)) if decimal(v) and v else None,
        wordings=(
            "Round \\( <n> \\) to \\( 2 \\) significant figures.",
            "What is <n> correct to two significant figures?",
            "The mass of an insect is \\( <n> \\mathrm{~kg} \\). Which option gives this to \\( 2 \\) s.f.?",
        ),
        slips=(
            Slip(
                "Treats the noughts that lead a small number as figures that count when rounding to significant figures",
                lambda p: (
                    PrintedValue(rounded(p.n, Fraction(1, 100)), math("0.01"))
                    if rounded(p.n, Fraction(1, 100))
                    else PrintedValue(Fraction(0), math("0.00"))
                ),
            ),
            Slip(
                CUTS_OFF,
                lambda p: Fraction(int(p.n * 10**4), 10**4) if p.n * 10**4 % 1 >= Fraction(1, 2) else None,
            ),
            Slip(
                ALWAYS_UP,
                lambda p: Fraction(int(p.n * 10**4) + 1, 10**4) if p.n * 10**4 % 1 < Fraction(1, 2) else None,
            ),
            Slip(
                "When rounding to significant figures, discards the noughts that hold the leading figures in place",
                lambda p: rounded(p.n, Fraction(1, 10**4)) * 100,
            ),
            Slip(
                "Gives the leading figures as a whole number when rounding to significant figures",
                lambda p: rounded(p.n, Fraction(1, 10**4)) * 10**4,
            ),
            Slip(
                "When rounding to significant figures, begins the count after the first figure that is not nought",
                lambda p: rounded(p.n, Fraction(1, 10**5)),
            ),
        ),
    ),
    Template(
        key="estimate_product",
        construct="Estimate a calculation by rounding each number to one significant figure",
        subject="Estimating Calculations",
        draw=lambda r: {
            "a": 100 * r.randint(2, 8) + r.randint(55, 95),
            "b": 10 * r.randint(2, 8) + r.randint(1, 4),
        },
        answer=lambda p: int(rounded(Fraction(p.a), Fraction(100)) * rounded(Fraction(p.b), Fraction(10))),
        wordings=(
            "Use rounding to one significant figure to estimate \\( <a> \\times <b> \\)",
            "<name> wants a quick estimate of \\( <a> \\times <b> \\) and rounds both numbers to \\( 1 \\) significant figure. What is the estimate?",
            "Which is the best estimate of \\( <a> \\times <b> \\), using one significant figure?",
        ),
        slips=(
            Slip(
                "When estimating by rounding, does the precise calculation when only a rough one is wanted",
                lambda p: p.a * p.b,
            ),
            Slip(CUTS_OFF, lambda p: p.a // 100 * 100 * (p.b // 10 * 10)),
            Slip(ALWAYS_UP, lambda p: (p.a // 100 + 1) * 100 * (p.b // 10 + 1) * 10),
            Slip(
                "Multiplies the leading digits and forgets the noughts behind them when estimating by rounding",
                lambda p: (p.a // 100 + 1) * (p.b // 10),
            ),
            Slip(
                "When estimating by rounding, brings back one nought too few after working with leading digits",
                lambda p: (p.a // 100 + 1) * (p.b // 10) * 100,
            ),
            Slip(
                "When estimating by rounding, brings back one nought too many after working with leading digits",
                lambda p: (p.a // 100 + 1) * (p.b // 10) * 10000,
            ),
            Slip(
                "When estimating by rounding, makes just one of the quantities easier and keeps the other",
                lambda p: (p.a // 100 + 1) * 100 * p.b,
            ),
        ),
    ),
    Template(
        key="place_value",
        construct="Identify the value of a digit in a large integer",
        subject="Digits and Place Value",
        draw=lambda r: dict(zip("abcde", r.sample(range(1, 10), 5), strict=True)),
        answer=lambda p: p.b * 1000,
        say=lambda p: {"n": f"{p.a}{p.b}{p.c}{p.d}{p.e}"},
        wordings=(
            "What is the value of the digit \\( <b> \\) in \\( <n> \\)?",
            "In the number <n>, what does the <b> stand for?",
            "Look at the number\n\\( <n> \\)\nHow much is the figure \\( <b> \\) worth?",
        ),
        slips=(
            Slip(
                "When giving the value of a digit, says what a symbol is on its own, not what it is worth where it stands",
                lambda p: p.b,
            ),
            *family(
                "When giving the value of a digit, names places so that each one comes out <k>",
                (
                    ("ten times too large", 10000),
                    ("ten times too small", 100),
                    ("a hundredth of what it is", 10),
                ),
                lambda p, k: p.b * k,
            ),
            Slip(
                "When giving the value of a digit, multiplies a symbol by the number of its place, counted from the left",
                lambda p: p.b * 2,
            ),
            Slip(
                "Includes everything that stands after a symbol in its worth when giving the value of a digit",
                lambda p: p.b * 1000 + p.c * 100 + p.d * 10 + p.e,
            ),
            Slip(
                "When giving the value of a digit, includes everything that stands before a symbol in its worth",
                lambda p: p.a * 10000 + p.b * 1000,
            ),
        ),
    ),
)


POWERS = (
    Template(
        key="evaluate_power",
        construct="Calculate a positive integer power of an integer",
        subject="Squares, Cubes and Other Powers",
        draw=lambda r: {"a": r.randint(3, 9), "b": r.randint(3, 5)},
        answer=lambda p: p.a**p.b,
        wordings=(
            "Work out the power \\( <a>^{<b>} \\) without a calculator.",
            "Evaluate\n\\(\n<a>^{<b>}\n\\)",
            "Which of these is equal to \\( <a>^{<b>} \\)?",
        ),
        slips=(
            Slip(SMALL_FOR_INDEX, lambda p: p.a * p.b),
            Slip(
                "Exchanges the roles of the large digit and the small one above it when working out a power",
                lambda p: p.b**p.a,
            ),
            Slip(
                "When working out a power, counts the multiplication signs and not the copies",
                lambda p: p.a ** (p.b + 1),
            ),
            Slip("When working out a power, stops one copy short", lambda p: p.a ** (p.b - 1)),
            Slip(
                "Takes a raised digit as something to combine by adding when working out a power",
                lambda p: p.a + p.b,
            ),
            Slip(
                "Takes a raised digit as a number of noughts to attach when working out a power",
                lambda p: p.a * 10**p.b,
            ),
        ),
    ),
    Template(
        key="square_root",
        construct="Calculate the square root of a perfect square",
        subject="Roots",
        draw=lambda r: {"k": 2 * r.randint(2, 15)},
        answer=lambda p: p.k,
        say=lambda p: {"n": str(p.k**2)},
        wordings=(
            "What is \\( \\sqrt{<n>} \\)?",
            "Which positive number is the square root of <n>?",
            "Work out\n\\(\n\\sqrt{<n>}\n\\)",
        ),
        slips=(
            *family(
                "When finding a square root, undoes multiplying by itself through splitting into <k> equal parts",
                (("two", 2), ("four", 4)),
                lambda p, k: p.k**2 // k,
            ),
            Slip(
                "When finding a square root, performs the forward operation although the reverse is asked for",
                lambda p: p.k**4,
            ),
            Slip("When finding a square root, doubles although a reverse is asked for", lambda p: 2 * p.k**2),
            Slip(
                "When finding a square root, gives half of the reverse, having split a second time",
                lambda p: p.k // 2,
            ),
        ),
    ),
    Template(
        key="power_of_ten",
        construct="Write numbers greater than ten in standard form",
        subject="Standard Index Form",
        draw=lambda r: {"a": r.randint(1, 9), "b": r.randint(1, 9), "e": r.randint(4, 8)},
        answer=lambda p: (Fraction(10 * p.a + p.b, 10), p.e),
        show=lambda v, p: math(f"{decimal(v[0])} \\times 10^{{{v[1]}}}"),
        say=lambda p: {"n": f"{(10 * p.a + p.b) * 10 ** (p.e - 1)}"},
        wordings=(
            "Write \\( <n> \\) in standard form.",
            "What is <n> in the form \\( A \\times 10^{n} \\) with \\( 1 \\leq A<10 \\)?",
            "A planet is <n> km away. Which option shows this distance in standard form?",
        ),
        slips=(
            Slip(
                "When writing standard form, takes the exponent to be how many noughts are written",
                lambda p: (Fraction(10 * p.a + p.b, 10), p.e - 1),
            ),
            Slip(
                "Takes the exponent to be how many symbols are written when writing standard form",
                lambda p: (Fraction(10 * p.a + p.b, 10), p.e + 1),
            ),
            Slip(
                "When writing standard form, lets the leading part be a two-digit whole number",
                lambda p: (Fraction(10 * p.a + p.b), p.e - 1),
            ),
            Slip(
                "Lets the leading part fall below one when writing standard form",
                lambda p: (Fraction(10 * p.a + p.b, 100), p.e + 1),
            ),
            Slip(
                "When writing standard form, marks a large quantity with a minus on the exponent",
                lambda p: (Fraction(10 * p.a + p.b, 10), -p.e),
            ),
        ),
    ),
)


TEMPLATES = ROUNDING + POWERS
