"""Tuning: what a recipe trains in the backbone, and proof that it moved."""

import torch
from peft import LoraConfig, get_peft_model
from sentence_transformers import SentenceTransformer

from rounds.errors import UserError
from rounds.recipe import Tuning


def apply(embedder: SentenceTransformer, tuning: Tuning) -> None:
    """Make the recipe's weights trainable, in place; an adapter is added around the transformer.

    LoRA's initial values come from torch's global generator: seed it first.
    """
    if tuning.method == "full":
        return
    config = LoraConfig(
        r=tuning.lora.r,
        lora_alpha=tuning.lora.alpha,
        lora_dropout=tuning.lora.dropout,
        target_modules=list(tuning.lora.targets),
        exclude_modules=r".*pooler.*",
        task_type="FEATURE_EXTRACTION",
    )
    try:
        embedder[0].model = get_peft_model(embedder[0].model, config)
    except ValueError as error:
        raise UserError(f"tuning.lora.targets {tuning.lora.targets}: {' '.join(str(error).split())[:160]}") from None


def trainable(embedder: SentenceTransformer) -> dict[str, torch.Tensor]:
    """Trainable parameters by name."""
    return {name: value for name, value in embedder.named_parameters() if value.requires_grad}


def snapshot(embedder: SentenceTransformer) -> dict[str, torch.Tensor]:
    """Copies of the trainable parameters, to compare with after training."""
    return {name: value.detach().cpu().clone() for name, value in trainable(embedder).items()}


def check_moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> None:
    """Stop when training left the weights where they were.

    In an adapter only LoRA's B matrices count: weight decay alone moves A, and A without B changes nothing.

    Raises:
        UserError: no weight that matters moved.
    """
    names = [name for name in before if "lora_B" in name] or list(before)
    if all(torch.equal(before[name], after[name].detach().cpu()) for name in names):
        kind = "adapter weights" if "lora_B" in names[0] else "weights"
        raise UserError(f"training moved none of the {len(names)} {kind}: check learning_rate and tuning.lora.targets")
