"""Parameter-efficient fine-tuning: apply a recipe's tuning method to an embedder, and check that its weights moved.

peft provides LoRA, IA3 and virtual tokens; bottleneck adapters, the projection head and the unfreezing of single
weights are implemented here.
"""

import copy
import re
from dataclasses import replace

import torch
from peft import (
    IA3Config,
    LoraConfig,
    PeftConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    get_peft_model,
)
from peft.tuners.lora import LoraLayer
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense
from sentence_transformers.sentence_transformer.modules import Normalize, WeightedLayerPooling
from torch import Tensor, nn

from rounds.config.recipe import Tuning
from rounds.errors import UserError
from rounds.models import (
    dense_layers,
    dual_encoder,
    pooling,
    prompt_tuning,
    splade,
    target_modules,
    vision_language,
    vision_tower,
)
from rounds.models.precision import compute_dtype

TASK_TYPE = "FEATURE_EXTRACTION"

# Parts of the names of inserted parameters. peft's file holds the virtual tokens that a P-tuning encoder computes,
# and training cannot go on from those: it needs the encoder's own weights.
INSERTED = (".bottleneck.", ".prompt_encoder.", ".visual_tokens.")


def apply(embedder: SentenceTransformer, tuning: Tuning, tokenizer: str = "", revision: str | None = None) -> None:
    """Insert the tuning method's parameters and make them trainable, in place; with `separate`, in two copies.

    Initial values come from torch's global random generator: seed it first.

    Args:
        tokenizer: folder or name of the base model's tokenizer, for virtual tokens that start from a text.
        revision: the tokenizer's revision on the hub; None for a folder (`weights.hub_revision`).

    Raises:
        UserError: the recipe's targets match no module of the model.
    """
    if tuning.separate and not dual_encoder.is_dual(embedder):
        encoders = {
            kind: SentenceTransformer(modules=list(copy.deepcopy(embedder)), device=embedder.device)
            for kind in dual_encoder.KINDS
        }
        dual_encoder.set_encoders(embedder, encoders)
        embedder.eval()
    dual_encoder.apply_to_each(embedder, lambda encoder, _: _apply_to_encoder(encoder, tuning, tokenizer, revision))
    if dual_encoder.is_dual(embedder):  # the encoders may have new modules, which the router does not know yet
        encoders = {kind: dual_encoder.encoder_for(embedder, kind) for kind in dual_encoder.KINDS}
        dual_encoder.set_encoders(embedder, encoders)


def _apply_to_encoder(embedder: SentenceTransformer, tuning: Tuning, tokenizer: str, revision: str | None) -> None:
    if tuning.method != "full":
        embedder.requires_grad_(False)
    config = peft_config(tuning, embedder[0].model, tokenizer, revision)
    if config is not None:
        _insert_peft(embedder, config, tuning)
    add_modules(embedder, tuning)
    unfreeze(embedder, tuning)


def _insert_peft(embedder: SentenceTransformer, config: PeftConfig, tuning: Tuning) -> None:
    try:
        if config.is_prompt_learning:
            prompt_tuning.attach(embedder, config)
        else:
            embedder[0].model = get_peft_model(embedder[0].model, config)
    except ValueError as error:
        section = "ia3" if tuning.method == "ia3" else "lora"
        targets = list(getattr(tuning, section).targets)
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"tuning.{section}.targets {targets}: {reason}") from None


def peft_config(
    tuning: Tuning, transformer: nn.Module, tokenizer: str = "", revision: str | None = None, task_type: str = TASK_TYPE
) -> PeftConfig | None:
    """Return peft's configuration of the tuning method; None for methods that peft does not implement.

    Args:
        tokenizer, revision: as `apply` takes them.
        task_type: what peft calls the task of the model.

    Raises:
        UserError: a target matches no module of the transformer, or `ia3.feedforward` is not among `ia3.targets`.
    """
    virtual = tuning.virtual
    if tuning.has_lora:
        return LoraConfig(
            r=tuning.lora.r,
            lora_alpha=tuning.lora.alpha,
            lora_dropout=tuning.lora.dropout,
            target_modules=target_modules.for_peft(
                tuning.lora.targets, target_modules.adaptable(transformer, exclude="pooler"), "tuning.lora.targets"
            ),
            # The weights of a masked-LM head are trained themselves.
            exclude_modules="|".join([r".*pooler.*", *splade.head_patterns(transformer)]),
            task_type=task_type,
        )
    if tuning.method == "ia3":
        modules = target_modules.adaptable(transformer)
        targets, feedforward = (
            target_modules.for_peft(names, modules, f"tuning.ia3.{key}") or None
            for key, names in (("targets", tuning.ia3.targets), ("feedforward", tuning.ia3.feedforward))
        )
        if isinstance(targets, list) and isinstance(feedforward, list) and (rest := set(feedforward) - set(targets)):
            raise UserError(f"tuning.ia3.feedforward: {min(rest)} is not one of tuning.ia3.targets; add it there, too")
        return IA3Config(target_modules=targets, feedforward_modules=feedforward, task_type=task_type)
    if tuning.method == "prompt":
        text = {"prompt_tuning_init_text": virtual.init_text, "tokenizer_name_or_path": tokenizer}
        text |= {"tokenizer_kwargs": {"revision": revision}} if revision else {}
        initial = {"prompt_tuning_init": "TEXT", **text} if virtual.init == "text" else {}
        return PromptTuningConfig(num_virtual_tokens=virtual.tokens, task_type=task_type, **initial)
    if tuning.method == "p_tuning":
        hidden = virtual.hidden_size
        return PromptEncoderConfig(num_virtual_tokens=virtual.tokens, encoder_hidden_size=hidden, task_type=task_type)
    if tuning.method == "prefix":
        return PrefixTuningConfig(num_virtual_tokens=virtual.tokens, task_type=task_type)
    return None


def leave_casts_to_autocast(embedder: SentenceTransformer, precision: str) -> None:
    """Keep LoRA layers from casting their input to fp32, in place, for a training in mixed precision.

    peft casts it to the dtype of the factors, and autocast casts it back before the product: the numbers are the same,
    and each cast writes all activations. Layers with dropout keep the casts, since peft draws their masks in between.
    Such a model computes under autocast only. In fp32, where there is none, nothing changes.
    """
    if compute_dtype(precision, str(embedder.device)) == torch.float32:
        return
    for layer in embedder.modules():
        if isinstance(layer, LoraLayer) and all(isinstance(one, nn.Identity) for one in layer.lora_dropout.values()):
            layer.cast_input_dtype_enabled = False


def add_virtual_tokens(embedder: SentenceTransformer, tuning: Tuning) -> None:
    """Put random virtual tokens before each text, in place, to be overwritten by a checkpoint's."""
    random = replace(tuning, virtual=replace(tuning.virtual, init="random"))
    prompt_tuning.attach(embedder, peft_config(random, embedder[0].model))
    embedder[0].model.requires_grad_(False)


class BottleneckAdapter(nn.Module):
    """Houlsby adapter: a down-projection, a nonlinearity and an up-projection, added to the input.

    It starts as the identity, since the up-projection starts at zero.
    """

    def __init__(self, dim: int, reduction_factor: int) -> None:
        super().__init__()
        inner = max(dim // reduction_factor, 1)
        self.down, self.up = nn.Linear(dim, inner), nn.Linear(inner, dim)
        nn.init.normal_(self.down.weight, std=0.02)
        for start_at_zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(start_at_zero)

    def forward(self, states: Tensor) -> Tensor:
        """(..., dim) -> (..., dim)."""
        return states + self.up(nn.functional.gelu(self.down(states.to(self.down.weight.dtype)))).to(states.dtype)


def add_modules(embedder: SentenceTransformer, tuning: Tuning, is_tuned_model: bool = False) -> None:
    """Add the recipe's modules that peft does not provide, in place.

    Args:
        is_tuned_model: the model's own weights are tuned (a full or merged checkpoint), so no adapter goes into its
            layers.
    """
    if tuning.method == "bottleneck" and not is_tuned_model:
        _insert_bottlenecks(embedder, tuning)
    if tuning.virtual.vision != "none":
        vision_tower.add_visual_tokens(vision_tower.find_tower(embedder), tuning.virtual, embedder[0].model)
    if tuning.projection.dim and not _added_layers(embedder, Dense):
        _append_projection(embedder, tuning)


def _insert_bottlenecks(embedder: SentenceTransformer, tuning: Tuning) -> None:
    """Put an adapter behind each target layer of the text model and of the vision tower."""
    factor = tuning.bottleneck.reduction_factor
    vision = vision_tower.find_tower(embedder)
    head = "|".join(splade.head_patterns(embedder[0].model)) or r"(?!)"  # is trained itself
    linear = [
        (name, module)
        for model in [embedder[0].model, *([vision.tower] if vision else [])]
        for name, module in model.named_modules()
        if hasattr(module, "out_features") and not re.fullmatch(head, name)
    ]
    layers = _bottleneck_layers(linear, list(tuning.bottleneck.targets))
    for layer in layers:
        layer.bottleneck = BottleneckAdapter(layer.out_features, factor).to(layer.weight.device)
        layer.register_forward_hook(lambda module, _, output: module.bottleneck(output))


def _bottleneck_layers(linear: list[tuple[str, nn.Module]], targets: list[str]) -> list[nn.Module]:
    """Return the linear layers, given with their names, that the targets name.

    Raises:
        UserError: a target matches nothing; of the default ones, which name layers of several architectures, all.
    """
    key = "tuning.bottleneck.targets"
    if targets == [target_modules.ALL_LINEAR]:
        return [module for name, module in linear if "pooler" not in name]
    layers = [
        module for name, module in linear if any(target_modules.matches(t, name, key, separator="") for t in targets)
    ]
    if not layers or targets != Tuning().bottleneck.targets:
        target_modules.check(targets, [name for name, _ in linear], key, separator="")
    return layers


def _append_projection(embedder: SentenceTransformer, tuning: Tuning) -> None:
    """Append a projection head that starts orthogonal; its `normalize` takes the place of the model's."""
    tower = vision_tower.find_tower(embedder)
    dim = tower.get_embedding_dimension() if tower else pooling.embedding_dimension(embedder)
    head = Dense(dim, tuning.projection.dim, bias=False, activation_function=nn.Identity())
    nn.init.orthogonal_(head.linear.weight)
    head.register_forward_hook(dense_layers.embed_in_fp32)
    kept = [module for module in embedder if not isinstance(module, Normalize)]
    modules = [*kept, head.to(embedder.device), *([Normalize()] if tuning.projection.normalize else [])]
    for name in list(embedder._modules):
        del embedder._modules[name]
    for number, module in enumerate(modules):
        embedder.add_module(str(number), module)


def _added_layers(embedder: SentenceTransformer, *kinds: type[nn.Module]) -> list[nn.Module]:
    """Return the modules of the given kinds that the recipe adds to its base model."""
    return [module for module in embedder if isinstance(module, kinds) and not dense_layers.is_of_base_model(module)]


def unfreeze(embedder: SentenceTransformer, tuning: Tuning) -> None:
    """Make the tuned parameters beside peft's trainable, in fp32: half precision would round small steps to zero.

    Of a frozen vision tower, only inserted and unfrozen parameters become trainable.
    """
    names = extra_parameter_names(embedder, tuning)
    if tuning.vision == "frozen" and not has_frozen_base(embedder):
        if vision_language.find_patch_loader(embedder):
            embedder[0].model.visual.requires_grad_(False)
        if vision := vision_tower.find_tower(embedder):
            vision.tower.requires_grad_(False)
            names -= _parameter_names(embedder, [vision.tower])
            names |= _parameter_names(embedder, _unfrozen_modules(embedder, tuning))
    for name, parameter in embedder.named_parameters():
        if name in names:
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)


def extra_parameter_names(embedder: SentenceTransformer, tuning: Tuning) -> set[str]:
    """Return the names of the tuned parameters that neither peft's file nor the transformer's file holds.

    Dense layers of the base model are frozen with it, and tuned with it by the method `full`.
    """
    vision = vision_tower.find_tower(embedder)
    if not has_frozen_base(embedder):
        tuned = [module for module in embedder if isinstance(module, Dense | WeightedLayerPooling)]
        return _parameter_names(embedder, [*tuned, *([vision] if vision else [])])
    heads = _added_layers(embedder, Dense, WeightedLayerPooling)
    vision_modules: list[nn.Module] = []
    if vision:
        vision_modules = [vision] if tuning.vision == "tuned" else [vision.head, vision.joined]
    modules = [*heads, *filter(None, vision_modules), *_unfrozen_modules(embedder, tuning)]
    inserted = {name for name, _ in embedder.named_parameters() if any(part in name for part in INSERTED)}
    return inserted | _parameter_names(embedder, modules) | splade.head_parameter_names(embedder)


def _unfrozen_modules(embedder: SentenceTransformer, tuning: Tuning) -> list[nn.Module]:
    """Return the modules that `tuning.unfreeze` names."""
    transformer, vision = embedder[0].model, vision_tower.find_tower(embedder)
    modules: list[nn.Module] = []
    if "layer_norms" in tuning.unfreeze:
        both = [*transformer.modules(), *(vision.tower.modules() if vision else ())]
        modules += [module for module in both if _is_norm(module)]
    if "visual_embedding" in tuning.unfreeze:
        modules.append(vision.tower.embeddings)
    if "input_embeddings" in tuning.unfreeze:
        modules.append(transformer.get_input_embeddings())
    return modules


def _parameter_names(embedder: SentenceTransformer, modules: list[nn.Module]) -> set[str]:
    parameters = {id(parameter) for module in modules for parameter in module.parameters()}
    return {name for name, parameter in embedder.named_parameters() if id(parameter) in parameters}


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.LayerNorm) or type(module).__name__.endswith("RMSNorm")


def has_frozen_base(embedder: SentenceTransformer) -> bool:
    """Return whether an adapter is trained over frozen weights, so that a checkpoint holds only what was added."""
    transformer = dual_encoder.encoder_for(embedder, "query")[0].model
    return isinstance(transformer, PeftModel) or any(
        isinstance(module, BottleneckAdapter) for module in transformer.modules()
    )


def trainable_parameters(embedder: SentenceTransformer) -> dict[str, Tensor]:
    """Return the trainable parameters by name."""
    return {name: parameter for name, parameter in embedder.named_parameters() if parameter.requires_grad}


def snapshot_trainable(embedder: SentenceTransformer) -> dict[str, Tensor]:
    """Return CPU copies of the trainable parameters, for `check_weights_moved` after training."""
    return {name: value.detach().cpu().clone() for name, value in trainable_parameters(embedder).items()}


def check_weights_moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> None:
    """Refuse a training that changed no weights.

    Of LoRA only the B matrices count: weight decay alone moves A, and A changes nothing while B is zero.

    Args:
        before: parameters by name, from `snapshot_trainable`.
        after: the same parameters after training; others are ignored.

    Raises:
        UserError: no weight that matters moved.
    """
    names = [name for name in before if "lora_B" in name] or list(before)
    if all(torch.equal(before[name], after[name].detach().cpu()) for name in names):
        kind = "adapter weights" if "lora_B" in names[0] else "weights"
        raise UserError(f"training moved none of the {len(names)} {kind}: check learning_rate and tuning.lora.targets")
