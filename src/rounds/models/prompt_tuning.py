"""Virtual tokens: peft's prompt-learning methods, extended to packed texts (see `packed_attention`)."""

import types

import torch
from peft import PeftConfig, PeftModel, PeftType, get_peft_model
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn


def attach(embedder: SentenceTransformer, config: PeftConfig) -> None:
    """Put virtual tokens before each text, in place."""
    model = get_peft_model(embedder[0].model, config)
    model.forward = types.MethodType(_forward, model)
    model.packs_virtual_tokens = True
    embedder[0].model = model


def _forward(model: PeftModel, input_ids: Tensor, cu_seq_lens_q: Tensor | None = None, **inputs):
    if cu_seq_lens_q is None:
        return type(model).forward(model, input_ids=input_ids, **inputs)
    if model.active_peft_config.peft_type == PeftType.PREFIX_TUNING:
        return _forward_behind_prefix(model, input_ids, cu_seq_lens_q, **inputs)
    return _forward_packed(model, input_ids, cu_seq_lens_q, **inputs)


def has_virtual_tokens(transformer: nn.Module) -> bool:
    """Return whether the model puts virtual tokens before each text."""
    return getattr(getattr(transformer, "active_peft_config", None), "is_prompt_learning", False)


def can_pack(transformer: nn.Module) -> bool:
    """Return whether packed texts get the model's virtual tokens: not where another tool's adapter adds them."""
    return not has_virtual_tokens(transformer) or getattr(transformer, "packs_virtual_tokens", False)


def _forward_behind_prefix(model: PeftModel, input_ids: Tensor, starts: Tensor, position_ids: Tensor, **inputs):
    """Run the base model behind prefix tuning's keys and values, which all texts share."""
    positions = position_ids + model.active_peft_config.num_virtual_tokens
    prefix = model.get_prompt(1)
    return model.base_model(input_ids=input_ids, position_ids=positions, prefix=prefix, cu_seq_lens_q=starts, **inputs)


def _forward_packed(model: PeftModel, input_ids: Tensor, starts: Tensor, position_ids: Tensor, **inputs):
    """Run the base model with virtual tokens before each packed text; return the output of the texts' own tokens.

    With two virtual tokens V and the texts a b | c d e:

        input_ids         a b c d e             starts           0 2 5
        packed sequence   V V a b V V c d e     packed starts    0 4 9
        text_positions    2 3 6 7 8             of the texts' own tokens in the packed sequence

    Args:
        input_ids, position_ids: (1, tokens), without virtual tokens.
        starts: (texts + 1,), as `packed_attention.attend` takes them.
    """
    number, texts, device = model.active_peft_config.num_virtual_tokens, len(starts) - 1, input_ids.device
    tokens = input_ids.shape[1]
    lengths = (starts[1:] - starts[:-1]).to(device).long()
    text_of_token = torch.arange(texts, device=device).repeat_interleave(lengths)
    text_positions = torch.arange(tokens, device=device) + number * (text_of_token + 1)
    is_virtual = torch.ones(tokens + number * texts, dtype=torch.bool, device=device)
    is_virtual[text_positions] = False

    states = model.word_embeddings(input_ids)[0]
    virtual = model.get_prompt(1)[0].to(states.dtype).repeat(texts, 1)
    packed = states.new_empty(len(is_virtual), states.shape[1])
    packed = packed.index_copy(0, text_positions, states).index_copy(0, is_virtual.nonzero()[:, 0], virtual)

    first = position_ids.min()  # RoBERTa counts from 2
    packed_positions = torch.empty_like(is_virtual, dtype=torch.long)
    packed_positions[text_positions] = position_ids[0] + number
    packed_positions[is_virtual] = first + torch.arange(number, device=device).repeat(texts)
    packed_starts = starts + number * torch.arange(texts + 1, dtype=starts.dtype, device=starts.device)

    output = model.base_model(
        inputs_embeds=packed[None], position_ids=packed_positions[None], cu_seq_lens_q=packed_starts, **inputs
    )
    output.last_hidden_state = output.last_hidden_state[:, text_positions]
    if output.hidden_states is not None:
        output.hidden_states = tuple(layer[:, text_positions] for layer in output.hidden_states)
    return output
