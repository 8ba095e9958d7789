"""Equations, inequalities, substitution, formulae and forming expressions."""

# ruff: noqa: E501 - the tables keep one slip a line
from __future__ import annotations

from fractions import Fraction

from .algebra import FIRST_ONLY, SAME_SIDE, letter, signed, small
from .number import ADD_FOR_TAKE, ADD_FOR_TIMES, LEFT_TO_RIGHT, SIGN_LOST, SMALL_FOR_INDEX
from .question import Slip, Template, equals, frac, math, num, terms


def twostep(r) -> dict:
    """ax + b = c with a whole solution."""
    a, x, b = r.randint(2, 9), r.randint(2, 9), r.randint(1, 15)
    return {"v": letter(r), "a": a, "b": b, "c": a * x + b}


EQUATIONS = (
    Template(
        key="solve_two_step",
        construct="Solve two-step linear equations with a positive coefficient",
        subject="Solving Linear Equations",
        draw=twostep,
        answer=lambda p: (p.c - p.b) // p.a,
        show=equals,
        wordings=(
            "Solve \\( <a> <v> + <b> = <c> \\)",
            "What is the solution of this equation?\n\\(\n<a> <v> + <b> = <c>\n\\)",
            "<name> thinks of a number, multiplies it by <a> and adds <b>. The result is <c>. Find the number \\( <v> \\).",
        ),
        slips=(
            Slip(
                "Moves a loose number across without changing what it does",
                lambda p: Fraction(p.c + p.b, p.a),
            ),
            Slip("Removes a multiplier by taking it away", lambda p: p.c - p.b - p.a),
            Slip("Clears the loose number and then believes the work is over", lambda p: p.c - p.b),
            Slip(
                "When solving a linear equation, divides the total first and then removes the loose number untouched",
                lambda p: Fraction(p.c, p.a) - p.b,
            ),
            Slip("Removes a multiplier by applying it again", lambda p: (p.c - p.b) * p.a),
            Slip("Ignores the loose number altogether", lambda p: Fraction(p.c, p.a)),
            Slip(
                "Divides what is small by what is large so as to isolate a letter when solving a linear equation",
                lambda p: Fraction(p.a, p.c - p.b),
            ),
            Slip(
                "Joins a multiplier and a loose number before undoing them when solving a linear equation",
                lambda p: Fraction(p.c, p.a + p.b),
            ),
        ),
    ),
    Template(
        key="solve_division",
        construct="Solve two-step linear equations where the unknown is divided",
        subject="Solving Linear Equations",
        draw=lambda r: {"v": letter(r), "a": r.randint(2, 9), "b": r.randint(1, 12), "c": r.randint(2, 12)},
        answer=lambda p: p.a * (p.c + p.b),
        show=equals,
        wordings=(
            "Solve\n\\(\n\\frac{<v>}{<a>} - <b> = <c>\n\\)",
            "Find \\( <v> \\) when \\( \\frac{<v>}{<a>} - <b> = <c> \\)",
            "A number \\( <v> \\) is divided by <a>, then <b> is taken away. This leaves <c>. What is \\( <v> \\)?",
        ),
        slips=(
            Slip(
                "Scales only the part without the loose number when solving an equation with division",
                lambda p: p.a * p.c + p.b,
            ),
            Slip(
                "When solving an equation with division, removes a divisor by applying it again",
                lambda p: Fraction(p.c + p.b, p.a),
            ),
            Slip("Moves a loose number across without changing what it does", lambda p: p.a * (p.c - p.b)),
            Slip(
                "When solving an equation with division, removes a divisor by adding it on",
                lambda p: p.c + p.b + p.a,
            ),
            Slip("Clears the loose number and then believes the work is over", lambda p: p.c + p.b),
            Slip("Ignores the loose number altogether", lambda p: p.a * p.c),
        ),
    ),
    Template(
        key="solve_both_sides",
        construct="Solve linear equations with the unknown on both sides",
        subject="Solving Linear Equations",
        draw=lambda r: (lambda a, c, b, x: {"v": letter(r), "a": a + c, "b": b, "c": c, "d": a * x + b})(
            r.randint(2, 6), r.randint(1, 5), r.randint(1, 12), r.randint(2, 9)
        ),
        answer=lambda p: (p.d - p.b) // (p.a - p.c),
        show=equals,
        say=lambda p: {"l": terms((p.a, p.b), (p.v, "")), "r": terms((p.c, p.d), (p.v, ""))},
        wordings=(
            "Solve \\( <l> = <r> \\)",
            "Which value of \\( <v> \\) satisfies this equation?\n\\(\n<l> = <r>\n\\)",
            "The expressions \\( <l> \\) and \\( <r> \\) have the same value. Find \\( <v> \\).",
        ),
        slips=(
            Slip(
                "When solving an equation with unknowns on both sides, gathers the letters by putting them together across the sign",
                lambda p: Fraction(p.d - p.b, p.a + p.c),
            ),
            Slip(
                "Gathers the loose numbers by putting them together across the sign when solving an equation with unknowns on both sides",
                lambda p: Fraction(p.d + p.b, p.a - p.c),
            ),
            Slip(
                "Gathers both kinds by putting them together across the sign when solving an equation with unknowns on both sides",
                lambda p: Fraction(p.d + p.b, p.a + p.c),
            ),
            Slip("Removes a multiplier by taking it away", lambda p: p.d - p.b - (p.a - p.c)),
            Slip("Clears the loose number and then believes the work is over", lambda p: p.d - p.b),
            Slip(
                "Overlooks a letter on one of the sides when solving an equation with unknowns on both sides",
                lambda p: Fraction(p.d - p.b, p.a),
            ),
        ),
    ),
    Template(
        key="solve_bracket",
        construct="Solve linear equations with a bracket",
        subject="Solving Linear Equations",
        draw=lambda r: {"v": letter(r), "a": r.randint(2, 9), "b": r.randint(2, 9), "k": r.randint(4, 18)},
        answer=lambda p: p.k - p.b,
        show=equals,
        say=lambda p: {"c": str(p.a * p.k)},
        wordings=(
            "Solve \\( <a>(<v> + <b>) = <c> \\)",
            "Find the value of \\( <v> \\).\n\\(\n<a>(<v> + <b>) = <c>\n\\)",
            "A rectangle is <a> cm wide and \\( <v> + <b> \\) cm long. Its area is <c> square centimetres. What is \\( <v> \\)?",
        ),
        slips=(
            Slip(FIRST_ONLY, lambda p: Fraction(p.a * p.k - p.b, p.a)),
            Slip("Moves a loose number across without changing what it does", lambda p: p.k + p.b),
            Slip(
                "When an equation contains a bracket, undoes the factor outside and forgets what is left inside",
                lambda p: p.k,
            ),
            Slip(
                "Undoes the inside first and the factor outside afterwards by subtraction when an equation contains a bracket",
                lambda p: p.a * p.k - p.b - p.a,
            ),
            Slip(
                "Expands correctly and then divides before moving the loose part when an equation contains a bracket",
                lambda p: p.k - p.a * p.b,
            ),
            Slip("Removes a multiplier by applying it again", lambda p: p.a * p.k * p.a - p.b),
        ),
    ),
    Template(
        key="quadratic_roots",
        construct="Solve a quadratic equation given in factorised form",
        subject="Solving Quadratics",
        draw=lambda r: (lambda a: {"v": letter(r), "a": a, "b": small(r, 9, (a, -a))})(small(r)),
        answer=lambda p: tuple(sorted((-p.a, -p.b))),
        show=lambda v, p: math(f"{p.v}={num(v[0])}") + " or " + math(f"{p.v}={num(v[1])}"),
        say=lambda p: {"x": f"({p.v}{signed(p.a)})({p.v}{signed(p.b)})"},
        wordings=(
            "Solve \\( <x> = 0 \\)",
            "What are the solutions of this equation?\n\\(\n<x> = 0\n\\)",
            "A curve has the equation \\( y = <x> \\). At which values of \\( <v> \\) does it meet the horizontal axis?",
        ),
        slips=(
            Slip(
                "When solving a factorised quadratic, reads solutions straight off the brackets",
                lambda p: tuple(sorted((p.a, p.b))),
            ),
            Slip(
                "When solving a factorised quadratic, changes one sign of the two when setting each factor to nothing",
                lambda p: tuple(sorted((-p.a, p.b))),
            ),
            Slip(
                "Combines the loose numbers by total and by product to get solutions when solving a factorised quadratic",
                lambda p: tuple(sorted((p.a + p.b, p.a * p.b))),
            ),
            Slip(
                "When solving a factorised quadratic, holds that nothing itself must be one of the solutions",
                lambda p: tuple(sorted((0, -p.a))),
            ),
        ),
    ),
    Template(
        key="solve_inequality",
        construct="Solve linear inequalities with a negative coefficient",
        subject="Linear Inequalities",
        draw=lambda r: (lambda a, x, b: {"v": letter(r), "a": a, "b": b, "c": b - a * x})(
            r.randint(2, 9), small(r), r.randint(1, 15)
        ),
        answer=lambda p: (">", Fraction(p.b - p.c, p.a)),
        show=lambda v, p: math(f"{p.v}{v[0]}{frac(v[1])}"),
        near=lambda p, r: (r.choice("<>"), Fraction(p.b - p.c, p.a) + r.choice((-2, -1, 1, 2))),
        wordings=(
            "Solve \\( <b> - <a> <v> < <c> \\)",
            "Which values of \\( <v> \\) satisfy this inequality?\n\\(\n<b> - <a> <v> < <c>\n\\)",
            "<name> knows that \\( <b> - <a> <v> < <c> \\). What can be said about \\( <v> \\)?",
        ),
        slips=(
            Slip(
                "When solving an inequality, lets the symbol point the same way after dividing by less than nothing",
                lambda p: ("<", Fraction(p.b - p.c, p.a)),
            ),
            Slip(
                "When solving an inequality, turns the symbol but loses a stroke in the division",
                lambda p: (">", Fraction(p.c - p.b, p.a)),
            ),
            Slip(
                "Neither turns the symbol nor keeps the stroke in the division when solving an inequality",
                lambda p: ("<", Fraction(p.c - p.b, p.a)),
            ),
            Slip(
                "Moves a loose number across without changing what it does",
                lambda p: (">", Fraction(-p.c - p.b, p.a)),
            ),
            Slip("Removes a multiplier by taking it away", lambda p: (">", Fraction(p.b - p.c - p.a))),
            Slip(
                "Answers with a single value where a range is wanted when solving an inequality",
                lambda p: ("=", Fraction(p.b - p.c, p.a)),
            ),
        ),
    ),
    Template(
        key="integer_solutions",
        construct="List the integers that satisfy a double inequality",
        subject="Integer Solutions of Inequalities",
        draw=lambda r: (lambda a: {"v": letter(r), "a": a, "b": a + r.randint(3, 6)})(r.randint(-6, 3)),
        answer=lambda p: tuple(range(p.a + 1, p.b + 1)),
        show=lambda v, p: math(", ".join(map(str, v))),
        near=lambda p, r: tuple(range(p.a + r.choice((-1, 2)), p.b + r.choice((-1, 2)))),
        ok=lambda v: len(v) > 1,
        wordings=(
            "Which integers satisfy \\( <a> < <v> \\leq <b> \\)?",
            "List all the integers \\( <v> \\) with \\( <a> < <v> \\leq <b> \\)",
            "\\( <v> \\) is a whole number and\n\\(\n<a> < <v> \\leq <b>\n\\)\nWhat can it be?",
        ),
        slips=(
            Slip(
                "Lets both ends of a range belong to it when listing integers for an inequality",
                lambda p: tuple(range(p.a, p.b + 1)),
            ),
            Slip(
                "Lets neither end of a range belong to it when listing integers for an inequality",
                lambda p: tuple(range(p.a + 1, p.b)),
            ),
            Slip(
                "When listing integers for an inequality, confuses which symbol lets an end belong",
                lambda p: tuple(range(p.a, p.b)),
            ),
            Slip(
                "When listing integers for an inequality, does not accept nought as a whole number",
                lambda p: tuple(v for v in range(p.a + 1, p.b + 1) if v) if p.a < -1 else None,
            ),
            Slip(
                "When listing integers for an inequality, keeps only those numbers that are above nought",
                lambda p: tuple(v for v in range(p.a + 1, p.b + 1) if v > 0) if p.a < -1 else None,
            ),
        ),
    ),
)


SUBSTITUTION = (
    Template(
        key="substitute_square",
        construct="Substitute a positive integer into an expression with a squared term",
        subject="Substitution",
        draw=lambda r: {"v": letter(r), "a": r.randint(2, 6), "x": r.randint(3, 9)},
        answer=lambda p: p.a * p.x**2,
        wordings=(
            "What is the value of \\( <a> <v>^{2} \\) when \\( <v> = <x> \\)?",
            "If \\( <v> = <x> \\), find \\( <a> <v>^{2} \\)",
            "\\( y = <a> <v>^{2} \\)\nCalculate \\( y \\) for \\( <v> = <x> \\)",
        ),
        slips=(
            Slip("Lets an exponent reach back to everything before it", lambda p: (p.a * p.x) ** 2),
            Slip(SMALL_FOR_INDEX, lambda p: 2 * p.a * p.x),
            Slip("Puts digits next to each other where a product is meant", lambda p: int(f"{p.a}{p.x}") ** 2),
            Slip(
                "When substituting into a squared term, puts a power next to a number as further digits",
                lambda p: int(f"{p.a}{p.x**2}"),
            ),
            Slip(
                "Sees no operation between a number and what is written directly beside it but adding",
                lambda p: p.a + p.x**2,
            ),
            Slip("Leaves an exponent out of the working", lambda p: p.a * p.x),
        ),
    ),
    Template(
        key="substitute_negative",
        construct="Substitute a negative integer into a linear expression",
        subject="Substitution",
        draw=lambda r: {"v": letter(r), "a": r.randint(2, 9), "b": r.randint(2, 20), "x": r.randint(2, 9)},
        answer=lambda p: p.b + p.a * p.x,
        wordings=(
            "Work out \\( <b> - <a> <v> \\) when \\( <v> = -<x> \\)",
            "Given that \\( <v> = -<x> \\), what is the value of \\( <b> - <a> <v> \\)?",
            "\\( w = <b> - <a> <v> \\)\nFind \\( w \\) if \\( <v> = -<x> \\)",
        ),
        slips=(
            Slip(SIGN_LOST, lambda p: p.b - p.a * p.x),
            Slip(LEFT_TO_RIGHT, lambda p: (p.b - p.a) * -p.x),
            Slip(
                "Sees no operation between a number and what is written directly beside it but adding",
                lambda p: p.b - (p.a - p.x),
            ),
            Slip("Puts digits next to each other where a product is meant", lambda p: p.b - int(f"{p.a}{p.x}")),
            Slip("Expects any stroke in the working to survive into the result", lambda p: -p.b - p.a * p.x),
            Slip(
                "When substituting a negative number, treats a product of unlike signs as if it were standing alone",
                lambda p: -p.a * p.x,
            ),
        ),
    ),
    Template(
        key="substitute_product",
        construct="Substitute into an expression with two variables",
        subject="Substitution",
        draw=lambda r: {"a": r.randint(2, 9), "b": r.randint(2, 9), "k": r.randint(2, 5)},
        answer=lambda p: p.k * p.a * p.b,
        wordings=(
            "If \\( a = <a> \\) and \\( b = <b> \\), what is \\( <k> a b \\)?",
            "Find the value of \\( <k> a b \\) when \\( a = <a> \\) and \\( b = <b> \\)",
            "\\( a = <a> \\), \\( b = <b> \\)\n\\( <k> a b = \\bigstar \\)",
        ),
        slips=(
            Slip("Puts digits next to each other where a product is meant", lambda p: int(f"{p.k}{p.a}{p.b}")),
            Slip(
                "Joins only the letters' digits and then scales them when substituting into a product of letters",
                lambda p: p.k * int(f"{p.a}{p.b}"),
            ),
            Slip(ADD_FOR_TIMES, lambda p: p.k + p.a + p.b),
            Slip(
                "When substituting into a product of letters, totals the letters and then scales them",
                lambda p: p.k * (p.a + p.b),
            ),
            Slip(
                "Scales each letter on its own and multiplies what comes out when substituting into a product of letters",
                lambda p: p.k * p.a * p.k * p.b,
            ),
            Slip(
                "When substituting into a product of letters, scales only the first letter and adds the next",
                lambda p: p.k * p.a + p.b,
            ),
        ),
    ),
    Template(
        key="rearrange",
        construct="Change the subject of a formula where two steps are needed",
        subject="Changing the Subject",
        draw=lambda r: dict(
            zip(
                "ycx",
                r.choice((("y", "c", "x"), ("v", "u", "t"), ("P", "k", "r"), ("A", "b", "h"), ("W", "n", "s"))),
                strict=True,
            ),
            m=r.randint(2, 19),
        ),
        answer=lambda p: ("div",),
        show=lambda v, p: math(f"{p.x}={SOLVED[v[0]]}".replace("Y", p.y).replace("C", p.c).replace("M", str(p.m))),
        near=lambda p, r: (r.choice(("flip", "minus")),),
        wordings=(
            "Make \\( <x> \\) the subject of \\( <y> = <m> <x> + <c> \\)",
            "Rearrange \\( <y> = <m> <x> + <c> \\) to get \\( <x> = \\ldots \\)",
            "Which formula gives \\( <x> \\)?\n\\(\n<y> = <m> <x> + <c>\n\\)",
        ),
        slips=(
            Slip("Moves a loose number across without changing what it does", lambda p: ("plus",)),
            Slip("Removes a multiplier by taking it away", lambda p: ("take",)),
            Slip(
                "Divides one part of a side and leaves its neighbour undivided when rearranging a formula",
                lambda p: ("part",),
            ),
            Slip("Removes a multiplier by applying it again", lambda p: ("times",)),
            Slip(
                "When rearranging a formula, exchanges two letters and leaves everything else standing",
                lambda p: ("swap",),
            ),
            Slip(
                "When rearranging a formula, subtracts in the reverse order while moving a part across",
                lambda p: ("back",),
            ),
        ),
    ),
)


# Forms of the formula in `rearrange`: Y is the old subject, C the loose letter, M the multiplier.
SOLVED = {
    "div": "\\frac{Y-C}{M}",
    "plus": "\\frac{Y+C}{M}",
    "take": "Y-C-M",
    "part": "\\frac{Y}{M}-C",
    "times": "M(Y-C)",
    "swap": "MY+C",
    "back": "\\frac{C-Y}{M}",
    "flip": "\\frac{M}{Y-C}",
    "minus": "Y-\\frac{C}{M}",
}


WRITING = (
    Template(
        key="write_expression",
        construct="Write an algebraic expression from words with two operations",
        subject="Forming Expressions",
        draw=lambda r: {"v": letter(r), "a": r.randint(2, 9), "b": r.randint(2, 12)},
        answer=lambda p: ("a(v-b)",),
        show=lambda v, p: math(
            v[0].replace("a", str(p.a)).replace("b", str(p.b)).replace("v", p.v).replace("frw", "frac")
        ),
        near=lambda p, r: (r.choice(("v-ab", "(a-b)v")),),
        wordings=(
            "A machine takes <b> coins out of a pile of \\( <v> \\) coins and then makes what is left <a> times as large. Which expression shows the new pile?",
            "Start with \\( <v> \\), subtract <b>, then multiply the result by <a>. Which expression is this?",
            "Which expression means: take <b> from \\( <v> \\) and make the outcome <a> times as large?",
        ),
        slips=(
            Slip(
                "When writing an algebraic expression from words, writes operations down in the order heard, without grouping",
                lambda p: ("av-b",),
            ),
            Slip(
                "When writing an algebraic expression from words, reverses which amount is taken from which",
                lambda p: ("a(b-v)",),
            ),
            Slip(
                "Writes a repeated multiplication as a raised number when writing an algebraic expression from words",
                lambda p: ("(v-b)^{a}",),
            ),
            Slip(
                "Shares where the words ask for scaling when writing an algebraic expression from words",
                lambda p: ("\\frw{v-b}{a}",),
            ),
            Slip(ADD_FOR_TAKE, lambda p: ("a(v+b)",)),
            Slip(
                "When writing an algebraic expression from words, multiplies what is removed but not what it is removed from",
                lambda p: ("v-a \\times b",),
            ),
        ),
    ),
    Template(
        key="function_machine",
        construct="Find the input of a function machine from its output",
        subject="Inverse Function Machines",
        draw=lambda r: {"a": r.randint(2, 9), "b": r.randint(2, 15), "n": r.randint(2, 15)},
        answer=lambda p: p.n,
        say=lambda p: {"o": str(p.a * (p.n + p.b))},
        wordings=(
            "A function machine adds <b> and then multiplies by <a>. The output is <o>. What was the input?",
            "What goes in? ![A function machine: input unknown, first box plus <b>, second box times <a>, output <o>]()",
            "input \\( \\rightarrow + <b> \\rightarrow \\times <a> \\rightarrow \\) <o>\nFind the input.",
        ),
        slips=(
            Slip(
                "Undoes the steps in the order in which they were done when reversing a function machine",
                lambda p: Fraction(p.a * (p.n + p.b) - p.b, p.a),
            ),
            Slip(SAME_SIDE, lambda p: (p.a * (p.n + p.b) + p.b) * p.a),
            Slip("Undoes the last step and stops when reversing a function machine", lambda p: p.n + p.b),
            Slip(
                "Undoes the last step but repeats the one before it when reversing a function machine",
                lambda p: p.n + 2 * p.b,
            ),
            Slip(
                "Undoes the first step and stops when reversing a function machine",
                lambda p: p.a * (p.n + p.b) - p.b,
            ),
            Slip("Removes a multiplier by taking it away", lambda p: p.a * (p.n + p.b) - p.a - p.b),
        ),
    ),
)


TEMPLATES = EQUATIONS + SUBSTITUTION + WRITING
