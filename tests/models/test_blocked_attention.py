"""Blocked attention: bf16 products give what attention by its definition gives, to bf16's rounding."""

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from rounds.models import packed_attention
from rounds.models.blocked_attention import BlockedAttention, split_into_blocks

LENGTHS = [
    [1],
    [64],
    [1, 2, 64],
    [72, 72, 5, 31, 30, 1],
    [20, 200, 3, 64, 65],
    [640],  # its weights are computed again for the backward pass
]


class Layer(torch.nn.Module):
    """What `packed_attention.attend` asks of a causal layer."""

    is_causal = True


def draw_states(tokens: int, heads: int = 6, key_heads: int = 2, dim: int = 16, dtype=torch.bfloat16) -> list:
    """Draw query, key, value, and a gradient of the output."""
    torch.manual_seed(tokens)
    query, key, value, gradient = (torch.randn(tokens, count, dim) for count in (heads, key_heads, key_heads, heads))
    return [*(one.to(dtype).requires_grad_() for one in (query, key, value)), gradient.to(dtype)]


def with_gradients(attention, query, key, value, gradient) -> list:
    """Return the output and the gradients of query, key and value."""
    output = attention(query, key, value)
    return [output.detach(), *torch.autograd.grad(output, (query, key, value), gradient.to(output.dtype))]


def slow_attention(query, key, value, lengths: list[int], causal: bool):
    """Compute attention one text after the other, by torch's SDPA in the dtype of the states."""
    key, value = (states.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for states in (key, value))
    texts = zip(*(states.transpose(0, 1)[None].split(lengths, dim=2) for states in (query, key, value)), strict=True)
    parts = [torch.nn.functional.scaled_dot_product_attention(*text, is_causal=causal) for text in texts]
    return torch.cat(parts, dim=2)[0].transpose(0, 1)


def blocked(query, key, value, lengths: list[int], causal: bool):
    """Compute blocked attention."""
    starts = (0, *torch.tensor(lengths).cumsum(0).tolist())
    return BlockedAttention.apply(query, key, value, split_into_blocks(starts, causal), query.shape[-1] ** -0.5)


def errors(results: list, exact: list) -> list[float]:
    """Return the norm of each result's error over that of the exact one, or itself where that is zero."""
    pairs = zip(results, exact, strict=True)
    return [float(torch.norm(one.detach().double() - other) / (float(torch.norm(other)) or 1)) for one, other in pairs]


@pytest.mark.parametrize("key_heads", [1, 2, 6])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_outputs_and_gradients_equal_attention_by_its_definition(lengths, causal, key_heads):
    """Against fp64 the error is bf16's rounding, and at most 1.5 times that of torch's attention in bf16."""
    states = draw_states(sum(lengths), key_heads=key_heads)
    doubles = [one.detach().double().requires_grad_() for one in states]
    exact = with_gradients(lambda *args: slow_attention(*args, lengths, causal), *doubles)
    of_torch = errors(with_gradients(lambda *args: slow_attention(*args, lengths, causal), *states), exact)
    ours = errors(with_gradients(lambda *args: blocked(*args, lengths, causal), *states), exact)
    for one, other in zip(ours, of_torch, strict=True):
        assert one <= min(0.01, 1.5 * other + 1e-6)


def test_keys_with_large_biases_keep_their_differences():
    """Scores in the thousands, as in Qwen2's first layer, cost no more than others: softmax sees their differences."""
    states = draw_states(200)
    with torch.no_grad():
        states[1] += 400
    exact = slow_attention(*(one.detach().double() for one in states[:3]), [200], True)
    assert errors([blocked(*states[:3], [200], True)], [exact])[0] < 0.01


@pytest.mark.parametrize("causal", [False, True])
def test_a_long_text_keeps_no_weights_for_its_gradients(causal):
    """Memory of the backward pass: the weights are kept for short texts only."""
    short, long = (blocked(*draw_states(length)[:3], [length], causal).grad_fn for length in (70, 640))
    assert len(short.saved_tensors) > 3 and len(long.saved_tensors) == 3


def attend(states: list, training: bool = True, dtype=torch.bfloat16, **changed):
    """Call the entry of transformers' interface with packed texts of 40 and 30 tokens, under bf16's autocast or not."""
    layer = Layer().train(training)
    query, key, value = (one.transpose(0, 1)[None] for one in states[:3])
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        starts = torch.tensor([0, 40, 70])
        return packed_attention.attend(layer, query, key, value, None, cu_seq_lens_q=starts, **changed)[0]


def fused(states: list):
    """Compute attention with torch's fused kernels in fp32, as `attend` does elsewhere."""
    query, key, value = (one.float() for one in states[:3])
    heads = (packed_attention._repeat_heads(one, query.shape[1]) for one in (key, value))
    runs = packed_attention.equal_length_runs([0, 40, 70])
    output = packed_attention.PackedAttention.apply(query, *heads, None, None, runs, True, query.shape[-1] ** -0.5)
    return output.to(states[0].dtype)[None]


def test_training_in_bf16_takes_blocks_and_encoding_does_not():
    """Out of training mode every number stays that of the fused kernels, bit for bit."""
    states = draw_states(70)
    assert torch.equal(attend(states), blocked(*states[:3], [40, 30], True)[None])
    assert torch.equal(attend(states, training=False), fused(states))


def test_training_in_fp32_and_without_shared_keys_stays_as_it_was():
    """fp32 states, and models whose query heads have a key head each, train with the fused kernels, bit for bit."""
    for states in (draw_states(70, dtype=torch.float32), draw_states(70, key_heads=6)):
        assert torch.equal(attend(states, dtype=states[0].dtype), fused(states))


def test_states_that_were_rotated_in_fp32_get_gradients_in_fp32():
    """Under autocast with fp32 weights queries and keys come in fp32: they are rounded, their gradients not lost."""
    states = draw_states(70)
    rotated = [*(one.detach().float().requires_grad_() for one in states[:2]), *states[2:]]
    output = attend(rotated)
    assert output.dtype == torch.float32 and torch.equal(output.bfloat16(), attend(states))
    gradients, expected = (
        torch.autograd.grad(attend(each), each[:3], states[3][None].to(each[0].dtype)) for each in (rotated, states)
    )
    assert [one.dtype for one in gradients] == [torch.float32, torch.float32, torch.bfloat16]
    for one, other in zip(gradients, expected, strict=True):
        assert torch.equal(one.bfloat16(), other)


def test_gradient_checkpointing_computes_the_same_gradients():
    """Computed again for the backward pass, outputs and gradients are the same, bit for bit."""
    states = draw_states(70)
    plain = with_gradients(lambda *args: attend(args)[0], *states)
    again = with_gradients(lambda *args: checkpoint(lambda *each: attend(each)[0], *args, use_reentrant=False), *states)
    assert all(map(torch.equal, plain, again))


def test_a_layout_of_texts_is_split_once():
    """All layers of a model share the blocks and masks of a batch."""
    assert split_into_blocks((0, 3, 99), True) is split_into_blocks((0, 3, 99), True)
    assert split_into_blocks((0, 3, 99), True) is not split_into_blocks((0, 3, 99), False)
