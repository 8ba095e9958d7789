"""Plots: the report's frames as Altair charts, for the page and as PNGs.

Colours are Okabe and Ito's, which people with any colour vision tell apart; what colours say, dashes or shapes say too.
"""

from dataclasses import dataclass
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd
import vl_convert

from rounds.data import lineage
from rounds.mining.statistics import BINS, MinedStatistics
from rounds.report.facts import BM25, PARTS, Facts, Ranked

BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, YELLOW, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999",
)  # fmt: skip

ON_LIGHT = [BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, GREY, YELLOW]

ON_DARK = [SKY, ORANGE, GREEN, PURPLE, YELLOW, VERMILION, GREY, BLUE]

# Of lines, in the colours' order.
DASHES = [[1, 0], [7, 3], [2, 2], [9, 3, 2, 3], [12, 3], [4, 4], [2, 5], [6, 2, 2, 2]]

WIDTH, HEIGHT = 560, 260

STEPS = ["1", "2", "3", "4-5", "6-10", "11-25", "26-100", "beyond"]

EDGES = [1, 2, 3, 5, 10, 25, 100]

SCALE = 2  # pixels of a PNG for each of a screen


# Legends below each other, so that none is cut on a narrow screen.
STACKED = {"orient": "bottom", "columns": 3, "labelLimit": 150, "layout": {"bottom": {"direction": "vertical"}}}

BAR, AROUND = 34, 60  # pixels of a bar with its gap, and of what stands around all bars


@dataclass(frozen=True)
class Plot:
    """A chart with its place on the page.

    Attributes:
        name: of its PNG.
        section: the page's section that it stands in.
        title: above it.
        text: what it shows, for who cannot see it.
        chart: as wide as its place; the page and the PNG add a theme.
    """

    name: str
    section: str
    title: str
    text: str
    chart: alt.Chart | alt.LayerChart
    height: int = HEIGHT

    @property
    def spec(self) -> dict:
        """Vega-Lite, as JSON."""
        chart = self.chart.properties(width="container", height=self.height, description=f"{self.title}. {self.text}")
        return {**chart.to_dict(), "autosize": {"type": "fit", "contains": "padding"}}


def theme(dark: bool) -> dict:
    """A Vega-Lite config: quiet axes, readable on either ground."""
    ink, line, ground = ("#e6e6e6", "#444b55", "#14171c") if dark else ("#1b1f24", "#d5d9df", "#ffffff")
    colours = ON_DARK if dark else ON_LIGHT
    symbols = {"symbolStrokeWidth": 2.5, "symbolBaseFillColor": "transparent", "symbolBaseStrokeColor": ink}
    words = {"labelColor": ink, "titleColor": ink, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": 500}
    return {
        "background": ground,
        "font": "system-ui, sans-serif",
        "axis": {**words, "gridColor": line, "domainColor": line, "tickColor": line, "labelOverlap": True},
        "legend": {**words, **STACKED, **symbols},
        "title": {"color": ink},
        "text": {"color": ink},
        "view": {"stroke": None},
        "range": {"category": colours, "ordinal": [colours[0], GREY, ORANGE]},  # ordinal: gained, same, lost
        "mark": {"color": colours[0]},
    }


def draw(facts: Facts) -> list[Plot]:
    """Every chart that the facts have something for, in the page's order."""
    plots = [curve(facts.epochs, part) for part in PARTS if (facts.epochs["part"] == part).any()]
    plots += [recall(facts.recall)] if len(facts.recall) else []
    plots += [moved(one, other) for one, other in zip(facts.dense, facts.dense[1:], strict=False)]
    plots += [leaderboard(facts.lb)] if len(facts.lb) else []
    plots += [dims(facts.dims)] if len(facts.dims) else []
    plots += _negatives(facts.negatives)
    plots += [cost(facts.costs, *each) for each in MEASURED if facts.costs[each[0]].notna().any()]
    return plots


# ---- scores ----------------------------------------------------------------------------------------------------------
def curve(epochs: pd.DataFrame, part: str) -> Plot:
    """MAP@25 and Recall@25 by epoch; zero-shot and BM25 are level lines."""
    own = epochs[epochs["part"] == part]
    series = ["rounds", "zero-shot", BM25]
    dash = alt.StrokeDash(
        "series:N", title=None, scale=alt.Scale(domain=series, range=[[1, 0], [6, 3], [2, 3]]), sort=series
    )
    base = alt.Chart(own).encode(
        x=alt.X("epoch:N", sort=alt.SortField("order"), title="round · epoch", axis=_epochs()),
        y=alt.Y("value:Q", title=None, scale=alt.Scale(domain=[0, 1])),
        color=alt.Color("metric:N", title=None, scale=alt.Scale(domain=["MAP@25", "Recall@25"])),
        tooltip=["epoch", "series", "metric", alt.Tooltip("value", format=".4f")],
    )
    points = base.transform_filter("datum.series == 'rounds'").mark_point(filled=True, size=60, opacity=1)
    lines = base.mark_line(strokeWidth=2.5).encode(strokeDash=dash, detail="series:N")
    title = "All queries" if part == "all" else f"On {part} passages"
    return Plot(f"curve-{part}", "curve", title, _said(own), lines + points)


def _epochs() -> alt.Axis:
    return alt.Axis(labelAngle=0, labelExpr="replace(datum.label, 'round ', '')", grid=False)


def _said(own: pd.DataFrame) -> str:
    last = own[own["order"] == own["order"].max()]
    values = [f"{row.series} {row.metric} {row.value:.3f}" for row in last.itertuples()]
    return f"After the last epoch: {', '.join(values)}."


def recall(frame: pd.DataFrame) -> Plot:
    """Recall@k against k, a line for each run."""
    ticks = alt.Axis(values=[1, 2, 5, 10, 25, 50, 100])
    runs = sorted(dict.fromkeys(frame["run"]), key=lambda run: run == BM25)  # last, so that rounds keep their colours
    chart = (
        alt.Chart(frame)
        .mark_line(strokeWidth=2.5)
        .encode(
            x=alt.X("k:Q", scale=alt.Scale(type="log", domain=[1, 100]), axis=ticks),
            y=alt.Y("value:Q", title="Recall@k", scale=alt.Scale(domain=[0, 1])),
            color=alt.Color("run:N", title=None, sort=runs, scale=alt.Scale(domain=runs)),
            strokeDash=alt.StrokeDash("run:N", title=None, sort=runs, scale=alt.Scale(domain=runs, range=DASHES)),
            tooltip=["run", "k", alt.Tooltip("value", format=".4f")],
        )
    )
    at = frame[frame["k"] == 25]
    text = "At k = 25: " + ", ".join(f"{row.run} {row.value:.3f}" for row in at.itertuples()) + "."
    return Plot("recall", "recall", "Recall against k", text, chart)


def leaderboard(frame: pd.DataFrame) -> Plot:
    """CV against LB, a point for each scored checkpoint."""
    space = alt.Scale(zero=False, padding=20)
    chart = (
        alt.Chart(frame)
        .mark_point(filled=True, size=90, opacity=0.9)
        .encode(
            x=alt.X("CV:Q", title="CV, MAP@25", scale=space, axis=alt.Axis(tickCount=6)),
            y=alt.Y("LB:Q", title="LB, MAP@25", scale=space, axis=alt.Axis(tickCount=6)),
            color=alt.Color("recipe:N", title=None),
            shape=alt.Shape("side:N", title=None),
            tooltip=[
                "recipe",
                "round",
                "side",
                "lineage",
                alt.Tooltip("CV", format=".4f"),
                alt.Tooltip("LB", format=".4f"),
            ],
        )
    )
    dirty = frame[frame["lineage"] != lineage.CLEAN].drop_duplicates(["CV", "lineage"])  # one word for both sides
    words = alt.Chart(dirty).mark_text(dy=-16, color=VERMILION, fontWeight="bold")
    marked = words.encode(x="CV:Q", y="LB:Q", text="lineage:N")
    text = f"{len(frame)} scores of checkpoints that were submitted."
    return Plot("leaderboard", "leaderboard", "CV against LB", text, chart + marked)


def dims(frame: pd.DataFrame) -> Plot:
    """Scores of vectors cut to their first numbers."""
    when = list(dict.fromkeys(frame["when"]))
    chart = (
        alt.Chart(frame)
        .mark_line(strokeWidth=2.5, point=alt.OverlayMarkDef(filled=True, size=60))
        .encode(
            x=alt.X("dimensions:O", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("value:Q", title=None, scale=alt.Scale(domain=[0, 1])),
            color=alt.Color("when:N", title=None, sort=when, scale=alt.Scale(domain=when)),
            strokeDash=alt.StrokeDash("metric:N", title=None, legend=alt.Legend(symbolType="stroke")),
            tooltip=["dimensions", "when", "metric", alt.Tooltip("value", format=".4f")],
        )
    )
    least = frame[(frame["dimensions"] == frame["dimensions"].min()) & (frame["metric"] == "MAP@25")]
    text = f"MAP@25 at {frame['dimensions'].min()} dimensions: "
    text += ", ".join(f"{row.when} {row.value:.3f}" for row in least.itertuples()) + "."
    return Plot("dims", "dims", "Vectors cut to fewer dimensions", text, chart)


# ---- ranks -----------------------------------------------------------------------------------------------------------
def moved(before: Ranked, after: Ranked) -> Plot:
    """How many queries' gold passage went from which ranks to which."""
    pairs = pd.DataFrame({"before": _step(before.ranks), "after": _step(after.ranks)})
    counts = pairs.value_counts().rename("queries").reset_index()
    order = {step: number for number, step in enumerate(STEPS)}
    change = counts["before"].map(order) - counts["after"].map(order)
    counts["what"] = np.select([change > 0, change < 0], ["gained", "lost"], "same")
    level = alt.Axis(labelAngle=0, labelFontSize=10, labelOverlap=False)
    axis = {"scale": alt.Scale(domain=STEPS), "sort": STEPS}
    base = alt.Chart(counts).encode(
        x=alt.X("after:N", title=f"rank in {after.label}", axis=level, **axis),
        y=alt.Y("before:N", title=f"rank in {before.label}", **axis),
        tooltip=["before", "after", "what", "queries"],
    )
    kinds = alt.Scale(domain=["gained", "same", "lost"], range="ordinal")
    cells = base.mark_rect(cornerRadius=3).encode(
        color=alt.Color("what:N", title=None, scale=kinds),
        opacity=alt.Opacity("queries:Q", scale=alt.Scale(type="sqrt", range=[0.12, 0.6]), legend=None),
    )
    gained, lost = (int(counts.loc[counts["what"] == what, "queries"].sum()) for what in ("gained", "lost"))
    text = f"Of {len(pairs)} queries, {gained} went to better ranks and {lost} to worse ones (in the steps shown)."
    name = f"ranks-{after.label.replace(' ', '')}"
    chart = cells + base.mark_text().encode(text="queries:Q")
    return Plot(name, "ranks", f"{before.label} to {after.label}", text, chart)


def _step(ranks: np.ndarray) -> np.ndarray:
    """`STEPS` of ranks; 0 is beyond."""
    return np.array(STEPS)[np.searchsorted(EDGES, np.where(ranks == 0, EDGES[-1] + 1, ranks))]


# ---- negatives and cost ----------------------------------------------------------------------------------------------
def _negatives(negatives: dict[int, MinedStatistics]) -> list[Plot]:
    found = []
    if negatives:
        found.append(sources(negatives))
    if measured := {number: each for number, each in negatives.items() if each.similarity is not None}:
        found += [similarity(measured), false_negatives(measured)]
    return found


def sources(negatives: dict[int, MinedStatistics]) -> Plot:
    """Where each round's negatives came from."""
    rows = [
        {"round": f"round {number}", "source": source, "negatives": count}
        for number, each in negatives.items()
        for source, count in each.sources.items()
    ]
    chart = _bars(pd.DataFrame(rows), "negatives", "round").encode(
        color=alt.Color("source:N", title=None), tooltip=["round", "source", "negatives"]
    )
    text = ", ".join(f"{row['round']}: {row['negatives']} {row['source']}" for row in rows)
    return Plot(
        "sources", "negatives", "Where negatives came from", f"{text}.", chart, AROUND + 40 + BAR * len(negatives)
    )


def similarity(negatives: dict[int, MinedStatistics]) -> Plot:
    """How near a round's negatives are to the positive of their query, in the miner's space."""
    middles = (BINS[:-1] + BINS[1:]) / 2
    rows = [
        {"round": f"round {number}", "cosine": round(float(middle), 3), "share": float(count / each.similarity.sum())}
        for number, each in negatives.items()
        for middle, count in zip(middles, each.similarity, strict=True)
    ]
    chart = (
        alt.Chart(pd.DataFrame(rows))
        .mark_line(strokeWidth=2.5, interpolate="monotone")
        .encode(
            x=alt.X("cosine:Q", title="cosine of negative and positive"),
            y=alt.Y("share:Q", title="negatives", axis=alt.Axis(format="%")),
            color=alt.Color("round:N", title=None),
            strokeDash=alt.StrokeDash("round:N", title=None, scale=alt.Scale(range=DASHES)),
            tooltip=["round", "cosine", alt.Tooltip("share", format=".1%")],
        )
    )
    means = [f"round {number} {np.average(middles, weights=each.similarity):.2f}" for number, each in negatives.items()]
    text = f"Mean cosine: {', '.join(means)}; each round is measured with the checkpoint that mined."
    return Plot("similarity", "negatives", "How near negatives are to the positive", text, chart)


def false_negatives(negatives: dict[int, MinedStatistics]) -> Plot:
    """Share of negatives that their miner scores above the positive."""
    rows = [{"round": f"round {number}", "share": each.false} for number, each in negatives.items()]
    chart = _bars(pd.DataFrame(rows), "share", "round").encode(
        x=alt.X("share:Q", title="negatives", axis=alt.Axis(format="%", tickCount=5)),
        tooltip=["round", alt.Tooltip("share", format=".2%")],
    )
    values = ", ".join(f"{row['round']} {row['share']:.1%}" for row in rows)
    text = f"Scored above the positive by the checkpoint that mined: {values}."
    return Plot("false", "negatives", "How many are probably false", text, chart, AROUND + BAR * len(rows))


def _bars(frame: pd.DataFrame, value: str, name: str) -> alt.Chart:
    bars = alt.Chart(frame).mark_bar(size=22, cornerRadiusEnd=3)
    return bars.encode(x=alt.X(f"{value}:Q", axis=alt.Axis(tickCount=5)), y=alt.Y(f"{name}:N", title=None, sort=None))


MEASURED = (("seconds", "Seconds by stage", "s"), ("peak", "Memory at most, by stage", "MiB"))


def cost(costs: pd.DataFrame, column: str, title: str, unit: str) -> Plot:
    """Seconds or MiB of each stage."""
    own = costs[costs[column].notna()]
    chart = _bars(own, column, "stage").encode(
        x=alt.X(f"{column}:Q", title=unit, axis=alt.Axis(tickCount=5)),
        tooltip=["stage", alt.Tooltip(column, format=",.0f", title=unit)],
    )
    text = ", ".join(f"{row['stage']} {row[column]:.0f} {unit}" for _, row in own.iterrows())
    return Plot(column, "cost", title, f"{text}.", chart, AROUND + BAR * len(own))


# ---- files -----------------------------------------------------------------------------------------------------------
def write(plots: list[Plot], folder: Path) -> list[Path]:
    """A PNG of each, on white, drawn without a browser."""
    files = []
    for plot in plots:
        title = {"text": plot.title, "anchor": "start"}
        spec = {**plot.spec, "width": WIDTH, "title": title, "config": theme(dark=False)}
        files.append(folder / f"{plot.name}.png")
        files[-1].write_bytes(vl_convert.vegalite_to_png(spec, scale=SCALE))
    return files
