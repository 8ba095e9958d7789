"""A project whose scripts only leave artefacts: the pipeline around them is the real one."""

import runpy
import shutil
from pathlib import Path

import pytest

from rounds.data.eedi_schema import FILES
from rounds.pipeline import keys, settings
from rounds.pipeline.experiment import Experiment
from rounds.pipeline.keys import Command
from rounds.pipeline.runner import Runner
from rounds.pipeline.session import Session

STUB = Path(__file__).with_name("stub_script.py")
leave = runpy.run_path(str(STUB))["leave"]
RECIPE = "extends: tiny-mistral\n"


class Rehearsal(Runner):
    """Writes each stage's artefact in this process, and remembers the calls."""

    def __init__(self, is_dry: bool = False) -> None:
        super().__init__(is_dry)
        self.calls: list[Command] = []

    def call(self, command: Command, is_quiet: bool = False) -> None:
        self.calls.append(command)
        if self.is_dry:
            super().call(command, is_quiet)
        elif command.script in keys.SCRIPTS:
            leave(command)

    @property
    def scripts(self) -> list[str]:
        """Names of the scripts that were called."""
        return [command.script for command in self.calls]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with competition data in `raw` and a recipe `r.yaml`; the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ROUNDS_MODEL", raising=False)
    (tmp_path / "raw").mkdir()
    for name in FILES:
        (tmp_path / "raw" / name).write_text(name, encoding="utf-8")
    (tmp_path / "r.yaml").write_text(RECIPE, encoding="utf-8")
    return tmp_path


@pytest.fixture
def session(project: Path):
    """Makes sessions of that project: `session("EPOCHS=1")`."""

    def make(*arguments: str, target: str = "", is_dry: bool = False) -> Session:
        given = settings.read(["RAW=raw", "MODEL=r.yaml", *arguments], {}).resolve(target)
        return Session(given, Rehearsal(is_dry))

    return make


@pytest.fixture
def experiment(session):
    """Makes experiments of that project."""

    def make(*arguments: str) -> Experiment:
        return session(*arguments).experiment

    return make


@pytest.fixture
def stub_scripts(project: Path) -> Path:
    """Stage scripts in processes of their own that compute nothing; `finetune` goes on while a file `hold` exists."""
    (folder := project / "scripts").mkdir()
    for name in keys.SCRIPTS:
        shutil.copy(STUB, folder / f"{name}.py")
    return folder
