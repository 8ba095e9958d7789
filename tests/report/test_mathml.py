"""MathML: formulas are elements, and no text becomes anything else."""

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
    """Fractions, powers, tables; signs of XML are escaped."""
    found = mathml.convert(source)
    assert part in found and ElementTree.fromstring(found).tag.endswith("math")


@pytest.mark.parametrize(
    "source",
    [
        r"\text{<script>alert(1)</script>}", r"\text{</script><img src=x onerror=alert(1)>}",
        r"\href{javascript:alert(1)}{x}", r"\style{background:url(//x)}{b}", r"\class{a}{b}",
        r"\text{&lt;b onload=x&gt;}",
    ],
)  # fmt: skip
def test_hostile_latex_stays_text(source):
    """No element and no attribute that could do anything."""
    found = mathml.convert(source)
    for element in ElementTree.fromstring(found).iter():
        assert element.tag.partition("}")[2] in mathml.TAGS
        assert set(element.attrib) <= mathml.ATTRIBUTES


@pytest.mark.parametrize("source", [r"\frac{", r"\left(", r"\begin{array}{l}a", "^", "}{"])
def test_what_is_no_latex_is_none(source):
    """The page shows its source then; whatever can be read is well-formed."""
    found = mathml.convert(source)
    assert found is None or ElementTree.fromstring(found) is not None


def test_parts_lose_nothing():
    """Text and formulas in their order; a picture is its alt text."""
    assert mathml.parts(r"a \(x\) b \[y\] ![A line](f.png)") == [
        ("a ", False), ("x", True), (" b ", False), ("y", True), (" [A line]", False),
    ]  # fmt: skip
