"""Save and load weights: whole models, adapters, and tuned parameters beside them, with their keys compared."""

import json
from pathlib import Path

from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from torch import Tensor

from rounds.config.recipe import Tuning
from rounds.errors import Refused, UserError
from rounds.models import dual_encoder, peft_methods, splade

ADAPTER_CONFIG = "adapter_config.json"

ADAPTER_WEIGHTS = "adapter_model.safetensors"

MODEL_WEIGHTS = "model.safetensors"

TUNED_WEIGHTS = "tuned.safetensors"  # holds `peft_methods.extra_parameter_names`

TRANSFORMER_PREFIX = "0.model."  # the transformer's place in an embedder's parameter names


def save_weights(
    embedder: SentenceTransformer, folder: Path, tuning: Tuning, gathered: dict[str, Tensor] | None = None
) -> None:
    """Write an adapter, or else the whole model in sentence-transformers' layout, and the tuned parameters beside it.

    Args:
        tuning: the recipe's tuning method.
        gathered: a sharded adapter's weights in one piece, by their names in `embedder`; None if it is not sharded.
    """
    if dual_encoder.is_dual(embedder):
        dual_encoder.apply_to_each(embedder, lambda encoder, kind: save_weights(encoder, folder / kind, tuning))
        return
    model = embedder[0].model
    if isinstance(model, PeftModel):
        state = gathered and {name.removeprefix(TRANSFORMER_PREFIX): value for name, value in gathered.items()}
        model.save_pretrained(folder, state_dict=state)
        (folder / "README.md").unlink(missing_ok=True)
    elif not peft_methods.has_frozen_base(embedder):
        whole = splade.as_sparse_encoder(embedder) if splade.is_sparse(embedder) else embedder
        whole.save_pretrained(str(folder), create_model_card=False)
    if names := peft_methods.extra_parameter_names(embedder, tuning):
        values = {name: value.detach().contiguous() for name, value in embedder.named_parameters() if name in names}
        folder.mkdir(parents=True, exist_ok=True)
        save_file(values, folder / TUNED_WEIGHTS)


def load_weights(embedder: SentenceTransformer, folder: Path, tuning: Tuning) -> None:
    """Read the files of `save_weights` back into a model with the same modules, in place.

    Raises:
        Refused: keys are missing or unexpected.
    """
    if dual_encoder.is_dual(embedder):
        dual_encoder.apply_to_each(embedder, lambda encoder, kind: load_weights(encoder, folder / kind, tuning))
        return
    model, adapter = embedder[0].model, folder / ADAPTER_WEIGHTS
    if adapter.is_file():
        stored = load_file(adapter)
        _compare_keys(set(stored), set(get_peft_model_state_dict(model)), str(adapter))
        set_peft_model_state_dict(model, stored)
    elif (folder / MODEL_WEIGHTS).is_file():
        stored, tied = load_file(folder / MODEL_WEIGHTS), splade.optional_keys(embedder)
        _compare_keys(set(stored) - tied, set(model.state_dict()) - tied, str(folder / MODEL_WEIGHTS))
        model.load_state_dict(stored, strict=not tied)
    load_extra_parameters(embedder, folder, tuning)


def refuse_tuned_weights(folder: Path) -> None:
    """Refuse a folder without a manifest that holds tuned parameters: the model would be loaded without them.

    Raises:
        UserError: there are such parameters.
    """
    if (folder / TUNED_WEIGHTS).is_file():
        raise UserError(f"{folder}: has no manifest.json that says how to use its {TUNED_WEIGHTS}; restore it")


def load_extra_parameters(embedder: SentenceTransformer, folder: Path, tuning: Tuning) -> None:
    """Read the parameters of `peft_methods.extra_parameter_names` back, in place.

    Raises:
        Refused: keys are missing or unexpected.
    """
    file, names = folder / TUNED_WEIGHTS, peft_methods.extra_parameter_names(embedder, tuning)
    stored = load_file(file) if file.is_file() else {}
    _compare_keys(set(stored), names, str(file))
    for name, parameter in embedder.named_parameters():
        if name in names:
            parameter.data = stored[name].to(parameter.device)


def attach_adapter(
    embedder: SentenceTransformer, folder: Path, tuning: Tuning | None = None, trainable: bool = False
) -> None:
    """Put a saved adapter around or into the transformer, in place.

    Args:
        tuning: the recipe's tuning method; None for an adapter of another tool.
        trainable: whether its weights are trained further.

    Raises:
        UserError: the file is missing.
        Refused: its keys are not exactly those of the adapter on this model. peft only warns there, and the base
            model's embeddings would pass for the adapter's.
    """
    embedder.requires_grad_(False)
    if tuning is not None and tuning.has_virtual_tokens:
        # peft's own file holds the virtual tokens that an encoder computed, and not the encoder that training needs.
        peft_methods.add_virtual_tokens(embedder, tuning)
    elif tuning is None or tuning.method != "bottleneck":
        _attach_peft(embedder, folder, trainable)
    if tuning is not None:
        peft_methods.add_modules(embedder, tuning)
        load_extra_parameters(embedder, folder, tuning)
        if trainable:
            peft_methods.unfreeze(embedder, tuning)


def _attach_peft(embedder: SentenceTransformer, folder: Path, trainable: bool) -> None:
    file = folder / ADAPTER_WEIGHTS
    if not file.is_file():
        raise UserError(f"{file}: no such file; the adapter cannot be loaded")
    try:
        config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        model = PeftModel.from_pretrained(embedder[0].model, str(folder), is_trainable=trainable)
    except (RuntimeError, ValueError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:160]
        raise Refused(f"{folder}: the adapter does not fit the base model ({reason})") from None
    except (KeyError, TypeError, AttributeError) as error:  # of peft, on a configuration that it does not know
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise UserError(f"{folder / ADAPTER_CONFIG}: the installed peft cannot read it ({reason})") from None
    with safe_open(file, framework="pt") as stored:
        keys = set(stored.keys())
    _compare_keys(keys, set(get_peft_model_state_dict(model)), f"{file} ({config.get('peft_type')})")
    embedder[0].model = model


def check_model_keys(embedder: SentenceTransformer, folder: Path, foreign: bool) -> None:
    """Refuse a weights file that lacks keys of the model, or, unless it is `foreign`, holds others.

    Weights of another tool may bring a head that is not used here.

    Raises:
        Refused: keys are missing or unexpected.
    """
    file = folder / MODEL_WEIGHTS
    if not file.is_file():
        return  # sharded or .bin: transformers' own loader has read the index
    model = embedder[0].model
    # The prefix of a head's encoder is not in an encoder's own file.
    prefix = f"{model.base_model_prefix}." if splade.is_sparse(embedder) else ""

    def plain(key: str) -> str:
        return key.removeprefix("model.").removeprefix(prefix)

    with safe_open(file, framework="pt") as stored:
        keys = {plain(key) for key in stored.keys() if not key.endswith("position_ids")}
    expected = {plain(key) for key in model.state_dict()} - {plain(key) for key in splade.optional_keys(embedder)}
    if splade.is_sparse(embedder):
        keys -= {plain(key) for key in splade.optional_keys(embedder)}
    _compare_keys(keys & expected if foreign else keys, expected, str(file))


def _compare_keys(stored: set[str], expected: set[str], source: str) -> None:
    missing, unexpected = sorted(expected - stored), sorted(stored - expected)
    if missing or unexpected:
        example = (missing or unexpected)[0]
        raise Refused(
            f"{source}: {len(missing)} keys are missing and {len(unexpected)} unexpected, such as {example}; "
            "these are not the weights of this model"
        )
