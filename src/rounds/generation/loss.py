"""Loss: cross entropy of the target's tokens, with logits computed where they count."""

import torch
from peft import PeftModel, PeftType
from torch import Tensor
from torch.nn import functional

from rounds.generation.sequences import IGNORED


def target_loss(model: torch.nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
    """Return the summed loss of a batch's targets, and the number of tokens in them.

    Logits are computed at the columns that hold a target of any row: over a large vocabulary, those of the contexts
    would cost more than the model itself.

    Args:
        model: a causal language model, or peft's around one.
        batch: as `sequences.collate` returns it, on the model's device.
    """
    targets = batch["labels"][:, 1:]
    columns = (targets != IGNORED).any(0).nonzero().squeeze(1)
    targets = targets[:, columns]
    output = model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        logits_to_keep=columns + _virtual_states(model),
    )
    counted = targets != IGNORED
    loss = functional.cross_entropy(output.logits[counted].float(), targets[counted], reduction="sum")
    return loss, int(counted.sum())


def _virtual_states(model: torch.nn.Module) -> int:
    """Return how many hidden states stand before those of the text; a prefix is in the cache and has none."""
    model = getattr(model, "module", model)  # the Trainer wraps a model for several processes
    config = model.active_peft_config if isinstance(model, PeftModel) else None
    is_before = config is not None and config.is_prompt_learning and config.peft_type != PeftType.PREFIX_TUNING
    return config.num_virtual_tokens if is_before else 0
