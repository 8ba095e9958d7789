"""Bundle: what a Kaggle notebook without internet needs, as a dataset to upload, and the notebook itself."""

import dataclasses
import hashlib
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import nbformat
import yaml
from nbformat import v4

from rounds.artifacts import hashing, store
from rounds.artifacts.manifests import BundleManifest
from rounds.encoding import merged_checkpoint
from rounds.errors import UserError
from rounds.kaggle import wheels
from rounds.kaggle.notebook import BUNDLE
from rounds.kaggle.wheels import Target
from rounds.models import merging
from rounds.models.checkpoint import Checkpoint

NOTEBOOK = "rounds.ipynb"

LICENCE = "CC0-1.0"

SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")

LONGEST, SHORTEST = 50, 6  # characters of a dataset's slug and title

INSTALL = """\
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(os.environ.get("ROUNDS_ROOT", "/kaggle"))
BUNDLE = sorted((ROOT / "input").rglob("bundle.json"))[0].parent
WHEELS = {{str(wheel.parent) for wheel in BUNDLE.rglob("*.whl")}}
pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--disable-pip-version-check"]
subprocess.run([*pip, *(f"--find-links={{folder}}" for folder in WHEELS), "{requirement}"], check=True)
"""

RUN = """\
from rounds.kaggle.notebook import run_notebook

run_notebook(ROOT, hours={hours})
"""


@dataclass(frozen=True)
class Upload:
    """How Kaggle calls what is uploaded.

    Attributes:
        owner: the user's name on Kaggle.
        name: the submission's; dataset and notebook are called after it.
        competition: the competition's name in its address.
        base: Kaggle model (owner/model/framework/variation/version) or dataset (owner/name) with an adapter's base
            model; empty where the bundle is enough.
        accelerator: Kaggle's name of the machine.
        hours: the notebook's time.
    """

    owner: str
    name: str
    competition: str
    base: str = ""
    accelerator: str = "NvidiaTeslaT4"
    hours: float = 8.5

    @property
    def slug(self) -> str:
        """The name as Kaggle's addresses allow it, 6 to 50 characters."""
        slug = "-".join(re.findall(r"[a-z0-9]+", f"rounds {self.name}".lower()))
        if len(slug) <= LONGEST:
            return slug
        return f"{slug[: LONGEST - 9].rstrip('-')}-{hashlib.sha256(slug.encode()).hexdigest()[:8]}"

    @property
    def id(self) -> str:
        """`owner/slug`."""
        return f"{self.owner}/{self.slug}"


def check(upload: Upload) -> None:
    """Kaggle's rules for names, as its client checks them before an upload, and no address where a name belongs.

    Raises:
        UserError: one of them is broken.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+", upload.owner):
        raise UserError(f"owner {upload.owner!r}: is not a Kaggle user name (letters, digits, hyphens, underscores)")
    if not (SLUG.fullmatch(upload.slug) and SHORTEST <= len(upload.slug) <= LONGEST):
        raise UserError(f"name {upload.name!r}: gives the slug {upload.slug!r}, which Kaggle refuses; name another")
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


def write(
    source: Checkpoint, texts: list[str], split: dict, upload: Upload, target: Target, project: Path, folder: Path,
    notebook: Path, merge: bool, overwrite: bool = False,
) -> list[Path]:  # fmt: skip
    """Write the dataset's folder and the notebook's; returns the wheels.

    Args:
        source: the checkpoint that answers.
        texts: a few passages, which a merged model is compared on.
        split: `split`, `seed` and `fold` of the collection that it was trained on.
        project: the project's root, from which its wheel is built.
        merge: put the adapter into its base model's weights, so that the notebook needs no base model.

    Raises:
        UserError: a name that Kaggle refuses, an adapter whose base model the notebook could not reach, a wheel that
            is not to be had.
    """
    check(upload)
    source.recipe.require_text_only("bundle")
    if merge:
        merging.check_mergeable(source)
    base = source.recipe.model.name_or_path
    if source.is_adapter and not (merge or upload.base) and ":" not in base:
        raise UserError(
            f"{source.name}: is an adapter of {base}, which a notebook without internet cannot fetch; name a Kaggle "
            "input that holds it (BASE=owner/model/framework/variation/version), or bundle the merged model (MERGED=1)"
        )
    config = {
        "model": source.key,
        "split": split,
        "upload": dataclasses.asdict(upload),
        "target": dataclasses.asdict(target),
        "merge": merge,
        "project": _sources(project),
    }
    if not store.is_finished(folder, json.loads(json.dumps(config)), overwrite):
        with store.writing(folder, BundleManifest(config=config)) as temporary:
            if merge:
                merged_checkpoint.merge(source, temporary / "checkpoint", texts)
            else:
                shutil.copytree(source.folder, temporary / "checkpoint", ignore=shutil.ignore_patterns("runs"))
            (temporary / "recipe.yaml").write_text(
                yaml.safe_dump(source.recipe.to_dict(), sort_keys=False, allow_unicode=True), encoding="utf-8"
            )
            (temporary / "wheels").mkdir()
            own = wheels.build(project, temporary / "wheels", target, _extras(source))[0]
            about = {"submission": upload.name, "competition": upload.competition, **split, "wheel": own.name}
            store.write_json(temporary / BUNDLE, about)
            store.write_json(temporary / "dataset-metadata.json", dataset_metadata(upload))
    write_notebook(notebook, store.read_json(folder / BUNDLE)["wheel"], upload)
    return sorted((folder / "wheels").glob("*.whl"))


def _extras(source: Checkpoint) -> set[str]:
    return {"four_bits"} if source.precision in ("nf4", "fp4") else set()


def _sources(project: Path) -> str:
    """Digest of what the wheel is built from."""
    files = sorted(each for each in (project / "src").rglob("*") if each.suffix in (".py", ".yaml"))
    return hashing.sha256_json({str(each.relative_to(project)): hashing.sha256_file(each) for each in files})


def dataset_metadata(upload: Upload) -> dict:
    """`dataset-metadata.json`: https://github.com/Kaggle/kaggle-cli/blob/main/docs/datasets_metadata.md."""
    return {"id": upload.id, "title": upload.slug, "licenses": [{"name": LICENCE}]}


def kernel_metadata(upload: Upload) -> dict:
    """`kernel-metadata.json`: https://github.com/Kaggle/kaggle-cli/blob/main/docs/kernels_metadata.md."""
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


def write_notebook(folder: Path, wheel: str, upload: Upload) -> None:
    """The notebook and its metadata; it holds no data, and no text of the competition's."""
    name, version = wheel.split("-")[:2]
    text = (
        f"# {upload.name}\n\nInstalls from the bundle's wheels, without internet, encodes the test questions with the "
        "bundle's checkpoint, and writes `submission.csv`, checked against `sample_submission.csv`."
    )
    cells = [
        v4.new_markdown_cell(text, id="about"),
        v4.new_code_cell(INSTALL.format(requirement=f"{name}=={version}").rstrip(), id="install"),
        v4.new_code_cell(RUN.format(hours=upload.hours).rstrip(), id="run"),
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = v4.new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})
    nbformat.validate(notebook)
    folder.mkdir(parents=True, exist_ok=True)
    store.write_text(folder / NOTEBOOK, nbformat.writes(notebook) + "\n")
    store.write_json(folder / "kernel-metadata.json", kernel_metadata(upload))
