"""The work of the offline notebook: rank the test queries with the bundle and write the checked submission.csv."""

import contextlib
import dataclasses
import functools
import glob
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from rounds import process
from rounds.artifacts import hashing, store
from rounds.artifacts.manifests import CheckpointManifest
from rounds.config import loader
from rounds.config.recipe import Model
from rounds.data import collection, splits
from rounds.data.collection import Collection
from rounds.data.loaders import eedi, explanations
from rounds.data.prompts import check_passage_format
from rounds.encoding import fingerprint, run_store
from rounds.encoding.encoder import EncodingOptions, encode
from rounds.errors import UserError
from rounds.kaggle import bundle_file
from rounds.kaggle.bundle_file import BUNDLE, EXPLANATIONS
from rounds.kaggle.stage import submit
from rounds.models import checkpoint
from rounds.models.checkpoint import Checkpoint
from rounds.models.devices import device_name, resolve_devices, total_memory
from rounds.models.precision import describe_model
from rounds.models.weights import WEIGHT_FILES, have_digest
from rounds.retrieval import representations

SAMPLE_SIZE = 64  # queries, and as many passages, that are encoded to estimate the time

WARM_UP_TEXTS = 8  # encoded before the measurement, as a device's first batches are slow

TRIED_TEXTS = 16  # queries, and as many passages, that are encoded in fp16 to see whether they overflow

FP32_SHARE = 0.6  # of a GPU's memory, the most that weights in fp32 may take

MAX_SHARE = 0.8  # the largest share of the remaining time that the estimate may take


def run_notebook(root: Path, hours: float = 8.5) -> Path:
    """Write `working/submission.csv`, with its run and fingerprint beside it, and return its path.

    Args:
        root: A folder such as /kaggle, with `input/` (the competition's files and the bundle, at any depth) and
            `working/`.
        hours: The available time; if the estimate exceeds it, queries get fewer few-shot examples.

    Raises:
        UserError: An input is missing or there twice, or the weights differ from those of the manifest.
    """
    end = time.monotonic() + 3600 * hours
    process.quiet_libraries()
    inputs, working = root / "input", root / "working"
    bundle = find_input(inputs, BUNDLE)
    contents = bundle_file.read(bundle)
    raw = find_input(inputs, "misconception_mapping.csv", contents.competition)
    working.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = copy_checkpoint(bundle / "checkpoint", Path(scratch) / "checkpoint", inputs)
        devices = resolve_devices(",".join(f"cuda:{n}" for n in range(torch.cuda.device_count())))
        source = resolve_checkpoint(folder, devices[0]).with_options(devices=devices)
        data = write_collection(raw, bundle, source, Path(scratch) / "data")
        source = avoid_overflow(source, data)
        print(f"{contents.submission}: {source.precision} on {', '.join(map(device_name, devices))}", flush=True)
        source = fit_time(source, data, end - time.monotonic())
        output = working / "submission.csv"
        rows = submit(source, data, raw / "sample_submission.csv", output, Path(scratch))
        run_folder = Path(scratch) / store.read_file_manifest(output).run
        for name in (fingerprint.FILE, "run.trec"):
            shutil.copyfile(run_folder / name, working / name)
    store.file_manifest(output).unlink()
    print(f"{output}: {rows} rows, checked against {raw / 'sample_submission.csv'}")
    print(f"fingerprint: {fingerprint.short(working / fingerprint.FILE)}")
    return output


def find_input(inputs: Path, name: str, competition: str = "") -> Path:
    """Return the folder of a file; Kaggle mounts inputs at depths that have changed over the years.

    Args:
        inputs: The folder of the notebook's inputs.
        name: The file's name.
        competition: The last part of the competition's address, if the file is the competition's.

    Raises:
        UserError: No input holds the file, or several differ and none of them is the competition's.
    """
    folders = [path.parent for path in sorted(_find(inputs, name), key=lambda path: (len(path.parts), path))]
    folders = [folder for folder in folders if competition in folder.parts] or folders
    if not folders:
        raise UserError(f"{inputs}: holds no {name}; add the competition and the bundle's dataset as inputs")
    if len({_hash_files(folder) for folder in folders}) > 1:
        raise UserError(f"{name} is in {' and in '.join(map(str, folders))}; remove all of these inputs but one")
    return folders[0]


def _hash_files(folder: Path) -> str:
    """Return a digest of the files in a folder, which is the same for an input that is mounted twice."""
    return hashing.sha256_json({path.name: hashing.sha256_file(path) for path in folder.iterdir() if path.is_file()})


def _find(inputs: Path, name: str) -> list[Path]:
    """Return the files of a name in the inputs at any depth, also in folders that are links."""
    return [inputs / path for path in glob.glob(f"**/{name}", root_dir=inputs, recursive=True, include_hidden=True)]


def copy_checkpoint(folder: Path, copy: Path, inputs: Path) -> Path:
    """Copy a checkpoint to a writable folder, with links to its weights, and return the copy.

    An adapter's base model is taken from the inputs.

    Args:
        folder: The checkpoint.
        copy: The folder to write.
        inputs: The folder of the notebook's inputs.

    Raises:
        UserError: The checkpoint has no manifest, or no input holds the base model.
    """
    link_checkpoint(folder, copy)
    manifest = store.read_manifest(copy)
    if not isinstance(manifest, CheckpointManifest):
        raise UserError(f"{folder}: has no {store.MANIFEST} of a checkpoint; make the bundle again")
    if manifest.adapter:
        model = loader.from_dict(manifest.recipe, str(folder / store.MANIFEST)).model
        recipe = with_base(
            manifest.recipe, model, inputs, folder, lambda base: have_digest(manifest.weights, folder, base)
        )
        store.write_manifest(copy / store.MANIFEST, manifest.with_values(recipe=recipe))
    return copy


def link_checkpoint(folder: Path, copy: Path) -> None:
    """Copy a checkpoint's folder, with links to its weights."""

    def link(source: str, target: str) -> None:
        (os.symlink if source.endswith((".safetensors", ".bin")) else shutil.copyfile)(os.path.abspath(source), target)

    shutil.copytree(folder, copy, copy_function=link)


def with_base(recipe: dict, model: Model, inputs: Path, folder: Path, is_base: Callable[[Model], bool]) -> dict:
    """Return an adapter's recipe with its base model's folder among the inputs in the place of a name on the hub.

    Args:
        recipe: The recipe, as a manifest has it.
        model: The base model by that recipe.
        inputs: The folder of the notebook's inputs.
        folder: The adapter.
        is_base: Whether a model has the base model's weights.

    Raises:
        UserError: No folder holds these weights.
    """
    if ":" in model.name_or_path or Path(model.name_or_path).is_dir():
        return recipe
    base = _find_base(model, inputs, folder, is_base)
    return {**recipe, "model": {**recipe["model"], "name_or_path": str(base), "revision": None, "sha256": None}}


def _find_base(model: Model, inputs: Path, folder: Path, is_base: Callable[[Model], bool]) -> Path:
    """Return the folder among the inputs that holds the base model of an adapter; `with_base` tells the arguments."""
    words = re.findall(r"[a-z0-9]+", Path(model.name_or_path).name.lower())

    def rank(path: Path) -> tuple[int, int, Path]:
        """Rank folders named like the model first, as reading another model's weights takes minutes."""
        return -sum(word in str(path).lower() for word in words), len(path.parts), path

    models = []
    for path in sorted((path.parent for path in _find(inputs, "config.json")), key=rank):
        if path == folder or folder in path.parents or not any(map(list, map(path.glob, WEIGHT_FILES))):
            continue
        models.append(path)
        with contextlib.suppress(UserError, OSError):  # a model that lacks some of its files is another's
            if is_base(dataclasses.replace(model, name_or_path=str(path), revision=None, sha256=None)):
                return path
    others = f" (found other models: {', '.join(map(str, models))})" if models else ""
    raise UserError(
        f"{inputs}: holds no model with the weights of {model.name_or_path}{others}; add it to the notebook as an "
        "input (make bundle BASE=owner/model/framework/variation/version)"
    )


def resolve_checkpoint(folder: Path, device: str) -> Checkpoint:
    """Return a checkpoint in a precision and attention that a device supports: a T4 lacks bf16 and FlashAttention."""
    is_chosen_anew = device.startswith("cuda") and store.read_manifest(folder).precision in ("bf16", "fp16")
    source = checkpoint.resolve(str(folder), device=device, precision="auto" if is_chosen_anew else None)
    if device.startswith("cuda") and torch.cuda.get_device_capability(device) < (8, 0):
        model = dataclasses.replace(source.recipe.model, attention="sdpa")
        source = dataclasses.replace(source, recipe=dataclasses.replace(source.recipe, model=model))
    return source


def avoid_overflow(source: Checkpoint, data: Collection) -> Checkpoint:
    """Return a checkpoint that computes in fp16 in fp32 if most of a sample of the texts overflow, as Gemma 3's do.

    GPUs without bf16 compute in fp32 faster than in bf16, which `encode` falls back on for single texts. A model whose
    weights in fp32 would take too much of the GPU's memory stays in fp16. A line says what is done.

    Args:
        source: The checkpoint.
        data: The collection with the test queries.
    """
    if source.precision != "fp16":
        return source
    embedder, lost, count = source.load(), 0, 0
    for kind, texts in (("query", data.test), ("passage", data.passages)):
        ids = list(texts)[:: max(len(texts) // TRIED_TEXTS, 1)]
        sample = {key: texts[key] for key in ids}
        examples = run_store.few_shot_examples(source, data, sample) if kind == "query" else None
        options = EncodingOptions(checks_numbers=False)
        vectors = encode(embedder, list(sample.values()), source.recipe.prompts, kind, "fp16", examples, options)
        lost, count = lost + len(representations.of(vectors).find_not_finite(vectors)), count + len(sample)
    if lost <= count / 2:
        return source
    message = f"{describe_model(embedder)}: fp16 overflows in {lost} of {count} texts tried"
    mib = sum(weights.numel() for weights in embedder.parameters()) * 4 / 2**20
    if mib > FP32_SHARE * total_memory(source.device):
        print(f"{message}; fp32 needs {mib:,.0f} MiB, so they are computed in bf16, slowly", flush=True)
        return source
    print(f"{message}; computing in fp32", flush=True)
    return source.with_options(precision="fp32")


def write_collection(raw: Path, bundle: Path, source: Checkpoint, folder: Path) -> Collection:
    """Write and read the split that the checkpoint was trained on, so that examples come from its training queries.

    Args:
        raw: The folder of the competition's files.
        bundle: The bundle, with the explanations of the passages if the checkpoint's recipe joins them.
        source: The checkpoint.
        folder: The folder to write.

    Raises:
        UserError: The bundle lacks explanations, or the competition's files lack a misconception that they explain.
    """
    contents, task, path = bundle_file.read(bundle), eedi.load(raw), bundle / EXPLANATIONS
    check_passage_format(source.recipe.prompts, "eedi", str(path) if path.is_file() else "")
    if path.is_file():
        task, messages = explanations.explain(task, path)
        print(*messages, sep="\n", end="\n" if messages else "", flush=True)
    split = splits.make_split(task, contents.split, contents.seed, contents.fold, contents.n_folds)
    collection.write(task, split, source.recipe.prompts, folder, {})
    return collection.read(folder)


def fit_time(source: Checkpoint, data: Collection, seconds: float) -> Checkpoint:
    """Return the checkpoint with as many few-shot examples per query as the time allows, halved until they fit.

    Args:
        source: The checkpoint.
        data: The collection with the test queries.
        seconds: The time left for encoding and ranking.
    """
    embedder = source.load()
    while True:
        prompts = source.recipe.prompts
        estimate = _estimate(source, embedder, data)
        number = prompts.examples_number
        examples = f" with {number} examples before each" if number else ""
        print(
            f"estimate: {estimate:.0f} s for {len(data.test)} queries{examples} and {len(data.passages)} passages; "
            f"{max(seconds, 0):.0f} s left",
            flush=True,
        )
        if estimate <= MAX_SHARE * seconds or not number:
            return source
        kind = prompts.examples if number > 1 else "none"
        prompts = dataclasses.replace(prompts, examples=kind, examples_number=number // 2)
        source = dataclasses.replace(source, recipe=dataclasses.replace(source.recipe, prompts=prompts))


def _estimate(source: Checkpoint, embedder, data: Collection) -> float:
    """Return the estimated seconds to encode all texts on all devices, measured on evenly spread texts."""
    total = 0.0
    for kind, texts in (("query", data.test), ("passage", data.passages)):
        ids = list(texts)[:: max(len(texts) // SAMPLE_SIZE, 1)]
        sample = {key: texts[key] for key in ids}
        examples = run_store.few_shot_examples(source, data, sample) if kind == "query" else None
        work = functools.partial(encode, embedder, prompts=source.recipe.prompts, kind=kind, precision=source.precision)
        work([texts[key] for key in ids[:WARM_UP_TEXTS]], examples=examples and examples[:WARM_UP_TEXTS])
        start = time.perf_counter()
        work(list(sample.values()), examples=examples)
        total += (time.perf_counter() - start) * len(texts) / len(ids)
    return total / len(source.options.devices)
