"""Kaggle's machine for an offline notebook: its image, its read-only inputs, and no network."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

import nbformat

from tests.helpers.scripts import SCRIPTS

LACKING = ("bm25s", "rounds")  # packages that the stand-in for Kaggle's image lacks


def packages_of(name: str) -> set[str]:
    """Return the top-level files and folders of an installed distribution, which is not that of the egg-info in src."""
    (installed,) = Distribution.discover(name=name, path=[sysconfig.get_paths()["purelib"]])
    return {file.parts[0] for file in installed.files or [] if file.parts[0] != ".."}


@dataclass(frozen=True)
class OfflineMachine:
    """A machine whose image has all packages that are installed here, without `LACKING`.

    Attributes:
        image: A folder of links to its packages.
        wheels: A folder in place of the index: wheels of `LACKING`, packed from the installed files.
        freeze: A file with the output of `pip freeze` in the image.
    """

    image: Path
    wheels: Path
    freeze: Path

    def bundle(self, script: str, submissions: Path, *flags: object) -> None:
        """Write a bundle and its notebook for the machine by a script; the wheels are those of `LACKING`."""
        environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels)}
        flags = (*flags, "--image", self.freeze, "--output_root", submissions)
        command = [sys.executable, str(SCRIPTS / script), *map(str, flags)]
        result = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert not result.returncode, result.stderr
        wheels = {wheel.name.split("-")[0] for wheel in (submissions / "bundle" / "wheels").iterdir()}
        assert wheels == set(LACKING)

    def run(self, submissions: Path, root: Path, folder: Path) -> str:
        """Run the notebook in a clean virtual environment without network, and return what it prints.

        Args:
            submissions: The folder of bundle and notebook.
            root: A folder as `kaggle_folder` makes it.
            folder: An empty folder for the environment.
        """
        python = self._environment(folder / "clean")
        notebook = nbformat.read(submissions / "notebook" / "rounds.ipynb", as_version=4)
        code = folder / "notebook.py"
        code.write_text("\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code"))
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "PYTHON"))}
        command = ["unshare", "-rn", str(python), str(code)]
        environment = {**inherited, "ROUNDS_ROOT": str(root)}
        result = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
        assert not result.returncode, result.stderr
        return result.stdout

    def _environment(self, folder: Path) -> Path:
        """Write a virtual environment with the image's packages, and return its Python."""
        venv.create(folder, with_pip=True)
        (packages,) = (folder / "lib").glob("python*/site-packages")
        for setuptools in packages.glob("setuptools*"):  # the image has its own
            shutil.rmtree(setuptools)
        (packages / "image.pth").write_text(f"{self.image}\n")
        python = folder / "bin" / "python"
        assert subprocess.run([python, "-c", "import rounds"], capture_output=True, cwd=folder).returncode
        return python


def make_machine(folder: Path) -> OfflineMachine:
    """Write the image, the wheels and the list of packages into a folder."""
    machine = OfflineMachine(folder / "image", folder / "wheels", folder / "image.txt")
    machine.image.mkdir()
    lacking = set().union(*map(packages_of, LACKING))
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if entry.name not in lacking and not entry.name.startswith("__editable__"):
            (machine.image / entry.name).symlink_to(entry)
    machine.wheels.mkdir()
    for name in LACKING[:-1]:
        installed = distribution(name)
        with zipfile.ZipFile(machine.wheels / f"{name}-{installed.version}-py3-none-any.whl", "w") as archive:
            for file in installed.files or []:
                if file.parts[0] != ".." and "__pycache__" not in file.parts:
                    archive.write(file.locate(), str(file))
    versions = {package.metadata["Name"]: package.version for package in distributions()}
    lines = [f"{name}=={version}\n" for name, version in versions.items() if name not in LACKING]
    machine.freeze.write_text("".join(lines))
    return machine


def kaggle_folder(root: Path, raw: Path, submissions: Path, competition: str) -> Path:
    """Write the inputs as Kaggle mounts them: read-only, with the dataset's folders unpacked."""
    (root / "working").mkdir(parents=True)
    shutil.copytree(raw, root / "input" / "competitions" / competition)
    shutil.copytree(submissions / "bundle", root / "input" / "datasets" / "someone" / "bundle")
    for path in (root / "input").rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    return root
