"""Page: the report as one HTML file that asks nothing of a network: styles, scripts, charts and data stand in it."""

import json
from functools import cache
from pathlib import Path

import jinja2
import vl_convert

from rounds.evaluation import tables
from rounds.report import charts, query_browser
from rounds.report.charts import Plot
from rounds.report.facts import Facts

SCRIPTS = ("theme.js", "charts.js", "tables.js", "browser.js")

SECTIONS = {  # anchor: heading, and what to know before reading its charts
    "curve": (
        "Scores by epoch",
        "Level lines are what zero-shot and BM25 score on the same queries. "
        "Seen passages are those that training labels.",
    ),
    "compared": ("Comparison", ""),
    "recall": ("Recall against k", ""),
    "ranks": (
        "Rank of the gold passage",
        "Each cell counts queries by the rank of their gold passage before (rows) and after (columns) a round; "
        "beyond: not among the passages that were ranked.",
    ),
    "negatives": ("Negatives", ""),
    "leaderboard": ("CV against LB", ""),
    "dims": ("Dimensions", ""),
    "sweep": ("Sweep", ""),
    "cv": (
        "Cross-validation",
        "Reranker and fusion learn on all folds but the one that they rank; the rounds' rows are of the same folds.",
    ),
    "cost": ("Time and memory", "As the stages' manifests say; validation queries are encoded while a round trains."),
    "lineage": ("Lineage", ""),
    "browser": ("Error browser", ""),
}

EMPTY = {  # what to do where a section has nothing to show
    "curve": "No round was trained with validation queries yet: make round1.",
    "recall": "No run of a round is on disk: make round1.",
    "ranks": "No round was evaluated yet: make round1.",
    "negatives": "No round was mined yet: make round1.",
    "leaderboard": "No submission of this split has a leaderboard score yet: make submit, then make lb.",
    "dims": "The vectors of zero-shot and of a round are needed: make round1.",
    "sweep": "No sweep of this split yet: make sweep.",
    "cv": "Rounds and second stages were not cross-validated yet: make cv.",
    "cost": "No stage has finished yet.",
    "lineage": "No round was trained yet: make round1.",
}


def render_page(facts: Facts, drawn: list[Plot], live: bool = False) -> str:
    """The page.

    Args:
        drawn: charts, as `plots.draw` returns them.
        live: add the panel of the round that trains; it asks the server that sent the page.
    """
    return _environment().get_template("report.html").render(
        facts=facts,
        live=live,
        sections=SECTIONS,
        empty=EMPTY,
        plots={name: [plot for plot in drawn if plot.section == name] for name in SECTIONS},
        specs=as_json({plot.name: plot.spec for plot in drawn}),
        themes=as_json({"light": charts.theme(dark=False), "dark": charts.theme(dark=True)}),
        queries=as_json(query_browser.build(facts.data, facts.ranked)),
        main=[tables.header(), *tables.cells(facts.rows)] if facts.rows else [],
        caption=tables.CAPTION,
        vega=_inline(_vega()),
        style=_file("report.css"),
        scripts=[_inline(_file(name)) for name in (*SCRIPTS, *(["live.js"] if live else []))],
    )  # fmt: skip


def as_json(value: object) -> str:
    r"""JSON that may stand in a `<script>`: no `<` ends it early.

    >>> as_json({"a": "</script>"})
    '{"a":"\\u003c/script>"}'
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _inline(script: str) -> str:
    """A script that may stand in a `<script>`; within JavaScript, `</script` can only be in a string."""
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")


@cache
def _vega() -> str:
    """Vega, Vega-Lite and vega-embed as one script."""
    return vl_convert.javascript_bundle()


def _file(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def _environment() -> jinja2.Environment:
    loader = jinja2.PackageLoader("rounds.report", "templates")
    return jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
