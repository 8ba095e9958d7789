"""Tables: texts of the data never become markup, and formulas are MathML."""

from rounds.demo.search import Answer, NearestQuery, RankedPassage, Ranking
from rounds.demo.tables import render_answer, render_message, render_text

HOSTILE = '<script>alert(1)</script> ${7*7} {{x}} & "quoted"'
ESCAPED = "&lt;script&gt;alert(1)&lt;/script&gt;"


def ranking(**changes) -> Ranking:
    passages = [RankedPassage("p1", r"Adds \( \frac{1}{2} \)", 0.91234), RankedPassage("p2", HOSTILE, 0.5)]
    values = {
        "passages": passages,
        "nearest": NearestQuery("1 + 1?", ["Adds", "Joins"], 0.98765, "cosine"),
        "notes": [],
    }
    return Ranking("round 1", **{**values, **changes})


def test_each_passage_is_a_row_with_rank_and_score():
    """Ranks begin at 1, scores have four decimals, and formulas are drawn."""
    page = render_answer(Answer("1 + 1?", [], [ranking()]))
    rows = page.split("<tr")[2:]
    assert len(rows) == 2 and 'data-passage="p1"' in rows[0] and ">1</td>" in rows[0] and ">0.9123</td>" in rows[0]
    assert "<mfrac>" in rows[0] and ">2</td>" in rows[1] and ">0.5000</td>" in rows[1]


def test_the_nearest_training_query_has_its_labels_and_similarity():
    """All of its labels are listed; where there are no training queries, a sentence says so."""
    page = render_answer(Answer("1 + 1?", [], [ranking()]))
    assert "cosine 0.9877" in page and "<bdi>Adds</bdi>; <bdi>Joins</bdi>" in page
    assert "no training queries" in render_answer(Answer("1 + 1?", [], [ranking(nearest=None)]))


def test_labelled_passages_are_marked_or_missed():
    """A model that does not rank the label says so; a typed query that has none says nothing."""
    found = ranking(passages=[RankedPassage("p1", "Adds", 1.0, is_labelled=True)])
    page = render_answer(Answer("1 + 1?", ["Adds"], [found, ranking()]))
    assert page.count("badge") == 1 and page.count("not among the first 2.") == 1
    assert "not among" not in render_answer(Answer("1 + 1?", [], [ranking()]))


def test_markup_in_texts_stays_text():
    """In the query, passages, labels, notes and messages."""
    nearest = NearestQuery(HOSTILE, [HOSTILE], 1.0, "cosine")
    page = render_answer(Answer(HOSTILE, [HOSTILE], [ranking(nearest=nearest, notes=[HOSTILE])]))
    assert "<script>" not in page and page.count(ESCAPED) == 6
    assert ESCAPED in render_message(HOSTILE) and "&quot;quoted&quot;" in render_text(HOSTILE)
