"""Find a model's weights (folder, hub or package) and identify them by digest."""

import dataclasses
import importlib.util
import os
from pathlib import Path

from rounds.artifacts import hashing
from rounds.artifacts.file_digests import sha256_weights
from rounds.config.loader import DEFAULT_MODEL, MODEL_VARIABLE
from rounds.config.recipe import Model
from rounds.errors import UserError
from rounds.models import dual_encoder

WEIGHT_FILES = ("*.safetensors", "*.bin")

HUB_FILES = ("*.safetensors", "*.json", "*.txt", "*.model")


def apply_model_override(name_or_path: str) -> str:
    """Return ROUNDS_MODEL, if it is set, in place of the default model; every other name as it is."""
    return (os.environ.get(MODEL_VARIABLE) or name_or_path) if name_or_path == DEFAULT_MODEL else name_or_path


def locate_model(model: Model) -> str:
    """Return the folder, or else the hub name, of a recipe's model.

    `package:NAME` is a model in an installed Python package, `random:KIND` a test model (`random_models`).

    Raises:
        UserError: the model does not exist, or its weights do not have the recipe's `sha256`.
    """
    name_or_path = apply_model_override(model.name_or_path)
    folder = _locate_folder(name_or_path)
    if model.sha256:
        weights = folder or _snapshot(name_or_path, model.revision)
        _check_digest(weights / "model.safetensors", model.sha256)
    return str(folder or name_or_path)


def _locate_folder(name_or_path: str) -> Path | None:
    """Return the folder of a model; None for a hub name."""
    scheme, colon, name = name_or_path.partition(":")
    if scheme == "package" and colon:
        return _package_folder(name)
    if scheme == "random" and colon:
        from rounds.models import random_models  # for tests only, and slow to import

        return random_models.random_model_folder(name)
    folder = Path(name_or_path)
    if folder.is_dir():
        return folder
    if folder.is_absolute() or name_or_path.startswith("."):
        raise UserError(f"model {name_or_path}: no such folder")
    return None


def _package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.origin:
        raise UserError(f"model package:{name}: package {name} is not installed; run make setup")
    return Path(spec.origin).parent / "model"


def locate_vision_model(model: Model) -> str:
    """Return the folder, or else the hub name, of the recipe's vision model."""
    name, revision = model.vision.name_or_path, model.vision.revision
    return locate_model(dataclasses.replace(model, name_or_path=name, revision=revision, sha256=None))


def _check_digest(file: Path, expected: str) -> None:
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    digest = sha256_weights(file)
    if digest != expected:
        raise UserError(
            f"{file}: SHA-256 is {digest[:12]}..., the recipe expects {expected[:12]}...; reinstall the model"
        )


def weights_digest(path: str, revision: str | None = None) -> str:
    """Return one SHA-256 over the names and contents of all weight files of a folder or hub model.

    Raises:
        UserError: there are no weight files.
    """
    folder = Path(path)
    if not folder.is_dir():
        folder = _snapshot(path, revision)
    encoders = [folder / kind for kind in dual_encoder.KINDS]
    if all(encoder.is_dir() for encoder in encoders):
        return hashing.sha256_json([weights_digest(str(encoder)) for encoder in encoders])
    files = sorted(file for pattern in WEIGHT_FILES for file in folder.glob(pattern))
    if not files:
        raise UserError(f"{folder}: holds no weights ({' or '.join(WEIGHT_FILES)})")
    return hashing.sha256_json({file.name: sha256_weights(file) for file in files})


def base_model_digest(model: Model) -> str:
    """Return one SHA-256 over the weights of a recipe's model, and of its vision model if it has one."""
    text = weights_digest(locate_model(model), model.revision)
    if not model.vision.name_or_path:
        return text
    return hashing.sha256_json([text, weights_digest(locate_vision_model(model), model.vision.revision)])


def adapter_digest(base: Model, folder: Path) -> str:
    """Return one SHA-256 over the weights of an adapter's base model and those in the adapter's folder."""
    return hashing.sha256_json([base_model_digest(base), weights_digest(str(folder))])


def _snapshot(name: str, revision: str | None) -> Path:
    """Return the local folder of a hub model, downloading it if it is not cached."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(HUB_FILES)))
    except Exception as error:  # the hub's own errors, the network's and ValueError for a bad name
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"model {name}: is not a folder, and the hub does not provide it ({reason})") from None
