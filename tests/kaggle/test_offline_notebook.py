"""The notebook in a clean environment without network, with read-only inputs as on Kaggle; and its time limit."""

import dataclasses
import json
from pathlib import Path

import pytest
from helpers.manifests import checkpoint_manifest
from helpers.namespaces import needs_namespaces
from helpers.offline_notebook import kaggle_folder
from helpers.scripts import call
from helpers.tiny_embedders import write_overflowing_model
from helpers.tiny_task import refused
from helpers.tuned_models import build_tuned_model, save_checkpoint

from rounds.artifacts import store
from rounds.data import collection, splits
from rounds.data.loaders import eedi, explanations
from rounds.kaggle import bundle_file, notebook
from rounds.kaggle.bundle_file import BundleFile
from rounds.models import checkpoint
from rounds.models.weights import adapter_digest

COMPETITION = "eedi-mining-misconceptions-in-mathematics"

# The recipes of the rounds that are bundled, with what they add: an adapter with few-shot examples, one that embeds
# tokens of names and explanations, a sparse encoder, and a MiniLM.
RECIPES = {
    "tiny-mistral": "prompts:\n  examples: fixed\n  examples_number: 2\n",
    "tiny-tokens": 'prompts:\n  passage: "{name}\\n{explanation}"\n',
    "tiny-splade": "",
    "minilm": "",
}


def train_round(name: str, raw: Path, folder: Path) -> tuple[Path, Path]:
    """Train a round of one epoch by a recipe, and return its folder and that of its collection."""
    recipe, data, mined = folder / f"{name}.yaml", folder / "data", folder / "mined.jsonl"
    recipe.write_text(f"name: {name}\nextends: {name}\n{RECIPES[name]}training:\n  epochs: 1\n")
    explained = []
    if "explanation" in RECIPES[name]:
        explanations.write(folder / "e.jsonl", {key: f"Why {text}." for key, text in eedi.load(raw).passages.items()})
        explained = ["--explanations", folder / "e.jsonl"]
    flags = ["--raw_dir", raw, "--recipe", recipe, "--output_root", data, *explained]
    result = call("gen_data_for_hn_mine.py", *flags, cwd=folder)
    assert not result.returncode, result.stderr
    (split,) = data.rglob("validation_v1")
    flags = ["--input_file", split / "finetune_data.jsonl", "--output_file", mined, "--recipe", recipe]
    result = call("hn_mine.py", *flags, "--range_for_sampling", "2-40", "--devices", "cpu", cwd=folder)
    assert not result.returncode, result.stderr
    flags = ["--train_data", mined, "--data_dir", split, "--recipe", recipe, "--device", "cpu"]
    result = call("finetune.py", *flags, "--output_dir", folder / "train", cwd=folder)
    assert not result.returncode, result.stderr
    return folder / "train", split


@pytest.mark.slow
@needs_namespaces
@pytest.mark.parametrize("name", RECIPES)
def test_the_notebook_writes_what_submit_writes(name, raw, offline, tmp_path):
    """In a clean virtual environment without network it writes the CSV of `make submit`, byte for byte."""
    (tmp_path / "trained").mkdir()
    model, data = train_round(name, raw, tmp_path / "trained")
    submissions = tmp_path / "submissions"
    names = ["--name", f"tiny-{name}", "--owner", "someone"]
    folders = ["--model_path", model, "--data_dir", data, "--model_output", tmp_path]
    offline.bundle("bundle.py", submissions, *names, *folders)
    root = kaggle_folder(tmp_path / "kaggle", raw, submissions, COMPETITION)
    printed = offline.run(submissions, root, tmp_path)
    assert "fingerprint: " in printed and "estimate: " in printed
    assert {path.name for path in (root / "working").iterdir()} == {"submission.csv", "fingerprint.json", "run.trec"}

    folders = ["--model_path", model, "--data_dir", data, "--raw_dir", raw, "--model_output", tmp_path]
    result = call("make_submission.py", *folders, "--output_file", tmp_path / "own.csv", "--device", "cpu")
    assert not result.returncode, result.stderr
    assert (root / "working" / "submission.csv").read_bytes() == (tmp_path / "own.csv").read_bytes()
    parity = call("parity.py", "--a", root / "working", "--b", tmp_path / "own.csv", "--model_output", tmp_path)
    assert parity.returncode == 0 and parity.stdout.rstrip().endswith("parity"), parity.stdout + parity.stderr


def with_examples(tiny, number: int):
    """Return a checkpoint of the tiny model with a number of few-shot examples."""
    recipe = tiny.replace("prompts", examples="fixed", examples_number=number)
    return dataclasses.replace(checkpoint.resolve(None, recipe, "cpu"), recipe=recipe)


def test_the_notebook_joins_the_explanations_of_the_bundle(raw, tiny, tmp_path):
    """Its passages are those of the collection that the checkpoint was trained on; without the file, it refuses."""
    source = checkpoint.resolve(None, tiny.replace("prompts", passage="{name} ({explanation})"), "cpu")
    task = eedi.load(raw)
    task = dataclasses.replace(task, explanations={passage: f"Why {passage}." for passage in [*task.passages][::2]})
    collection.write(task, splits.make_split(task, "v1"), source.recipe.prompts, tmp_path / "trained", {})
    trained, bundled = collection.read(tmp_path / "trained"), tmp_path / "bundle"
    bundled.mkdir()
    content = BundleFile(submission="x", competition="y", split="v1", seed=42, fold=0, wheel="z")
    bundle_file.write(bundled, content)
    with refused("no explanations are given"):
        notebook.write_collection(raw, bundled, source, tmp_path / "refused")
    explanations.write(bundled / bundle_file.EXPLANATIONS, trained.explanations)
    written = notebook.write_collection(raw, bundled, source, tmp_path / "data")
    assert written.passages == trained.passages and "(Why 0.)" in written.passages["0"]


@pytest.mark.parametrize(("seconds", "number"), [(1e6, 4), (0.0, 0)])
def test_too_little_time_takes_examples_not_the_submission(seconds, number, tiny, tiny_collection, capsys):
    """With enough time all examples stay, without any they are dropped; each estimate is printed."""
    data = collection.read(tiny_collection)
    source = notebook.fit_time(with_examples(tiny, 4), data, seconds)
    assert source.recipe.prompts.examples_number == number
    assert (source.recipe.prompts.examples == "none") == (number == 0)
    assert capsys.readouterr().out.count("estimate: ") == (1 if number else 4)


def test_missing_inputs_are_named(tmp_path):
    """Without the bundle, or without the competition, one line says what to add."""
    (tmp_path / "input").mkdir()
    with refused("bundle.json", "inputs"):
        notebook.run_notebook(tmp_path)
    content = BundleFile(submission="s", competition="c", split="v1", seed=42, fold=0, wheel="x.whl")
    bundle_file.write(tmp_path / "input", content)
    with refused("misconception_mapping.csv", "inputs"):
        notebook.run_notebook(tmp_path)


def write_inputs(inputs: Path, contents: dict[str, str]) -> None:
    """Write a file into each of some folders."""
    for folder, content in contents.items():
        (inputs / folder).mkdir(parents=True)
        (inputs / folder / "file.csv").write_text(content)


def test_an_input_that_is_there_twice_is_refused(tmp_path):
    """Of two bundles neither passes for the other; the line names both."""
    write_inputs(tmp_path, {"a": "one", "datasets/b": "other"})
    with refused("file.csv", tmp_path / "a", tmp_path / "datasets" / "b"):
        notebook.find_input(tmp_path, "file.csv")


def test_an_input_that_is_mounted_twice_is_one(tmp_path):
    """Kaggle has shown an input at an old and a new place."""
    write_inputs(tmp_path, {"datasets/someone/a": "one", "a": "one"})
    assert notebook.find_input(tmp_path, "file.csv") == tmp_path / "a"


@pytest.mark.parametrize("place", [COMPETITION, f"competitions/{COMPETITION}"])
def test_the_competitions_files_are_taken_before_copies(place, tmp_path):
    """A dataset with the same files has other test questions than the run that is scored."""
    write_inputs(tmp_path, {"a-copy": "copied", place: "hidden"})
    assert notebook.find_input(tmp_path, "file.csv", COMPETITION) == tmp_path / place


def write_model(folder: Path, weights: bytes) -> Path:
    """Write what identifies a model: its configuration and its weights."""
    folder.mkdir(parents=True)
    (folder / "config.json").touch()
    (folder / "model.safetensors").write_bytes(weights)
    return folder


@pytest.fixture
def adapter(tiny, tmp_path) -> Path:
    """Return an adapter of the hub model BAAI/bge-en-icl in a folder of inputs, which holds another model too."""
    inputs, folder = tmp_path / "input", tmp_path / "input" / "bundle" / "checkpoint"
    folder.mkdir(parents=True)
    (folder / "config.json").touch()
    (folder / "adapter_model.safetensors").write_bytes(b"adapter")
    base = write_model(tmp_path / "trained_on", b"base")
    model = dataclasses.replace(tiny.model, name_or_path=str(base))
    recipe = dataclasses.replace(tiny, model=dataclasses.replace(model, name_or_path="BAAI/bge-en-icl"))
    manifest = checkpoint_manifest(recipe=recipe.to_dict(), weights=adapter_digest(model, folder))
    store.write_manifest(folder / "manifest.json", manifest)
    write_model(inputs / "a-model", b"another")
    return folder


def find_base(adapter: Path, tmp_path: Path) -> Path:
    """Return the base model's folder in the manifest of the notebook's copy."""
    copy = notebook.copy_checkpoint(adapter, tmp_path / "copy", tmp_path / "input")
    assert (copy / "adapter_model.safetensors").is_symlink()
    model = json.loads((copy / "manifest.json").read_text())["recipe"]["model"]
    assert (model["revision"], model["sha256"]) == (None, None)
    return Path(model["name_or_path"])


@pytest.mark.parametrize("place", ["models/icl/1", "models/bge-en-icl/transformers/default/1", "z"])
def test_an_adapter_finds_its_base_among_the_inputs(place, adapter, tmp_path):
    """The name of a hub model is replaced by the input folder that holds its weights, and the weights are linked."""
    base = write_model(tmp_path / "input" / place, b"base")
    assert find_base(adapter, tmp_path) == base


def test_files_beside_the_base_models_weights_do_not_count(adapter, tmp_path):
    """Folders of a hub model hold other formats, pooling and training's arguments, which are not loaded."""
    base = write_model(tmp_path / "input" / "bge-en-icl", b"base")
    for name in ("1_Pooling/config.json", "onnx/config.json", "onnx/model.onnx", "openvino/config.json"):
        (base / name).parent.mkdir(exist_ok=True)
        (base / name).touch()
    for name in ("pytorch_model.bin", "training_args.bin", "openvino_model.bin", "consolidated.safetensors"):
        (base / name).write_bytes(b"not loaded")
    assert find_base(adapter, tmp_path) == base


def test_a_base_model_behind_a_link_is_found(adapter, tmp_path):
    """Inputs may be links to folders elsewhere."""
    write_model(tmp_path / "elsewhere" / "model", b"base")
    (tmp_path / "input" / "linked").symlink_to(tmp_path / "elsewhere")
    assert find_base(adapter, tmp_path) == tmp_path / "input" / "linked" / "model"


@pytest.mark.parametrize("index", ["{", "[]", '{"weight_map": null}', '{"weight_map": {"a": null}}'])
def test_another_models_broken_index_is_no_obstacle(index, adapter, tmp_path):
    """A model whose files cannot be told is not the base model."""
    broken = write_model(tmp_path / "input" / "bge-en-icl", b"base")
    (broken / "model.safetensors").rename(broken / "model-1.safetensors")
    (broken / "model.safetensors.index.json").write_text(index)
    base = write_model(tmp_path / "input" / "z", b"base")
    assert find_base(adapter, tmp_path) == base


def test_inputs_without_the_base_model_ask_for_it(adapter, tmp_path):
    """The line names the model, the inputs that hold others, and the variable that adds one."""
    with refused("BAAI/bge-en-icl", "a-model", "BASE="):
        find_base(adapter, tmp_path)


@pytest.mark.parametrize(("factor", "precision"), [(1.0, "fp16"), (1e5, "fp32")])
def test_fp16_is_taken_only_for_a_model_that_it_can_hold(factor, precision, tiny_collection, tmp_path, capsys):
    """Where most texts overflow, all are computed in fp32, and a line names the model; otherwise nothing is said."""
    recipe = write_overflowing_model(tmp_path, factor)
    source = checkpoint.resolve(None, recipe, "cpu", "fp32").with_options(precision="fp16")
    assert notebook.avoid_overflow(source, collection.read(tiny_collection)).precision == precision
    line = capsys.readouterr().out
    assert (f"model {tmp_path}: fp16 overflows in" in line) == (precision == "fp32")


def test_weights_that_fp32_would_not_fit_stay_in_fp16(tiny_collection, tmp_path, monkeypatch, capsys):
    """The texts that overflow are then computed in bf16, one by one."""
    monkeypatch.setattr(notebook, "total_memory", lambda device: 0.1)
    source = checkpoint.resolve(None, write_overflowing_model(tmp_path, 1e5), "cpu", "fp32")
    narrow = source.with_options(precision="fp16")
    assert notebook.avoid_overflow(narrow, collection.read(tiny_collection)).precision == "fp16"
    assert "computed in bf16, slowly" in capsys.readouterr().out


def test_a_checkpoint_trained_in_fp16_is_used_on_a_cpu(tiny, tmp_path):
    """CPUs do not compute in fp16: without a GPU the notebook takes what suits the CPU."""
    folder = save_checkpoint(build_tuned_model(tiny), tiny, tmp_path / "checkpoint")
    manifest = store.read_manifest(folder)
    store.write_manifest(folder / store.MANIFEST, manifest.with_values(precision="fp16"))
    assert notebook.resolve_checkpoint(folder, "cpu").precision in ("bf16", "fp32")
