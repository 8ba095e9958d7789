"""Kernel: what the offline notebook runs, from the competition's files and the bundle to a checked submission.csv."""

import dataclasses
import functools
import os
import shutil
import tempfile
import time
from pathlib import Path

import torch

from rounds import process
from rounds.artifacts import store
from rounds.artifacts.manifests import CheckpointManifest
from rounds.data import collection, splits
from rounds.data.collection import Collection
from rounds.data.loaders import eedi
from rounds.encoding import fingerprint, run_store
from rounds.encoding.encoder import encode
from rounds.errors import UserError
from rounds.kaggle.stage import submit
from rounds.models import checkpoint
from rounds.models.checkpoint import Checkpoint
from rounds.models.devices import device_name, resolve_devices
from rounds.models.precision import resolve_precision

BUNDLE = "bundle.json"

SAMPLED = 64  # queries, and as many passages, that the estimate encodes

WARM_UP = 8  # texts: a device's first batches are slow

SPARE = 0.8  # share of the time left that the estimate may fill


def run_notebook(root: Path, hours: float = 8.5) -> Path:
    """Write `working/submission.csv`, with its run and fingerprint beside it; returns its path.

    Args:
        root: holds `input/` (the competition's files and the bundle, at any depth) and `working/`, as /kaggle does.
        hours: the time there is; where the estimate is above it, queries get fewer examples.

    Raises:
        UserError: an input is missing, or weights are not those of the manifest.
    """
    end = time.monotonic() + 3600 * hours
    process.quiet_libraries()
    inputs, working = root / "input", root / "working"
    bundle, raw = _folder_of(inputs, BUNDLE), _folder_of(inputs, "misconception_mapping.csv")
    about = store.read_json(bundle / BUNDLE)
    working.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = _own_copy(bundle / "checkpoint", Path(scratch) / "checkpoint", inputs)
        devices = resolve_devices(",".join(f"cuda:{n}" for n in range(torch.cuda.device_count())))
        source = suited(checkpoint.resolve(str(folder), device=devices[0])).with_options(devices=devices)
        print(f"{about['submission']}: {source.precision} on {', '.join(map(device_name, devices))}", flush=True)
        data = _collection(raw, about, source, Path(scratch) / "data")
        source = within(source, data, end - time.monotonic())
        output = working / "submission.csv"
        rows = submit(source, data, raw / "sample_submission.csv", output, Path(scratch))
        found = Path(scratch) / store.read_file_manifest(output).run
        for name in (fingerprint.FILE, "run.trec"):
            shutil.copyfile(found / name, working / name)
    store.file_manifest(output).unlink()
    print(f"{output}: {rows} rows, checked against {raw / 'sample_submission.csv'}")
    print(f"fingerprint: {fingerprint.short(working / fingerprint.FILE)}")
    return output


def _folder_of(inputs: Path, name: str) -> Path:
    """Where a file lies; Kaggle mounts inputs at depths that have changed over the years."""
    found = sorted(inputs.rglob(name), key=lambda path: (len(path.parts), path))
    if not found:
        raise UserError(f"{inputs}: holds no {name}; add the competition and the bundle's dataset as inputs")
    return found[0].parent


def _own_copy(folder: Path, copy: Path, inputs: Path) -> Path:
    """The checkpoint where it may be written to, its weights linked; its base model, if it needs one, from `inputs`."""

    def link(source: str, target: str) -> None:
        (os.symlink if source.endswith((".safetensors", ".bin")) else shutil.copyfile)(os.path.abspath(source), target)

    shutil.copytree(folder, copy, copy_function=link)
    manifest = store.read_manifest(copy)
    if not isinstance(manifest, CheckpointManifest):
        raise UserError(f"{folder}: has no {store.MANIFEST} of a checkpoint; make the bundle again")
    recipe = manifest.recipe
    name = recipe["model"]["name_or_path"]
    if manifest.adapter and ":" not in name and not Path(name).is_dir():
        bases = [each.parent for each in sorted(inputs.rglob("config.json")) if folder not in each.parents]
        if not bases:
            raise UserError(f"{inputs}: holds no base model; add {name} to the notebook as an input")
        model = {**recipe["model"], "name_or_path": str(bases[0]), "revision": None, "sha256": None}
        store.write_manifest(copy / store.MANIFEST, manifest.with_values(recipe={**recipe, "model": model}))
    return copy


def suited(source: Checkpoint) -> Checkpoint:
    """The checkpoint as its device computes natively: a T4 has no bf16 and no FlashAttention."""
    if not source.device.startswith("cuda"):
        return source
    if source.precision in ("bf16", "fp16"):
        source = source.with_options(precision=resolve_precision("auto", source.device))
    if torch.cuda.get_device_capability(source.device) < (8, 0):
        model = dataclasses.replace(source.recipe.model, attention="sdpa")
        source = dataclasses.replace(source, recipe=dataclasses.replace(source.recipe, model=model))
    return source


def _collection(raw: Path, about: dict, source: Checkpoint, folder: Path) -> Collection:
    """The split that the checkpoint was trained on, so that examples come from its training side."""
    task = eedi.load(raw)
    split = splits.make_split(task, about["split"], about["seed"], about["fold"])
    collection.write(task, split, source.recipe.prompts, folder, {})
    return collection.read(folder)


def within(source: Checkpoint, data: Collection, seconds: float) -> Checkpoint:
    """The checkpoint with as many examples before a query as the time allows.

    Args:
        seconds: left for encoding and ranking.
    """
    embedder = source.load()
    while True:
        prompts = source.recipe.prompts
        estimate = _estimate(source, embedder, data)
        number = prompts.examples_number
        beside = f" with {number} examples before each" if number else ""
        print(
            f"estimate: {estimate:.0f} s for {len(data.test)} queries{beside} and {len(data.passages)} passages; "
            f"{max(seconds, 0):.0f} s left",
            flush=True,
        )
        if estimate <= SPARE * seconds or not number:
            return source
        kind = prompts.examples if number > 1 else "none"
        prompts = dataclasses.replace(prompts, examples=kind, examples_number=number // 2)
        source = dataclasses.replace(source, recipe=dataclasses.replace(source.recipe, prompts=prompts))


def _estimate(source: Checkpoint, embedder, data: Collection) -> float:
    """Seconds for all texts on all devices, from a few evenly spread ones."""
    total = 0.0
    for kind, texts in (("query", data.test), ("passage", data.passages)):
        ids = list(texts)[:: max(len(texts) // SAMPLED, 1)]
        before = (
            run_store.few_shot_examples(source, data, {key: texts[key] for key in ids}) if kind == "query" else None
        )
        work = functools.partial(encode, embedder, prompts=source.recipe.prompts, kind=kind)
        work([texts[key] for key in ids[:WARM_UP]], precision=source.precision, examples=before and before[:WARM_UP])
        start = time.perf_counter()
        work([texts[key] for key in ids], precision=source.precision, examples=before)
        total += (time.perf_counter() - start) * len(texts) / len(ids)
    return total / len(source.options.devices)
