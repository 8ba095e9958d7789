"""HTML: the report as one self-contained file; styles, scripts, charts and data are embedded, nothing is fetched."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jinja2
import vl_convert

from rounds.evaluation import tables
from rounds.report import charts, query_browser
from rounds.report.charts import Plot
from rounds.report.facts import Facts

SCRIPTS = ("theme.js", "charts.js", "tables.js")  # of every page


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        heading: Its heading, also its name in the navigation.
        empty: Shown if there is no data for it, with the command that produces some.
        note: What to know before reading it.
    """

    heading: str
    empty: str
    note: str = ""


SECTIONS = {  # by anchor, in the page's order
    "curve": Section(
        "Scores by epoch",
        "No round has been trained with validation queries yet: make round1.",
        "Level lines are the scores of zero-shot and BM25 on the same queries. "
        "Seen passages are those that the training set labels.",
    ),
    "compared": Section("Comparison", "No round has been evaluated yet: make round1."),
    "recall": Section("Recall against k", "No round's run is on disk: make round1."),
    "ranks": Section(
        "Rank of the gold passage",
        "No round has been evaluated yet: make round1.",
        "Each cell counts queries by the rank of their gold passage before (rows) and after (columns) a round; "
        "beyond: not among the ranked passages.",
    ),
    "negatives": Section("Negatives", "No round has been mined yet: make round1."),
    "leaderboard": Section(
        "CV against LB", "No submission of this split has a leaderboard score yet: make submit, then make lb."
    ),
    "dims": Section("Dimensions", "This needs the vectors of zero-shot and of one round: make round1."),
    "sweep": Section("Sweep", "No sweep has been run on this split yet: make sweep."),
    "cv": Section(
        "Cross-validation",
        "Rounds and second stages have not been cross-validated yet: make cv (with SPLIT=v6, if the report has it).",
        "Reranker and fusion are trained on all folds but the one that they rank; "
        "the rounds' rows are measured on the same folds.",
    ),
    "cost": Section(
        "Time and memory",
        "No stage has finished yet.",
        "From the stages' manifests; validation queries are encoded while a round trains.",
    ),
    "lineage": Section("Lineage", "No round has been trained yet: make round1."),
    "browser": Section("Error browser", ""),
}


def render_page(facts: Facts, plots: list[Plot], live: bool = False) -> str:
    """Render the report as HTML.

    Args:
        facts: The report's content.
        plots: Charts, as `charts.draw_plots` returns them.
        live: Add the panel of the round in training, which polls the server that sent the page.
    """
    scripts = [*SCRIPTS, "browser.js", *(["live.js"] if live else [])]
    return render_template(
        "report.html",
        facts.title,
        SECTIONS,
        plots,
        scripts,
        facts=facts,
        live=live,
        queries=as_json(query_browser.build_browser_data(facts.data, facts.ranked)),
        main_table=tables.main_table(facts.rows).lines if facts.rows else [],
        main_caption=tables.CAPTION,
    )


def render_template(
    name: str,
    title: str,
    sections: Mapping[str, Section],
    plots: Sequence[Plot],
    scripts: Sequence[str] = SCRIPTS,
    **content: object,
) -> str:
    """Render a page that extends `layout.html`.

    Args:
        name: The page's template.
        title: Heading of the page.
        sections: The page's sections by anchor, in order.
        plots: Charts; each names its section.
        scripts: The page's own scripts, `theme.js` first.
        content: Further values that the template reads.
    """
    return _template(name).render(
        title=title,
        sections=sections,
        plots={anchor: [plot for plot in plots if plot.section == anchor] for anchor in sections},
        specs=as_json({plot.name: plot.spec for plot in plots}),
        themes=as_json({"light": charts.theme(dark=False), "dark": charts.theme(dark=True)}),
        vega=_escape_script(_vega()),
        style=_read_template("report.css"),
        scripts=[_escape_script(_read_template(script)) for script in scripts],
        **content,
    )


def as_json(value: object) -> str:
    r"""Serialize a value as JSON that is safe inside a `<script>` element: it holds no `<` that could end it early.

    >>> as_json({"a": "</script>"})
    '{"a":"\\u003c/script>"}'
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _escape_script(script: str) -> str:
    """Escape JavaScript for a `<script>` element; `</script` and `<!--` occur in string literals only."""
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")


@cache
def _vega() -> str:
    """Return Vega, Vega-Lite and vega-embed as one script."""
    return vl_convert.javascript_bundle()


def _read_template(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def _template(name: str) -> jinja2.Template:
    loader = jinja2.PackageLoader("rounds.report", "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.get_template(name)
