"""Queries without markup."""

import random
import re
import time

import pytest

from rounds.config.loader import load
from rounds.data import latex
from rounds.data.dataset import Query
from rounds.data.prompts import query_text
from rounds.report import mathml


@pytest.mark.parametrize(
    ("source", "plain"),
    [
        (r"Add \( 2 \) and \[ 3 \]", "Add 2 and 3"),
        (r"\( \frac{1}{5} \times 9 \)", "1/5 ×9"),
        (r"\begin{tabular}{|c|c|} \hline r & 1 \\ \hline f & 6 \\ \hline \end{tabular}", "r 1 f 6"),
        (r"\( 50 \% \) of \( x^{2} \)", "50 % of x^2"),
        ("![A line of 3 dots]() How many?", "A line of 3 dots How many?"),
        ("5 % of it", "5 % of it"),
        (r"\( }{ \)", "}{"),
        (r"\( 2\frac{1}{3} \) or \( \frac{21}3 \)", "2 1/3 or 21/3"),
        (r"\( 2{\frac{1}{3}} \) or \( 2\mathbf{\frac{1}{3}} \) or \( 2\!\frac{1}{3} \)", "2 1/3 or 2 1/3 or 2 1/3"),
        (r"\( \frac{2}{3}^{2} \) or \( x^\frac{1}{2} \)", "(2/3)^2 or x^(1/2)"),
        (r"\( 3\ne4 \), \( 5\colon3 \), \( 20\cent \)", "3≠4 , 5:3 , 20¢"),
        (r"\( 2^{\text {nd }} \) of \( x^{ 2 } \)", "2^nd of x^2"),
        (r"\( \binom{5}{2} \) and \( {1 \over 2} \)", r"\binom{5}{2} and {1 \over 2}"),
        (r"\( \overline{x}+1 \)", "x+1"),
        (r"\( \frac{3}{4}\dfrac{1}{2} \cfrac{1}{3}x \)", "3/4 1/2 1/3 x"),
        (r"\( \frac{x+1}{2} \) or \( x+\frac12 \)", "(x+1)/2 or x+1/2"),
        (r"\( \frac{1}{x+2}=\frac{\frac{1}{2}}{3} \)", "1/(x+2)=(1/2)/3"),
        (r"\( x^{a+b}-x_{n-1}^{2} \)", "x^(a+b)-x_(n-1)^2"),
        (r"\( 2^{3}4 \) or \( 2^{34} \)", "2^3 4 or 2^34"),
        (r"\( 5^{\frac{1}{2}} \) and \( 10^{-3} \)", "5^(1/2) and 10^(-3)"),
        (r"\( \pounds 5 \) at \( 90\degree \) is \( \bigstar \)", "£5 at 90° is ★"),
        (r"\( \frac{50%}{2} \) of \( 5\% \)", "50%/2 of 5%"),
        (r"\begin{array}{c} 5% \\ 6% \end{array}", "[ 5%; 6% ]"),
        (r"\( a \\% b \)", "a % b"),
        (r"Add \( \frac{1} \)", r"Add \frac{1}"),
        (r"\( \sqrt{3", r"\( \sqrt{3"),
        (r"\( \sqrt{2} + \sqrt[3]{8} \)", "√(2) + ³√(8)"),
        (r"\( \sqrt[n]{\sqrt{\frac{1}{2}}} \)", "ⁿ√(√(1/2))"),
        ("", ""),
    ],
)
def test_markup_becomes_what_it_says(source, plain):
    assert latex.words(source) == plain


@pytest.mark.parametrize(
    "source",
    [
        r"\frac{1}{" * 400 + "2" + "}" * 400,
        "{" * 5000,
        r"\sqrt" * 3000,
        r"\begin{a}" * 3000 + r"\end{a}",
        r"\left(" * 3000,
    ],
    ids=["nested fractions", "open braces", "roots", "environments", "parentheses"],
)
def test_markup_that_is_nested_too_deeply_is_kept(source):
    """The parser calls itself at each level; a formula that it cannot take is a text like any other."""
    assert latex.words(rf"Add \( {source} \)!").endswith("!")
    if not source.startswith((r"\left", r"\begin")):
        assert latex.words(rf"\( {source} \)") == source


def find_slowly(text: str) -> list[tuple[int, int, str]]:
    """Find formulas by one expression, which takes quadratic time where they are not closed."""
    pattern = re.compile(r"\\\((.*?)\\\)|\\\[(.*?)\\\]|(\\begin\{(\w+)\}.*?\\end\{\4\})", re.DOTALL)
    return [
        (match.start(), match.end(), next(group for group in match.groups()[:3] if group is not None))
        for match in pattern.finditer(text)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_formulas_and_pictures_are_those_of_an_expression(seed):
    """Against regular expressions, on random texts of opened and closed marks."""
    generator = random.Random(seed)
    marks = [r"\(", r"\)", r"\[", r"\]", r"\begin{a}", r"\end{a}", r"\begin{b}", r"\end{b}", "\\", " x ", "\n"]
    marks += ["![", "](", ")", "]", "(", "!"]
    for _ in range(300):
        text = "".join(generator.choices(marks, k=generator.randint(0, 14)))
        assert list(latex.find_formulas(text)) == find_slowly(text)
        assert latex.replace_pictures(text, "<{}>") == re.sub(r"!\[([^\]]*)\]\([^)]*\)", r"<\1>", text)


@pytest.mark.parametrize("mark", [r"\( ", r"\[ ", r"\begin{a} ", "![ ", "![a]( ", "![ ] "])
def test_marks_that_are_never_closed_take_linear_time(mark):
    """Ten thousand of them take less than a second, in queries and on the report's page."""
    start = time.perf_counter()
    assert len(latex.words(mark * 10_000)) == len(mark * 10_000) - 1
    assert not any(is_latex for _, is_latex in mathml.split_formulas(mark * 10_000))
    assert time.perf_counter() - start < 1


def test_lines_stay_lines():
    assert latex.words("One\n\n\\( 2 \\)\n") == "One\n2"


def test_a_recipe_chooses_between_markup_and_words():
    fields = {"construct": "Add", "subject": "Sums", "question": r"\( 1 + 1 \)?", "correct": r"\( 2 \)", "wrong": "11"}
    recipe = load("minilm")
    assert query_text(Query("5_B", "5", fields), recipe.prompts).splitlines()[2:4] == [r"\( 1 + 1 \)?", r"\( 2 \)"]
    recipe = recipe.replace("prompts", latex="words")
    assert query_text(Query("5_B", "5", fields), recipe.prompts).splitlines()[2:] == ["1 + 1 ?", "2", "11"]
