"""Independent answers to the generated sample's questions, one checker per template."""

import itertools
import math
from collections import Counter
from fractions import Fraction as F
from functools import reduce

from rounds.data.synthetic.maths import TEMPLATES

BY_KEY = {template.key: template for template in TEMPLATES}
POINTS = (F(-3), F(0), F(2), F(7, 2))


def poly(value, x):
    """Return the value of a polynomial given by its coefficients, highest power first."""
    return reduce(lambda total, coefficient: total * x + coefficient, value, F(0))


def same(value, function):
    """Return whether a tuple of coefficients agrees with a function at more points than its degree."""
    return all(poly(value, x) == function(x) for x in POINTS)


def near(x, y):
    return math.isclose(float(x), float(y), rel_tol=1e-9)


def only(candidates, holds):
    """Return the single candidate for which something holds."""
    (found,) = [candidate for candidate in candidates if holds(candidate)]
    return found


def cells(width, height):
    return set(itertools.product(range(width), range(height)))


def ell(p):
    """Return the unit squares of an L-shape with outer sides w and h and arms u and v."""
    return {(x, y) for x, y in cells(p.w, p.h) if x < p.u or y < p.v}


def outline(squares):
    """Return the number of unit edges between a square inside and one outside."""
    return sum((x + i, y + j) not in squares for x, y in squares for i, j in ((0, 1), (1, 0), (0, -1), (-1, 0)))


def picks(p):
    """Return the ordered pairs of different balls, of which the first p.a are wanted."""
    return list(itertools.permutations(range(p.a + p.b), 2))


def listed(p):
    return [value for value, count in zip(p.values, p.counts, strict=True) for _ in range(count)]


def centre(values):
    """Return the median, by taking away the extremes in turn."""
    values = sorted(values)
    while len(values) > 2:
        values = values[1:-1]
    return F(sum(values), len(values))


def divisors(n):
    return {d for d in range(1, n + 1) if n % d == 0}


def truth(op, a, b):
    return {"<": a < b, ">": a > b}[op]


def walk(p, slot, ahead):
    """Return a coordinate, read from the words of the question."""
    count, _, way = BY_KEY["read_point"].say(p)[slot].split()
    return int(count) if way == ahead else -int(count)


# One checker per template: whether an answer fits the drawn parameters, computed in another way than the template's.
CHECKS = {
    "column_addition": lambda p, v: v - p.b == p.a,
    "column_subtraction": lambda p, v: v + p.b == p.a,
    "long_multiplication": lambda p, v: v == sum(p.a for _ in range(p.b)),
    "short_division": lambda p, v: v * p.d == p.q * p.d and divmod(p.q * p.d, p.d) == (v, 0),
    "order_mixed": lambda p, v: v == eval(f"{p.a} + {p.b} * {p.c}"),
    "order_power": lambda p, v: v == eval(f"{p.a} * ({p.b} + {p.c}) ** 2"),
    "order_take_add": lambda p, v: v == eval(f"{p.a} - {p.b} + {p.c} - {p.d}"),
    "subtract_negative": lambda p, v: v == eval(f"-{p.a} - (-{p.b})"),
    "multiply_negative": lambda p, v: v == eval(f"-{p.a} * {p.b} * -{p.c}"),
    "temperature_rise": lambda p, v: v - p.b == -p.a,
    "round_integer": lambda p, v: v == min(range(0, 10100, 100), key=lambda k: (abs(k - p.n), -k)),
    "round_decimal": lambda p, v: v * 100 % 1 == 0 and -F(1, 200) < v - p.n <= F(1, 200),
    "significant_figures": lambda p, v: (
        10 <= v * 10**4 <= 100 and v * 10**4 % 1 == 0 and -F(1, 20000) < v - p.n <= F(1, 20000)
    ),
    "estimate_product": lambda p, v: v == int(float(f"{p.a:.0e}")) * int(float(f"{p.b:.0e}")),
    "place_value": lambda p, v: v == int(f"{p.a}{p.b}{p.c}{p.d}{p.e}") - int(f"{p.a}0{p.c}{p.d}{p.e}"),
    "evaluate_power": lambda p, v: v == math.prod([p.a] * p.b),
    "square_root": lambda p, v: v == math.isqrt(p.k * p.k),
    "power_of_ten": lambda p, v: 1 <= v[0] < 10 and v[0] * 10 ** v[1] == int(f"{p.a}{p.b}" + "0" * (p.e - 1)),
    "highest_common_factor": lambda p, v: v == max(divisors(p.a) & divisors(p.b)),
    "lowest_common_multiple": lambda p, v: v == next(n for n in itertools.count(1) if n % p.a == 0 == n % p.b),
    "prime_number": lambda p, v: (
        len(divisors(v)) == 2 and all(len(divisors(w)) != 2 for k, w in vars(p).items() if k != "prime")
    ),
    "list_factors": lambda p, v: set(v) == divisors(p.n) and list(v) == sorted(v),
    "prime_factors": lambda p, v: math.prod(v) == p.n and all(len(divisors(d)) == 2 for d in v),
    "fraction_of_amount": lambda p, v: F(v, p.b * p.k) == F(p.a, p.b),
    "shaded_part": lambda p, v: v * p.n == p.k,
    "add_fractions": lambda p, v: v * p.b * p.d == p.a * p.d + p.c * p.b,
    "subtract_fractions": lambda p, v: v + F(p.c, p.d) == F(p.a, p.b),
    "multiply_fractions": lambda p, v: v / F(p.c, p.d) == F(p.a, p.b),
    "divide_fractions": lambda p, v: v * F(p.c, p.d) == F(p.a, p.b),
    "fraction_divided_by_integer": lambda p, v: sum([v] * p.k) == F(p.a, p.b),
    "mixed_to_improper": lambda p, v: F(*v) == p.a + F(p.b, p.c) and v[1] == p.c,
    "improper_to_mixed": lambda p, v: v[0] + F(v[1], v[2]) == F(p.a * p.c + p.b, p.c) and v[1] < v[2],
    "simplify_fraction": lambda p, v: v == F(p.a * p.k, p.b * p.k).as_integer_ratio(),
    "equivalent_gap": lambda p, v: F(v, p.b * p.k) == F(p.a, p.b),
    "largest_fraction": lambda p, v: v in p.list and all(v[0] * d >= n * v[1] for n, d in p.list),
    "fraction_to_decimal": lambda p, v: v * p.b == p.a,
    "add_decimals": lambda p, v: near(v, float(p.a) + float(p.b)),
    "subtract_decimals": lambda p, v: near(v, float(p.a) - float(p.b)),
    "multiply_decimals": lambda p, v: near(v, float(p.a) * float(p.b)),
    "divide_by_decimal": lambda p, v: near(v, float(p.q * p.b) / float(p.b)),
    "times_power_of_ten": lambda p, v: near(v, float(f"{float(p.a)}e{p.k}")),
    "divide_power_of_ten": lambda p, v: near(v, float(f"{float(p.a)}e-{p.k}")),
    "largest_decimal": lambda p, v: all(v[0].ljust(9, "0") > w[0].ljust(9, "0") for w in p.list if w != v),
    "percentage_of_amount": lambda p, v: F(v, p.n) == F(p.q, 100),
    "percentage_increase": lambda p, v: (v - p.n) / p.n * 100 == p.q,
    "reverse_percentage": lambda p, v: v - v * F(p.q, 100) == F(BY_KEY["reverse_percentage"].say(p)["s"]),
    "express_as_percentage": lambda p, v: v / 100 * p.n == p.a,
    "percentage_change": lambda p, v: p.a + F(p.a * v, 100) == F(BY_KEY["percentage_change"].say(p)["b"]),
    "compound_interest": lambda p, v: v == (once := p.n + F(p.n * p.q, 100)) + once * p.q / 100,
    "percentage_to_decimal": lambda p, v: v * 100 == p.q,
    "share_in_ratio": lambda p, v: F(v, (p.a + p.b) * p.k - v) == F(p.a, p.b),
    "ratio_given_one_part": lambda p, v: F(p.a * p.k, v) == F(p.a, p.b),
    "ratio_to_fraction": lambda p, v: v == F(("x" * p.a + "y" * p.b).count("x"), p.a + p.b),
    "simplify_ratio": lambda p, v: (
        math.gcd(*v) == 1 and F(*v) == F(int(BY_KEY["simplify_ratio"].say(p)["x"]), 100 * p.k)
    ),
    "recipe": lambda p, v: F(v, p.b) == F(p.a * p.k, p.a),
    "inverse_proportion": lambda p, v: v * p.b == p.n * p.a,
    "exchange_rate": lambda p, v: near(float(v * p.e), BY_KEY["exchange_rate"].say(p)["f"]),
    "map_scale": lambda p, v: v * 1000 * 100 == p.n * p.s,
    "speed": lambda p, v: near(v * (60 * p.h + p.m) / 60, BY_KEY["speed"].say(p)["d"]),
    "distance": lambda p, v: v == sum(F(p.v, 60) for _ in range(p.m)),
    "unit_price": lambda p, v: near(v / p.b * p.a, BY_KEY["unit_price"].say(p)["t"]),
    "expand_single": lambda p, v: same(v, lambda x: p.a * (p.b * x + p.c)),
    "expand_negative": lambda p, v: same(v, lambda x: -p.a * (p.b * x - p.c)),
    "expand_double": lambda p, v: same(v, lambda x: (x + p.a) * (x + p.b)),
    "square_bracket": lambda p, v: same(v, lambda x: (x + p.a) ** 2),
    "factorise_common": lambda p, v: (
        math.gcd(*v[1:]) == 1 and same([v[0] * c for c in v[1:]], lambda x: p.k * p.a * x + p.k * p.b)
    ),
    "factorise_quadratic": lambda p, v: all(
        (x + v[0]) * (x + v[1]) == x * x + (p.a + p.b) * x + p.a * p.b for x in POINTS
    ),
    "collect_terms": lambda p, v: same(v, lambda x: p.a * x + p.b - p.c * x + p.d),
    "solve_two_step": lambda p, v: p.a * v + p.b == p.c,
    "solve_division": lambda p, v: F(v, p.a) - p.b == p.c,
    "solve_both_sides": lambda p, v: p.a * v + p.b == p.c * v + p.d,
    "solve_bracket": lambda p, v: p.a * (v + p.b) == p.a * p.k,
    "quadratic_roots": lambda p, v: {x for x in range(-20, 21) if (x + p.a) * (x + p.b) == 0} == set(v),
    "solve_inequality": lambda p, v: all((p.b - p.a * x < p.c) == truth(v[0], x, v[1]) for x in range(-40, 41)),
    "integer_solutions": lambda p, v: list(v) == [x for x in range(-50, 50) if p.a < x <= p.b],
    "substitute_square": lambda p, v: v == eval(f"{p.a} * {p.x} ** 2"),
    "substitute_negative": lambda p, v: v == eval(f"{p.b} - {p.a} * (-{p.x})"),
    "substitute_product": lambda p, v: v == sum(p.a for _ in range(p.k * p.b)),
    "rearrange": lambda p, v: v == ("div",) and all(((p.m * x + c) - c) / p.m == x for x in POINTS for c in (1, 4)),
    "index_multiply": lambda p, v: all(v[0] * x ** v[1] == p.a * x**p.m * (p.b * x**p.n) for x in POINTS),
    "index_divide": lambda p, v: all(v[0] * x ** v[1] == p.a * x**p.m / (p.b * x**p.n) for x in POINTS if x),
    "power_of_power": lambda p, v: all(v[0] * x ** v[1] == (p.a * x**p.m) ** p.n for x in POINTS),
    "negative_index": lambda p, v: v * math.prod([p.a] * p.n) == 1,
    "nth_term": lambda p, v: (
        [poly(v, n) for n in (1, 2, 3, 4)] == [int(s) for s in BY_KEY["nth_term"].say(p)["s"].split(",")]
    ),
    "term_from_rule": lambda p, v: v == [p.a * n * n + p.b for n in range(1, 20)][p.n - 1],
    "next_geometric": lambda p, v: F(v, p.a * p.q**3) == F(p.a * p.q, p.a),
    "position_of_term": lambda p, v: (
        v == only(range(1, 99), lambda n: p.d * n + p.c == int(BY_KEY["position_of_term"].say(p)["t"]))
    ),
    "decreasing_sequence": lambda p, v: v == list(itertools.accumulate([p.a] + [-p.d] * 9))[5],
    "write_expression": lambda p, v: (
        v == ("a(v-b)",) and eval("a*(v-b)", {"a": p.a, "b": p.b, "v": 50}) == (50 - p.b) * p.a
    ),
    "function_machine": lambda p, v: (v + p.b) * p.a == int(BY_KEY["function_machine"].say(p)["o"]),
    "read_point": lambda p, v: v == (walk(p, "h", "right"), walk(p, "k", "up")),
    "midpoint": lambda p, v: v[0] - p.a == p.c - v[0] and v[1] - p.b == p.d - v[1],
    "reflect_point": lambda p, v: v[0] == p.x and v[1] + p.y == 0,
    "translate_point": lambda p, v: (v[0] - p.u, v[1] - p.w) == (p.x, p.y),
    "describe_translation": lambda p, v: (
        (p.x + v[0], p.y + v[1]) == tuple(int(BY_KEY["describe_translation"].say(p)[k]) for k in "st")
    ),
    "gradient": lambda p, v: p.y + v * (p.u - p.x) == p.w,
    "line_equation_gradient": lambda p, v: v == F(p.m * p.k * 1 + p.c * p.k, p.k) - F(p.c * p.k, p.k),
    "y_intercept": lambda p, v: v[0] == 0 and p.m * v[0] + p.c == v[1],
    "parallel_line": lambda p, v: poly(v, 0) == p.k and len({poly(v, x) - (p.m * x + p.c) for x in POINTS}) == 1,
    "perpendicular_gradient": lambda p, v: v * F(p.a, p.b) == -1,
    "axis_parallel_line": lambda p, v: v == ("x", p.x),
    "table_of_values": lambda p, v: v == poly((1, p.b, p.c), -p.x),
    "triangle_angle": lambda p, v: v + p.a + p.b == 180,
    "isosceles_base": lambda p, v: 2 * v + p.a == 180,
    "straight_line": lambda p, v: v + p.a + p.b == 180,
    "around_point": lambda p, v: v + p.a + p.b + p.c == 360,
    "polygon_sum": lambda p, v: v == p.n * 180 - sum(F(360, p.n) for _ in range(p.n)),
    "exterior_angle": lambda p, v: v * int(BY_KEY["exterior_angle"].say(p)["e"]) == 360,
    "cointerior": lambda p, v: v + p.a == 180,
    "alternate_algebra": lambda p, v: p.a * v + p.b == int(BY_KEY["alternate_algebra"].say(p)["s"]),
    "rectangle_perimeter": lambda p, v: v == outline(cells(p.a, p.b)),
    "triangle_area": lambda p, v: v == abs(0 * (0 - p.h) + p.b * (p.h - 0) + 0) / 2,
    "parallelogram_area": lambda p, v: v == len(cells(p.b, p.h)),
    "trapezium_area": lambda p, v: v == p.a * p.h + F(p.d * p.h, 2),
    "compound_area": lambda p, v: v == len(ell(p)),
    "compound_perimeter": lambda p, v: v == outline(ell(p)),
    "circle_area": lambda p, v: near(v * math.pi, math.pi * (int(BY_KEY["circle_area"].say(p)["d"]) / 2) ** 2),
    "circumference": lambda p, v: near(v * math.pi, math.tau * p.r),
    "cuboid_volume": lambda p, v: v == sum(1 for _ in itertools.product(range(p.a), range(p.b), range(p.c))),
    "surface_area": lambda p, v: v == sum(x * y for x, y in itertools.permutations((p.a, p.b, p.c), 2)),
    "triangular_prism": lambda p, v: F(v, p.l) * 2 == p.b * p.h,
    "hypotenuse": lambda p, v: near(v, math.hypot(p.a, p.b)),
    "shorter_side": lambda p, v: near(math.hypot(v, p.b), p.c),
    "similar_lengths": lambda p, v: v / p.b == F(BY_KEY["similar_lengths"].say(p)["c"]) / p.a,
    "area_factor": lambda p, v: v == p.n * len(cells(p.k, p.k)),
    "millimetres_to_metres": lambda p, v: v * 100 * 10 == p.n,
    "kilometres_to_metres": lambda p, v: v / 1000 == p.n,
    "grams_to_kilograms": lambda p, v: v * 1000 == p.n,
    "area_units": lambda p, v: v == p.n * len(cells(100, 100)),
    "volume_units": lambda p, v: v * 10 * 10 * 10 == p.n,
    "hours_to_minutes": lambda p, v: F(v, 60) == F(f"{p.h}.{p.t}"),
    "minutes_to_hours": lambda p, v: v * 60 == p.n,
    "duration": lambda p, v: 60 * p.h + p.m + 60 * v[0] + v[1] == 60 * p.g + p.n and 0 <= v[1] < 60,
    "finish_time": lambda p, v: v - p.d == 60 * p.h + p.m,
    "mean": lambda p, v: sum(x - v for x in p.list) == 0,
    "median_odd": lambda p, v: v == centre(p.list),
    "median_even": lambda p, v: v == centre(p.list),
    "mode": lambda p, v: Counter(p.list).most_common(1)[0] == (v, 2),
    "range": lambda p, v: v == max(abs(x - y) for x in p.list for y in p.list),
    "mean_from_table": lambda p, v: sum(x - v for x in listed(p)) == 0,
    "median_from_table": lambda p, v: v == centre(listed(p)),
    "missing_value": lambda p, v: sum(x - p.m for x in (*p.list, v)) == 0,
    "pie_angle": lambda p, v: F(v, 360) == F(p.a, p.n),
    "pictogram": lambda p, v: v == sum([F(p.k)] * p.f) + sum([F(p.k, 4)] * p.q),
    "single_event": lambda p, v: v == F(("r" * p.a + "b" * p.b + "g" * p.c).count("r"), p.a + p.b + p.c),
    "complement": lambda p, v: v + p.a + p.b == 1,
    "independent_events": lambda p, v: v * p.b * p.d == sum(x < p.a and y < p.c for x, y in cells(p.b, p.d)),
    "without_replacement": lambda p, v: v == F(sum(max(pick) < p.a for pick in picks(p)), len(picks(p))),
    "expected_frequency": lambda p, v: F(v, p.n) == p.q,
    "relative_frequency": lambda p, v: v * p.n == p.a,
    "product_rule": lambda p, v: v == sum(1 for _ in itertools.product(range(p.a), range(p.b), range(p.c))),
}
