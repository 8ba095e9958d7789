"""Write an experiment's report: one HTML page, and its charts as PNGs."""

from dataclasses import dataclass, field
from pathlib import Path

from rounds import cli
from rounds.artifacts import store
from rounds.artifacts.manifests import ReportManifest
from rounds.flags import ModelOutput
from rounds.report import charts
from rounds.report.facts import gather_facts
from rounds.report.html import render_page


@dataclass(kw_only=True)
class Flags(ModelOutput):
    """The experiment to report on."""

    experiment: str = field(metadata={"help": "folder with round0, round1, ..."})
    data_dir: str = field(metadata={"help": "the experiment's collection"})
    table_tag: str = field(default="", metadata={"help": "hash that the name of the sweep's table ends in"})
    cv_tag: str = field(default="", metadata={"help": "hash that the name of the cross-validation's table ends in"})
    output_dir: str = field(metadata={"help": "folder for report.html and the PNGs; replaced if it exists"})


def main(flags: Flags) -> None:
    """Write an experiment's report: one HTML page, and its charts as PNGs."""
    folders = [Path(folder) for folder in (flags.experiment, flags.data_dir, flags.model_output)]
    facts = gather_facts(*folders, flags.table_tag, flags.cv_tag)
    plots = charts.draw_plots(facts)
    output = Path(flags.output_dir)
    with store.writing(output, ReportManifest(config={"experiment": flags.experiment})) as temporary:
        store.write_text(temporary / "report.html", render_page(facts, plots))
        charts.write_pngs(plots, temporary)
    print(f"{output / 'report.html'}: {len(facts.data.validation)} queries, {len(plots)} charts (also as PNGs)")


if __name__ == "__main__":
    cli.run(main, Flags)
