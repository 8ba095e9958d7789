"""Charts: the report's frames as Altair charts, for the page and as PNG files.

Colours are Okabe and Ito's, which readers with any colour vision can tell apart; dashes or shapes repeat what they say.
"""

from dataclasses import dataclass
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd
import vl_convert

from rounds.data import lineage
from rounds.mining.statistics import BINS, MinedStatistics
from rounds.report.facts import Facts
from rounds.report.frames import PARTS
from rounds.report.ranked_runs import BM25, ZERO_SHOT, RankedRun

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#E69F00", "#009E73", "#CC79A7"

SKY, VERMILION, YELLOW, GREY = "#56B4E9", "#D55E00", "#F0E442", "#999999"

ON_LIGHT = [BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, GREY, YELLOW]

ON_DARK = [SKY, ORANGE, GREEN, PURPLE, YELLOW, VERMILION, GREY, BLUE]

DASHES = [[1, 0], [7, 3], [2, 2], [9, 3, 2, 3], [12, 3], [4, 4], [2, 5], [6, 2, 2, 2]]  # one for each colour

WIDTH, HEIGHT = 560, 260  # pixels of a chart

PNG_SCALE = 2  # pixels of the PNG per pixel of the chart

BAR_HEIGHT, BAR_CHART_MARGIN = 34, 60  # pixels of a bar with its gap, and of the axes around all bars

# Ranks of the gold passage are counted in these ranges; `RANGE_ENDS` holds each range's last rank.
RANK_RANGES = ["1", "2", "3", "4-5", "6-10", "11-25", "26-100", "beyond"]

RANGE_ENDS = [1, 2, 3, 5, 10, 25, 100]

# Legends stand below each other, so that none is cut off on a narrow screen.
STACKED_LEGENDS = {"orient": "bottom", "columns": 3, "labelLimit": 150, "layout": {"bottom": {"direction": "vertical"}}}


@dataclass(frozen=True)
class Plot:
    """A chart with its place on the page.

    Attributes:
        name: File name of its PNG, without the ending.
        section: Key of the page's section that it belongs to.
        title: Heading above it.
        text: What it shows, in words, for readers who cannot see it.
        chart: The chart without a theme and without a size; the page and the PNG add both.
        height: Pixels.
    """

    name: str
    section: str
    title: str
    text: str
    chart: alt.Chart | alt.LayerChart
    height: int = HEIGHT

    @property
    def spec(self) -> dict:
        """Return the chart's Vega-Lite specification as JSON, as wide as its container."""
        chart = self.chart.properties(width="container", height=self.height, description=f"{self.title}. {self.text}")
        return {**chart.to_dict(), "autosize": {"type": "fit", "contains": "padding"}}


def theme(dark: bool) -> dict:
    """Return the Vega-Lite config of the light or the dark theme."""
    ink, line, ground = ("#e6e6e6", "#444b55", "#14171c") if dark else ("#1b1f24", "#d5d9df", "#ffffff")
    colours = ON_DARK if dark else ON_LIGHT
    symbols = {"symbolStrokeWidth": 2.5, "symbolBaseFillColor": "transparent", "symbolBaseStrokeColor": ink}
    labels = {"labelColor": ink, "titleColor": ink, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": 500}
    return {
        "background": ground,
        "font": "system-ui, sans-serif",
        "axis": {**labels, "gridColor": line, "domainColor": line, "tickColor": line, "labelOverlap": True},
        "legend": {**labels, **STACKED_LEGENDS, **symbols},
        "title": {"color": ink},
        "text": {"color": ink},
        "view": {"stroke": None},
        "range": {"category": colours, "ordinal": [colours[0], GREY, ORANGE]},  # ordinal: gained, same, lost
        "mark": {"color": colours[0]},
    }


def draw_plots(facts: Facts) -> list[Plot]:
    """Draw every chart that there is data for, in the page's order."""
    plots = [plot_epoch_scores(facts.epochs, part) for part in PARTS if (facts.epochs["part"] == part).any()]
    plots += [plot_recall(facts.recall)] if len(facts.recall) else []
    checkpoint_runs = facts.checkpoint_runs
    plots += [plot_rank_changes(*pair) for pair in zip(checkpoint_runs, checkpoint_runs[1:], strict=False)]
    plots += [plot_leaderboard(facts.leaderboard)] if len(facts.leaderboard) else []
    plots += [plot_truncation(facts.truncation)] if len(facts.truncation) else []
    plots += plot_negatives(facts.negatives)
    for column, title, unit in COST_COLUMNS:
        if facts.costs[column].notna().any():
            plots.append(plot_cost(facts.costs, column, title, unit))
    return plots


# ---- scores ----------------------------------------------------------------------------------------------------------
def plot_epoch_scores(epochs: pd.DataFrame, part: str) -> Plot:
    """Plot MAP@25 and Recall@25 by epoch, with zero-shot and BM25 as level lines, for one of `PARTS`."""
    scores = epochs[epochs["part"] == part]
    series = ["rounds", ZERO_SHOT, BM25]
    dashes = alt.Scale(domain=series, range=[[1, 0], [6, 3], [2, 3]])
    axis = alt.Axis(labelAngle=0, labelExpr="replace(datum.label, 'round ', '')", grid=False)
    base = alt.Chart(scores).encode(
        x=alt.X("epoch:N", sort=alt.SortField("order"), title="round · epoch", axis=axis),
        y=alt.Y("value:Q", title=None, scale=alt.Scale(domain=[0, 1])),
        color=alt.Color("metric:N", title=None, scale=alt.Scale(domain=["MAP@25", "Recall@25"])),
        tooltip=["epoch", "series", "metric", alt.Tooltip("value", format=".4f")],
    )
    points = base.transform_filter("datum.series == 'rounds'").mark_point(filled=True, size=60, opacity=1)
    dash = alt.StrokeDash("series:N", title=None, scale=dashes, sort=series)
    lines = base.mark_line(strokeWidth=2.5).encode(strokeDash=dash, detail="series:N")
    last = scores[scores["order"] == scores["order"].max()]
    values = [f"{row.series} {row.metric} {row.value:.3f}" for row in last.itertuples()]
    title = "All queries" if part == "all" else f"On {part} passages"
    return Plot(f"curve-{part}", "curve", title, f"After the last epoch: {', '.join(values)}.", lines + points)


def plot_recall(recall: pd.DataFrame) -> Plot:
    """Plot Recall@k against k, one line for each run."""
    ticks = alt.Axis(values=[1, 2, 5, 10, 25, 50, 100])
    # BM25 comes last, so that each round has the same colour whether BM25 is there or not.
    runs = sorted(dict.fromkeys(recall["run"]), key=lambda run: run == BM25)
    chart = (
        alt.Chart(recall)
        .mark_line(strokeWidth=2.5)
        .encode(
            x=alt.X("k:Q", scale=alt.Scale(type="log", domain=[1, 100]), axis=ticks),
            y=alt.Y("value:Q", title="Recall@k", scale=alt.Scale(domain=[0, 1])),
            color=alt.Color("run:N", title=None, sort=runs, scale=alt.Scale(domain=runs)),
            strokeDash=alt.StrokeDash("run:N", title=None, sort=runs, scale=alt.Scale(domain=runs, range=DASHES)),
            tooltip=["run", "k", alt.Tooltip("value", format=".4f")],
        )
    )
    values = [f"{row.run} {row.value:.3f}" for row in recall[recall["k"] == 25].itertuples()]
    return Plot("recall", "recall", "Recall against k", f"At k = 25: {', '.join(values)}.", chart)


def plot_leaderboard(scores: pd.DataFrame) -> Plot:
    """Plot CV against LB, one point for each score; checkpoints whose lineage is not clean carry their status."""
    scale, axis = alt.Scale(zero=False, padding=20), alt.Axis(tickCount=6)
    figures = [alt.Tooltip(name, format=".4f") for name in ("CV", "LB")]
    points = (
        alt.Chart(scores)
        .mark_point(filled=True, size=90, opacity=0.9)
        .encode(
            x=alt.X("CV:Q", title="CV, MAP@25", scale=scale, axis=axis),
            y=alt.Y("LB:Q", title="LB, MAP@25", scale=scale, axis=axis),
            color=alt.Color("recipe:N", title=None),
            shape=alt.Shape("side:N", title=None),
            tooltip=["recipe", "round", "side", "lineage", *figures],
        )
    )
    # One label for the public and the private score of a checkpoint.
    flagged = scores[scores["lineage"] != lineage.CLEAN].drop_duplicates(["CV", "lineage"])
    labels = alt.Chart(flagged).mark_text(dy=-16, color=VERMILION, fontWeight="bold")
    chart = points + labels.encode(x="CV:Q", y="LB:Q", text="lineage:N")
    text = f"{len(scores)} leaderboard scores of submitted checkpoints."
    return Plot("leaderboard", "leaderboard", "CV against LB", text, chart)


def plot_truncation(scores: pd.DataFrame) -> Plot:
    """Plot the scores of truncated vectors by dimension."""
    when = list(dict.fromkeys(scores["when"]))
    chart = (
        alt.Chart(scores)
        .mark_line(strokeWidth=2.5, point=alt.OverlayMarkDef(filled=True, size=60))
        .encode(
            x=alt.X("dimensions:O", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("value:Q", title=None, scale=alt.Scale(domain=[0, 1])),
            color=alt.Color("when:N", title=None, sort=when, scale=alt.Scale(domain=when)),
            strokeDash=alt.StrokeDash("metric:N", title=None, legend=alt.Legend(symbolType="stroke")),
            tooltip=["dimensions", "when", "metric", alt.Tooltip("value", format=".4f")],
        )
    )
    fewest = scores["dimensions"].min()
    shortest = scores[(scores["dimensions"] == fewest) & (scores["metric"] == "MAP@25")]
    values = ", ".join(f"{row.when} {row.value:.3f}" for row in shortest.itertuples())
    return Plot("dims", "dims", "Truncated vectors", f"MAP@25 at {fewest} dimensions: {values}.", chart)


# ---- ranks -----------------------------------------------------------------------------------------------------------
def plot_rank_changes(before: RankedRun, after: RankedRun) -> Plot:
    """Plot how many queries' gold passage moved from which range of ranks to which, as a heat map."""
    pairs = pd.DataFrame({"before": _rank_ranges(before.ranks), "after": _rank_ranges(after.ranks)})
    counts = pairs.value_counts().rename("queries").reset_index()
    order = {name: number for number, name in enumerate(RANK_RANGES)}
    change = counts["before"].map(order) - counts["after"].map(order)
    counts["change"] = np.select([change > 0, change < 0], ["gained", "lost"], "same")
    labels = alt.Axis(labelAngle=0, labelFontSize=10, labelOverlap=False)
    axis = {"scale": alt.Scale(domain=RANK_RANGES), "sort": RANK_RANGES}
    base = alt.Chart(counts).encode(
        x=alt.X("after:N", title=f"rank in {after.label}", axis=labels, **axis),
        y=alt.Y("before:N", title=f"rank in {before.label}", **axis),
        tooltip=["before", "after", "change", "queries"],
    )
    changes = alt.Scale(domain=["gained", "same", "lost"], range="ordinal")
    cells = base.mark_rect(cornerRadius=3).encode(
        color=alt.Color("change:N", title=None, scale=changes),
        opacity=alt.Opacity("queries:Q", scale=alt.Scale(type="sqrt", range=[0.12, 0.6]), legend=None),
    )
    gained, lost = (int(counts.loc[counts["change"] == name, "queries"].sum()) for name in ("gained", "lost"))
    text = f"Of {len(pairs)} queries, {gained} moved to a better range of ranks and {lost} to a worse one."
    chart = cells + base.mark_text().encode(text="queries:Q")
    name = f"ranks-{after.label.replace(' ', '')}"
    return Plot(name, "ranks", f"{before.label} to {after.label}", text, chart)


def _rank_ranges(ranks: np.ndarray) -> np.ndarray:
    """Return the name of each rank's range; rank 0 (not in the run) is `beyond`."""
    return np.array(RANK_RANGES)[np.searchsorted(RANGE_ENDS, np.where(ranks == 0, RANGE_ENDS[-1] + 1, ranks))]


# ---- negatives and cost ----------------------------------------------------------------------------------------------
def plot_negatives(negatives: dict[int, MinedStatistics]) -> list[Plot]:
    """Plot the sources of each round's negatives; with the miner's vectors, also similarity and false negatives."""
    plots = [plot_sources(negatives)] if negatives else []
    measured = {number: statistics for number, statistics in negatives.items() if statistics.similarity is not None}
    return plots + ([plot_similarity(measured), plot_false_negatives(measured)] if measured else [])


def plot_sources(negatives: dict[int, MinedStatistics]) -> Plot:
    """Plot how many negatives of each round came from which source."""
    rows = [
        {"round": f"round {number}", "source": source, "negatives": count}
        for number, statistics in negatives.items()
        for source, count in statistics.sources.items()
    ]
    chart = _bars(pd.DataFrame(rows), "negatives", "round").encode(
        color=alt.Color("source:N", title=None), tooltip=["round", "source", "negatives"]
    )
    text = ", ".join(f"{row['round']}: {row['negatives']} {row['source']}" for row in rows)
    height = BAR_CHART_MARGIN + 40 + BAR_HEIGHT * len(negatives)  # 40: the legend
    return Plot("sources", "negatives", "Sources of the negatives", f"{text}.", chart, height)


def plot_similarity(negatives: dict[int, MinedStatistics]) -> Plot:
    """Plot the distribution of the cosine between negatives and their query's positive, in the miner's space."""
    centres = (BINS[:-1] + BINS[1:]) / 2
    rows = [
        {"round": f"round {number}", "cosine": round(float(centre), 3), "share": float(count / counts.sum())}
        for number, counts in ((number, statistics.similarity) for number, statistics in negatives.items())
        for centre, count in zip(centres, counts, strict=True)
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
    means = {number: np.average(centres, weights=statistics.similarity) for number, statistics in negatives.items()}
    values = ", ".join(f"round {number} {mean:.2f}" for number, mean in means.items())
    text = f"Mean cosine: {values}; each round is measured with the checkpoint that mined it."
    return Plot("similarity", "negatives", "Similarity of negatives to the positive", text, chart)


def plot_false_negatives(negatives: dict[int, MinedStatistics]) -> Plot:
    """Plot the share of negatives that the miner scores above the positive."""
    rows = [{"round": f"round {number}", "share": statistics.false} for number, statistics in negatives.items()]
    chart = _bars(pd.DataFrame(rows), "share", "round").encode(
        x=alt.X("share:Q", title="negatives", axis=alt.Axis(format="%", tickCount=5)),
        tooltip=["round", alt.Tooltip("share", format=".2%")],
    )
    values = ", ".join(f"{row['round']} {row['share']:.1%}" for row in rows)
    text = f"Negatives that the checkpoint that mined them scores above the positive: {values}."
    height = BAR_CHART_MARGIN + BAR_HEIGHT * len(rows)
    return Plot("false", "negatives", "Probable false negatives", text, chart, height)


COST_COLUMNS = (("seconds", "Seconds by stage", "s"), ("peak", "Peak memory by stage", "MiB"))


def plot_cost(costs: pd.DataFrame, column: str, title: str, unit: str) -> Plot:
    """Plot the seconds or the peak memory of each stage that was measured."""
    measured = costs[costs[column].notna()]
    chart = _bars(measured, column, "stage").encode(
        x=alt.X(f"{column}:Q", title=unit, axis=alt.Axis(tickCount=5)),
        tooltip=["stage", alt.Tooltip(column, format=",.0f", title=unit)],
    )
    values = ", ".join(f"{row['stage']} {row[column]:.0f} {unit}" for _, row in measured.iterrows())
    return Plot(column, "cost", title, f"{values}.", chart, BAR_CHART_MARGIN + BAR_HEIGHT * len(measured))


def _bars(frame: pd.DataFrame, value: str, label: str) -> alt.Chart:
    bars = alt.Chart(frame).mark_bar(size=22, cornerRadiusEnd=3)
    return bars.encode(x=alt.X(f"{value}:Q", axis=alt.Axis(tickCount=5)), y=alt.Y(f"{label}:N", title=None, sort=None))


# ---- files -----------------------------------------------------------------------------------------------------------
def write_pngs(plots: list[Plot], folder: Path) -> list[Path]:
    """Write each chart as a PNG in the light theme, drawn without a browser, and return the files."""
    files = []
    for plot in plots:
        title = {"text": plot.title, "anchor": "start"}
        spec = {**plot.spec, "width": WIDTH, "title": title, "config": theme(dark=False)}
        files.append(folder / f"{plot.name}.png")
        files[-1].write_bytes(vl_convert.vegalite_to_png(spec, scale=PNG_SCALE))
    return files
