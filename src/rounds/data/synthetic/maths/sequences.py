"""Linear, quadratic and geometric sequences."""

# ruff: noqa: E501 - the tables keep one slip a line
from __future__ import annotations

from fractions import Fraction

from .algebra import ANSWERS_POSITION, linear
from .number import SIGN_LOST, SMALL_FOR_INDEX
from .question import Slip, Template


def ordinal(n: int) -> str:
    """`3rd`, `4th` and so on."""
    return f"{n}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(n, 'th') }"


SEQUENCES = (
    Template(
        key="nth_term",
        construct="Find the nth term rule of an ascending linear sequence",
        subject="Linear Sequences",
        draw=lambda r: {"v": "n", "d": r.randint(2, 9), "a": r.randint(-5, 15)},
        answer=lambda p: (p.d, p.a - p.d),
        show=linear,
        say=lambda p: {"s": ", ".join(str(p.a + k * p.d) for k in range(4))},
        wordings=(
            "What is the nth term of this sequence?\n\\( <s>, \\ldots \\)",
            "Find a rule in terms of \\( n \\) for the sequence \\( <s>, \\ldots \\)",
            "A sequence begins\n\\(\n<s>, \\ldots\n\\)\nWhich expression gives the term in position \\( n \\)?",
        ),
        slips=(
            Slip(
                "Uses the step as something to add to the position when finding the nth term",
                lambda p: (1, p.d),
            ),
            Slip(
                "Attaches the opening value unchanged to the step when finding the nth term",
                lambda p: (p.d, p.a),
            ),
            Slip(
                "When finding the nth term, exchanges the roles of the step and the opening value",
                lambda p: (p.a, p.d),
            ),
            Slip(
                "When finding the nth term, states the step alone, as though nothing needed shifting",
                lambda p: (p.d, 0),
            ),
            Slip(
                "Shifts by the right size to the wrong side when finding the nth term",
                lambda p: (p.d, p.d - p.a),
            ),
            Slip(
                "When finding the nth term, believes that the step must be read backwards",
                lambda p: (-p.d, p.a + p.d),
            ),
        ),
    ),
    Template(
        key="term_from_rule",
        construct="Substitute a position into a quadratic nth term rule",
        subject="Sequences with a Square Term",
        draw=lambda r: {"a": r.randint(2, 5), "b": r.randint(1, 12), "n": r.randint(3, 10)},
        answer=lambda p: p.a * p.n**2 + p.b,
        say=lambda p: {"k": ordinal(p.n)},
        wordings=(
            "The nth term of a sequence is \\( <a> n^{2} + <b> \\). What is the <k> term?",
            "Find the <k> term of the sequence with rule \\( <a> n^{2} + <b> \\)",
            "A sequence has the rule \\( <a> n^{2} + <b> \\).\nWhich number is in position <n>?",
        ),
        slips=(
            Slip("Lets an exponent reach back to everything before it", lambda p: (p.a * p.n) ** 2 + p.b),
            Slip(SMALL_FOR_INDEX, lambda p: 2 * p.a * p.n + p.b),
            Slip(
                "Begins numbering positions with nought when using the rule of a quadratic sequence",
                lambda p: p.a * (p.n - 1) ** 2 + p.b,
            ),
            Slip(
                "Carries out a loose addition before the scaling when using the rule of a quadratic sequence",
                lambda p: p.a * (p.n**2 + p.b),
            ),
            Slip("Leaves an exponent out of the working", lambda p: p.a * p.n + p.b),
            Slip(
                "When using the rule of a quadratic sequence, totals all values up to a position",
                lambda p: p.a * sum(k * k for k in range(1, p.n + 1)) + p.b * p.n,
            ),
        ),
    ),
    Template(
        key="next_geometric",
        construct="Continue a geometric sequence",
        subject="Geometric Sequences",
        draw=lambda r: {"a": r.randint(2, 9), "q": r.randint(2, 5)},
        answer=lambda p: p.a * p.q**4,
        say=lambda p: {"s": ", ".join(str(p.a * p.q**k) for k in range(4))},
        wordings=(
            "What is the next term?\n\\( <s>, \\ldots \\)",
            "A geometric sequence starts \\( <s>, \\ldots \\) What comes next?",
            "\\( <s>, \\bigstar \\)\nEach term is made from the one before in the same way. What replaces the star?",
        ),
        slips=(
            Slip(
                "When continuing a geometric sequence, repeats the latest step up, assuming steps never change",
                lambda p: p.a * p.q**3 + p.a * p.q**3 - p.a * p.q**2,
            ),
            Slip(
                "When continuing a geometric sequence, repeats the earliest step up throughout",
                lambda p: p.a * p.q**3 + p.a * p.q - p.a,
            ),
            Slip(
                "When continuing a geometric sequence, doubles to continue, whatever the pattern multiplies by",
                lambda p: 2 * p.a * p.q**3 if p.q != 2 else None,
            ),
            Slip(
                "When continuing a geometric sequence, adds the latest two values to continue",
                lambda p: p.a * p.q**3 + p.a * p.q**2,
            ),
            Slip("When continuing a geometric sequence, skips one value ahead", lambda p: p.a * p.q**5),
            Slip(
                "Raises the latest step by one each time when continuing a geometric sequence",
                lambda p: p.a * p.q**3 + p.a * p.q**3 - p.a * p.q**2 + 1,
            ),
        ),
    ),
    Template(
        key="position_of_term",
        construct="Find the position of a given term in a linear sequence",
        subject="Linear Sequences",
        draw=lambda r: {"d": r.randint(3, 9), "c": r.randint(1, 12), "n": r.randint(8, 40)},
        answer=lambda p: p.n,
        say=lambda p: {"t": str(p.d * p.n + p.c)},
        ok=lambda v: v > 0,
        wordings=(
            "The nth term of a sequence is \\( <d> n + <c> \\). In which position is the number <t>?",
            "A sequence follows the rule \\( <d> n + <c> \\). Which term is equal to <t>?",
            "For which \\( n \\) does the rule \\( <d> n + <c> \\) give <t>?",
        ),
        slips=(
            Slip(ANSWERS_POSITION, lambda p: p.d * (p.d * p.n + p.c) + p.c),
            Slip(
                "Moves a loose number across without changing what it does",
                lambda p: Fraction(p.d * p.n + 2 * p.c, p.d),
            ),
            Slip("Ignores the loose number altogether", lambda p: Fraction(p.d * p.n + p.c, p.d)),
            Slip("Clears the loose number and then believes the work is over", lambda p: p.d * p.n),
            Slip("Removes a multiplier by taking it away", lambda p: p.d * p.n - p.d),
            Slip(
                "Counts from nought and so arrives one early when locating a term of a sequence",
                lambda p: p.n - 1,
            ),
            Slip(
                "When locating a term of a sequence, adds one for the starting post at the end of a count",
                lambda p: p.n + 1,
            ),
        ),
    ),
    Template(
        key="decreasing_sequence",
        construct="Continue a decreasing linear sequence past zero",
        subject="Continuing Sequences",
        draw=lambda r: (lambda d, m: {"d": d, "a": m + 3 * d})(r.randint(3, 9), r.randint(1, 8)),
        answer=lambda p: p.a - 5 * p.d,
        say=lambda p: {"s": ", ".join(str(p.a - k * p.d) for k in range(4))},
        wordings=(
            "Here are the first four terms of a linear sequence: \\( <s> \\) What is the sixth term?",
            "\\( <s>, \\ldots \\)\nThe pattern goes on in the same way. Find the sixth number.",
            "A sequence starts \\( <s> \\). Which number stands in position \\( 6 \\)?",
        ),
        slips=(
            Slip(
                "When continuing a decreasing sequence, gives the value one place too early in a pattern",
                lambda p: p.a - 4 * p.d,
            ),
            Slip(
                "Gives the value one place too late in a pattern when continuing a decreasing sequence",
                lambda p: p.a - 6 * p.d,
            ),
            Slip(SIGN_LOST, lambda p: 5 * p.d - p.a),
            Slip(
                "When continuing a decreasing sequence, turns round and climbs once nought has been passed",
                lambda p: p.a - 3 * p.d + 2 * p.d,
            ),
            Slip(
                "When continuing a decreasing sequence, takes away the opening value to continue",
                lambda p: p.a - 3 * p.d - 2 * p.a,
            ),
            Slip(
                "Bounces off nought and continues with sizes only when continuing a decreasing sequence",
                lambda p: abs(abs(p.a - 4 * p.d) - p.d),
            ),
        ),
    ),
)


TEMPLATES = SEQUENCES
