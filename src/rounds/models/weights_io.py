"""Save and load weights: whole models, adapters, and parameters unfrozen beside them, keys compared."""

import json
from pathlib import Path

from peft import PeftModel, get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from torch import Tensor

from rounds.config.recipe import Tuning
from rounds.errors import Refused, UserError
from rounds.models import dual_encoder, peft_methods

ADAPTER_CONFIG = "adapter_config.json"

ADAPTER_WEIGHTS = "adapter_model.safetensors"

MODEL_WEIGHTS = "model.safetensors"

TUNED_WEIGHTS = "tuned.safetensors"  # what is neither in peft's file nor in the model's: `tuning.own`


def save_weights(
    embedder: SentenceTransformer, folder: Path, how: Tuning, gathered: dict[str, Tensor] | None = None
) -> None:
    """Write the adapter, or else the whole model in sentence-transformers' layout, and what neither holds.

    Args:
        how: the recipe's tuning.
        gathered: a sharded model's weights in one piece (an adapter's only), by their names in `embedder`.
    """
    if dual_encoder.is_dual(embedder):
        dual_encoder.apply_to_each(embedder, lambda side, kind: save_weights(side, folder / kind, how))
        return
    model = embedder[0].model
    if isinstance(model, PeftModel):
        within = "0.model."  # the transformer's place in the embedder
        whole = gathered and {name.removeprefix(within): value for name, value in gathered.items()}
        model.save_pretrained(folder, state_dict=whole)
        (folder / "README.md").unlink(missing_ok=True)
    elif not peft_methods.has_frozen_base(embedder):
        embedder.save_pretrained(str(folder), create_model_card=False)
    if names := peft_methods.extra_parameter_names(embedder, how):
        values = {name: value.detach().contiguous() for name, value in embedder.named_parameters() if name in names}
        folder.mkdir(parents=True, exist_ok=True)
        save_file(values, folder / TUNED_WEIGHTS)


def load_weights(embedder: SentenceTransformer, folder: Path, how: Tuning) -> None:
    """Read `save_weights`' files back into a model of the same build, in place."""
    if dual_encoder.is_dual(embedder):
        dual_encoder.apply_to_each(embedder, lambda side, kind: load_weights(side, folder / kind, how))
        return
    if (folder / ADAPTER_WEIGHTS).is_file():
        from peft import set_peft_model_state_dict

        stored = load_file(folder / ADAPTER_WEIGHTS)
        _compare_keys(set(stored), set(get_peft_model_state_dict(embedder[0].model)), str(folder / ADAPTER_WEIGHTS))
        set_peft_model_state_dict(embedder[0].model, stored)
    elif (folder / MODEL_WEIGHTS).is_file():
        embedder[0].model.load_state_dict(load_file(folder / MODEL_WEIGHTS))
    load_extra_parameters(embedder, folder, how)


def load_extra_parameters(embedder: SentenceTransformer, folder: Path, how: Tuning) -> None:
    """Read the weights of `tuning.own` back, in place."""
    file, names = folder / TUNED_WEIGHTS, peft_methods.extra_parameter_names(embedder, how)
    stored = load_file(file) if file.is_file() else {}
    _compare_keys(set(stored), names, str(file))
    for name, parameter in embedder.named_parameters():
        if name in names:
            parameter.data = stored[name].to(parameter.device)


def attach_adapter(
    embedder: SentenceTransformer, folder: Path, how: Tuning | None = None, trainable: bool = False
) -> None:
    """Put a saved adapter around (or into) the transformer, in place.

    Args:
        how: the recipe's tuning; None for an adapter that is not ours.
        trainable: let gradients into its weights.

    Raises:
        UserError: the file is missing, or its keys are not exactly those of the adapter on this model. peft only
            warns there, and the base model answers in the adapter's name.
    """
    embedder.requires_grad_(False)
    if how is not None and how.has_virtual_tokens:
        peft_methods.add_virtual_tokens(embedder, how)  # peft's own file holds no encoder to go on with
    elif how is None or how.method != "bottleneck":
        _attach_peft(embedder, folder, trainable)
    if how is not None:
        peft_methods.add_modules(embedder, how)
        load_extra_parameters(embedder, folder, how)
        if trainable:
            peft_methods.unfreeze(embedder, how)


def _attach_peft(embedder: SentenceTransformer, folder: Path, trainable: bool) -> None:
    file = folder / ADAPTER_WEIGHTS
    if not file.is_file():
        raise UserError(f"{file}: no such file; the adapter cannot be loaded")
    try:
        config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        model = PeftModel.from_pretrained(embedder[0].model, str(folder), is_trainable=trainable)
    except (RuntimeError, ValueError) as error:
        raise Refused(
            f"{folder}: the adapter does not fit the base model ({' '.join(str(error).split())[:160]})"
        ) from None
    with safe_open(file, framework="pt") as stored:
        _compare_keys(set(stored.keys()), set(get_peft_model_state_dict(model)), f"{file} ({config.get('peft_type')})")
    embedder[0].model = model


def check_model_keys(embedder: SentenceTransformer, folder: Path, foreign: bool) -> None:
    """All weights of the model are in the file, and of our own files no others: a foreign one may bring a head."""
    file = folder / MODEL_WEIGHTS
    if not file.is_file():
        return  # sharded or .bin: transformers' own loader has read the index
    with safe_open(file, framework="pt") as stored:
        keys = {key.removeprefix("model.") for key in stored.keys()}
    expected = {key.removeprefix("model.") for key in embedder[0].model.state_dict()}
    keys = {key for key in keys if not key.endswith("position_ids")}
    _compare_keys(keys & expected if foreign else keys, expected, str(file))


def _compare_keys(found: set[str], expected: set[str], source: str) -> None:
    missing, unexpected = sorted(expected - found), sorted(found - expected)
    if missing or unexpected:
        example = (missing or unexpected)[0]
        raise Refused(
            f"{source}: {len(missing)} keys are missing and {len(unexpected)} unexpected, such as {example}; "
            "these are not the weights of this model"
        )
