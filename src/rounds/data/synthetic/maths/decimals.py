"""Decimals and percentages."""

# ruff: noqa: E501 - the tables keep one slip a line
from __future__ import annotations

from fractions import Fraction

from .fractions import PART_TO_REST, REMAINS, UPSIDE_DOWN, one
from .number import ADD_FOR_TAKE, ADD_FOR_TIMES, COUNTS_START
from .question import Slip, Template, decimal, family, math, money, percent

WRONG_WAY = "Pushes digits past the point to the wrong side"
NUMBER_OF_HUNDRED = "Treats a rate out of a hundred as a plain amount of whatever is being measured"
CHANGE_ONLY = "Gives the amount of the change and not what results from it"


def hundredths(r, low: int, high: int) -> Fraction:
    """A number with two decimal places, the last not zero."""
    return Fraction(10 * r.randint(low, high) + r.randint(1, 9), 100)


def pieces(x: Fraction) -> tuple[str, str]:
    """The digits before and after the point."""
    whole, _, part = decimal(x).partition(".")
    return whole, part


def apart(a: Fraction, b: Fraction) -> Fraction:
    """Wholes together and the digits after the point together, as two separate numbers."""
    (w, f), (v, g) = pieces(a), pieces(b)
    return Fraction(f"{int(w) + int(v)}.{int(f) + int(g)}")


DECIMALS = (
    Template(
        key="add_decimals",
        construct="Add decimals with different numbers of decimal places",
        subject="Sums and Differences of Decimals",
        draw=lambda r: {
            "a": Fraction(10 * r.randint(1, 9) + r.randint(2, 9), 10),
            "b": hundredths(r, 11, 95),
        },
        answer=lambda p: p.a + p.b,
        wordings=(
            "What is \\( <a> + <b> \\)?",
            "Work out\n\\(\n<a> + <b>\n\\)",
            "A parcel weighs \\( <a> \\mathrm{~kg} \\) and another weighs \\( <b> \\mathrm{~kg} \\). What is their total mass in kilograms?",
        ),
        slips=(
            Slip("Lines numbers up by their final digits", lambda p: p.a / 10 + p.b),
            Slip(
                "When adding decimals, handles what is before and after the point as two unrelated numbers",
                lambda p: apart(p.a, p.b),
            ),
            Slip("Works without any point and never puts it back", lambda p: p.a * 10 + p.b * 100),
            Slip("When adding decimals, forms a product although a total is wanted", lambda p: p.a * p.b),
            Slip(
                "When adding decimals, lets an overflow disappear when it reaches the point",
                lambda p: p.a + p.b - 1 if p.a % 1 + p.b % 1 >= 1 else None,
            ),
        ),
    ),
    Template(
        key="subtract_decimals",
        construct="Subtract a decimal with two decimal places from one with fewer",
        subject="Sums and Differences of Decimals",
        draw=lambda r: {
            "a": Fraction(10 * r.randint(6, 9) + r.randint(1, 9), 10),
            "b": hundredths(r, 11, 55),
        },
        answer=lambda p: p.a - p.b,
        wordings=(
            "Work out \\( <a> - <b> \\)",
            "What is the difference between \\( <a> \\) and \\( <b> \\)?",
            "<name> cuts \\( <b> \\mathrm{~m} \\) off a rope of \\( <a> \\mathrm{~m} \\). What length remains, in metres?",
        ),
        slips=(
            Slip(
                "When subtracting decimals, copies down a final digit that has nothing above it",
                lambda p: p.a - Fraction(int(p.b * 10), 10) + (p.b * 10 % 1) / 10,
            ),
            Slip("Lines numbers up by their final digits", lambda p: abs(p.a / 10 - p.b)),
            Slip(ADD_FOR_TAKE, lambda p: p.a + p.b),
            Slip("Works without any point and never puts it back", lambda p: abs(p.a * 10 - p.b * 100)),
            Slip(COUNTS_START, lambda p: p.a - p.b + Fraction(1, 100)),
        ),
    ),
    Template(
        key="multiply_decimals",
        construct="Multiply two decimals less than one",
        subject="Products and Quotients of Decimals",
        draw=lambda r: {
            "a": Fraction(r.randint(2, 9), 10),
            "b": Fraction(r.randint(2, 9), 10 ** r.randint(1, 2)),
        },
        answer=lambda p: p.a * p.b,
        wordings=(
            "\\( <a> \\times <b> = \\)",
            "Work out \\( <a> \\times <b> \\)",
            "A tile measures \\( <a> \\mathrm{~m} \\) by \\( <b> \\mathrm{~m} \\). How many square metres does it cover?",
        ),
        slips=(
            *family(
                "When multiplying decimals, places the point <k>",
                (("one step too far right", 10), ("two steps too far right", 100)),
                lambda p, k: p.a * p.b * k,
            ),
            Slip(
                "Counts one more step behind the point than both factors have together when multiplying decimals",
                lambda p: p.a * p.b / 10,
            ),
            Slip(ADD_FOR_TIMES, lambda p: p.a + p.b),
            Slip(
                "Expects any product to exceed its factors and so drops the point when multiplying decimals",
                lambda p: p.a * p.b * 1000,
            ),
        ),
    ),
    Template(
        key="divide_by_decimal",
        construct="Divide an integer by a decimal less than one",
        subject="Products and Quotients of Decimals",
        draw=lambda r: (lambda q, b: {"q": q * 10, "b": Fraction(b, 10)})(r.randint(2, 15), r.randint(2, 9)),
        answer=lambda p: p.q,
        say=lambda p: {"n": decimal(p.q * p.b)},
        wordings=(
            "Calculate \\( <n> \\div <b> \\)",
            "How many pieces of \\( <b> \\mathrm{~m} \\) can be cut from <n> metres of wire?",
            "\\(\n\\frac{<n>}{<b>} = ?\n\\)",
        ),
        slips=(
            Slip(
                "Ignores the point in what one divides by when dividing by a decimal",
                lambda p: Fraction(p.q, 10),
            ),
            Slip(
                "Makes both numbers whole by different powers and then corrects the wrong way when dividing by a decimal",
                lambda p: Fraction(p.q, 100),
            ),
            Slip(
                "When dividing by a decimal, goes one power too far when making both numbers whole",
                lambda p: p.q * 10,
            ),
            Slip(
                "Believes that sharing must always leave less than one began with when dividing by a decimal",
                lambda p: p.q * p.b * p.b,
            ),
            Slip(
                "When dividing by a decimal, takes away when asked how often something fits",
                lambda p: p.q * p.b - p.b,
            ),
        ),
    ),
    Template(
        key="times_power_of_ten",
        construct="Multiply decimals by 10, 100 and 1000",
        subject="Powers of Ten and Place Value",
        draw=lambda r: {"a": hundredths(r, 11, 95), "k": r.choice((1, 2, 3))},
        answer=lambda p: p.a * 10**p.k,
        say=lambda p: {"t": str(10**p.k)},
        wordings=(
            "What is \\( <a> \\times <t> \\)?",
            "Work out \\( <a> \\times <t> \\)",
            "One sheet of card costs £ <a>. How many pounds do <t> sheets cost?",
        ),
        slips=(
            Slip(
                "When multiplying by 10, 100 or 1000, attaches noughts at the right-hand end, so nothing moves",
                lambda p: p.a,
            ),
            Slip(WRONG_WAY, lambda p: p.a / 10**p.k),
            Slip("Moves digits one place for any power of ten", lambda p: p.a * 10 if p.k != 1 else None),
            Slip("Moves digits one place too many", lambda p: p.a * 10 ** (p.k + 1)),
            Slip(
                "When multiplying by 10, 100 or 1000, attaches noughts to the part before the point only",
                lambda p: Fraction(f"{int(p.a) * 10**p.k}.{pieces(p.a)[1]}"),
            ),
            Slip(
                "Attaches noughts straight after the point when multiplying by 10, 100 or 1000",
                lambda p: Fraction(f"{int(p.a)}.{'0' * p.k}{pieces(p.a)[1]}"),
            ),
            Slip(ADD_FOR_TIMES, lambda p: p.a + 10**p.k),
        ),
    ),
    Template(
        key="divide_power_of_ten",
        construct="Divide integers and decimals by 10, 100 and 1000",
        subject="Powers of Ten and Place Value",
        draw=lambda r: {
            "a": Fraction(10 * r.randint(12, 95) + r.randint(1, 9), 10),
            "k": r.choice((1, 2, 3)),
        },
        answer=lambda p: p.a / 10**p.k,
        say=lambda p: {"t": str(10**p.k)},
        wordings=(
            "What is \\( <a> \\div <t> \\)?",
            "Calculate \\( <a> \\div <t> \\)",
            "A pile of <t> equal sheets is \\( <a> \\mathrm{~mm} \\) high. How thick is one sheet, in millimetres?",
        ),
        slips=(
            Slip(WRONG_WAY, lambda p: p.a * 10**p.k),
            Slip("Moves digits one place for any power of ten", lambda p: p.a / 10 if p.k != 1 else None),
            Slip("Moves digits one place too many", lambda p: p.a / 10 ** (p.k + 1)),
            Slip(
                "When dividing by a power of ten, puts noughts in front, but one fewer than the move calls for",
                lambda p: p.a / 10 ** (p.k - 1) if p.k > 2 else None,
            ),
            Slip(
                "Strikes out the part behind the point and moves nothing when dividing by a power of ten",
                lambda p: int(p.a),
            ),
            Slip("Takes the power of ten away when dividing by a power of ten", lambda p: abs(p.a - 10**p.k)),
        ),
    ),
    Template(
        key="largest_decimal",
        construct="Order decimals with different numbers of decimal places",
        subject="Comparing Decimals",
        draw=lambda r: {
            "w": r.randint(0, 9),
            "list": tuple(
                (leading + (str(r.randint(10, 98)) if long else "") + str(r.randint(1, 9)),)
                for leading, long in (("", 0), ("0", 0), ("0", 1), ("", 1))
            ),
        },
        answer=lambda p: one(p.list, lambda s: Fraction("0." + s[0])),
        show=lambda v, p: math(f"{p.w}.{v[0]}"),
        near=lambda p, r: r.choice(p.list),
        wordings=(
            "Which of these decimals is the largest?",
            "Which number is furthest to the right on a number line?",
            "Four runners' reaction times in seconds are shown. Which is the slowest, that is the greatest, time?",
        ),
        slips=(
            Slip(
                "Holds that whatever is written with more symbols is worth more when ordering decimals",
                lambda p: one(p.list, lambda s: len(s[0])),
            ),
            Slip(
                "Compares what follows the point as if it were a whole number when ordering decimals",
                lambda p: one(p.list, lambda s: int(s[0])),
            ),
            Slip(
                "Picks the opposite end when putting quantities in order",
                lambda p: one(p.list, lambda s: -Fraction("0." + s[0])),
            ),
            Slip(
                "Lets the final symbol alone decide when ordering decimals",
                lambda p: one(p.list, lambda s: s[0][-1]),
            ),
            Slip(
                "When ordering decimals, holds that fewer symbols behind the point mean larger pieces and so more",
                lambda p: one(p.list, lambda s: -len(s[0])),
            ),
        ),
        alone=False,
    ),
)

PERCENT = (
    Template(
        key="percentage_of_amount",
        construct="Calculate a percentage of an amount without a calculator",
        subject="Percentages and Quantities",
        draw=lambda r: {
            "q": r.choice((5, 15, 20, 25, 30, 35, 40, 60, 70, 75, 80, 90)),
            "n": 20 * r.randint(2, 40),
        },
        answer=lambda p: Fraction(p.q * p.n, 100),
        wordings=(
            "What is \\( <q> \\% \\) of <n>?",
            "There are <n> pupils in a school and \\( <q> \\% \\) walk there. How many pupils walk?",
            "Calculate \\( <q> \\% \\) of \\( <n> \\)",
        ),
        slips=(
            Slip(
                "Divides by the rate itself when taking a percentage of a quantity",
                lambda p: Fraction(p.n, p.q),
            ),
            Slip(NUMBER_OF_HUNDRED, lambda p: p.n - p.q if p.n > p.q else None),
            Slip(REMAINS, lambda p: Fraction((100 - p.q) * p.n, 100)),
            Slip(
                "When taking a percentage of a quantity, answers with the rate, whatever it is taken of",
                lambda p: p.q,
            ),
            *family(
                "Treats the rate as being out of <k> when taking a percentage of a quantity",
                (("ten", 10), ("a thousand", 1000)),
                lambda p, k: Fraction(p.q * p.n, k),
            ),
            *family(
                "Finds <k> and stops there when taking a percentage of a quantity",
                (("a tenth", 10), ("a hundredth", 100)),
                lambda p, k: Fraction(p.n, k),
            ),
        ),
    ),
    Template(
        key="percentage_increase",
        construct="Increase an amount by a given percentage",
        subject="Percentage Growth and Decay",
        draw=lambda r: {"q": r.choice((5, 10, 15, 20, 25, 30, 35, 40, 60)), "n": 20 * r.randint(2, 30)},
        answer=lambda p: Fraction((100 + p.q) * p.n, 100),
        show=money,
        ok=lambda v: v > 0,
        wordings=(
            "A bike costs £ <n>. The price goes up by \\( <q> \\% \\). What is the new price?",
            "Increase £ <n> by \\( <q> \\% \\)",
            "<name> earns £ <n> a week and gets a rise of \\( <q> \\% \\). What is the new weekly pay?",
        ),
        slips=(
            Slip(CHANGE_ONLY, lambda p: Fraction(p.q * p.n, 100)),
            Slip(NUMBER_OF_HUNDRED, lambda p: p.n + p.q),
            Slip(
                "When increasing by a percentage, moves the amount in the opposite direction to the one described",
                lambda p: Fraction((100 - p.q) * p.n, 100),
            ),
            Slip(
                "When increasing by a percentage, builds a multiplier by setting the rate straight behind a one and a point",
                lambda p: p.n * Fraction(f"1.{p.q}") if p.q < 10 else None,
            ),
            Slip(
                "Multiplies by one more than the rate when increasing by a percentage",
                lambda p: p.n * (1 + Fraction(p.q, 10)) if p.q % 10 == 0 else None,
            ),
            Slip(
                "When increasing by a percentage, divides by the rate to find what to put on",
                lambda p: p.n + Fraction(p.n, p.q) if p.q != 10 else None,
            ),
            Slip(
                "When increasing by a percentage, applies the same change a second time",
                lambda p: Fraction((100 + p.q) ** 2 * p.n, 10000),
            ),
        ),
    ),
    Template(
        key="reverse_percentage",
        construct="Calculate the original amount after a percentage decrease",
        subject="Reverse Percentages",
        draw=lambda r: {"q": r.choice((10, 20, 25, 30, 40, 50, 60)), "n": 20 * r.randint(2, 30)},
        answer=lambda p: p.n,
        show=money,
        say=lambda p: {"s": decimal(Fraction((100 - p.q) * p.n, 100))},
        wordings=(
            "In a sale all prices fall by \\( <q> \\% \\). A coat now costs £ <s>. What did it cost before?",
            "After a \\( <q> \\% \\) reduction a phone is sold for £ <s>. Find the original price.",
            "A car has lost \\( <q> \\% \\) of its value and is worth £ <s>. What was it worth at first?",
        ),
        slips=(
            Slip(
                "Undoes a fall by the same rate of the smaller amount when finding the price before a percentage decrease",
                lambda p: Fraction((100 - p.q) * (100 + p.q) * p.n, 10000),
            ),
            Slip(
                "Lets the same fall happen again when finding the price before a percentage decrease",
                lambda p: Fraction((100 - p.q) ** 2 * p.n, 10000),
            ),
            Slip(
                "Works out the rate of the final amount and offers that when finding the price before a percentage decrease",
                lambda p: Fraction((100 - p.q) * p.q * p.n, 10000),
            ),
            Slip(
                "Pairs the amount that is left with the rate that was lost when finding the price before a percentage decrease",
                lambda p: Fraction((100 - p.q) * p.n, p.q) if p.q != 50 else None,
            ),
            Slip(NUMBER_OF_HUNDRED, lambda p: Fraction((100 - p.q) * p.n, 100) + p.q),
        ),
    ),
    Template(
        key="express_as_percentage",
        construct="Express one quantity as a percentage of another",
        subject="Percentages and Quantities",
        draw=lambda r: (lambda n: {"n": n, "a": r.randint(3, n - 1)})(r.choice((20, 25, 40, 50, 80))),
        answer=lambda p: Fraction(100 * p.a, p.n),
        show=percent,
        wordings=(
            "<name> scores <a> out of <n> in a test. What is this as a percentage?",
            "What percentage of <n> is <a>?",
            "<a> of the <n> seats on a coach are taken. What percentage is that?",
        ),
        slips=(
            Slip(
                "Attaches the symbol to the count without changing it when expressing one amount as a percentage of another",
                lambda p: p.a,
            ),
            Slip(UPSIDE_DOWN, lambda p: Fraction(100 * p.n, p.a)),
            Slip(REMAINS, lambda p: Fraction(100 * (p.n - p.a), p.n)),
            Slip(
                "When expressing one amount as a percentage of another, finds by how much the count falls short of a hundred",
                lambda p: 100 - p.a,
            ),
            Slip(
                "When expressing one amount as a percentage of another, subtracts to compare, where a division is needed",
                lambda p: p.n - p.a,
            ),
            Slip(PART_TO_REST, lambda p: Fraction(100 * p.a, p.n - p.a)),
            Slip(
                "When expressing one amount as a percentage of another, doubles the count, as would suit a total of fifty",
                lambda p: 2 * p.a if p.n != 50 else None,
            ),
        ),
    ),
    Template(
        key="percentage_change",
        construct="Calculate percentage change",
        subject="Percentage Growth and Decay",
        draw=lambda r: {
            "a": r.choice((20, 25, 40, 50, 80, 200, 250)),
            "k": r.choice((10, 20, 40, 60, 80, 100, 150)),
        },
        answer=lambda p: p.k,
        show=percent,
        say=lambda p: {"b": decimal(p.a * Fraction(100 + p.k, 100))},
        wordings=(
            "The price of a ticket rises from £ <a> to £ <b>. What is the percentage increase?",
            "A plant grows from \\( <a> \\mathrm{~cm} \\) to \\( <b> \\mathrm{~cm} \\). By what percentage has it grown?",
            "Membership of a club goes up from <a> to <b>. Find the percentage change.",
        ),
        slips=(
            Slip(
                "When finding a percentage change, compares a change with where it ended",
                lambda p: Fraction(100 * p.k, 100 + p.k),
            ),
            Slip(
                "When finding a percentage change, attaches the symbol to the plain difference",
                lambda p: Fraction(p.a * p.k, 100),
            ),
            Slip(
                "Describes the end as a share of the beginning instead of the change when finding a percentage change",
                lambda p: 100 + p.k,
            ),
            Slip(
                "When finding a percentage change, describes the beginning as a share of the end",
                lambda p: Fraction(10000, 100 + p.k),
            ),
            Slip(
                "When finding a percentage change, loses a factor of ten when turning a share into a rate",
                lambda p: Fraction(p.k, 10),
            ),
        ),
    ),
    Template(
        key="compound_interest",
        construct="Calculate compound interest over two years",
        subject="Compound Interest",
        draw=lambda r: {"n": 1000 * r.randint(1, 9), "q": r.choice((2, 3, 4, 5, 6, 8, 10, 20))},
        answer=lambda p: p.n * Fraction(100 + p.q, 100) ** 2,
        show=money,
        ok=lambda v: v > 0,
        wordings=(
            "£ <n> is invested at \\( <q> \\% \\) compound interest per year. What is it worth after \\( 2 \\) years?",
            "<name> puts £ <n> into an account that pays \\( <q> \\% \\) compound interest each year. How much is in it after two years?",
            "Find the value of £ <n> after \\( 2 \\) years at \\( <q> \\% \\) per annum, compounded yearly.",
        ),
        slips=(
            Slip(
                "Lets growth be the same amount in every period when working out compound interest",
                lambda p: p.n * Fraction(100 + 2 * p.q, 100),
            ),
            Slip(
                "When working out compound interest, counts a single period however many are named",
                lambda p: p.n * Fraction(100 + p.q, 100),
            ),
            Slip(CHANGE_ONLY, lambda p: p.n * Fraction(100 + p.q, 100) ** 2 - p.n),
            Slip(
                "When working out compound interest, squares the rate before turning it into a multiplier",
                lambda p: p.n * Fraction(100 + p.q**2, 100) if p.q != 2 else None,
            ),
            Slip(
                "When working out compound interest, doubles a finished result to cover two periods",
                lambda p: 2 * p.n * Fraction(100 + p.q, 100),
            ),
            Slip(
                "Puts the rate's digits one place off in the multiplier when working out compound interest",
                lambda p: p.n * Fraction(10 + p.q, 10) ** 2,
            ),
            Slip(
                "Counts one period more than are named when working out compound interest",
                lambda p: p.n * Fraction(100 + p.q, 100) ** 3,
            ),
        ),
    ),
    Template(
        key="percentage_to_decimal",
        construct="Convert a percentage to a decimal",
        subject="Percentages as Decimals",
        draw=lambda r: {
            "q": Fraction(r.choice((r.randint(1, 9), r.randint(11, 99), r.randint(101, 180))))
            + Fraction(r.choice((0, 0, 5)), 10)
        },
        answer=lambda p: p.q / 100,
        wordings=(
            "What is \\( <q> \\% \\) as a decimal?",
            "Write \\( <q> \\% \\) as a decimal.",
            "Which decimal has the same value as \\( <q> \\% \\)?",
        ),
        slips=(
            Slip(
                "When writing a percentage as a decimal, erases the symbol and keeps the number",
                lambda p: p.q,
            ),
            Slip("Treats the rate as being out of ten", lambda p: p.q / 10),
            Slip("Treats the rate as being out of a thousand", lambda p: p.q / 1000),
            Slip(WRONG_WAY, lambda p: p.q * 100),
        ),
    ),
)

TEMPLATES = DECIMALS + PERCENT
