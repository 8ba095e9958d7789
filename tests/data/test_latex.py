"""Queries without markup."""

import pytest

from rounds.config.loader import load
from rounds.data import latex
from rounds.data.dataset import Query
from rounds.data.prompts import query_text


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
        (r"\( \sqrt{3", r"\( \sqrt{3"),
        ("", ""),
    ],
)
def test_markup_becomes_what_it_says(source, plain):
    assert latex.words(source) == plain


def test_lines_stay_lines():
    assert latex.words("One\n\n\\( 2 \\)\n") == "One\n2"


def test_a_recipe_chooses_between_markup_and_words():
    fields = {"construct": "Add", "subject": "Sums", "question": r"\( 1 + 1 \)?", "correct": r"\( 2 \)", "wrong": "11"}
    recipe = load("minilm")
    assert query_text(Query("5_B", "5", fields), recipe.prompts).splitlines()[2:4] == [r"\( 1 + 1 \)?", r"\( 2 \)"]
    recipe = recipe.replace("prompts", latex="words")
    assert query_text(Query("5_B", "5", fields), recipe.prompts).splitlines()[2:] == ["1 + 1 ?", "2", "11"]
