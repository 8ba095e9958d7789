"""The generated sample: each answer is recomputed in another way, each label rerun, each file checked."""

# ruff: noqa: E501 - one checker a line

import csv
import hashlib
import itertools
import math
import os
import random
import re
import subprocess
import sys
from collections import Counter
from fractions import Fraction as F
from functools import reduce
from pathlib import Path
from types import SimpleNamespace

import pytest

from rounds.data.synthetic import maths
from rounds.data.synthetic.maths import CORPUS, LISTED, TEMPLATES, bare, draw_questions, generate
from rounds.data.synthetic.maths.draw import plan, question_at

COLUMNS = (
    "QuestionId,ConstructId,ConstructName,SubjectId,SubjectName,CorrectAnswer,QuestionText,AnswerAText,AnswerBText,"
    "AnswerCText,AnswerDText,MisconceptionAId,MisconceptionBId,MisconceptionCId,MisconceptionDId"
).split(",")
BY_KEY = {template.key: template for template in TEMPLATES}
POINTS = (F(-3), F(0), F(2), F(7, 2))


def poly(value, x):
    """The value of a polynomial given by its coefficients, highest power first."""
    return reduce(lambda total, coefficient: total * x + coefficient, value, F(0))


def same(value, function):
    """Whether a tuple of coefficients agrees with a function at more points than its degree."""
    return all(poly(value, x) == function(x) for x in POINTS)


def near(x, y):
    return math.isclose(float(x), float(y), rel_tol=1e-9)


def only(candidates, holds):
    """The single candidate for which something holds."""
    (found,) = [candidate for candidate in candidates if holds(candidate)]
    return found


def cells(width, height):
    return set(itertools.product(range(width), range(height)))


def ell(p):
    """The unit squares of an L-shape with outer sides w and h and arms u and v."""
    return {(x, y) for x, y in cells(p.w, p.h) if x < p.u or y < p.v}


def outline(squares):
    """The number of unit edges between a square inside and one outside."""
    return sum((x + i, y + j) not in squares for x, y in squares for i, j in ((0, 1), (1, 0), (0, -1), (-1, 0)))


def picks(p):
    """Ordered pairs of different balls, of which the first p.a are wanted."""
    return list(itertools.permutations(range(p.a + p.b), 2))


def listed(p):
    return [value for value, count in zip(p.values, p.counts, strict=True) for _ in range(count)]


def centre(values):
    """The median by taking away the extremes in turn."""
    values = sorted(values)
    while len(values) > 2:
        values = values[1:-1]
    return F(sum(values), len(values))


def divisors(n):
    return {d for d in range(1, n + 1) if n % d == 0}


def truth(op, a, b):
    return {"<": a < b, ">": a > b}[op]


# One checker a template: from the drawn parameters and the answer, by another route than the template's own.
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
    "significant_figures": lambda p, v: 10 <= v * 10**4 <= 100 and v * 10**4 % 1 == 0 and -F(1, 20000) < v - p.n <= F(1, 20000),
    "estimate_product": lambda p, v: v == int(float(f"{p.a:.0e}")) * int(float(f"{p.b:.0e}")),
    "place_value": lambda p, v: v == int(f"{p.a}{p.b}{p.c}{p.d}{p.e}") - int(f"{p.a}0{p.c}{p.d}{p.e}"),
    "evaluate_power": lambda p, v: v == math.prod([p.a] * p.b),
    "square_root": lambda p, v: v == math.isqrt(p.k * p.k),
    "power_of_ten": lambda p, v: 1 <= v[0] < 10 and v[0] * 10 ** v[1] == int(f"{p.a}{p.b}" + "0" * (p.e - 1)),
    "highest_common_factor": lambda p, v: v == max(divisors(p.a) & divisors(p.b)),
    "lowest_common_multiple": lambda p, v: v == next(n for n in itertools.count(1) if n % p.a == 0 == n % p.b),
    "prime_number": lambda p, v: len(divisors(v)) == 2 and all(len(divisors(w)) != 2 for k, w in vars(p).items() if k != "prime"),
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
    "simplify_ratio": lambda p, v: math.gcd(*v) == 1 and F(*v) == F(int(BY_KEY["simplify_ratio"].say(p)["x"]), 100 * p.k),
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
    "factorise_common": lambda p, v: math.gcd(*v[1:]) == 1 and same([v[0] * c for c in v[1:]], lambda x: p.k * p.a * x + p.k * p.b),
    "factorise_quadratic": lambda p, v: all((x + v[0]) * (x + v[1]) == x * x + (p.a + p.b) * x + p.a * p.b for x in POINTS),
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
    "nth_term": lambda p, v: [poly(v, n) for n in (1, 2, 3, 4)] == [int(s) for s in BY_KEY["nth_term"].say(p)["s"].split(",")],
    "term_from_rule": lambda p, v: v == [p.a * n * n + p.b for n in range(1, 20)][p.n - 1],
    "next_geometric": lambda p, v: F(v, p.a * p.q**3) == F(p.a * p.q, p.a),
    "position_of_term": lambda p, v: v == only(range(1, 99), lambda n: p.d * n + p.c == int(BY_KEY["position_of_term"].say(p)["t"])),
    "decreasing_sequence": lambda p, v: v == list(itertools.accumulate([p.a] + [-p.d] * 9))[5],
    "write_expression": lambda p, v: v == ("a(v-b)",) and eval("a*(v-b)", {"a": p.a, "b": p.b, "v": 50}) == (50 - p.b) * p.a,
    "function_machine": lambda p, v: (v + p.b) * p.a == int(BY_KEY["function_machine"].say(p)["o"]),
    "read_point": lambda p, v: v == (walk(p, "h", "right"), walk(p, "k", "up")),
    "midpoint": lambda p, v: v[0] - p.a == p.c - v[0] and v[1] - p.b == p.d - v[1],
    "reflect_point": lambda p, v: v[0] == p.x and v[1] + p.y == 0,
    "translate_point": lambda p, v: (v[0] - p.u, v[1] - p.w) == (p.x, p.y),
    "describe_translation": lambda p, v: (p.x + v[0], p.y + v[1]) == tuple(int(BY_KEY["describe_translation"].say(p)[k]) for k in "st"),
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
}  # fmt: skip


def walk(p, slot, ahead):
    """A coordinate read from the words of the question."""
    count, _, way = BY_KEY["read_point"].say(p)[slot].split()
    return int(count) if way == ahead else -int(count)


@pytest.fixture(scope="module")
def drawn():
    """About forty questions of each template, and a stream as the files hold it."""
    scheme, out = plan(1), []
    for template in TEMPLATES:
        rng = random.Random(f"test {template.key}")
        made = [question_at(template, scheme, rng, train=bool(place % 2)) for place in range(40)]
        out.extend(question for question in made if question)
    return out + [question for _, _, question in draw_questions(1500, 250, 42)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The default sample on disk, with its counts."""
    folder = tmp_path_factory.mktemp("sample")
    return folder, generate(folder)


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def digest(folder: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(folder.iterdir()))).hexdigest()


def test_every_template_has_a_checker():
    """No template without an independent recomputation, no checker without a template."""
    assert set(CHECKS) == set(BY_KEY) and len(BY_KEY) == len(TEMPLATES)


@pytest.mark.parametrize("key", CHECKS)
def test_correct_answer_by_another_route(key):
    """The correct answer agrees with one computed in another way, over many draws."""
    template, rng = BY_KEY[key], random.Random(key)
    for _ in range(400):
        params = SimpleNamespace(**template.draw(rng))
        assert CHECKS[key](params, bare(template.answer(params))), params


def test_each_template_makes_questions_and_each_slip_a_label(drawn):
    """Every misconception in the mapping explains a drawable wrong option, and in several templates none is idle."""
    assert {question.template.key for question in drawn} == set(BY_KEY)
    missing = set()
    for template in TEMPLATES:
        rng, found = random.Random(template.key), set()
        for _ in range(400):
            params = SimpleNamespace(**template.draw(rng))
            for explanations in template.explain(params).values():
                if len(explanations) == 1 and template.print(explanations[0][1], params):
                    found.add(explanations[0][0].text)
        missing |= {(template.key, slip.text) for slip in template.slips} - {(template.key, text) for text in found}
    assert not missing


def test_label_is_what_its_procedure_yields_and_no_other_does(drawn):
    """Rerunning a labelled option's procedure gives its value; no other slip of the template gives it too."""
    for question in drawn:
        for option in question.options:
            if option.label is None:
                continue
            yields = [slip for slip in question.template.slips if bare(slip.run(question.params)) == option.value]
            assert yields == [option.slip]
            assert option.value != bare(question.template.answer(question.params))
            assert LISTED[option.label].rstrip() == option.slip.text


def test_generic_distractor_is_explained_by_nothing(drawn):
    """A wrong option that names no slip has a value that no slip yields."""
    for question in drawn:
        found = question.template.explain(question.params)
        right = bare(question.template.answer(question.params))
        for place, option in enumerate(question.options):
            if option.slip is None and place != question.correct:
                assert option.value not in found and option.value != right


def test_options_differ(drawn):
    """Four options, pairwise different as values and as text, and one of them correct."""
    for question in drawn:
        assert len(question.options) == 4
        assert len({option.text for option in question.options}) == 4
        assert len({option.value for option in question.options}) == 4
        right = question.options[question.correct]
        assert right.label is None
        if not question.dialogue:
            assert right.value == bare(question.template.answer(question.params))


def test_dialogue_names_the_right_learner(drawn):
    """In a dialogue the correct option is the learner whose answer is right, or neither."""
    spoken = [question for question in drawn if question.dialogue]
    assert len(spoken) > 50
    for question in spoken:
        right = bare(question.template.answer(question.params))
        correct = [option for option in question.options if option.value == right]
        expected = correct or [option for option in question.options if option.text.startswith("Neither")]
        assert expected == [question.options[question.correct]]


def test_no_slot_is_left_in_a_text(drawn):
    """Every slot of a wording is filled, every LaTeX delimiter closed."""
    for question in drawn:
        for text in (question.text, *(option.text for option in question.options)):
            assert not re.search(r"<\w+>", text) and "None" not in text.replace("None of", "")
            assert text.count("\\(") == text.count("\\)") and text.count("{") == text.count("}")


def test_corpus_is_wide_enough():
    """At least 60 procedures, 320 texts, 12 subjects, 60 constructs; three wordings a template."""
    procedures = {id(slip.procedure) for template in TEMPLATES for slip in template.slips}
    assert len(procedures) >= 60 and len(CORPUS) >= 320
    assert len({template.subject for template in TEMPLATES}) >= 12
    assert len({template.construct for template in TEMPLATES}) == len(TEMPLATES) >= 60
    for template in TEMPLATES:
        assert len(set(template.wordings)) >= 3
        assert len({slip.text for slip in template.slips}) == len(template.slips)


def test_every_text_has_a_procedure_and_some_stand_twice():
    """The mapping holds the texts of slips and nothing else; a few under two ids, apart by line breaks only."""
    texts = {slip.text for template in TEMPLATES for slip in template.slips}
    counts = Counter(text.rstrip() for text in LISTED)
    assert set(counts) == texts and len(set(LISTED)) == len(LISTED)
    assert 1 <= sum(count == 2 for count in counts.values()) == len(LISTED) - len(texts)


def test_schema(files):
    """Columns and their order, float ids in range, empty for the correct option, one label a row at least."""
    folder, counts = files
    train, test = rows(folder / "train.csv"), rows(folder / "test.csv")
    assert list(train[0]) == COLUMNS and list(test[0]) == COLUMNS[:11]
    assert (len(train), len(test)) == (counts["questions"], counts["test_questions"]) == (1500, 250)
    labelled = 0
    for row in train:
        labels = {letter: row[f"Misconception{letter}Id"] for letter in "ABCD"}
        assert labels[row["CorrectAnswer"]] == "" and any(labels.values())
        for label in filter(None, labels.values()):
            assert re.fullmatch(r"\d+\.0", label) and float(label) < counts["misconceptions"]
            labelled += 1
    assert labelled == counts["labelled"]
    assert 2.2 < labelled / len(train) < 2.8
    numbers = [int(row["QuestionId"]) for row in train + test]
    assert numbers == sorted(set(numbers)) and numbers[0] == 0 and numbers[-1] >= len(numbers)
    mapping = rows(folder / "misconception_mapping.csv")
    assert [int(row["MisconceptionId"]) for row in mapping] == list(range(counts["misconceptions"]))
    assert [row["MisconceptionName"] for row in mapping] == list(LISTED)


def test_ids_of_constructs_and_subjects(files):
    """A name has one id and an id one name."""
    folder, _ = files
    every = rows(folder / "train.csv") + rows(folder / "test.csv")
    for kind in ("Construct", "Subject"):
        pairs = {(row[f"{kind}Id"], row[f"{kind}Name"]) for row in every}
        assert len(pairs) == len({pair[0] for pair in pairs}) == len({pair[1] for pair in pairs})


def test_submission_matches_test(files):
    """A row for every wrong option of the test questions, in order, with 25 distinct ids."""
    folder, counts = files
    expected = [
        f"{row['QuestionId']}_{letter}"
        for row in rows(folder / "test.csv")
        for letter in "ABCD"
        if letter != row["CorrectAnswer"]
    ]
    submission = rows(folder / "sample_submission.csv")
    assert [row["QuestionId_Answer"] for row in submission] == expected
    for row in submission:
        ids = row["MisconceptionId"].split(" ")
        assert len(set(ids)) == 25 and all(0 <= int(text) < counts["misconceptions"] for text in ids)


def test_texts_vary(files):
    """Some texts have several lines, tables or pictures, some questions come twice."""
    folder, _ = files
    texts = [row["QuestionText"] for row in rows(folder / "train.csv")]
    assert sum("\n" in text for text in texts) > 100
    assert any("![" in text for text in texts) and any("tabular" in text for text in texts)
    assert 5 < len(texts) - len(set(texts)) < 150


@pytest.mark.parametrize("seed", [1, 42])
def test_train_leaves_misconceptions_to_test(seed):
    """Frequencies have a long tail; train never labels 15 to 25 per cent; most test rows rest on those."""
    labels = {"train": Counter(), "test": Counter()}
    for split, _, question in draw_questions(1500, 250, seed):
        labels[split].update(option.slip.text for option in question.options if option.label is not None)
    assert 0.15 < 1 - len(labels["train"]) / len(CORPUS) < 0.26
    unseen = sum(count for text, count in labels["test"].items() if text not in labels["train"])
    assert 0.3 < unseen / labels["test"].total() < 0.8
    ordered = sorted(labels["train"].values(), reverse=True)
    assert sum(ordered[: len(ordered) // 5]) > 0.4 * sum(ordered)


def test_bytes_depend_on_the_seed_alone(tmp_path):
    """One seed gives one set of bytes, whatever the hash seed of the process; another seed gives other bytes."""
    script = "import sys; from pathlib import Path; from rounds.data.synthetic.maths import generate; generate(Path(sys.argv[1]), 300, 60, int(sys.argv[2]))"
    digests = []
    for hash_seed, seed in (("1", "42"), ("2", "42"), ("1", "43")):
        folder = tmp_path / f"{hash_seed}-{seed}"
        folder.mkdir()
        source = str(Path(maths.__file__).parents[3])
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": source}
        subprocess.run([sys.executable, "-c", script, str(folder), seed], check=True, env=environment)
        digests.append(digest(folder))
    assert digests[0] == digests[1] != digests[2]


def test_progress_wraps_the_loop(tmp_path):
    """The callback gets the stream with its total and changes no byte."""
    seen = []

    def progress(stream, total):
        seen.append(total)
        return stream

    for name, callback in (("plain", None), ("wrapped", progress)):
        (tmp_path / name).mkdir()
        generate(tmp_path / name, 40, 10, 7, callback)
    assert seen == [50] and digest(tmp_path / "plain") == digest(tmp_path / "wrapped")
