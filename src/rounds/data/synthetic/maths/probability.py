"""Probability and counting."""

# ruff: noqa: E501 - the tables keep one slip a line
from __future__ import annotations

from fractions import Fraction

from .fractions import PART_TO_REST, UPSIDE_DOWN
from .number import ADD_FOR_TIMES
from .question import Slip, Template, family, fraction, over, plain
from .statistics import DENIES

CHANCE = (
    Template(
        key="single_event",
        construct="Find the probability of a single event from the number of outcomes",
        subject="Simple Probability",
        draw=lambda r: {"a": r.randint(2, 9), "b": r.randint(2, 9), "c": r.randint(1, 9)},
        answer=lambda p: Fraction(p.a, p.a + p.b + p.c),
        show=fraction,
        wordings=(
            "A bag holds <a> red, <b> blue and <c> green counters. One is taken at random. What is the probability that it is red?",
            "In a drawer are <a> red socks, <b> blue socks and <c> green socks. <name> takes one without looking. How likely is a red one?",
            "There are <a> red, <b> blue and <c> green cards in a pack.\n\nFind \\( P(\\text{red}) \\) for one card.",
        ),
        slips=(
            Slip(PART_TO_REST, lambda p: over(p.a, p.b + p.c)),
            Slip(DENIES, lambda p: over(p.b + p.c, p.a + p.b + p.c)),
            Slip(
                "When finding a probability, gives every kind the same chance, however many there are",
                lambda p: over(1, 3),
            ),
            Slip(
                "Lets each single item be the whole of its kind when finding a probability",
                lambda p: over(1, p.a),
            ),
            Slip(UPSIDE_DOWN, lambda p: over(p.a + p.b + p.c, p.a)),
            Slip(
                "When finding a probability, counts just one item among all as the wanted one",
                lambda p: over(1, p.a + p.b + p.c),
            ),
            Slip(
                "When finding a probability, compares a kind with only the next kind",
                lambda p: over(p.a, p.a + p.b),
            ),
        ),
    ),
    Template(
        key="complement",
        construct="Find the probability that an event does not happen",
        subject="Probability of Several Events",
        draw=lambda r: (lambda a: {"a": Fraction(a, 100), "b": Fraction(r.randint(5, 95 - a), 100)})(r.randint(6, 60)),
        answer=lambda p: 1 - p.a - p.b,
        show=plain,
        wordings=(
            "A match can be won, drawn or lost. \\( P(\\text{win}) = <a> \\) and \\( P(\\text{draw}) = <b> \\). What is the probability of a loss?",
            "\\begin{tabular}{|c|c|c|c|}\n\\hline Colour & red & blue & white \\\\\n\\hline Probability & <a> & <b> & \\( \\bigstar \\) \\\\\n\\hline\n\\end{tabular}\nWhich number is hidden by the star?",
            "A spinner lands on X with probability <a>, on Y with probability <b>, or else on Z. Find the probability of Z.",
        ),
        ok=lambda v: v > 0,
        slips=(
            *family(
                "When finding the probability of the remaining outcome, lets all chances together make <k>",
                (10, 100, 2),
                lambda p, k: k - p.a - p.b,
            ),
            Slip(
                "When finding the probability of the remaining outcome, adds known chances and offers that for the unknown one",
                lambda p: p.a + p.b,
            ),
            Slip(
                "Takes only the first known chance from certainty when finding the probability of the remaining outcome",
                lambda p: 1 - p.a,
            ),
            Slip(
                "Takes only the second known chance from certainty when finding the probability of the remaining outcome",
                lambda p: 1 - p.b,
            ),
            Slip(
                "Gives unknown chances an equal share of what could happen when finding the probability of the remaining outcome",
                lambda p: (1 - p.a) / 2,
            ),
            Slip(
                "When finding the probability of the remaining outcome, multiplies known chances to get an unknown one",
                lambda p: p.a * p.b,
            ),
        ),
    ),
    Template(
        key="independent_events",
        construct="Calculate the probability of two independent events both happening",
        subject="Probability of Several Events",
        draw=lambda r: {
            "a": r.randint(1, 4),
            "b": r.randint(5, 9),
            "c": r.randint(1, 3),
            "d": r.randint(4, 7),
        },
        answer=lambda p: Fraction(p.a * p.c, p.b * p.d),
        show=fraction,
        wordings=(
            "The probability of rain is \\( \\frac{<a>}{<b>} \\) and, independently, that of a late bus is \\( \\frac{<c>}{<d>} \\). What is the probability of both?",
            "Two spinners are spun. The first shows gold with probability \\( \\frac{<a>}{<b>} \\), the second with probability \\( \\frac{<c>}{<d>} \\). Find the probability of gold twice.",
            "Events \\( A \\) and \\( B \\) are independent, \\( P(A) = \\frac{<a>}{<b>} \\) and \\( P(B) = \\frac{<c>}{<d>} \\). What is \\( P(A \\text{ and } B) \\)?",
        ),
        ok=lambda v: v > 0,
        slips=(
            Slip(
                "Adds the chances of things that must all come true",
                lambda p: Fraction(p.a, p.b) + Fraction(p.c, p.d),
            ),
            Slip(
                "Treats the numbers above the line and those below it as two separate sums",
                lambda p: over(p.a + p.c, p.b + p.d),
            ),
            Slip(
                "When finding the probability of both events, averages the chances of things that must all come true",
                lambda p: (Fraction(p.a, p.b) + Fraction(p.c, p.d)) / 2,
            ),
            Slip(
                "When finding the probability of both events, keeps the smaller chance, as if the other came for free",
                lambda p: min(Fraction(p.a, p.b), Fraction(p.c, p.d)),
            ),
            Slip(
                "Finds how likely it is that none of two things happens when finding the probability of both events",
                lambda p: (1 - Fraction(p.a, p.b)) * (1 - Fraction(p.c, p.d)),
            ),
            Slip(
                "When finding the probability of both events, takes the gap between two chances",
                lambda p: abs(Fraction(p.a, p.b) - Fraction(p.c, p.d)),
            ),
        ),
    ),
    Template(
        key="without_replacement",
        construct="Calculate probabilities of two selections without replacement",
        subject="Dependent Events",
        draw=lambda r: {"a": r.randint(3, 8), "b": r.randint(2, 8)},
        answer=lambda p: Fraction(p.a * (p.a - 1), (p.a + p.b) * (p.a + p.b - 1)),
        show=fraction,
        wordings=(
            "A box contains <a> milk and <b> dark chocolates. <name> eats two at random. What is the probability that both are milk?",
            "Two balls are drawn, without putting the first back, from a bag of <a> white and <b> black ones. Find the probability of two white balls.",
            "From <a> girls and <b> boys two pupils are picked at random.\nWhat is the probability of picking two girls?",
        ),
        slips=(
            Slip(
                "Believes that a first pick changes nothing for a second one when selecting without replacement",
                lambda p: over(p.a**2, (p.a + p.b) ** 2),
            ),
            Slip(
                "When selecting without replacement, reduces the wanted items after a pick but not all of them together",
                lambda p: over(p.a * (p.a - 1), (p.a + p.b) ** 2),
            ),
            Slip(
                "When selecting without replacement, reduces all items together after a pick but not the wanted ones",
                lambda p: over(p.a**2, (p.a + p.b) * (p.a + p.b - 1)),
            ),
            Slip(
                "Adds the chances of things that must all come true",
                lambda p: Fraction(p.a, p.a + p.b) + Fraction(p.a - 1, p.a + p.b - 1),
            ),
            Slip(
                "When selecting without replacement, answers for a first pick only",
                lambda p: over(p.a, p.a + p.b),
            ),
            Slip(
                "When selecting without replacement, answers for a second pick only",
                lambda p: over(p.a - 1, p.a + p.b - 1),
            ),
            Slip(
                "Places the number of picks above all items together when selecting without replacement",
                lambda p: over(2, p.a + p.b),
            ),
        ),
    ),
    Template(
        key="expected_frequency",
        construct="Calculate the expected frequency of an event",
        subject="Probability from Experiments",
        draw=lambda r: {
            "q": Fraction(r.choice((5, 10, 15, 20, 30, 35, 40, 45, 60, 65)), 100),
            "n": 20 * r.randint(2, 30),
        },
        answer=lambda p: p.q * p.n,
        wordings=(
            "The probability that a seed does not grow is <q>. <n> seeds are sown. How many are expected not to grow?",
            "A biased coin lands on heads with probability <q>. It is thrown <n> times. How many heads are expected?",
            "A machine makes a faulty part with probability <q>. Estimate the number of faulty parts among <n>.",
        ),
        slips=(
            Slip(
                "When finding an expected number of outcomes, shares the number of trials by a chance",
                lambda p: p.n / p.q,
            ),
            Slip(
                "Expects the event to come out half the time when finding an expected number of outcomes",
                lambda p: Fraction(p.n, 2),
            ),
            Slip(DENIES, lambda p: (1 - p.q) * p.n),
            Slip(
                "Reads the digits of a chance as a count when finding an expected number of outcomes",
                lambda p: p.q * 100,
            ),
            Slip(
                "When finding an expected number of outcomes, lets a chance be measured out of ten",
                lambda p: p.q * p.n / 10,
            ),
            Slip(
                "When finding an expected number of outcomes, assumes that what can happen will happen each time",
                lambda p: p.n,
            ),
        ),
    ),
    Template(
        key="relative_frequency",
        construct="Calculate relative frequency from the results of an experiment",
        subject="Probability from Experiments",
        draw=lambda r: (lambda n: {"n": n, "a": r.randint(5, n // 2 - 2)})(r.choice((40, 50, 80, 100, 125, 200))),
        answer=lambda p: Fraction(p.a, p.n),
        show=plain,
        wordings=(
            "A drawing pin is dropped <n> times and lands point up <a> times. What is the relative frequency of point up?",
            "A fair-looking dice shows a six <a> times in <n> rolls. Give the relative frequency of a six as a decimal.",
            "Out of <n> shots <name> scores with <a>. What is the relative frequency of scoring?",
        ),
        slips=(
            Slip(DENIES, lambda p: Fraction(p.n - p.a, p.n)),
            Slip(PART_TO_REST, lambda p: Fraction(p.a, p.n - p.a)),
            Slip(UPSIDE_DOWN, lambda p: Fraction(p.n, p.a)),
            Slip(
                "When finding a relative frequency, trusts a count alone to say how often something comes",
                lambda p: p.a,
            ),
            Slip(
                "When finding a relative frequency, shares results by a hundred, whatever the number of trials",
                lambda p: Fraction(p.a, 100),
            ),
            Slip(
                "When finding a relative frequency, prefers what theory promises to what was seen",
                lambda p: Fraction(1, 2),
            ),
        ),
    ),
    Template(
        key="product_rule",
        construct="Use the product rule for counting",
        subject="Counting Choices",
        draw=lambda r: dict(zip("abc", r.sample(range(2, 11), 3), strict=True)),
        answer=lambda p: p.a * p.b * p.c,
        wordings=(
            "A café has <a> starters, <b> mains and <c> desserts. How many different three-course meals are there?",
            "<name> owns <a> hats, <b> coats and <c> scarves. In how many ways can one of each be worn?",
            "A code is made from one of <a> letters, one of <b> digits and one of <c> symbols, in this order. How many codes are possible?",
        ),
        slips=(
            Slip(ADD_FOR_TIMES, lambda p: p.a + p.b + p.c),
            Slip("Combines just the first two lists of choices when counting combinations", lambda p: p.a * p.b),
            Slip(
                "When counting combinations, pairs every two lists of choices but never joins all three",
                lambda p: p.a * p.b + p.b * p.c + p.a * p.c,
            ),
            Slip(
                "Counts each arrangement again in every order when counting combinations",
                lambda p: 6 * p.a * p.b * p.c,
            ),
            Slip(
                "Removes one choice from each list as it is used when counting combinations",
                lambda p: (p.a - 1) * (p.b - 1) * (p.c - 1),
            ),
            Slip("Combines two lists and adds the last when counting combinations", lambda p: p.a * p.b + p.c),
        ),
    ),
)


TEMPLATES = CHANCE
