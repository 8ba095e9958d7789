"""Serve an experiment's report on this machine, with the round that trains now."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from rounds import cli
from rounds.data import collection
from rounds.report.server import HOST, Site, make_server

ROOT = Path(os.path.relpath(Path(__file__).resolve().parent.parent))


@dataclass
class Flags:
    """Which experiment, on which port."""

    experiment: str = field(metadata={"help": "folder with round0, round1, ...; may be empty yet"})
    data_dir: str = field(metadata={"help": "its collection"})
    port: int = field(default=8008, metadata={"help": "on 127.0.0.1"})
    model_output: str = field(
        default=str(ROOT / "model_output"), metadata={"help": "holds ledger.csv, sweeps and base models' runs"}
    )


def main(flags: Flags) -> None:
    """Serve an experiment's report on this machine, with the round that trains now."""
    collection.read(Path(flags.data_dir))
    site = Site(Path(flags.experiment), Path(flags.data_dir), Path(flags.model_output))
    with make_server(site, flags.port) as server:
        print(f"http://{HOST}:{server.server_port}/ (Ctrl+C ends it)", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    cli.run(main, Flags)
