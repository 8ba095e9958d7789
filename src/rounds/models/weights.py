"""Find a model's weights (folder, hub or package) and identify them by digest."""

import dataclasses
import importlib.util
import os
from pathlib import Path

from rounds.artifacts import hashing
from rounds.config.loader import DEFAULT_MODEL, MODEL_VARIABLE
from rounds.config.recipe import Model
from rounds.errors import UserError
from rounds.models import dual_encoder
from rounds.models.random_models import random_model


def stand_in(name_or_path: str) -> str:
    """ROUNDS_MODEL in place of the reference's model, where it is set."""
    return (os.environ.get(MODEL_VARIABLE) or name_or_path) if name_or_path == DEFAULT_MODEL else name_or_path


def locate_model(model: Model) -> str:
    """The folder (or hub name) that `name_or_path` stands for, its weights checked where a digest is given."""
    name_or_path = stand_in(model.name_or_path)
    kind, colon, name = name_or_path.partition(":")
    if kind == "package" and colon:
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.origin:
            raise UserError(f"model {model.name_or_path}: package {name} is not installed; run make setup")
        path = Path(spec.origin).parent / "model"
    elif kind == "random" and colon:
        path = random_model(name)
    else:
        path = Path(name_or_path)
        if not path.is_dir():
            if path.is_absolute() or name_or_path.startswith("."):
                raise UserError(f"model {name_or_path}: no such folder")
            if model.sha256:
                _check_digest(_snapshot(name_or_path, model.revision) / "model.safetensors", model.sha256)
            return name_or_path
    if model.sha256:
        _check_digest(path / "model.safetensors", model.sha256)
    return str(path)


def locate_vision_model(model: Model) -> str:
    """The folder (or hub name) of the recipe's vision model."""
    name, revision = model.vision.name_or_path, model.vision.revision
    return locate_model(dataclasses.replace(model, name_or_path=name, revision=revision, sha256=None))


def _check_digest(file: Path, expected: str) -> None:
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    found = hashing.sha256_file(file)
    if found != expected:
        raise UserError(
            f"{file}: SHA-256 is {found[:12]}..., the recipe expects {expected[:12]}...; reinstall the model"
        )


def weights_digest(path: str, revision: str | None = None) -> str:
    """One SHA-256 over all weight files of a folder or hub snapshot, and their names."""
    folder = Path(path)
    if not folder.is_dir():
        folder = _snapshot(path, revision)
    sides = [folder / kind for kind in dual_encoder.KINDS]
    if all(side.is_dir() for side in sides):
        return hashing.sha256_json([weights_digest(str(side)) for side in sides])
    files = sorted(file for pattern in ("*.safetensors", "*.bin") for file in folder.glob(pattern))
    if not files:
        raise UserError(f"{folder}: holds no weights (*.safetensors or *.bin)")
    return hashing.sha256_json({file.name: hashing.sha256_file(file) for file in files})


def _snapshot(name: str, revision: str | None) -> Path:
    """A hub model's files, fetched where they are not there yet."""
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(name, revision=revision, allow_patterns=["*.safetensors", "*.json", "*.txt", "*.model"])
        )
    except Exception as error:  # the hub's own errors, the network's and ValueError for a bad name
        raise UserError(f"model {name}: not a folder, and not to be had from the hub ({_first_line(error)})") from None


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
