"""Fetch a competition's CSVs with the kaggle client."""

import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from rounds import cli
from rounds.artifacts import store
from rounds.artifacts.manifests import RawManifest
from rounds.data.loaders import eedi
from rounds.errors import UserError
from rounds.flags import Overwriting
from rounds.generation import raw
from rounds.kaggle.client import COMPETITION, Client

PROMPT_COMPETITION = "llm-prompt-recovery"

# Of each competition: its files, and what reads them, so that a broken download is found.
COMPETITIONS = {COMPETITION: (eedi.FILES, eedi.load), PROMPT_COMPETITION: (raw.FILES, raw.load)}


@dataclass(kw_only=True)
class Flags(Overwriting):
    """The folder for the files."""

    output_dir: str = "data/raw"
    competition: str = field(default=COMPETITION, metadata={"help": f"{COMPETITION} or {PROMPT_COMPETITION}"})


def main(flags: Flags) -> None:
    """Fetch a competition's CSVs with the kaggle client."""
    folder = Path(flags.output_dir)
    if flags.competition not in COMPETITIONS:
        raise UserError(f"competition {flags.competition!r} is not one of {', '.join(COMPETITIONS)}")
    files, load = COMPETITIONS[flags.competition]
    if not flags.overwrite and all((folder / name).is_file() for name in files):
        print(f"{folder}: up to date")
        return
    config = {"competition": flags.competition}
    with store.writing(folder, RawManifest(config=config)) as temporary:
        Client().run("competitions", "download", flags.competition, "-p", temporary, "-q")
        archive = temporary / f"{flags.competition}.zip"
        try:
            with zipfile.ZipFile(archive) as file:
                file.extractall(temporary)
        except (FileNotFoundError, zipfile.BadZipFile, EOFError, zlib.error) as error:
            raise UserError(f"{flags.competition}: kaggle sent no whole zip file ({error}); run it again") from None
        archive.unlink()
        load(temporary)
    print(f"{folder}: {', '.join(files)}")


if __name__ == "__main__":
    cli.run(main, Flags)
