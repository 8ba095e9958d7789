"""The page on a sweep: losses beside scores, which checkpoints disagree, and the findings below the table."""

import json

from rounds.artifacts.prompt_manifests import CheckpointScore, CheckpointScoresManifest
from rounds.evaluation.table import Column, Table
from rounds.report import prompt_page


def make_scored(title: str, *figures: tuple[int, float | None, float]) -> CheckpointScoresManifest:
    checkpoints = [
        CheckpointScore(folder=f"step_{step}", step=step, train_loss=None, validation_loss=loss, score=score)
        for step, loss, score in figures
    ]
    return CheckpointScoresManifest(title=title, rows=7, embedder="minilm", checkpoints=checkpoints, config={})


SCORED = [make_scored("a <b>", (10, 2.0, 0.4), (20, 1.5, 0.3)), make_scored("c", (10, 1.8, 0.5))]


def test_disagreements_compare_the_best_checkpoints():
    """A generator of several checkpoints has a line with its lowest loss and its best score; one of one has none."""
    frame = prompt_page.checkpoint_frame(SCORED)
    assert prompt_page.disagreements(frame) == [
        "a <b>: lowest validation loss 1.5000 at step 20, best score 0.4000 at step 10; they disagree."
    ]
    agreed = prompt_page.checkpoint_frame([make_scored("d", (10, 2.0, 0.3), (20, 1.5, 0.4))])
    assert prompt_page.disagreements(agreed)[0].endswith("best score 0.4000 at step 20; one checkpoint has both.")


def test_charts_have_a_point_for_each_checkpoint():
    """Loss and score stand beside each other by step; checkpoints without a validation loss are left out."""
    frame = prompt_page.checkpoint_frame([*SCORED, make_scored("e", (10, None, 0.9))])
    plots = prompt_page.draw_plots(frame, 7, "minilm")
    assert [plot.title for plot in plots] == ["Validation loss", "SCS minilm, 7 rows"]
    for plot, column in zip(plots, ("loss", "score"), strict=True):
        data = next(iter(plot.spec["datasets"].values()))
        assert [row[column] for row in data] == frame[column].tolist() and len(data) == 3
    assert prompt_page.draw_plots(frame[:0], 7, "minilm") == []


def test_the_page_holds_table_findings_and_charts():
    """Titles are escaped, findings are items of a list, and the charts' specifications are embedded."""
    table = Table(
        [Column("base_model"), Column("SCS minilm")], [["a <b>", "0.4"]], "7 rows", "losses\n\nfirst\n\nsecond"
    )
    plots = prompt_page.draw_plots(prompt_page.checkpoint_frame(SCORED), 7, "minilm")
    page = prompt_page.render("sweep <i>", table, SCORED, plots)
    assert "<title>sweep &lt;i&gt;</title>" in page and "a &lt;b&gt;" in page
    assert "<li>first</li><li>second</li>" in page and "they disagree." in page
    specs = json.loads(page.partition('id="specs">')[2].partition("</script>")[0])
    assert list(specs) == ["checkpoint-loss", "checkpoint-score"]
