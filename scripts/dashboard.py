"""Serve an experiment's report on this machine, with the progress of the round in training."""

from dataclasses import dataclass, field
from pathlib import Path

from rounds import cli
from rounds.data import collection
from rounds.flags import ModelOutput
from rounds.report.server import HOST, ReportSite, make_server


@dataclass(kw_only=True)
class Flags(ModelOutput):
    """The experiment to serve, and the port."""

    experiment: str = field(metadata={"help": "folder with round0, round1, ...; it may be empty"})
    data_dir: str = field(metadata={"help": "the experiment's collection"})
    table_tag: str = field(default="", metadata={"help": "hash that the name of the sweep's table ends in"})
    cv_tag: str = field(default="", metadata={"help": "hash that the name of the cross-validation's table ends in"})
    port: int = field(default=8008, metadata={"help": "port on 127.0.0.1"})


def main(flags: Flags) -> None:
    """Serve an experiment's report on this machine, with the progress of the round in training."""
    collection.read(Path(flags.data_dir))
    folders = [Path(folder) for folder in (flags.experiment, flags.data_dir, flags.model_output)]
    site = ReportSite(*folders, flags.table_tag, flags.cv_tag)
    with make_server(site, flags.port) as server:
        print(f"http://{HOST}:{server.server_port}/ (Ctrl+C ends it)", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    cli.run(main, Flags)
