"""Tables: an answer as HTML, with formulas as MathML, so that the page needs no script and no font for them."""

from collections.abc import Sequence
from html import escape

from rounds.demo.search import Answer, NearestQuery, RankedPassage, Ranking
from rounds.report import mathml

SCORE_DECIMALS = 4


def render_answer(answer: Answer) -> str:
    """Return the query as the models read it, its labels, and each model's ranking beside the others."""
    labels = f'<p class="labels">Labelled: {_texts(answer.labels)}</p>' if answer.labels else ""
    query = f'<div class="query"><h3>Query</h3><p class="text" dir="auto">{render_text(answer.text)}</p>{labels}</div>'
    rankings = "".join(_render_ranking(ranking, bool(answer.labels)) for ranking in answer.rankings)
    return f'<div class="answer">{query}<div class="rankings">{rankings}</div></div>'


def render_message(text: str) -> str:
    """Return what the page shows in the place of an answer."""
    return f'<p class="message" role="alert">{escape(text)}</p>'


def render_text(text: str) -> str:
    r"""Return a text with its markup escaped and its formulas as MathML; invalid LaTeX is shown as it was written.

    >>> render_text("1 < 2")
    '1 &lt; 2'
    >>> render_text(r"\( \frac{ \)")
    '<code dir="ltr">\\frac{</code>'
    """
    parts = []
    for part, is_latex in mathml.split_formulas(text):
        formula = mathml.convert(part) if is_latex else None
        parts.append(formula or (f'<code dir="ltr">{escape(part)}</code>' if is_latex else escape(part)))
    return "".join(parts)


def _render_ranking(ranking: Ranking, has_labels: bool) -> str:
    title = escape(ranking.title)
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in ranking.notes)
    rows = "".join(_render_passage(rank, passage) for rank, passage in enumerate(ranking.passages, 1))
    head = '<thead><tr><th class="number">rank</th><th class="number">score</th><th>passage</th></tr></thead>'
    missed = has_labels and not any(passage.is_labelled for passage in ranking.passages)
    foot = f'<p class="note">The label is not among the first {len(ranking.passages)}.</p>' if missed else ""
    return (
        f'<section class="ranking" aria-label="{title}"><h3>{title}</h3><div>{notes}{_render_nearest(ranking.nearest)}'
        f'</div><div><table aria-label="passages by {title}">{head}<tbody>{rows}</tbody></table>{foot}</div></section>'
    )


def _render_passage(rank: int, passage: RankedPassage) -> str:
    mark = ' <span class="badge">label</span>' if passage.is_labelled else ""
    row_class = ' class="labelled"' if passage.is_labelled else ""
    return (
        f'<tr{row_class} data-passage="{escape(passage.id)}"><td class="number">{rank}</td>'
        f'<td class="number">{passage.score:.{SCORE_DECIMALS}f}</td>'
        f'<td dir="auto">{render_text(passage.text)}{mark}</td></tr>'
    )


def _render_nearest(nearest: NearestQuery | None) -> str:
    if nearest is None:
        return '<p class="note">The split has no training queries.</p>'
    return (
        '<div class="nearest"><h4>Nearest training query, '
        f"{nearest.measure} {nearest.similarity:.{SCORE_DECIMALS}f}</h4>"
        f'<p class="text" dir="auto">{render_text(nearest.text)}</p>'
        f'<p class="labels">Labelled: {_texts(nearest.labels)}</p></div>'
    )


def _texts(texts: Sequence[str]) -> str:
    return "; ".join(f"<bdi>{render_text(text)}</bdi>" for text in texts)
