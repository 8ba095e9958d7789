"""Write the files for a Kaggle notebook without internet: a dataset to upload (the bundle), and the notebook."""

import dataclasses
import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import v4

from rounds.artifacts import hashing, store
from rounds.artifacts.manifests import BundleManifest
from rounds.errors import UserError
from rounds.kaggle import bundle_file, wheels
from rounds.kaggle.bundle_file import BundleFile, TrainedSplit
from rounds.kaggle.wheels import Target

NOTEBOOK = "rounds.ipynb"

LICENCE = "CC0-1.0"

SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")

MIN_SLUG, MAX_SLUG = 6, 50  # characters of a dataset's slug and title

INSTALL = """\
import glob
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(os.environ.get("ROUNDS_ROOT", "/kaggle"))
BUNDLE = Path(sorted(glob.glob(f"{{ROOT}}/input/**/bundle.json", recursive=True))[0]).parent
WHEELS = {{str(wheel.parent) for wheel in BUNDLE.rglob("*.whl")}}
pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--disable-pip-version-check"]
subprocess.run([*pip, *(f"--find-links={{folder}}" for folder in WHEELS), *{requirements}], check=True)
"""

RUN = """\
from {module} import run_notebook

run_notebook(ROOT, hours={hours})
"""


@dataclass(frozen=True)
class Upload:
    """Names and settings of the upload on Kaggle.

    Attributes:
        owner: The user's name on Kaggle.
        name: The name of the submission, from which those of the dataset and the notebook are made.
        competition: The last part of the competition's address.
        base: The Kaggle model (owner/model/framework/variation/version) or dataset (owner/name) that holds an adapter's
            base model; empty if the bundle alone is enough.
        accelerator: Kaggle's name of the machine.
        hours: The time that the notebook may take.
    """

    owner: str
    name: str
    competition: str
    base: str = ""
    accelerator: str = "NvidiaTeslaT4"
    hours: float = 8.5

    @property
    def slug(self) -> str:
        """Return the name in the form of Kaggle's addresses, 6 to 50 characters; a long name ends in a hash."""
        slug = "-".join(re.findall(r"[a-z0-9]+", f"rounds {self.name}".lower()))
        if len(slug) <= MAX_SLUG:
            return slug
        return f"{slug[: MAX_SLUG - 9].rstrip('-')}-{hashlib.sha256(slug.encode()).hexdigest()[:8]}"

    @property
    def id(self) -> str:
        """Return `owner/slug`."""
        return f"{self.owner}/{self.slug}"


def check(upload: Upload) -> None:
    """Check names by Kaggle's rules, so that neither its client nor Kaggle refuses them after the work is done.

    Raises:
        UserError: A name breaks a rule, or is an address.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+", upload.owner):
        raise UserError(f"owner {upload.owner!r}: is not a Kaggle user name (letters, digits, hyphens, underscores)")
    if not (SLUG.fullmatch(upload.slug) and MIN_SLUG <= len(upload.slug) <= MAX_SLUG):
        raise UserError(
            f"name {upload.name!r}: gives the slug {upload.slug!r}, which Kaggle refuses; choose another name"
        )
    if not SLUG.fullmatch(upload.competition):
        raise UserError(
            f"competition {upload.competition!r}: is not the last part of a competition's address, such as titanic"
        )
    if upload.base and not re.fullmatch(r"[\w-]+/[\w.-]+(/[\w.-]+/[\w.-]+/\d+)?", upload.base):
        raise UserError(
            f"base {upload.base!r}: is neither owner/dataset nor owner/model/framework/variation/version, as Kaggle "
            "shows it beside an input"
        )
    if not 0 < upload.hours <= 12:
        raise UserError(f"hours {upload.hours}: a notebook runs for 12 hours at most")


@dataclass(frozen=True)
class BundleContents(ABC):
    """The contents of a bundle, and the machine that it is for; what predicts is a subclass's.

    Attributes:
        split: The split that the checkpoint was trained on.
        target: The machine that installs the wheels.
        project: The project's root, from which its wheel is built.
    """

    split: TrainedSplit
    target: Target
    project: Path

    @property
    @abstractmethod
    def module(self) -> str:
        """The module whose `run_notebook(root, hours)` is the notebook's work."""

    @property
    @abstractmethod
    def about(self) -> str:
        """What the notebook does between installing and writing `submission.csv`, as a part of a sentence."""

    @property
    @abstractmethod
    def config(self) -> dict:
        """What sets the subclass's part of the bundle apart, as JSON has it."""

    @property
    def extras(self) -> set[str]:
        """The project's optional dependencies that the notebook needs."""
        return set()

    @abstractmethod
    def check(self, upload: Upload) -> None:
        """Refuse what the notebook could not run, before anything is written.

        Raises:
            UserError: The line says what to name or to leave out.
        """

    @abstractmethod
    def write_files(self, folder: Path, upload: Upload) -> None:
        """Write the subclass's part into the bundle's folder, which is empty."""


def require_base(name: str, base: str, upload: Upload, advice: str = "") -> None:
    """Refuse an adapter whose base model the notebook could not fetch.

    Args:
        name: The adapter.
        base: Its base model, as recipes name it.
        upload: Names and settings of the upload.
        advice: A second way out, from a comma on.

    Raises:
        UserError: The base model is on the hub or in a folder, and the upload names no input that holds it.
    """
    if not upload.base and ":" not in base:
        raise UserError(
            f"{name}: is an adapter of {base}, which a notebook without internet cannot fetch; name a Kaggle "
            f"input that holds it (BASE=owner/model/framework/variation/version){advice}"
        )


def write(
    contents: BundleContents, upload: Upload, folder: Path, notebook: Path, overwrite: bool = False
) -> list[Path]:
    """Write the dataset to `folder` and the notebook to `notebook`, and return the wheels.

    Raises:
        UserError: Kaggle refuses a name, the notebook could not reach an adapter's base model, or a wheel cannot be
            downloaded.
    """
    check(upload)
    contents.check(upload)
    config = {
        "split": contents.split.model_dump(),
        "upload": dataclasses.asdict(upload),
        "target": dataclasses.asdict(contents.target),
        "project": _hash_sources(contents.project),
        **contents.config,
    }
    if not store.is_finished(folder, json.loads(json.dumps(config)), overwrite):
        with store.writing(folder, BundleManifest(config=config)) as temporary:
            contents.write_files(temporary, upload)
            _add_wheels(contents, upload, temporary)
    bundled = sorted((folder / "wheels").glob("*.whl"))
    replacements = wheels.replacements(bundled, contents.target)
    write_notebook(notebook, bundle_file.read(folder).wheel, upload, contents, replacements)
    return bundled


def _add_wheels(contents: BundleContents, upload: Upload, folder: Path) -> None:
    """Write wheels and metadata."""
    (folder / "wheels").mkdir()
    project_wheel = wheels.build(contents.project, folder / "wheels", contents.target, contents.extras)[0]
    split = contents.split.model_dump()
    content = BundleFile(submission=upload.name, competition=upload.competition, **split, wheel=project_wheel.name)
    bundle_file.write(folder, content)
    store.write_json(folder / "dataset-metadata.json", dataset_metadata(upload))


def write_both(contents: BundleContents, upload: Upload, root: Path) -> list[str]:
    """Write `bundle/` and `notebook/` into a folder in the place of older ones, and return the lines to print.

    Raises:
        UserError: As `write` does.
    """
    folder, notebook = root / "bundle", root / "notebook"
    bundled = write(contents, upload, folder, notebook, overwrite=True)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20
    packages = ", ".join(wheel.name.split("-")[0] for wheel in bundled)
    return [
        f"{folder}: {size:.0f} MiB, {len(bundled)} wheels: {packages}",
        f"{notebook / NOTEBOOK}: {upload.id}, {upload.hours} h; make push uploads and submits",
    ]


def _hash_sources(project: Path) -> str:
    """Return the digest of the files from which the project's wheel is built."""
    files = sorted(path for path in (project / "src").rglob("*") if path.suffix in (".py", ".yaml"))
    return hashing.sha256_json({str(path.relative_to(project)): hashing.sha256_file(path) for path in files})


def dataset_metadata(upload: Upload) -> dict:
    """Return `dataset-metadata.json`: https://github.com/Kaggle/kaggle-cli/blob/main/docs/datasets_metadata.md."""
    return {"id": upload.id, "title": upload.slug, "licenses": [{"name": LICENCE}]}


def kernel_metadata(upload: Upload) -> dict:
    """Return `kernel-metadata.json`: https://github.com/Kaggle/kaggle-cli/blob/main/docs/kernels_metadata.md."""
    is_model = upload.base.count("/") == 4
    return {
        "id": upload.id,
        "title": upload.slug,
        "code_file": NOTEBOOK,
        "language": "python",
        "kernel_type": "notebook",
        "is_private": True,
        "enable_gpu": True,
        "enable_tpu": False,
        "enable_internet": False,
        "machine_shape": upload.accelerator,
        "dataset_sources": [upload.id, *([upload.base] if upload.base and not is_model else [])],
        "competition_sources": [upload.competition],
        "kernel_sources": [],
        "model_sources": [upload.base] if is_model else [],
    }


def write_notebook(
    folder: Path, wheel: str, upload: Upload, contents: BundleContents, replacements: Iterable[str] = ()
) -> None:
    """Write the notebook and its metadata; the notebook holds neither data nor texts of the competition.

    Args:
        folder: The folder to write.
        wheel: File name of the project's wheel, of which the notebook installs the version.
        upload: Names and settings of the upload.
        contents: What the notebook runs, and the project's optional dependencies that it installs for that.
        replacements: `name==version` of wheels that take the place of the image's packages.
    """
    name, version = wheel.split("-")[:2]
    names = f"[{','.join(sorted(contents.extras))}]" if contents.extras else ""
    requirements = json.dumps([f"{name}{names}=={version}", *replacements])
    text = (
        f"# {upload.name}\n\nInstalls from the bundle's wheels, without internet, {contents.about}, and writes "
        "`submission.csv`, checked against `sample_submission.csv`."
    )
    cells = [
        v4.new_markdown_cell(text, id="about"),
        v4.new_code_cell(INSTALL.format(requirements=requirements).rstrip(), id="install"),
        v4.new_code_cell(RUN.format(module=contents.module, hours=upload.hours).rstrip(), id="run"),
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = v4.new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})
    nbformat.validate(notebook)
    folder.mkdir(parents=True, exist_ok=True)
    store.write_text(folder / NOTEBOOK, nbformat.writes(notebook) + "\n")
    store.write_json(folder / "kernel-metadata.json", kernel_metadata(upload))
