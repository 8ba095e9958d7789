"""Tuning: what a recipe trains in the backbone, and proof that it moved.

peft brings LoRA, IA3 and virtual tokens; bottlenecks, the projection head and unfrozen weights are ours.
"""

import copy
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
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense
from sentence_transformers.sentence_transformer.modules import Normalize, WeightedLayerPooling
from torch import Tensor, nn

from rounds.config.recipe import Tuning
from rounds.errors import UserError
from rounds.models import dual_encoder, pooling, prompt_tuning, vision_language, vision_tower

TASK = "FEATURE_EXTRACTION"


def apply(embedder: SentenceTransformer, tuning: Tuning, tokenizer: str = "") -> None:
    """Make the recipe's weights trainable, in place; with `separate`, in two copies of the model.

    New weights' initial values come from torch's global generator: seed it first.

    Args:
        tokenizer: folder or name of the base model's, for virtual tokens that start from a text.
    """
    if tuning.separate and not dual_encoder.is_dual(embedder):
        one, other = (SentenceTransformer(modules=list(copy.deepcopy(embedder)), device=embedder.device) for _ in "12")
        dual_encoder.set_encoders(embedder, {"query": one, "passage": other})
        embedder.eval()
    dual_encoder.apply_to_each(embedder, lambda side, _: _apply(side, tuning, tokenizer))
    if dual_encoder.is_dual(embedder):  # modules may have been added to the sides
        dual_encoder.set_encoders(
            embedder, {kind: dual_encoder.encoder_for(embedder, kind) for kind in dual_encoder.KINDS}
        )


def _apply(embedder: SentenceTransformer, tuning: Tuning, tokenizer: str) -> None:
    if tuning.method != "full":
        embedder.requires_grad_(False)
    if (config := _config(tuning, tokenizer)) is not None:
        try:
            if config.is_prompt_learning:
                prompt_tuning.attach(embedder, config)
            else:
                embedder[0].model = get_peft_model(embedder[0].model, config)
        except ValueError as error:
            key = "ia3" if tuning.method == "ia3" else "lora"
            raise UserError(
                f"tuning.{key}.targets {list(vars(getattr(tuning, key))['targets'])}: "
                f"{' '.join(str(error).split())[:160]}"
            ) from None
    add_modules(embedder, tuning)
    unfreeze(embedder, tuning)


def _config(tuning: Tuning, tokenizer: str) -> PeftConfig | None:
    """What peft is to do; None where it has no part."""
    virtual = tuning.virtual
    if tuning.has_lora:
        lora = tuning.lora
        return LoraConfig(
            r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=list(lora.targets),
            exclude_modules=r".*pooler.*", task_type=TASK,
        )  # fmt: skip
    if tuning.method == "ia3":
        targets, feedforward = list(tuning.ia3.targets) or None, list(tuning.ia3.feedforward) or None
        return IA3Config(target_modules=targets, feedforward_modules=feedforward, task_type=TASK)
    if tuning.method == "prompt":
        text = {"prompt_tuning_init_text": virtual.init_text, "tokenizer_name_or_path": tokenizer}
        start = {"prompt_tuning_init": "TEXT", **text} if virtual.init == "text" else {}
        return PromptTuningConfig(num_virtual_tokens=virtual.tokens, task_type=TASK, **start)
    if tuning.method == "p_tuning":
        hidden = virtual.hidden_size
        return PromptEncoderConfig(num_virtual_tokens=virtual.tokens, encoder_hidden_size=hidden, task_type=TASK)
    if tuning.method == "prefix":
        return PrefixTuningConfig(num_virtual_tokens=virtual.tokens, task_type=TASK)
    return None


def add_virtual_tokens(embedder: SentenceTransformer, tuning: Tuning) -> None:
    """Put random virtual tokens before each text, in place: a checkpoint's take their place."""
    prompt_tuning.attach(embedder, _config(replace(tuning, virtual=replace(tuning.virtual, init="random")), ""))
    embedder[0].model.requires_grad_(False)


class BottleneckAdapter(nn.Module):
    """Down, a nonlinearity, up, added to what comes in; nothing at first, since `up` starts at zero."""

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
    """Add the modules of ours that the recipe asks for, in place.

    Args:
        is_tuned_model: the model's own weights are tuned ones (a full or merged checkpoint): the head alone is added.
    """
    if tuning.method == "bottleneck" and not is_tuned_model:
        _insert(embedder, tuning)
    if tuning.virtual.vision != "none":
        vision_tower.add_visual_tokens(vision_tower.find_tower(embedder), tuning.virtual, embedder[0].model)
    if tuning.projection.dim and _head(embedder) is None:
        _project(embedder, tuning)


def _insert(embedder: SentenceTransformer, tuning: Tuning) -> None:
    targets, factor = tuple(tuning.bottleneck.targets), tuning.bottleneck.reduction_factor
    eyes = vision_tower.find_tower(embedder)
    models = [embedder[0].model, *([eyes.tower] if eyes else [])]
    places = [
        module
        for model in models
        for name, module in model.named_modules()
        if name.endswith(targets) and hasattr(module, "out_features")
    ]
    if not places:
        raise UserError(f"tuning.bottleneck.targets {list(targets)}: the model has no linear layer of these names")
    for place in places:
        place.bottleneck = BottleneckAdapter(place.out_features, factor).to(place.weight.device)
        place.register_forward_hook(lambda module, _, output: module.bottleneck(output))


def _project(embedder: SentenceTransformer, tuning: Tuning) -> None:
    behind = vision_tower.find_tower(embedder) or pooling.find_pooling(embedder)
    dim, wanted = behind.get_embedding_dimension(), tuning.projection.dim
    head = Dense(dim, wanted, bias=False, activation_function=nn.Identity())
    nn.init.orthogonal_(head.linear.weight)
    head.register_forward_hook(_in_full)
    behind = [module for module in embedder if not isinstance(module, Normalize)]
    modules = [*behind, head.to(embedder.device), *([Normalize()] if tuning.projection.normalize else [])]
    for name in list(embedder._modules):
        del embedder._modules[name]
    for number, module in enumerate(modules):
        embedder.add_module(str(number), module)


def _in_full(module, arguments, output: dict) -> dict:
    return {**output, "sentence_embedding": output["sentence_embedding"].float()}


def _head(embedder: SentenceTransformer) -> Dense | None:
    return next((module for module in embedder if isinstance(module, Dense)), None)


def unfreeze(embedder: SentenceTransformer, tuning: Tuning) -> None:
    """Let gradients into `own`, in fp32: in half precision small steps would round to none.

    Of a frozen vision tower only what is inserted or unfrozen takes them.
    """
    names = extra_parameter_names(embedder, tuning)
    if vision_language.find_patch_loader(embedder) and tuning.vision == "frozen" and not has_frozen_base(embedder):
        embedder[0].model.visual.requires_grad_(False)
    if (eyes := vision_tower.find_tower(embedder)) and tuning.vision == "frozen" and not has_frozen_base(embedder):
        eyes.tower.requires_grad_(False)
        names = names - _names_of(embedder, [eyes.tower]) | _names_of(embedder, _unfrozen(embedder, tuning))
    for name, parameter in embedder.named_parameters():
        if name in names:
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)


def extra_parameter_names(embedder: SentenceTransformer, tuning: Tuning) -> set[str]:
    """Names of the tuned parameters that neither peft's file nor the whole model's file holds."""
    found = {
        f"{number}.{name}"
        for number, module in enumerate(embedder)
        if isinstance(module, Dense | WeightedLayerPooling)
        for name, _ in module.named_parameters()
    }
    eyes = vision_tower.find_tower(embedder)
    seeing = [eyes] if eyes and (not has_frozen_base(embedder) or tuning.vision == "tuned") else []
    if not has_frozen_base(embedder):
        return found | _names_of(embedder, seeing)
    # peft's file holds what a P-tuning encoder makes, from which nobody can go on.
    inserted = (".bottleneck.", ".prompt_encoder.", ".visual_tokens.")
    found |= {name for name, _ in embedder.named_parameters() if any(part in name for part in inserted)}
    seeing = seeing or [module for module in (eyes and (eyes.head, eyes.joined)) or () if module is not None]
    return found | _names_of(embedder, [*seeing, *_unfrozen(embedder, tuning)])


def _unfrozen(embedder: SentenceTransformer, tuning: Tuning) -> list[nn.Module]:
    transformer, eyes, found = embedder[0].model, vision_tower.find_tower(embedder), []
    if "layer_norms" in tuning.unfreeze:
        both = [*transformer.modules(), *(eyes.tower.modules() if eyes else ())]
        found += [module for module in both if _is_norm(module)]
    if "visual_embedding" in tuning.unfreeze:
        found.append(eyes.tower.embeddings)
    if "input_embeddings" in tuning.unfreeze:
        found.append(transformer.get_input_embeddings())
    return found


def _names_of(embedder: SentenceTransformer, modules: list[nn.Module]) -> set[str]:
    parameters = {id(parameter) for module in modules for parameter in module.parameters()}
    return {name for name, parameter in embedder.named_parameters() if id(parameter) in parameters}


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.LayerNorm) or type(module).__name__.endswith("RMSNorm")


def has_frozen_base(embedder: SentenceTransformer) -> bool:
    """Whether the base model's weights stay as they are, but for unfrozen ones: a checkpoint holds the rest alone."""
    transformer = dual_encoder.encoder_for(embedder, "query")[0].model
    return isinstance(transformer, PeftModel) or any(
        isinstance(each, BottleneckAdapter) for each in transformer.modules()
    )


def trainable_parameters(embedder: SentenceTransformer) -> dict[str, torch.Tensor]:
    """Trainable parameters by name."""
    return {name: value for name, value in embedder.named_parameters() if value.requires_grad}


def snapshot_trainable(embedder: SentenceTransformer) -> dict[str, torch.Tensor]:
    """Copies of the trainable parameters, to compare with after training."""
    return {name: value.detach().cpu().clone() for name, value in trainable_parameters(embedder).items()}


def check_weights_moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> None:
    """Stop when training left the weights where they were.

    In an adapter only LoRA's B matrices count: weight decay alone moves A, and A without B changes nothing.

    Raises:
        UserError: no weight that matters moved.
    """
    names = [name for name in before if "lora_B" in name] or list(before)
    if all(torch.equal(before[name], after[name].detach().cpu()) for name in names):
        kind = "adapter weights" if "lora_B" in names[0] else "weights"
        raise UserError(f"training moved none of the {len(names)} {kind}: check learning_rate and tuning.lora.targets")
