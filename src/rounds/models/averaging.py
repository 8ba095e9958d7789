"""Average the weights of checkpoints of one shape: the files of the first, each tensor averaged over all."""

import dataclasses
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from rounds.artifacts import store
from rounds.config.recipe import Recipe
from rounds.errors import Refused, UserError
from rounds.models.checkpoint import LOCATION_KEYS, Checkpoint
from rounds.models.merging import MERGEABLE_METHODS
from rounds.models.weights import base_model_digest
from rounds.models.weights_io import ADAPTER_CONFIG

METHODS = ("mean", "slerp")

LEFT_OUT = (store.MANIFEST, "metrics.json", "runs")  # of a checkpoint's folder: what belongs to that one alone

WEIGHTS = ".safetensors"

# The factors of LoRA's products by a part of their names, each with the dimension that is the rank.
FIRST_FACTORS = {".lora_A.": 0, ".lora_embedding_A": 0}

SECOND_FACTORS = {".lora_B.": 1, ".lora_embedding_B": 1}


def check_averageable(sources: Sequence[Checkpoint], method: str) -> None:
    """Refuse checkpoints whose averaged weights would not be a model's.

    Raises:
        UserError: a wrong number of checkpoints, one of another tool, or adapters that cannot be averaged.
        Refused: another base model, other prompts, or weights of other shapes than the first checkpoint's.
    """
    if method not in METHODS:
        raise UserError(f"method {method}: is not one of {', '.join(METHODS)}")
    if len(sources) < 2 or (method == "slerp" and len(sources) > 2):
        number = "two checkpoints" if method == "slerp" else "two checkpoints or more"
        raise UserError(f"method {method}: takes {number}, not {len(sources)}")
    for source in sources:
        _check_method(source, method)
    for other in sources[1:]:
        _check_pair(sources[0], other)


def _check_method(source: Checkpoint, method: str) -> None:
    if source.folder is None or source.manifest is None:
        raise UserError(f"{source.name}: is no checkpoint that a round trained; name those of rounds")
    if not source.is_adapter:
        return
    if (tuning := source.recipe.tuning.method) not in MERGEABLE_METHODS:
        raise UserError(
            f"{source.name}: the mean of weights of tuning.method {tuning} does not do the mean of what they do; "
            f"full, {', '.join(MERGEABLE_METHODS)} can be averaged"
        )
    if method == "slerp":
        raise UserError(
            f"{source.name}: is an adapter, and slerp interpolates whole weights; merge it first (scripts/merge.py) or "
            "take the mean"
        )


def _check_pair(first: Checkpoint, other: Checkpoint) -> None:
    """Refuse two checkpoints that differ in more than the values of their weights."""
    if first.is_adapter != other.is_adapter:
        adapter, whole = (first, other) if first.is_adapter else (other, first)
        raise Refused(f"{adapter.name}: is an adapter, and {whole.name} is not; merge it first (scripts/merge.py)")
    if changes := store.differences(_settings(first), _settings(other)):
        raise Refused(f"{other.name}: its recipe is not that of {first.name} ({'; '.join(changes[:3])})")
    if _location(first) != _location(other):
        if base_model_digest(first.recipe.model) != base_model_digest(other.recipe.model):
            raise Refused(f"{other.name}: was trained from another base model than {first.name}")
    shapes, others = (_shapes(source) for source in (first, other))
    if differing := sorted(name for name in {*shapes, *others} if shapes.get(name) != others.get(name)):
        raise Refused(
            f"{other.name}: {len(differing)} tensors are not of the shape that {first.name} has, such as {differing[0]}"
        )


def _settings(source: Checkpoint) -> dict:
    """Return the parts of a recipe that say what its weights mean, by section."""
    values = dataclasses.asdict(source.recipe)
    tuning = ("projection", "separate", *(("method", "ia3") if source.is_adapter else ()))
    return {
        "model": {key: value for key, value in values["model"].items() if key not in LOCATION_KEYS},
        "prompts": values["prompts"],
        "tuning": {key: values["tuning"][key] for key in tuning},
    }


def _location(source: Checkpoint) -> list:
    return [getattr(source.recipe.model, key) for key in LOCATION_KEYS]


def _files(source: Checkpoint) -> Iterator[Path]:
    """Yield the files of a checkpoint that make up the model, relative to its folder."""
    for path in sorted(source.folder.rglob("*")):
        name = path.relative_to(source.folder)
        if path.is_file() and name.parts[0] not in LEFT_OUT and name.name not in LEFT_OUT:
            yield name


def _shapes(source: Checkpoint) -> dict[str, list[int]]:
    """Return the shape of each tensor by `FILE: NAME`; ranks of LoRA may differ and are left out."""
    shapes = {}
    for file in _files(source):
        if file.suffix == WEIGHTS:
            with safe_open(source.folder / file, framework="pt") as stored:
                for name in stored.keys():
                    shape, rank = stored.get_slice(name).get_shape(), _rank_dimension(name)
                    shapes[f"{file}: {name}"] = shape if rank is None else [*shape[:rank], *shape[rank + 1 :]]
    return shapes


def _rank_dimension(name: str) -> int | None:
    """Return which dimension of a tensor is the rank of a LoRA product; None for other tensors."""
    factors = FIRST_FACTORS | SECOND_FACTORS
    return next((dimension for part, dimension in factors.items() if part in name), None)


def write_average(sources: Sequence[Checkpoint], method: str, folder: Path) -> Recipe:
    """Write the files of the averaged model into a folder, and return its recipe.

    Of LoRA the products of the factors are averaged, exactly: the factors of all adapters are joined to those of one
    adapter whose rank is the sum of theirs.

    Args:
        sources: checkpoints that `check_averageable` has passed.
        method: `mean`, or `slerp` for the middle of the arc between two.
    """
    recipe = _averaged_recipe(sources)
    for file in _files(sources[0]):
        target = folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == WEIGHTS:
            _write_weights(sources, file, method, target)
        elif file.name == ADAPTER_CONFIG and recipe.tuning.has_lora:
            rank = recipe.tuning.lora.r
            store.write_json(target, {**store.read_json(sources[0].folder / file), "r": rank, "lora_alpha": rank})
        else:
            shutil.copyfile(sources[0].folder / file, target)
    return recipe


def _averaged_recipe(sources: Sequence[Checkpoint]) -> Recipe:
    """Return the first recipe, under the names of all, with the rank of the joined LoRA adapters."""
    first = sources[0].recipe
    recipe = dataclasses.replace(first, name="+".join(dict.fromkeys(source.recipe.name for source in sources)))
    if not (sources[0].is_adapter and first.tuning.has_lora):
        return recipe
    rank = sum(source.recipe.tuning.lora.r for source in sources)
    lora = dataclasses.replace(first.tuning.lora, r=rank, alpha=rank)
    return dataclasses.replace(recipe, tuning=dataclasses.replace(first.tuning, lora=lora))


def _write_weights(sources: Sequence[Checkpoint], file: Path, method: str, target: Path) -> None:
    """Average one file of weights."""
    with ExitStack() as stack:
        opened = [stack.enter_context(safe_open(source.folder / file, framework="pt")) for source in sources]
        averaged = {}
        for name in opened[0].keys():
            tensors = [stored.get_tensor(name) for stored in opened]
            is_factor = _rank_dimension(name) is not None
            averaged[name] = _join_factors(sources, name, tensors) if is_factor else average_tensors(tensors, method)
        save_file(averaged, target, metadata=opened[0].metadata())


def _join_factors(sources: Sequence[Checkpoint], name: str, tensors: Sequence[Tensor]) -> Tensor:
    """Join the factors of LoRA products side by side: the product of what results is the mean of the products.

    The scales of the adapters (alpha / r) and the weight of each go into the second factors:
    `[c1 B1, c2 B2] [A1; A2] = c1 B1 A1 + c2 B2 A2`.
    """
    if any(part in name for part in SECOND_FACTORS):
        lora = [source.recipe.tuning.lora for source in sources]
        scales = [each.alpha / each.r / len(sources) for each in lora]
        tensors = [(scale * value.float()).to(value.dtype) for scale, value in zip(scales, tensors, strict=True)]
    return torch.cat(list(tensors), dim=_rank_dimension(name)).contiguous()


def average_tensors(tensors: Sequence[Tensor], method: str) -> Tensor:
    """Return the average of tensors of one shape, computed in fp64, in the first one's type.

    SLERP (Shoemake 1985) at the middle of the arc between two tensors is their mean, lengthened so that tensors of one
    length keep it.

    >>> tensors = [torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])]
    >>> average_tensors(tensors, "mean"), average_tensors(tensors, "slerp")
    (tensor([0.5000, 0.5000]), tensor([0.7071, 0.7071]))
    """
    first = tensors[0]
    if not first.is_floating_point():  # counters and positions, which are not trained
        return first
    mean = sum((tensor.double() for tensor in tensors[1:]), first.double()) / len(tensors)
    if method == "slerp":
        cosine = torch.cosine_similarity(*(tensor.double().flatten() for tensor in tensors), dim=0)
        half = ((1 + cosine.clamp(-1, 1)) / 2).sqrt()  # the cosine of half the angle between them
        mean = mean / half if half > 1e-6 else mean
    return mean.to(first.dtype)
