"""Dense layers that a base model has between its pooling and its normalization, as EmbeddingGemma does.

sentence-transformers lists a model's modules in `modules.json`. Other modules with weights that change its vectors are
refused: without them the vectors would silently not be the model's.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from sentence_transformers.base.modules import Dense
from torch import nn

from rounds.errors import UserError

MODULES_FILE = "modules.json"

TRAINED = ("CNN", "Dense", "LSTM", "LayerNorm")  # sentence-transformers' modules with weights of their own

WITHOUT_WEIGHTS = ("Dropout", "Normalize", "Pooling")

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")  # the first that is there is loaded

VECTOR = "sentence_embedding"  # the modules' key for a text's vector

_IS_BASE = "belongs_to_base_model"


def load(folder: Path, name: str, trusts: bool = False, has_head: bool = False) -> list[Dense]:
    """Load the Dense layers behind a model's pooling, in fp32; pickled weights are read as tensors only.

    Args:
        folder: the model's.
        name: the model, for messages.
        trusts: code of the model's own may compute the activation (`model.trust_remote_code`).
        has_head: the last Dense module is the projection head of a checkpoint, which is left out.

    Raises:
        UserError: there are modules with weights in other places or of other types, or a layer cannot be loaded.
    """
    paths, others = _find(folder, has_head)
    if others:
        raise UserError(
            f"model {name}: {MODULES_FILE} lists {', '.join(others)}, and a recipe loads no trained layers but Dense "
            "between pooling and normalization; take a model without"
        )
    return [_load_layer(folder, path, name, trusts) for path in paths]


def refuse(folder: Path, name: str, pooling: str) -> None:
    """Refuse a model with trained layers behind its pooling for a recipe that does not pool to one vector.

    Args:
        folder: the model's.
        name: the model, for the message.
        pooling: the recipe's `model.pooling`.

    Raises:
        UserError: there are such layers.
    """
    layers, others = _find(folder)
    if layers or others:
        raise UserError(
            f"model {name}: {MODULES_FILE} lists {', '.join([*layers, *others])} for the pooled vector, which "
            f"model.pooling {pooling} does not have; take another pooling, or a model without"
        )


def are_in(folder: Path) -> bool:
    """Return whether a model's folder lists Dense layers between pooling and normalization."""
    return bool(_find(folder)[0])


def weight_files(folder: Path) -> list[Path]:
    """Return the files with the weights of a folder's Dense layers between pooling and normalization.

    Raises:
        UserError: a layer has no weights, as in an incomplete copy of a model.
    """
    return [_weight_file(folder / path) for path in _find(folder)[0]]


def is_of_base_model(module: nn.Module) -> bool:
    """Return whether a module is one of the layers that `load` loaded."""
    return getattr(module, _IS_BASE, False)


def check_dimensions(layers: Sequence[Dense], dim: int, pooling: str) -> None:
    """Refuse layers that do not take the pooled vector.

    Args:
        dim: dimensions of the pooled vector.
        pooling: the recipe's `model.pooling`.

    Raises:
        UserError: a layer takes another number of dimensions than come in.
    """
    for number, layer in enumerate(layers, 1):
        if layer.in_features != dim:
            raise UserError(
                f"model.pooling {pooling}: Dense layer {number} of the model takes {layer.in_features} dimensions, "
                f"and gets {dim}; take the pooling that the model was trained with"
            )
        dim = layer.out_features


def embed_in_fp32(_module, _arguments, output: dict) -> dict:
    """Cast a layer's vectors to fp32, as a forward hook: autocast computes them in half precision."""
    return {**output, VECTOR: output[VECTOR].float()}


def _find(folder: Path, has_head: bool = False) -> tuple[list[str], list[str]]:
    """Return the paths of the Dense layers between pooling and normalization, and of other modules with weights.

    Args:
        has_head: leave out the last Dense module.

    Raises:
        UserError: the list of modules cannot be read.
    """
    modules = _read_modules(folder)
    if has_head:
        last = max((place for place, (_, kind, _) in enumerate(modules) if kind == "Dense"), default=None)
        modules = [module for place, module in enumerate(modules) if place != last]
    layers: list[str] = []
    others: list[str] = []
    is_pooled = is_finished = False
    for path, kind, package in modules:
        if kind == "Dense" and package == "sentence_transformers" and is_pooled and not is_finished:
            layers.append(path)
        elif kind in TRAINED or (is_pooled and kind not in WITHOUT_WEIGHTS and package != "rounds"):
            others.append(path)
        is_pooled |= kind == "Pooling"
        is_finished |= is_pooled and kind not in ("Dense", "Dropout", "Pooling")
    return layers, others


def _read_modules(folder: Path) -> list[tuple[str, str, str]]:
    """Return path, class name and package of each module that a folder lists; nothing where it lists none."""
    file = folder / MODULES_FILE
    if not file.is_file():
        return []
    try:
        modules = json.loads(file.read_text(encoding="utf-8"))
        types = [module["type"].split(".") for module in modules]
        return [(module["path"], names[-1], names[0]) for module, names in zip(modules, types, strict=True)]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise UserError(f"{file}: is not sentence-transformers' list of modules; restore the model's files") from None


def _weight_file(layer: Path) -> Path:
    for name in WEIGHT_FILES:
        if (layer / name).is_file():
            return layer / name
    raise UserError(
        f"{layer}: holds no weights ({' or '.join(WEIGHT_FILES)}), and the model's {MODULES_FILE} lists it; take a "
        "complete copy of the model"
    )


def _load_layer(folder: Path, path: str, name: str, trusts: bool) -> Dense:
    try:
        settings = json.loads((folder / path / "config.json").read_text(encoding="utf-8"))
        activation = str(settings.get("activation_function", "torch."))
        is_known = trusts or activation.startswith("torch.")  # in the place of another, the library would take tanh
        layer = Dense.load(str(folder), subfolder=path, trust_remote_code=trusts).float() if is_known else None
    except Exception as error:  # each format of weights and settings has errors of its own
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"model {name}: {path} cannot be loaded ({reason}); restore the model's files") from None
    if layer is None:
        raise UserError(
            f"model {name}: {path} has the activation {activation}, which is not torch's; check it and set "
            "model.trust_remote_code, or take another model"
        )
    if {layer.module_input_name, layer.module_output_name} != {VECTOR}:
        raise UserError(f"model {name}: {path} does not read and write the pooled vector; take a model without it")
    setattr(layer, _IS_BASE, True)
    return layer
