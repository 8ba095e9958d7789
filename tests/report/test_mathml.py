"""LaTeX becomes MathML elements, and hostile LaTeX stays text."""

from xml.etree import ElementTree

import pytest

from rounds.report import mathml


@pytest.mark.parametrize(
    ("source", "part"),
    [
        (r"\frac{1}{2}", "<mfrac>"),
        (r"6.9 \times 10^{7}", "<msup>"),
        (r"85^{\circ}", "∘"),
        (r"\begin{array}{l}a&b\\c\end{array}", "<mtable>"),
        ("a < b & c", "&lt;"),
    ],
)
def test_latex_becomes_mathml(source, part):
    """Fractions, powers and tables become their elements; XML's special characters are escaped."""
    converted = mathml.convert(source)
    assert part in converted and ElementTree.fromstring(converted).tag.endswith("math")


@pytest.mark.parametrize(
    "source",
    [
        r"\text{<script>alert(1)</script>}",
        r"\text{</script><img src=x onerror=alert(1)>}",
        r"\href{javascript:alert(1)}{x}",
        r"\style{background:url(//x)}{b}",
        r"\class{a}{b}",
        r"\text{&lt;b onload=x&gt;}",
    ],
)
def test_hostile_latex_stays_text(source):
    """Only allowed elements and attributes remain."""
    for element in ElementTree.fromstring(mathml.convert(source)).iter():
        assert element.tag.partition("}")[2] in mathml.TAGS
        assert set(element.attrib) <= mathml.ATTRIBUTES


@pytest.mark.parametrize("source", [r"\frac{", r"\left(", r"\begin{array}{l}a", "^", "}{"])
def test_invalid_latex_is_not_converted(source):
    """The converter returns None, so that the page shows the source."""
    assert mathml.convert(source) is None


def test_splitting_keeps_all_text_in_order():
    """Text and formulas alternate in their order, and an image is replaced by its alt text."""
    parts = mathml.split_formulas(r"a \(x\) b \[y\] ![A line](f.png)")
    assert parts == [("a ", False), ("x", True), (" b ", False), ("y", True), (" [A line]", False)]
