"""Virtual tokens: peft's prompt-learning methods, taught texts that are packed one behind the other (see `packing`)."""

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
    return _packed(model, input_ids, cu_seq_lens_q, **inputs)


def can_pack(transformer: nn.Module) -> bool:
    """Whether virtual tokens, where the model has any, can stand before packed texts: a foreign adapter's cannot."""
    return not has_virtual_tokens(transformer) or getattr(transformer, "packs_virtual_tokens", False)


def has_virtual_tokens(transformer: nn.Module) -> bool:
    """Whether the model puts virtual tokens before each text."""
    return getattr(getattr(transformer, "active_peft_config", None), "is_prompt_learning", False)


def _packed(model: PeftModel, input_ids: Tensor, starts: Tensor, position_ids: Tensor, **inputs):
    """The base model's output for the texts' own tokens, as if each had been alone behind the virtual ones.

    Args:
        input_ids, position_ids: (1, tokens), without virtual tokens.
        starts: (texts + 1,), as `packing.attend` takes them.
    """
    config = model.active_peft_config
    number, texts = config.num_virtual_tokens, len(starts) - 1
    if config.peft_type == PeftType.PREFIX_TUNING:
        inputs |= {"prefix": model.get_prompt(1), "cu_seq_lens_q": starts}
        return model.base_model(input_ids=input_ids, position_ids=position_ids + number, **inputs)
    lengths = (starts[1:] - starts[:-1]).to(input_ids.device).long()
    text_of = torch.arange(texts, device=input_ids.device).repeat_interleave(lengths)
    own = torch.arange(input_ids.shape[1], device=input_ids.device) + number * (text_of + 1)
    is_virtual = torch.ones(input_ids.shape[1] + number * texts, dtype=torch.bool, device=input_ids.device)
    is_virtual[own] = False
    states = model.word_embeddings(input_ids)[0]
    virtual = model.get_prompt(1)[0].to(states.dtype)
    whole = states.new_empty(len(is_virtual), states.shape[1])
    whole = whole.index_copy(0, own, states).index_copy(0, is_virtual.nonzero()[:, 0], virtual.repeat(texts, 1))
    first = position_ids.min()  # RoBERTa counts from 2
    places = torch.empty_like(is_virtual, dtype=torch.long)
    places[own] = position_ids[0] + number
    places[is_virtual] = first + torch.arange(number, device=places.device).repeat(texts)
    inputs["cu_seq_lens_q"] = starts + number * torch.arange(texts + 1, dtype=starts.dtype, device=starts.device)
    output = model.base_model(inputs_embeds=whole[None], position_ids=places[None], **inputs)
    output.last_hidden_state = output.last_hidden_state[:, own]
    if output.hidden_states is not None:
        output.hidden_states = tuple(each[:, own] for each in output.hidden_states)
    return output
