"""Fetch the competition's CSVs with the kaggle client."""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from rounds import cli
from rounds.artifacts import store
from rounds.artifacts.manifests import RawManifest
from rounds.data.loaders import eedi
from rounds.errors import UserError
from rounds.flags import Overwriting
from rounds.kaggle.client import COMPETITION, Client


@dataclass(kw_only=True)
class Flags(Overwriting):
    """The folder for the files."""

    output_dir: str = "data/raw"


def main(flags: Flags) -> None:
    """Fetch the competition's CSVs with the kaggle client."""
    folder = Path(flags.output_dir)
    if not flags.overwrite and all((folder / name).is_file() for name in eedi.FILES):
        print(f"{folder}: up to date")
        return
    config = {"competition": COMPETITION}
    with store.writing(folder, RawManifest(config=config)) as temporary:
        Client().run("competitions", "download", COMPETITION, "-p", temporary, "-q")
        archive = temporary / f"{COMPETITION}.zip"
        try:
            with zipfile.ZipFile(archive) as file:
                file.extractall(temporary)
        except (FileNotFoundError, zipfile.BadZipFile, EOFError, zlib.error) as error:
            raise UserError(f"{COMPETITION}: kaggle sent no whole zip file ({error}); run it again") from None
        archive.unlink()
        eedi.load(temporary)
    print(f"{folder}: {', '.join(eedi.FILES)}")


if __name__ == "__main__":
    cli.run(main, Flags)
