"""Find a model's weights (folder, hub or package) and identify them by digest."""

import dataclasses
import importlib.util
from pathlib import Path

from rounds.artifacts import hashing, store
from rounds.artifacts.file_digests import sha256_weights
from rounds.config.recipe import Model
from rounds.config.stand_ins import stand_in
from rounds.errors import UserError
from rounds.models import dense_layers, dual_encoder

WEIGHT_FILES = ("*.safetensors", "*.bin")

# The weights of a transformer; transformers loads the first of these that is there.
TRANSFORMER_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)

# Weights that are loaded beside those of the transformer, or over a base model: peft's and those of a checkpoint.
ADAPTER_FILES = ("adapter_model.safetensors", "adapter_model.bin")
TUNED_FILES = ("tuned.safetensors", "head.safetensors")

HUB_FILES = ("*.safetensors", "*.json", "*.txt", "*.model")

# What shapes a model's vectors beside its weights: configurations, tokenizer, preprocessing of images.
SETTINGS_FILES = (
    "config.json",
    "*/config.json",
    "adapter_config.json",
    "sentence_bert_config.json",
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "*.model",
    "*processor_config.json",
)


def locate_model(model: Model) -> str:
    """Return the folder, or else the hub name, of a recipe's model.

    `package:NAME` is a model in an installed Python package, `random:KIND` a test model (`random_models`).

    Raises:
        UserError: the model does not exist, or its weights do not have the recipe's `sha256`.
    """
    return _locate(model, stand_in(model.name_or_path))


def _locate(model: Model, name_or_path: str) -> str:
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
    model = dataclasses.replace(model, name_or_path=name, revision=revision, sha256=None)
    return _locate(model, stand_in(name, only_by_name=True))


def _check_digest(file: Path, expected: str) -> None:
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    digest = sha256_weights(file)
    if digest != expected:
        raise UserError(
            f"{file}: SHA-256 is {digest[:12]}..., the recipe expects {expected[:12]}...; reinstall the model"
        )


def weights_digest(path: str, revision: str | None = None, every_file: bool = False) -> str:
    """Return one SHA-256 over the names and contents of the weight files of a folder or hub model.

    Args:
        path: the folder or hub name.
        revision: the hub model's revision.
        every_file: count also weight files that are not loaded, such as `training_args.bin`.

    Raises:
        UserError: there are no weight files.
    """
    folder = Path(path)
    if not folder.is_dir():
        folder = _snapshot(path, revision)
    encoders = [folder / kind for kind in dual_encoder.KINDS]
    if all(encoder.is_dir() for encoder in encoders):
        return hashing.sha256_json([weights_digest(str(encoder), None, every_file) for encoder in encoders])
    files = sorted(file for pattern in WEIGHT_FILES for file in folder.glob(pattern))
    if not files:
        raise UserError(f"{folder}: holds no weights ({' or '.join(WEIGHT_FILES)})")
    if not every_file:
        files = _loaded_files(folder) or files
    digests = {file.name: sha256_weights(file) for file in files}
    if not every_file and not (folder / TUNED_FILES[0]).is_file():  # which would hold the layers' tuned weights
        layers = dense_layers.weight_files(folder)
        digests |= {file.relative_to(folder).as_posix(): sha256_weights(file) for file in layers}
    return hashing.sha256_json(digests)


def _loaded_files(folder: Path) -> list[Path]:
    """Return the weight files that loading reads; none where no file has one of the usual names."""

    def first(names: tuple[str, ...]) -> list[Path]:
        return [folder / name for name in names if (folder / name).is_file()][:1]

    files = [*first(TRANSFORMER_FILES), *first(ADAPTER_FILES), *(folder / name for name in TUNED_FILES)]
    if index := next((file for file in files if file.suffix == ".json"), None):
        files.remove(index)
        files += [folder / name for name in _shards(index)]
    return sorted(file for file in files if file.is_file() or file.name not in TUNED_FILES)


def _shards(index: Path) -> set[str]:
    """Return the names of the files that an index of sharded weights lists.

    Raises:
        UserError: the file is not such an index.
    """
    content = store.read_json(index)
    shards = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise UserError(f"{index}: names no file for each weight (weight_map); restore the model's files")
    return set(shards.values())


def base_model_digest(model: Model, every_file: bool = False) -> str:
    """Return one SHA-256 over the weights of a recipe's model, and of its vision model if it has one."""
    text = weights_digest(locate_model(model), model.revision, every_file)
    if not model.vision.name_or_path:
        return text
    vision = weights_digest(locate_vision_model(model), model.vision.revision, every_file)
    return hashing.sha256_json([text, vision])


def adapter_digest(base: Model, folder: Path, every_file: bool = False) -> str:
    """Return one SHA-256 over the weights of an adapter's base model and those in the adapter's folder."""
    return hashing.sha256_json([base_model_digest(base, every_file), weights_digest(str(folder), None, every_file)])


def settings_digest(folder: Path) -> str:
    """Return one SHA-256 over the names and contents of a model folder's `SETTINGS_FILES`.

    The same weights give other vectors with another tokenizer, which a later revision of a model may bring.
    """
    files = {file for pattern in SETTINGS_FILES for file in folder.glob(pattern) if file.is_file()}
    return hashing.sha256_json({file.relative_to(folder).as_posix(): sha256_weights(file) for file in sorted(files)})


def have_digest(digest: str, folder: Path, base: Model | None = None) -> bool:
    """Return whether the weights of a checkpoint have the digest in its manifest.

    Manifests that were written by earlier versions count files that are not loaded, too.

    Args:
        digest: the manifest's digest.
        folder: the checkpoint.
        base: an adapter's base model.

    Raises:
        UserError: the base model or weight files are missing.
    """
    return any(
        digest == (adapter_digest(base, folder, every) if base else weights_digest(str(folder), None, every))
        for every in (False, True)
    )


def model_folder(name_or_path: str, revision: str | None) -> Path:
    """Return the folder of a model that `locate_model` has located; a hub model is downloaded if it is not cached."""
    return Path(name_or_path) if Path(name_or_path).is_dir() else _snapshot(name_or_path, revision)


def hub_revision(name_or_path: str, model: Model) -> str | None:
    """Return the revision to load a recipe's model in: that of the recipe for a hub name, None for a folder."""
    return None if Path(name_or_path).is_dir() else model.revision


def _snapshot(name: str, revision: str | None) -> Path:
    """Return the local folder of a hub model, downloading it if it is not cached."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(HUB_FILES)))
    except Exception as error:  # the hub's own errors, the network's and ValueError for a bad name
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"model {name}: is not a folder, and the hub does not provide it ({reason})") from None
