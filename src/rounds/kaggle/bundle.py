"""Write the files for a Kaggle notebook without internet: a dataset to upload (the bundle), and the notebook."""

import dataclasses
import hashlib
import json
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import yaml
from nbformat import v4

from rounds.artifacts import hashing, store
from rounds.artifacts.manifests import BundleManifest
from rounds.data.loaders import explanations
from rounds.data.prompts import check_passage_format
from rounds.encoding import merged_checkpoint
from rounds.errors import UserError
from rounds.kaggle import bundle_file, wheels
from rounds.kaggle.bundle_file import BundleFile, TrainedSplit
from rounds.kaggle.wheels import Target
from rounds.models import merging
from rounds.models.checkpoint import Checkpoint

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
from rounds.kaggle.notebook import run_notebook

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
class BundleContents:
    """The contents of a bundle, and the machine that it is for.

    Attributes:
        source: The checkpoint that ranks the test queries.
        texts: Some passages, on which a merged model is compared with its adapter.
        split: The split that the checkpoint was trained on.
        target: The machine that installs the wheels.
        project: The project's root, from which its wheel is built.
        merge: Merge the adapter into its base model's weights, so that the notebook needs no base model.
        explanations: Passage id -> explanation, which the checkpoint's recipe joins to the passages; empty if it does
            not.
    """

    source: Checkpoint
    texts: list[str]
    split: TrainedSplit
    target: Target
    project: Path
    merge: bool = False
    explanations: dict[str, str] = field(default_factory=dict)


def write(
    contents: BundleContents, upload: Upload, folder: Path, notebook: Path, overwrite: bool = False
) -> list[Path]:
    """Write the dataset to `folder` and the notebook to `notebook`, and return the wheels.

    Raises:
        UserError: Kaggle refuses a name, the notebook could not reach an adapter's base model, or a wheel cannot be
            downloaded.
    """
    check(upload)
    _check_source(contents, upload)
    config = {
        "model": contents.source.key,
        "split": contents.split.model_dump(),
        "upload": dataclasses.asdict(upload),
        "target": dataclasses.asdict(contents.target),
        "merge": contents.merge,
        "project": _hash_sources(contents.project),
        **({"explanations": hashing.sha256_json(contents.explanations)} if contents.explanations else {}),
    }
    if not store.is_finished(folder, json.loads(json.dumps(config)), overwrite):
        with store.writing(folder, BundleManifest(config=config)) as temporary:
            _write_dataset(contents, upload, temporary)
    bundled = sorted((folder / "wheels").glob("*.whl"))
    replacements = wheels.replacements(bundled, contents.target)
    write_notebook(notebook, bundle_file.read(folder).wheel, upload, _extras(contents.source), replacements)
    return bundled


def _check_source(contents: BundleContents, upload: Upload) -> None:
    """Refuse a checkpoint that the notebook could not load."""
    source = contents.source
    source.recipe.require_text_only("bundle")
    check_passage_format(source.recipe.prompts, "eedi", bundle_file.EXPLANATIONS if contents.explanations else "")
    if contents.merge:
        merging.check_mergeable(source)
    base = source.recipe.model.name_or_path
    if source.is_adapter and not (contents.merge or upload.base) and ":" not in base:
        raise UserError(
            f"{source.name}: is an adapter of {base}, which a notebook without internet cannot fetch; name a Kaggle "
            "input that holds it (BASE=owner/model/framework/variation/version), or bundle the merged model (MERGED=1)"
        )


def _write_dataset(contents: BundleContents, upload: Upload, folder: Path) -> None:
    """Write checkpoint, recipe, explanations, wheels and metadata."""
    source = contents.source
    if contents.merge:
        merged_checkpoint.merge(source, folder / "checkpoint", contents.texts)
    else:
        shutil.copytree(source.folder, folder / "checkpoint", ignore=shutil.ignore_patterns("runs"))
    recipe = yaml.safe_dump(source.recipe.to_dict(), sort_keys=False, allow_unicode=True)
    (folder / "recipe.yaml").write_text(recipe, encoding="utf-8")
    if contents.explanations:
        explanations.write(folder / bundle_file.EXPLANATIONS, contents.explanations)
    (folder / "wheels").mkdir()
    project_wheel = wheels.build(contents.project, folder / "wheels", contents.target, _extras(source))[0]
    split = contents.split.model_dump()
    content = BundleFile(submission=upload.name, competition=upload.competition, **split, wheel=project_wheel.name)
    bundle_file.write(folder, content)
    store.write_json(folder / "dataset-metadata.json", dataset_metadata(upload))


def _extras(source: Checkpoint) -> set[str]:
    """Return the project's optional dependencies that the checkpoint needs."""
    return {"four_bits"} if source.precision in ("nf4", "fp4") else set()


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
    folder: Path, wheel: str, upload: Upload, extras: Iterable[str] = (), replacements: Iterable[str] = ()
) -> None:
    """Write the notebook and its metadata; the notebook holds neither data nor texts of the competition.

    Args:
        folder: The folder to write.
        wheel: File name of the project's wheel, of which the notebook installs the version.
        upload: Names and settings of the upload.
        extras: The project's optional dependencies that the notebook installs too.
        replacements: `name==version` of wheels that take the place of the image's packages.
    """
    name, version = wheel.split("-")[:2]
    names = f"[{','.join(sorted(extras))}]" if extras else ""
    requirements = json.dumps([f"{name}{names}=={version}", *replacements])
    text = (
        f"# {upload.name}\n\nInstalls from the bundle's wheels, without internet, encodes the test questions with the "
        "bundle's checkpoint, and writes `submission.csv`, checked against `sample_submission.csv`."
    )
    cells = [
        v4.new_markdown_cell(text, id="about"),
        v4.new_code_cell(INSTALL.format(requirements=requirements).rstrip(), id="install"),
        v4.new_code_cell(RUN.format(hours=upload.hours).rstrip(), id="run"),
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = v4.new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})
    nbformat.validate(notebook)
    folder.mkdir(parents=True, exist_ok=True)
    store.write_text(folder / NOTEBOOK, nbformat.writes(notebook) + "\n")
    store.write_json(folder / "kernel-metadata.json", kernel_metadata(upload))
