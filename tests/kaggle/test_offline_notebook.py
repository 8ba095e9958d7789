"""The notebook as Kaggle runs it: a clean environment, no network, inputs mounted read-only; and its time budget."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

import nbformat
import pytest
from helpers.manifests import checkpoint_manifest
from helpers.namespaces import may_unshare
from helpers.scripts import SCRIPTS, call

from rounds.artifacts import store
from rounds.data import collection
from rounds.kaggle import notebook
from rounds.models import checkpoint

COMPETITION = "eedi-mining-misconceptions-in-mathematics"
LACKING = ("bm25s", "rounds")  # what the stand-in for Kaggle's image does not have
ROOT = SCRIPTS.parent


def packages_of(name: str) -> set[str]:
    """Top-level files and folders of an installed distribution (never those of `src`'s own egg-info)."""
    (found,) = Distribution.discover(name=name, path=[sysconfig.get_paths()["purelib"]])
    return {file.parts[0] for file in found.files or [] if file.parts[0] != ".."}


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Path:
    """What a notebook's image has: all that is installed here but `LACKING`, as links."""
    folder = tmp_path_factory.mktemp("image")
    lacking = set().union(*map(packages_of, LACKING))
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if entry.name not in lacking and not entry.name.startswith("__editable__"):
            (folder / entry.name).symlink_to(entry)
    return folder


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> Path:
    """A stand-in for the index: wheels of `LACKING`, packed again from what is installed."""
    folder = tmp_path_factory.mktemp("wheels")
    for name in LACKING[:-1]:
        found = distribution(name)
        with zipfile.ZipFile(folder / f"{name}-{found.version}-py3-none-any.whl", "w") as archive:
            for file in found.files or []:
                if file.parts[0] != ".." and "__pycache__" not in file.parts:
                    archive.write(file.locate(), str(file))
    return folder


@pytest.fixture(scope="module")
def freeze(tmp_path_factory) -> Path:
    """`pip freeze` of the image."""
    path = tmp_path_factory.mktemp("freeze") / "image.txt"
    names = {each.metadata["Name"]: each.version for each in distributions() if each.metadata["Name"] not in LACKING}
    path.write_text("".join(f"{name}=={version}\n" for name, version in names.items()))
    return path


@pytest.fixture(scope="module")
def trained(raw, tmp_path_factory, tiny_collection, tiny_mined):
    """A round of one epoch: an adapter of a tiny Mistral with examples in the query, and a MiniLM checkpoint."""
    folder = tmp_path_factory.mktemp("trained")
    found = {}
    recipes = {"tiny-mistral": "prompts:\n  examples: fixed\n  examples_number: 2\n", "minilm": ""}
    for name, more in recipes.items():
        recipe = folder / f"{name}.yaml"
        recipe.write_text(f"name: {name}\nextends: {name}\n{more}training:\n  epochs: 1\n")
        data = folder / name / "data"
        result = call(
            "gen_data_for_hn_mine.py", "--raw_dir", raw, "--recipe", recipe, "--output_root", data, cwd=folder
        )
        assert not result.returncode, result.stderr
        (own,) = data.rglob("validation_v1")
        mined = folder / name / "mined.jsonl"
        flags = ["--input_file", own / "finetune_data.jsonl", "--output_file", mined, "--recipe", recipe]
        result = call("hn_mine.py", *flags, "--range_for_sampling", "2-40", "--devices", "cpu", cwd=folder)
        assert not result.returncode, result.stderr
        flags = ["--train_data", mined, "--data_dir", own, "--recipe", recipe, "--device", "cpu"]
        result = call("finetune.py", *flags, "--output_dir", folder / name / "train", cwd=folder)
        assert not result.returncode, result.stderr
        found[name] = (folder / name / "train", own)
    return found


def kaggle_folder(root: Path, raw: Path, submissions: Path) -> Path:
    """Inputs as Kaggle mounts them: the competition and the dataset, its folders unpacked."""
    (root / "working").mkdir(parents=True)
    shutil.copytree(raw, root / "input" / "competitions" / COMPETITION)
    shutil.copytree(submissions / "bundle", root / "input" / "datasets" / "someone" / "bundle")
    for path in (root / "input").rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    return root


@pytest.mark.slow
@pytest.mark.skipif(not may_unshare(), reason="network namespaces (unshare -rn) are not permitted here")
@pytest.mark.parametrize("name", ["tiny-mistral", "minilm"])
def test_the_notebook_writes_what_submit_writes(name, trained, raw, image, wheels, freeze, tmp_path):
    """In a clean virtualenv without network its CSV is that of `make submit`, byte for byte."""
    model, data = trained[name]
    submissions = tmp_path / "submissions"
    environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    flags = ["--model_path", model, "--data_dir", data, "--name", f"tiny-{name}", "--owner", "someone",
             "--image", freeze, "--output_root", submissions, "--model_output", tmp_path]  # fmt: skip
    command = [sys.executable, str(SCRIPTS / "bundle.py"), *map(str, flags)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert not result.returncode, result.stderr
    assert {each.name.split("-")[0] for each in (submissions / "bundle" / "wheels").iterdir()} == set(LACKING)

    venv.create(tmp_path / "clean", with_pip=True)
    python = tmp_path / "clean" / "bin" / "python"
    (packages,) = (tmp_path / "clean" / "lib").glob("python*/site-packages")
    for own in packages.glob("setuptools*"):  # the image's counts
        shutil.rmtree(own)
    (packages / "image.pth").write_text(f"{image}\n")
    absent = subprocess.run([python, "-c", "import rounds"], capture_output=True, cwd=tmp_path)
    assert absent.returncode

    root = kaggle_folder(tmp_path / "kaggle", raw, submissions)
    notebook = nbformat.read(submissions / "notebook" / "rounds.ipynb", as_version=4)
    code = tmp_path / "notebook.py"
    code.write_text("\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code"))
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "PYTHON"))}
    command = ["unshare", "-rn", str(python), str(code)]
    result = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env={**kept, "ROUNDS_ROOT": str(root)}
    )
    assert not result.returncode, result.stderr
    assert "fingerprint: " in result.stdout and "estimate: " in result.stdout
    assert {each.name for each in (root / "working").iterdir()} == {"submission.csv", "fingerprint.json", "run.trec"}

    flags = ["--model_path", model, "--data_dir", data, "--raw_dir", raw, "--output_file", tmp_path / "own.csv",
             "--model_output", tmp_path, "--device", "cpu"]  # fmt: skip
    result = call("make_submission.py", *flags)
    assert not result.returncode, result.stderr
    assert (root / "working" / "submission.csv").read_bytes() == (tmp_path / "own.csv").read_bytes()
    parity = call("parity.py", "--a", root / "working", "--b", tmp_path / "own.csv", "--model_output", tmp_path)
    assert parity.returncode == 0 and parity.stdout.rstrip().endswith("parity"), parity.stdout + parity.stderr


def with_examples(tiny, folder: Path, number: int):
    recipe = tiny.replace("prompts", examples="fixed", examples_number=number)
    return dataclasses.replace(checkpoint.resolve(None, recipe, "cpu"), recipe=recipe)


@pytest.mark.parametrize(("seconds", "number"), [(1e6, 4), (0.0, 0)])
def test_too_little_time_takes_examples_not_the_submission(seconds, number, tiny, tiny_collection, tmp_path, capsys):
    """With time enough all examples stay; without, they go, and the estimate is printed each time."""
    data = collection.read(tiny_collection)
    found = notebook.within(with_examples(tiny, tmp_path, 4), data, seconds)
    assert found.recipe.prompts.examples_number == number
    assert (found.recipe.prompts.examples == "none") == (number == 0)
    assert capsys.readouterr().out.count("estimate: ") == (1 if number else 4)


def test_missing_inputs_are_named(tmp_path):
    """Without the bundle, or without the competition, one line says what to add."""
    from helpers.tiny_task import refused

    (tmp_path / "input").mkdir()
    with refused("bundle.json", "inputs"):
        notebook.run_notebook(tmp_path)
    store.write_json(tmp_path / "input" / "bundle.json", {})
    with refused("misconception_mapping.csv", "inputs"):
        notebook.run_notebook(tmp_path)


def test_an_adapter_finds_its_base_among_the_inputs(tmp_path):
    """A hub name becomes the input folder that holds a model; other weights than the manifest's are refused later."""
    inputs, folder = tmp_path / "input", tmp_path / "input" / "bundle" / "checkpoint"
    folder.mkdir(parents=True)
    (folder / "config.json").touch()
    (folder / "adapter_model.safetensors").write_bytes(b"x")
    model = {"name_or_path": "BAAI/bge-en-icl", "revision": "main", "sha256": None}
    store.write_manifest(folder / "manifest.json", checkpoint_manifest(recipe={"model": model}))
    from helpers.tiny_task import refused

    with refused("BAAI/bge-en-icl"):
        notebook._own_copy(folder, tmp_path / "one", inputs)
    (inputs / "models" / "icl" / "1").mkdir(parents=True)
    (inputs / "models" / "icl" / "1" / "config.json").touch()
    copy = notebook._own_copy(folder, tmp_path / "two", inputs)
    found = json.loads((copy / "manifest.json").read_text())["recipe"]["model"]
    assert found == {"name_or_path": str(inputs / "models" / "icl" / "1"), "revision": None, "sha256": None}
    assert (copy / "adapter_model.safetensors").is_symlink()
