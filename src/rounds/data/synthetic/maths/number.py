"""Whole numbers: written methods, order of operations, negatives."""

# ruff: noqa: E501 - the tables keep one slip a line
from __future__ import annotations

from .question import Slip, Template, math

ADD_FOR_TAKE = "Mixes up the sign for combining with the sign for finding what is left"
ADD_FOR_TIMES = "Puts two amounts together where repeated groups are needed"
LEFT_TO_RIGHT = "Works strictly in reading order, whatever the symbols are"
COUNTS_START = "Treats the place where the count begins as the first step of it"
SIGN_LOST = "Drops the sign in front of a quantity and goes on as if it had none"
CUTS_OFF = "Chops off what is not wanted without looking at the next digit"
ALWAYS_UP = "Moves to the higher neighbour every time, however small the part that is left"
SMALL_FOR_INDEX = "Takes a raised digit as something to multiply by"


def digits(number: int) -> list[int]:
    """The digits of a number, ones first."""
    return [int(digit) for digit in reversed(str(number))]


def joined(parts: list[int]) -> int:
    """The number that parts make when written side by side, the last part first."""
    return int("".join(str(part) for part in reversed(parts)))


def add_and_carry(a: int, b: int, keep_tens: bool) -> int:
    """Column addition that writes the tens of a column's total and carries its ones, or carries only once."""
    carry, out = 0, []
    for place, (x, y) in enumerate(zip(digits(a), digits(b), strict=True)):
        total = x + y + carry
        if keep_tens:
            out.append(total // 10 or total)
            carry = total % 10 if total > 9 else 0
        else:
            out.append(total % 10)
            carry = total // 10 if place == 0 else 0
    return joined(out + [carry] if carry else out)


def three_digits(r, low: int = 1) -> int:
    """A three-digit number without zeros."""
    return 100 * r.randint(low, 8) + 10 * r.randint(1, 8) + r.randint(2, 9)


def sub_pair(r) -> dict:
    """Two three-digit numbers, the first clearly larger."""
    a, b = three_digits(r, 4), three_digits(r)
    while b > a - 60:
        b = three_digits(r)
    return {"a": a, "b": b}


def places(p, change) -> int:
    """Column by column over two numbers of equal length."""
    return joined([change(x, y) for x, y in zip(digits(p.a), digits(p.b), strict=True)])


WRITTEN = (
    Template(
        key="column_addition",
        construct="Add two three-digit integers with exchanging between columns",
        subject="Adding Whole Numbers",
        draw=lambda r: {"a": three_digits(r), "b": three_digits(r)},
        answer=lambda p: p.a + p.b,
        wordings=(
            "What is \\( <a> + <b> \\)?",
            "Work out\n\\(\n<a> + <b>\n\\)",
            "<name> has <a> stickers and is given <b> more. How many are there now?",
            "\\( <a> + <b> = \\bigstar \\) What belongs behind the star?",
        ),
        slips=(
            Slip(
                "Lets the extra ten vanish whenever a place overflows when adding whole numbers in columns",
                lambda p: places(p, lambda x, y: (x + y) % 10),
            ),
            Slip(
                "When adding whole numbers in columns, records each place in full, side by side, even when it needs two digits",
                lambda p: places(p, lambda x, y: x + y),
            ),
            Slip(
                "When adding whole numbers in columns, passes an overflow on from the lowest place only",
                lambda p: add_and_carry(p.a, p.b, False),
            ),
            Slip(
                "When adding whole numbers in columns, swaps which digit is written down and which is passed on",
                lambda p: add_and_carry(p.a, p.b, True),
            ),
            Slip(ADD_FOR_TAKE, lambda p: abs(p.a - p.b)),
            Slip(COUNTS_START, lambda p: p.a + p.b - 1),
        ),
    ),
    Template(
        key="column_subtraction",
        construct="Subtract three-digit integers where exchanging is needed",
        subject="Subtracting Whole Numbers",
        draw=sub_pair,
        answer=lambda p: p.a - p.b,
        wordings=(
            "Work out \\( <a> - <b> \\)",
            "<name> had £ <a> and spent £ <b>. How many pounds are left?",
            "\\(\n<a> - <b> = ?\n\\)",
            "Which number should replace the star?\n\\( <a> - <b> = \\bigstar \\)",
        ),
        slips=(
            Slip(
                "Finds the gap between digits without caring which is on top when subtracting whole numbers in columns",
                lambda p: places(p, lambda x, y: abs(x - y)),
            ),
            Slip(
                "When subtracting whole numbers in columns, makes a digit larger by ten but leaves its neighbour untouched",
                lambda p: places(p, lambda x, y: (x - y) % 10),
            ),
            Slip(
                "Writes nothing left where the upper digit is too small when subtracting whole numbers in columns",
                lambda p: places(p, lambda x, y: max(x - y, 0)),
            ),
            Slip(ADD_FOR_TAKE, lambda p: p.a + p.b),
            Slip(COUNTS_START, lambda p: p.a - p.b + 1),
        ),
    ),
    Template(
        key="long_multiplication",
        construct="Multiply a two-digit integer by a two-digit integer",
        subject="Multiplying Whole Numbers",
        draw=lambda r: {"a": r.randint(13, 89), "b": 10 * r.randint(2, 8) + r.randint(2, 9)},
        answer=lambda p: p.a * p.b,
        wordings=(
            "Calculate \\( <a> \\times <b> \\)",
            "A box holds <a> pencils. How many pencils are in <b> boxes?",
            "\\( <a> \\times <b> = \\)",
        ),
        slips=(
            Slip(
                "Forgets that the second row of working stands for tens when multiplying two-digit numbers",
                lambda p: p.a * (p.b % 10) + p.a * (p.b // 10),
            ),
            Slip(
                "When multiplying two-digit numbers, pairs tens only with tens and ones only with ones",
                lambda p: 100 * (p.a // 10) * (p.b // 10) + (p.a % 10) * (p.b % 10),
            ),
            Slip(
                "When multiplying two-digit numbers, shifts the second row of working one place too far",
                lambda p: p.a * (p.b % 10) + 100 * p.a * (p.b // 10),
            ),
            Slip(
                "Stops once the first row of working is done when multiplying two-digit numbers",
                lambda p: p.a * (p.b % 10),
            ),
            Slip(ADD_FOR_TIMES, lambda p: p.a + p.b),
        ),
    ),
    Template(
        key="short_division",
        construct="Divide a three-digit integer where the quotient contains a zero",
        subject="Dividing Whole Numbers",
        draw=lambda r: {"q": 100 * r.randint(1, 9) + r.randint(2, 9), "d": r.randint(3, 9)},
        answer=lambda p: p.q,
        say=lambda p: {"n": str(p.q * p.d)},
        wordings=(
            "Work out \\( <n> \\div <d> \\)",
            "<n> seeds are planted evenly in <d> rows. How many seeds are in each row?",
            "\\(\n<n> \\div <d> = ?\n\\)",
        ),
        slips=(
            Slip(
                "Leaves no mark for a place into which the divisor does not go when dividing whole numbers",
                lambda p: p.q // 100 * 10 + p.q % 10,
            ),
            Slip(
                "Fills in a skipped place only at the very end when dividing whole numbers",
                lambda p: p.q // 100 * 100 + p.q % 10 * 10,
            ),
            Slip(
                "When dividing whole numbers, writes a one when the divisor does not go into a digit",
                lambda p: p.q + 10,
            ),
            Slip(
                "Carries out only the opening stage and fills the rest with noughts when dividing whole numbers",
                lambda p: p.q // 100 * 100,
            ),
            Slip(
                "When dividing whole numbers, takes the divisor away once rather than sharing",
                lambda p: p.q * p.d - p.d,
            ),
        ),
    ),
)

ORDER = (
    Template(
        key="order_mixed",
        construct="Use the order of operations with addition and multiplication",
        subject="Order of Operations",
        draw=lambda r: {"a": r.randint(2, 15), "b": r.randint(2, 12), "c": r.randint(3, 9)},
        answer=lambda p: p.a + p.b * p.c,
        wordings=(
            "What is the value of \\( <a> + <b> \\times <c> \\)?",
            "Calculate:\n\\(\n<a> + <b> \\times <c>\n\\)",
            "<name> types \\( <a> + <b> \\times <c> \\) into a scientific calculator. What does it show?",
        ),
        slips=(
            Slip(LEFT_TO_RIGHT, lambda p: (p.a + p.b) * p.c),
            Slip(ADD_FOR_TIMES, lambda p: p.a + p.b + p.c),
            Slip(
                "When a calculation has both adding and multiplying, lets one symbol stand for every gap in the calculation",
                lambda p: p.a * p.b * p.c,
            ),
            Slip(
                "When a calculation has both adding and multiplying, carries out the weaker symbol with the number at the far end",
                lambda p: p.b * (p.a + p.c),
            ),
            Slip(
                "Applies a multiplier to the front pair and leaves the rest loose when a calculation has both adding and multiplying",
                lambda p: p.a * p.b + p.c,
            ),
        ),
    ),
    Template(
        key="order_power",
        construct="Use the order of operations with brackets and powers",
        subject="Order of Operations",
        draw=lambda r: {"a": r.randint(2, 7), "b": r.randint(2, 6), "c": r.randint(1, 5)},
        answer=lambda p: p.a * (p.b + p.c) ** 2,
        wordings=(
            "Work out \\( <a> \\times (<b> + <c>)^{2} \\)",
            "Evaluate\n\\(\n<a>(<b> + <c>)^{2}\n\\)",
            "What is the result of \\( <a> \\times (<b> + <c>)^{2} \\)?",
        ),
        slips=(
            Slip("Lets an exponent reach back to everything before it", lambda p: (p.a * (p.b + p.c)) ** 2),
            Slip(
                "Gives each part inside its own exponent before combining when working out brackets and powers",
                lambda p: p.a * (p.b**2 + p.c**2),
            ),
            Slip(SMALL_FOR_INDEX, lambda p: p.a * (p.b + p.c) * 2),
            Slip(
                "When working out brackets and powers, lets an exponent act only on the number it touches",
                lambda p: p.a * (p.b + p.c**2),
            ),
            Slip(LEFT_TO_RIGHT, lambda p: (p.a * p.b + p.c) ** 2),
            Slip(
                "Sees no operation between a number and what is written directly beside it but adding",
                lambda p: p.a + (p.b + p.c) ** 2,
            ),
        ),
    ),
    Template(
        key="order_take_add",
        construct="Use the order of operations with addition and subtraction only",
        subject="Order of Operations",
        draw=lambda r: {
            "a": r.randint(30, 60),
            "b": r.randint(6, 14),
            "c": r.randint(2, 9),
            "d": r.randint(1, 5),
        },
        answer=lambda p: p.a - p.b + p.c - p.d,
        wordings=(
            "What is \\( <a> - <b> + <c> - <d> \\)?",
            "Work out the value of\n\\( <a> - <b> + <c> - <d> \\)",
            "\\( <a> - <b> + <c> - <d> = \\bigstar \\)\nFind the hidden number.",
        ),
        slips=(
            Slip(
                "When adding and subtracting in one calculation, ranks gathering above removing, as a rhyme for remembering suggests",
                lambda p: p.a - (p.b + p.c) - p.d,
            ),
            Slip(
                "When adding and subtracting in one calculation, begins at the far end and works backwards",
                lambda p: p.a - (p.b + (p.c - p.d)),
            ),
            Slip(
                "When adding and subtracting in one calculation, overlooks the closing step of a chain",
                lambda p: p.a - p.b + p.c,
            ),
            Slip(ADD_FOR_TAKE, lambda p: p.a + p.b + p.c + p.d),
        ),
    ),
)

NEGATIVES = (
    Template(
        key="subtract_negative",
        construct="Subtract a negative integer from a negative integer",
        subject="Sums and Differences of Negatives",
        draw=lambda r: {"a": r.randint(2, 15), "b": r.randint(2, 15)},
        answer=lambda p: p.b - p.a,
        wordings=(
            "What is \\( -<a> - (-<b>) \\)?",
            "Work out\n\\(\n-<a> - -<b>\n\\)",
            "Which number makes this true?\n\\( -<a> - (-<b>) = \\bigstar \\)",
        ),
        slips=(
            Slip(
                "Reads two strokes in a row as a single one when subtracting a negative number",
                lambda p: -p.a - p.b,
            ),
            Slip(
                "When subtracting a negative number, holds that two strokes anywhere cancel for the whole result",
                lambda p: p.a + p.b,
            ),
            Slip("Gets the size right but goes the other way from zero", lambda p: p.a - p.b),
            Slip(
                "When subtracting a negative number, forms a product when two strokes stand together",
                lambda p: p.a * p.b,
            ),
            Slip(
                "When subtracting a negative number, ignores a stroke on the first quantity while handling the pair of strokes as one",
                lambda p: p.a - 2 * p.b,
            ),
        ),
    ),
    Template(
        key="multiply_negative",
        construct="Multiply three integers where two are negative",
        subject="Products and Quotients of Negatives",
        draw=lambda r: {"a": r.randint(2, 9), "b": r.randint(2, 9), "c": r.randint(2, 6)},
        answer=lambda p: p.a * p.b * p.c,
        wordings=(
            "Calculate \\( -<a> \\times <b> \\times -<c> \\)",
            "What is the product of \\( -<a> \\), \\( <b> \\) and \\( -<c> \\)?",
            "\\(\n(-<a>) \\times <b> \\times (-<c>) = ?\n\\)",
        ),
        slips=(
            Slip("Expects any stroke in the working to survive into the result", lambda p: -p.a * p.b * p.c),
            Slip(
                "Totals the quantities with their signs where a product is wanted when multiplying negative numbers",
                lambda p: -p.a + p.b - p.c,
            ),
            Slip(
                "Handles only the opening pair and leaves the closing factor out when multiplying negative numbers",
                lambda p: -p.a * p.b,
            ),
            Slip(
                "When multiplying negative numbers, multiplies at the first symbol but removes at the stroke that follows it",
                lambda p: -p.a * p.b - p.c,
            ),
            Slip(ADD_FOR_TIMES, lambda p: p.a + p.b + p.c),
        ),
    ),
    Template(
        key="temperature_rise",
        construct="Solve problems in context that cross zero on a scale",
        subject="Negative Numbers in Context",
        draw=lambda r: {"a": r.randint(3, 18), "b": r.randint(4, 29)},
        answer=lambda p: p.b - p.a,
        show=lambda v, p: math(f"{v}^{{\\circ}} \\mathrm{{C}}"),
        wordings=(
            "At midnight it is \\( -<a>^{\\circ} \\mathrm{C} \\). By noon it is <b> degrees warmer. What is the temperature at noon?",
            "A freezer stands at \\( -<a>^{\\circ} \\mathrm{C} \\). It warms up by \\( <b>^{\\circ} \\mathrm{C} \\). What does it read now?",
            "The thermometer shows \\( -<a>^{\\circ} \\mathrm{C} \\) and rises by \\( <b>^{\\circ} \\mathrm{C} \\).\n\nWhat is the new reading?"
            " ![A vertical thermometer with a scale that goes below zero]()",
        ),
        slips=(
            Slip(
                "When a temperature crosses zero, moves away from zero when the situation moves towards it",
                lambda p: -p.a - p.b,
            ),
            Slip(SIGN_LOST, lambda p: p.a + p.b),
            Slip("Gets the size right but goes the other way from zero", lambda p: p.a - p.b),
            Slip(COUNTS_START, lambda p: p.b - p.a - 1),
            Slip(
                "When a temperature crosses zero, skips zero as if the scale had no such mark",
                lambda p: p.b - p.a + 1 if p.b > p.a else None,
            ),
            Slip(
                "When a temperature crosses zero, reports the change and not the state after it",
                lambda p: p.b,
            ),
        ),
    ),
)


TEMPLATES = WRITTEN + ORDER + NEGATIVES
