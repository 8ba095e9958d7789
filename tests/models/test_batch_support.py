"""Batch support: every architecture gets the embeddings that plain transformers computes for each text alone."""

import dataclasses
import random

import pytest
import torch
from helpers import tiny_architectures

from rounds.encoding.batching import Layout
from rounds.encoding.encoder import EncodingOptions, encode_ids
from rounds.models import backbone, packed_attention
from rounds.models.precision import DTYPES

NAMED = (
    "bert",
    "bloom",
    "convbert",
    "distilbert",
    "esm",
    "falcon",
    "gemma2",
    "gpt2",
    "gpt_neo",
    "gpt_oss",
    "gptj",
    "longformer",
    "modernbert",
    "mobilebert",
    "mpnet",
    "mpt",
    "rembert",
    "roformer",
    "squeezebert",
    "t5",
)

# Architectures of which no tiny model can be built or embedded here, by reason.
LEFT_OUT = {
    "its decoder needs inputs beside the text": (
        ("blenderbot", "blenderbot-small", "longt5", "m2m_100", "marian", "nllb-moe", "pegasus", "pegasus_x")
        + ("prophetnet", "switch_transformers")
    ),
    "needs boxes beside the text": ("bros", "lilt"),
    "reads sound": ("fastspeech2_conformer", "higgs_audio_v2", "vits"),
    "sentence-transformers does not pool its output": ("dpr",),
    "needs a feature extractor for web pages": ("markuplm",),
    "AutoModel does not build it from its configuration": ("dbrx", "evolla"),
    "its sizes must fit each other in a way that the table of tiny sizes does not": (
        ("axk1", "axk2", "bailing_hybrid", "bamba", "dots3_note_text", "glm5_next_text", "granitemoehybrid")
        + (
            "funnel",
            "kimi_linear",
            "lfm2_moe",
            "mistral4",
            "qwen4_exp_text",
            "reformer",
            "xlstm",
            "zamba",
            "zamba2",
            "zaya",
        )
    ),
    "is large whatever the sizes": ("deepseek_v32", "glm_moe_dsa", "hy_v4", "longcat_flash", "t5gemma"),
}


def rows(*lengths: int) -> list[list[int]]:
    """Draw a row of token ids for each length."""
    rng = random.Random(1)
    return [[rng.randrange(3, 900) for _ in range(length)] for length in lengths]


def least_cosine(name: str, folder, padding_side: str = "right", **changes) -> float:
    """Return the least cosine of Rounds' embeddings of a batch of two lengths to plain transformers' of each text."""
    model, texts = tiny_architectures.build(name, **changes), rows(7, 12)
    recipe = tiny_architectures.save(model, folder)
    recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, padding_side=padding_side))
    vectors = torch.tensor(encode_ids(backbone.load(recipe, "fp32", "cpu"), texts, "fp32"))
    expected = torch.stack([tiny_architectures.embed_alone(model, row) for row in texts])
    return float(torch.nn.functional.cosine_similarity(vectors, expected).min())


@pytest.mark.parametrize("name", NAMED)
def test_a_batch_of_two_lengths_gets_the_embeddings_of_plain_transformers(name, tmp_path):
    """Whatever an architecture does beside attention, a text's neighbours and padding change nothing."""
    assert least_cosine(name, tmp_path) > 1 - 1e-6


@pytest.mark.parametrize("name", ["bert", "gpt2", "mobilebert", "mistral"])
def test_left_padding_gets_the_embeddings_of_plain_transformers(name, tmp_path):
    """A model that counts its positions from the padding is padded on the other side."""
    assert least_cosine(name, tmp_path, padding_side="left", attn_implementation="eager") > 1 - 1e-6


@pytest.mark.slow
def test_every_text_architecture_gets_the_embeddings_of_plain_transformers(tmp_path):
    """All that transformers registers for text and that can be built small, on both sides of padding."""
    left_out = {name for names in LEFT_OUT.values() for name in names}
    wrong = {}
    for name in tiny_architectures.text_architectures():
        try:
            cosine = min(least_cosine(name, tmp_path / f"{name}-{side}", side) for side in ("right", "left"))
            if name in left_out or not cosine > 1 - 1e-6:
                wrong[name] = cosine
        except Exception as error:  # noqa: BLE001 - the walk goes on, and names all of them
            if name not in left_out:
                wrong[name] = repr(error)[:200]
    assert not wrong


def load_tiny(name: str, folder, attention: str = "sdpa", **changes):
    """Load a tiny model of an architecture through a recipe."""
    recipe = tiny_architectures.save(tiny_architectures.build(name, **changes), folder)
    recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, attention=attention))
    return backbone.load(recipe, "fp32", "cpu")


@pytest.mark.parametrize("name", ["bert", "distilbert", "llama", "mistral", "modernbert", "qwen3", "roberta"])
def test_architectures_that_compute_the_same_packed_are_packed(name, tmp_path):
    """The models that packing was made for still use it."""
    assert Layout.for_model(load_tiny(name, tmp_path), 16).packed


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("gemma2", {"attn_logit_softcapping": 1.0}),
        ("gemma2", {"attn_logit_softcapping": 1.0, "sliding_window": 8}),
        ("gpt_oss", {}),
        ("bloom", {}),
        ("mobilebert", {}),
    ],
    ids=["softcap", "softcap in a short window", "sinks", "ALiBi", "mixed neighbours"],
)
def test_what_the_packed_kernels_do_not_implement_turns_packing_off(name, changes, tmp_path):
    """Softcap, sinks, position biases and mixed tokens: not packed, and the embeddings are plain transformers'."""
    assert least_cosine(name, tmp_path / "a", **changes) > 1 - 1e-6
    assert not Layout.for_model(load_tiny(name, tmp_path / "b", **changes), 16).packed


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("name", ["bert", "convbert", "mistral", "mobilebert", "nystromformer", "yoso"])
def test_half_precision_takes_batches_as_fp32_does(name, precision, tmp_path):
    """What changes an embedding by less than half precision's rounding is found as well, and the weights come back."""
    recipe = tiny_architectures.save(tiny_architectures.build(name), tmp_path)
    full, half = (backbone.load(recipe, each, "cpu")[0].model for each in ("fp32", precision))
    assert half.batch_support == full.batch_support
    assert half.config._attn_implementation == full.config._attn_implementation
    weights = half.state_dict()
    for name, tensor in full.state_dict().items():
        assert weights[name].dtype == (DTYPES[precision] if tensor.is_floating_point() else tensor.dtype)
        assert torch.equal(weights[name], tensor.to(weights[name].dtype))


@pytest.mark.parametrize("argument", ["softcap", "s_aux", "position_bias", "head_mask", "alibi"])
def test_packed_attention_refuses_arguments_that_it_does_not_implement(argument):
    """An argument that changes how attention is computed is never dropped without a word."""
    states = [torch.randn(1, 2, 4, 8) for _ in range(3)]
    module, starts = torch.nn.Module(), torch.tensor([0, 4])
    with pytest.raises(NotImplementedError, match=argument):
        packed_attention.attend(module, *states, None, cu_seq_lens_q=starts, **{argument: torch.ones(2)})
    packed_attention.attend(module, *states, None, cu_seq_lens_q=starts, **{argument: None})


@pytest.mark.parametrize("name", ["jamba", "mistral", "qwen2", "qwen3_next"])
def test_a_shared_prefix_changes_no_embedding(name, tmp_path):
    """Recurrent layers, whose states no prefix keeps, turn sharing off."""
    model = tiny_architectures.build(name)
    recipe = tiny_architectures.save(model, tmp_path)
    recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, pooling="last_token"))
    prefix, *suffixes = rows(40, 3, 5, 5, 9, 9)
    texts = [prefix + suffix for suffix in suffixes]
    vectors = encode_ids(backbone.load(recipe, "fp32", "cpu"), texts, "fp32", EncodingOptions(share_prefix=True))
    expected = torch.stack([tiny_architectures.embed_alone(model, row, "last_token") for row in texts])
    assert torch.nn.functional.cosine_similarity(torch.tensor(vectors), expected).min() > 1 - 1e-6
