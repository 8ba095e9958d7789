"""Fetch the competition's CSVs with the kaggle client."""

import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from rounds import artefact, cli, stages
from rounds.data import eedi
from rounds.errors import UserError


@dataclass
class Flags:
    """Where the files go."""

    output_dir: str = "data/raw"
    overwrite: bool = False


def main(flags: Flags) -> None:
    """Fetch the competition's CSVs with the kaggle client."""
    folder = Path(flags.output_dir)
    if not flags.overwrite and all((folder / name).is_file() for name in eedi.FILES):
        print(f"{folder}: up to date")
        return
    kaggle = Path(sys.executable).with_name("kaggle")
    if not kaggle.is_file():
        raise UserError("the kaggle client is not installed; run make setup, or pip install '.[kaggle]'")
    with artefact.writing(folder, {"kind": "raw", "config": {"competition": stages.COMPETITION}}) as temporary:
        command = [str(kaggle), "competitions", "download", "-c", stages.COMPETITION, "-p", str(temporary)]
        result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        archive = temporary / f"{stages.COMPETITION}.zip"
        if result.returncode or not archive.is_file():
            raise UserError(_reason(result.stdout + result.stderr))
        with zipfile.ZipFile(archive) as file:
            file.extractall(temporary)
        archive.unlink()
        eedi.load(temporary)
    print(f"{folder}: {', '.join(eedi.FILES)}")


def _reason(output: str) -> str:
    """One line for what the client said."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    said = lines[-1] if lines else "no message"
    lowered = output.lower()
    if any(word in lowered for word in ("authenticate", "kaggle.json", "credentials", "401", "api token")):
        return (
            "kaggle has no valid credentials: create an API token (kaggle.com, Settings) and put it into "
            "~/.kaggle/access_token or the variable KAGGLE_API_TOKEN, then accept the competition's rules"
        )
    return f"kaggle competitions download failed: {said}"


if __name__ == "__main__":
    cli.run(main, Flags)
