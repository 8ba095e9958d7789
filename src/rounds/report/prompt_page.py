"""Prompt page: the report on a sweep of generators, with the losses and scores of their checkpoints."""

from collections.abc import Sequence

import altair as alt
import pandas as pd

from rounds.artifacts.prompt_manifests import CheckpointScoresManifest
from rounds.evaluation.table import Table
from rounds.report import html
from rounds.report.charts import DASHES, Plot
from rounds.report.html import Section

SECTIONS = {
    "checkpoints": Section(
        "Loss and score by step",
        "No checkpoint has a validation loss and a score yet: make report.",
        "Each point is a checkpoint. The loss is that of all validation rows, the score that of predictions of the "
        "rows that the charts name. Where one falls while the other falls, too, they disagree.",
    ),
    "sweep": Section("Ways of tuning", ""),
}


def checkpoint_frame(scored: Sequence[CheckpointScoresManifest]) -> pd.DataFrame:
    """Return the checkpoints of all generators: columns `generator`, `step`, `loss` and `score`.

    Checkpoints without a validation loss are left out.
    """
    rows = [
        {"generator": each.title, "step": step.step, "loss": step.validation_loss, "score": step.score}
        for each in scored
        for step in each.checkpoints
        if step.validation_loss is not None
    ]
    return pd.DataFrame(rows, columns=["generator", "step", "loss", "score"])


def draw_plots(frame: pd.DataFrame, rows: int, embedder: str) -> list[Plot]:
    """Draw the validation losses and, beside them, the scores of `checkpoint_frame`'s rows; none without rows."""
    if not len(frame):
        return []
    return [
        _plot_by_step(frame, "loss", "validation loss"),
        _plot_by_step(frame, "score", f"SCS {embedder}, {rows} rows"),
    ]


def _plot_by_step(frame: pd.DataFrame, column: str, title: str) -> Plot:
    generators = list(dict.fromkeys(frame["generator"]))
    axis = {"title": None, "sort": generators, "legend": alt.Legend(columns=1, labelLimit=600)}
    chart = (
        alt.Chart(frame)
        .mark_line(strokeWidth=2.5, point=alt.OverlayMarkDef(filled=True, size=60))
        .encode(
            x=alt.X("step:Q", title="step", axis=alt.Axis(tickCount=6)),
            y=alt.Y(f"{column}:Q", title=title, scale=alt.Scale(zero=False)),
            color=alt.Color("generator:N", scale=alt.Scale(domain=generators), **axis),
            strokeDash=alt.StrokeDash("generator:N", scale=alt.Scale(domain=generators, range=DASHES), **axis),
            tooltip=["generator", "step", *(alt.Tooltip(name, format=".4f") for name in ("loss", "score"))],
        )
    )
    last = frame.groupby("generator", sort=False).tail(1)
    values = ", ".join(f"{row.generator} {getattr(row, column):.4f}" for row in last.itertuples())
    height = 260 + 20 * len(generators)  # the legend has a line for each
    return Plot(
        f"checkpoint-{column}",
        "checkpoints",
        f"{title[0].upper()}{title[1:]}",
        f"Last checkpoints: {values}.",
        chart,
        height,
    )


def disagreements(frame: pd.DataFrame) -> list[str]:
    """Return a line for each generator of several checkpoints: which has the lowest loss, and which the best score."""
    lines = []
    for generator, steps in frame.groupby("generator", sort=False):
        if len(steps) > 1:
            low, high = steps.loc[steps["loss"].idxmin()], steps.loc[steps["score"].idxmax()]
            verdict = "one checkpoint has both" if low["step"] == high["step"] else "they disagree"
            lines.append(
                f"{generator}: lowest validation loss {low['loss']:.4f} at step {low['step']}, best score "
                f"{high['score']:.4f} at step {high['step']}; {verdict}."
            )
    return lines


def render(title: str, sweep: Table, scored: Sequence[CheckpointScoresManifest], plots: Sequence[Plot]) -> str:
    """Render the page as one self-contained HTML file.

    Args:
        title: heading of the page.
        sweep: the sweep's table; the paragraphs of its caption after the first are the findings.
        scored: the checkpoints of its generators.
        plots: charts, as `draw_plots` returns them.
    """
    caption, *findings = sweep.caption.split("\n\n")
    lines = disagreements(checkpoint_frame(scored))
    content = {"sweep": sweep, "caption": caption, "findings": findings, "disagreements": lines}
    return html.render_template("prompts.html", title, SECTIONS, plots, **content)
