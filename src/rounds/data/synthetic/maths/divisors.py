"""Factors, multiples and primes."""

# ruff: noqa: E501 - the tables keep one slip a line
from __future__ import annotations

from math import gcd, isqrt

from .question import PrintedValue, Slip, Template, listing, math


def is_prime(n: int) -> bool:
    """Trial division."""
    return n > 1 and all(n % d for d in range(2, isqrt(n) + 1))


def factors(n: int) -> tuple[int, ...]:
    """All divisors in order."""
    return tuple(d for d in range(1, n + 1) if n % d == 0)


def lcm(a: int, b: int) -> int:
    """The lowest common multiple."""
    return a * b // gcd(a, b)


def common_pair(r) -> dict:
    """Two numbers with a composite common factor, neither dividing the other."""
    g, (x, y) = (
        r.choice((4, 6, 8, 9, 10, 12, 14, 15)),
        r.choice(((2, 3), (3, 4), (3, 5), (4, 5), (2, 5), (5, 6), (2, 7), (4, 7))),
    )
    return {"a": g * x, "b": g * y}


def smallest_prime(n: int) -> int:
    """The smallest prime that divides n."""
    return next(d for d in range(2, n + 1) if n % d == 0)


def with_powers(n: int) -> tuple[int, ...]:
    """The prime factors of n, repeated as often as they divide it."""
    out = []
    while n > 1:
        out.append(smallest_prime(n))
        n //= out[-1]
    return tuple(out)


def product_of(value, p) -> str:
    """Factors joined by signs."""
    return math(" \\times ".join(str(part) for part in value))


FACTORS = (
    Template(
        key="highest_common_factor",
        construct="Find the highest common factor of two numbers",
        subject="Factors and HCF",
        draw=common_pair,
        answer=lambda p: gcd(p.a, p.b),
        wordings=(
            "What is the highest common factor of <a> and <b>?",
            "Find the HCF of \\( <a> \\) and \\( <b> \\)",
            "Two ribbons of \\( <a> \\mathrm{~cm} \\) and \\( <b> \\mathrm{~cm} \\) are cut into equal pieces with nothing left over. What is the longest possible piece, in cm?",
        ),
        slips=(
            Slip(
                "When finding the highest common factor, looks for a number that both go into when one that goes into both is wanted",
                lambda p: lcm(p.a, p.b),
            ),
            Slip(
                "When finding the highest common factor, stops at the first shared divisor above one",
                lambda p: smallest_prime(gcd(p.a, p.b)),
            ),
            Slip(
                "When finding the highest common factor, stops one prime short of the full shared divisor",
                lambda p: gcd(p.a, p.b) // smallest_prime(gcd(p.a, p.b)),
            ),
            Slip(
                "When finding the highest common factor, takes the gap between two numbers as what they share",
                lambda p: abs(p.a - p.b),
            ),
            Slip(
                "When finding the highest common factor, offers the lesser of two numbers as what they share",
                lambda p: min(p.a, p.b),
            ),
            Slip("Forms the product of two numbers when something shared is wanted", lambda p: p.a * p.b),
        ),
    ),
    Template(
        key="lowest_common_multiple",
        construct="Find the lowest common multiple of two numbers",
        subject="Multiples and LCM",
        draw=common_pair,
        answer=lambda p: lcm(p.a, p.b),
        wordings=(
            "What is the lowest common multiple of <a> and <b>?",
            "Find the LCM of \\( <a> \\) and \\( <b> \\)",
            "One bell rings every <a> minutes, another every <b> minutes. They ring together now. After how many minutes do they next ring together?",
        ),
        slips=(
            Slip(
                "When finding the lowest common multiple, looks for a number that goes into both when one that both go into is wanted",
                lambda p: gcd(p.a, p.b),
            ),
            Slip("Forms the product of two numbers when something shared is wanted", lambda p: p.a * p.b),
            Slip(
                "When finding the lowest common multiple, offers the greater of two numbers without testing the other",
                lambda p: max(p.a, p.b),
            ),
            Slip(
                "Doubles the greater of two numbers and looks no further when finding the lowest common multiple",
                lambda p: 2 * max(p.a, p.b),
            ),
            Slip(
                "Gives a later meeting point and not the earliest when finding the lowest common multiple",
                lambda p: 2 * lcm(p.a, p.b),
            ),
            Slip(
                "When finding the lowest common multiple, totals two numbers when something shared is wanted",
                lambda p: p.a + p.b,
            ),
        ),
    ),
    Template(
        key="prime_number",
        construct="Identify prime numbers",
        subject="Prime Numbers",
        draw=lambda r: {
            "prime": r.choice((2, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97)),
            "three": r.choice((27, 33, 39, 51, 57, 69, 87, 93, 111, 117, 123, 129)),
            "five": r.choice((25, 35, 55, 65, 85, 95, 115)),
            "seven": r.choice((49, 77, 91, 119, 133, 161, 121, 143)),
            "square": r.choice((4, 16, 36, 64, 100)),
            "even": r.choice((6, 8, 10, 12, 14, 18, 22, 26)),
        },
        answer=lambda p: p.prime,
        near=lambda p, r: r.choice((12, 18, 20, 24, 28, 30)),
        wordings=(
            "Which of these is a prime number?",
            "Choose the prime number.",
            "Only one of the numbers below is prime. Which one?",
            "<name> is looking for a number with exactly two factors. Which of these fits?",
        ),
        slips=(
            Slip(
                "When looking for a prime number, lets the number one join those with exactly two divisors",
                lambda p: 1,
            ),
            Slip("When looking for a prime number, never tries three as a divisor", lambda p: p.three),
            Slip(
                "When looking for a prime number, does not see what a closing digit of five gives away",
                lambda p: p.five,
            ),
            Slip(
                "When looking for a prime number, gives up the search for divisors before reaching seven",
                lambda p: p.seven,
            ),
            Slip(
                "Mixes up having two divisors with being a whole number times itself when looking for a prime number",
                lambda p: p.square,
            ),
            Slip(
                "Takes being divisible by two for having two divisors when looking for a prime number",
                lambda p: p.even,
            ),
        ),
        alone=False,
    ),
    Template(
        key="list_factors",
        construct="List all the factors of a number",
        subject="Factors and HCF",
        draw=lambda r: {
            "n": r.choice((12, 16, 18, 20, 24, 27, 28, 30, 32, 40, 42, 44, 45, 50, 52, 54, 56, 63, 66, 70, 75, 78, 80))
        },
        answer=lambda p: factors(p.n),
        show=listing,
        near=lambda p, r: (lambda gone: tuple(d for d in factors(p.n) if d != gone))(r.choice(factors(p.n)[1:-1])),
        wordings=(
            "Which of these is a complete list of the factors of <n>?",
            "List every factor of \\( <n> \\)",
            "<name> writes down all the factors of <n>. Which list is right?",
        ),
        slips=(
            Slip(
                "When listing factors, leaves a number out of the list of what divides it",
                lambda p: factors(p.n)[:-1],
            ),
            Slip(
                "When listing factors, leaves one out of the list of what divides a number",
                lambda p: factors(p.n)[1:],
            ),
            Slip(
                "Leaves both ends out of the list of what divides a number when listing factors",
                lambda p: factors(p.n)[1:-1],
            ),
            Slip(
                "Writes a times table in place of a list of divisors when listing factors",
                lambda p: tuple(p.n * k for k in range(1, 6)),
            ),
            Slip(
                "When listing factors, keeps only those divisors that cannot be split further",
                lambda p: tuple(d for d in factors(p.n) if is_prime(d)),
            ),
            Slip(
                "Keeps only the pair of divisors that lie closest together when listing factors",
                lambda p: (
                    max(d for d in factors(p.n) if d * d < p.n),
                    min(d for d in factors(p.n) if d * d > p.n),
                ),
            ),
        ),
    ),
    Template(
        key="prime_factors",
        construct="Write a number as a product of its prime factors",
        subject="Prime Factors",
        draw=lambda r: {
            "n": r.choice(
                (
                    12,
                    18,
                    20,
                    24,
                    28,
                    36,
                    40,
                    44,
                    45,
                    48,
                    50,
                    52,
                    54,
                    56,
                    60,
                    63,
                    72,
                    75,
                    80,
                    84,
                    88,
                    90,
                    96,
                    98,
                    99,
                    100,
                    108,
                    120,
                    126,
                    132,
                    140,
                    150,
                )
            )
        },
        answer=lambda p: with_powers(p.n),
        show=product_of,
        near=lambda p, r: with_powers(p.n)[:-1] + (r.choice((2, 3, 5, 7)),),
        wordings=(
            "What is <n> as a product of prime factors?",
            "Write \\( <n> \\) as a product of its prime factors.",
            "<name> draws a factor tree for <n>. Which product should come out at the ends of the branches?",
        ),
        slips=(
            Slip(
                "When building a number from primes, names every building block once, however often it is used",
                lambda p: tuple(dict.fromkeys(with_powers(p.n))),
            ),
            Slip(
                "When building a number from primes, ends a tree while a branch can still be split",
                lambda p: (*with_powers(p.n)[:-2], with_powers(p.n)[-2] * with_powers(p.n)[-1]),
            ),
            Slip(
                "When building a number from primes, starts a tree and stops after the first split",
                lambda p: (smallest_prime(p.n), p.n // smallest_prime(p.n)),
            ),
            Slip(
                "Counts one among the building blocks of multiplication when building a number from primes",
                lambda p: (1, *with_powers(p.n)),
            ),
            Slip(
                "When building a number from primes, splits a number into pieces that are added, not multiplied",
                lambda p: PrintedValue(("sum", p.n), math(f"{p.n // 2}+{p.n - p.n // 2}")),
            ),
        ),
    ),
)


TEMPLATES = FACTORS
