"""Write the report on a sweep of generators: one HTML page, and its charts as PNGs."""

from dataclasses import dataclass, field
from pathlib import Path

from rounds import cli
from rounds.artifacts import store
from rounds.artifacts.manifests import ReportManifest
from rounds.artifacts.prompt_manifests import CheckpointScoresManifest
from rounds.errors import UserError
from rounds.evaluation.table import Table, files_of
from rounds.report import charts, prompt_page


@dataclass(kw_only=True)
class Flags:
    """What the report is on."""

    title: str = field(metadata={"help": "heading of the page"})
    table: str = field(metadata={"help": "table that prompt_sweep.py wrote, without suffix"})
    checkpoints: list[str] = field(metadata={"help": "folders that prompt_checkpoints.py wrote"})
    output_dir: str = field(metadata={"help": "folder for report.html and the PNGs; replaced if it exists"})


def main(flags: Flags) -> None:
    """Write the report on a sweep of generators: one HTML page, and its charts as PNGs."""
    scored = [_read(Path(folder)) for folder in flags.checkpoints]
    measured = {(each.rows, each.embedder) for each in scored}
    if len(measured) != 1:
        raise UserError("--checkpoints: were scored on different rows or by different embedders; score them alike")
    table, output = Table.load(files_of(Path(flags.table), ".json")[0]), Path(flags.output_dir)
    plots = prompt_page.draw_plots(prompt_page.checkpoint_frame(scored), *measured.pop())
    with store.writing(output, ReportManifest(config={"experiment": flags.title})) as temporary:
        store.write_text(temporary / "report.html", prompt_page.render(flags.title, table, scored, plots))
        charts.write_pngs(plots, temporary)
    print(f"{output / 'report.html'}: {len(scored)} generators, {len(plots)} charts (also as PNGs)")


def _read(folder: Path) -> CheckpointScoresManifest:
    manifest = store.read_manifest(folder)
    if not isinstance(manifest, CheckpointScoresManifest):
        raise UserError(f"{folder}: prompt_checkpoints.py did not write it; run make report")
    return manifest


if __name__ == "__main__":
    cli.run(main, Flags)
