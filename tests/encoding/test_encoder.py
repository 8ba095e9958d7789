"""Encoding: batches, order and padding do not change the vectors."""

import dataclasses
import functools

import numpy as np
import pytest
import torch
from helpers import slow_clock
from helpers.tiny_embedders import make_numbers_overflow, model, write_overflowing_model
from helpers.tiny_task import refused
from tokenizers import processors

from rounds.config import loader
from rounds.encoding import batching
from rounds.encoding.encoder import EncodingOptions, encode, token_states
from rounds.encoding.tokenization import report_once, tokenize
from rounds.models import backbone
from rounds.models.weights import locate_model

TEXTS = ["two thirds", "a longer text about adding fractions with unlike denominators " * 3, "x", "angles in a kite"]


@pytest.mark.parametrize("name", ["mistral", "qwen2", "bert"])
def test_padding_side_and_batch_size_do_not_change_vectors(name):
    """Left padding, right padding and a batch of one give one embedding."""
    right, prompts = model(name)
    left, _ = model(name, "left")
    together = encode(right, TEXTS, prompts, "query", "fp32")
    alone = np.concatenate([encode(right, [text], prompts, "query", "fp32") for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=2e-6)
    if name != "bert":  # absolute positions: BERT is padded right
        np.testing.assert_allclose(together, encode(left, TEXTS, prompts, "query", "fp32"), atol=2e-6)


def test_order_and_repeats_do_not_change_vectors():
    """A text has one vector, whatever its place and however often it is in the list."""
    embedder, prompts = model("mistral")
    plain = encode(embedder, TEXTS, prompts, "passage", "fp32")
    mixed = encode(embedder, [*TEXTS[::-1], TEXTS[0]], prompts, "passage", "fp32")
    np.testing.assert_allclose(mixed, [*plain[::-1], plain[0]], atol=2e-6)
    np.testing.assert_array_equal(mixed[3], mixed[4])


def test_minilm_equals_sentence_transformers():
    """In fp32 the vectors are those of `SentenceTransformer.encode` on the same weights."""
    from sentence_transformers import SentenceTransformer

    recipe = loader.load("minilm")
    peer = SentenceTransformer(locate_model(recipe.model), device="cpu")
    vectors = encode(backbone.load(recipe, "fp32", "cpu"), TEXTS, recipe.prompts, "query", "fp32")
    np.testing.assert_allclose(vectors, peer.encode(TEXTS), atol=1e-5)


def test_bf16_stays_close_to_fp32():
    """The stated tolerance of bf16: cosine above 0.999."""
    recipe = loader.load("minilm")
    embedder = backbone.load(recipe, "fp32", "cpu")
    full = encode(embedder, TEXTS, recipe.prompts, "query", "fp32")
    half = encode(embedder, TEXTS, recipe.prompts, "query", "bf16")
    assert (full * half).sum(axis=1).min() > 0.999


def test_vectors_have_unit_length():
    """A recipe that normalizes returns unit vectors."""
    embedder, prompts = model("mistral")
    vectors = encode(embedder, TEXTS, prompts, "query", "fp32")
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_long_text_is_cut_and_the_prompt_survives(capsys):
    """A query that is too long loses its own tokens; instruction, suffix, BOS and EOS stay; the count is reported."""
    embedder, prompts = model("mistral")
    tokenizer = embedder.tokenizer
    short, long = tokenize(tokenizer, ["x", "word " * 500], prompts, "query")
    prefix = tokenizer(prompts.query_prefix.replace("{task}", prompts.task))["input_ids"][:-2]
    suffix = tokenizer(prompts.query_suffix, add_special_tokens=False)["input_ids"]
    assert len(long) == prompts.query_max_length > len(short)
    assert "1 of 2 query texts" in capsys.readouterr().out
    assert long[: len(prefix)] == prefix
    assert long[-len(suffix) - 1 :] == [*suffix, tokenizer.eos_token_id]


def test_encoding_restores_the_model_s_mode():
    """A model in training mode stays in it, and dropout is off while it encodes."""
    embedder, prompts = model("bert")
    embedder.train()
    first = encode(embedder, TEXTS, prompts, "query", "fp32")
    assert embedder.training
    np.testing.assert_array_equal(first, encode(embedder, TEXTS, prompts, "query", "fp32"))


def test_wrong_special_tokens_are_refused():
    """A tokenizer without the BOS that the recipe expects is refused at load."""
    recipe = loader.load("tiny-mistral")
    wrong = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, name_or_path="random:qwen2", eos=None))
    with refused("model random:qwen2", "bos: true", "does not add one"):
        backbone.load(wrong, "fp32", "cpu")


def test_a_recipe_that_states_both_special_tokens_sets_them():
    """transformers 5 ignores add_bos_token and add_eos_token of a tokenizer's config; the recipe sets them."""
    recipe = loader.load("tiny-mistral")
    other = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, name_or_path="random:qwen2"))
    tokenizer = backbone.load(other, "fp32", "cpu").tokenizer
    ids = tokenizer("a text")["input_ids"]
    assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)


def test_an_empty_text_has_a_vector():
    """Empty text is encoded, not dropped."""
    embedder, prompts = model("mistral")
    vectors = encode(embedder, ["", "x"], prompts, "passage", "fp32")
    assert vectors.shape == (2, 64) and np.isfinite(vectors).all()


def test_no_gradients_are_kept():
    """Encoding leaves no graph behind."""
    embedder, prompts = model("mistral")
    encode(embedder, TEXTS, prompts, "passage", "fp32")
    assert all(parameter.grad is None for parameter in embedder.parameters()) and torch.is_grad_enabled()


def fail_on_batches(embedder, error: Exception, limit: int = 0) -> list[int]:
    """Raise `error` in the model's forward pass on more than `limit` tokens; return the sizes of the others."""
    sizes = []

    def check(_module, arguments):
        tokens = arguments[0]["input_ids"].numel()
        if tokens > limit:
            raise error
        sizes.append(tokens)

    embedder.register_forward_pre_hook(check)
    return sizes


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    MemoryError(),
]


@pytest.mark.parametrize(
    ("limit", "error"), [(32, OUT_OF_MEMORY[0]), (128, OUT_OF_MEMORY[0]), *((64, error) for error in OUT_OF_MEMORY)]
)
def test_out_of_memory_halves_the_batches(limit, error, capsys):
    """Batches that do not fit are tried again smaller, every text has its vector, and a line says so."""
    embedder, prompts = model("mistral")
    texts = [f"{text} {n}" for n in range(8) for text in ("two thirds", "an angle in a kite and some more words " * 2)]
    expected = encode(embedder, texts, prompts, "passage", "fp32")
    sizes = fail_on_batches(embedder, error, limit)
    vectors = encode(embedder, texts, prompts, "passage", "fp32")
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert sizes and max(sizes) <= limit
    assert "out of memory with" in "".join(capsys.readouterr())


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_a_single_text_that_does_not_fit_is_refused(error):
    """The line gives its tokens and the way out."""
    embedder, prompts = model("mistral")
    fail_on_batches(embedder, error)
    with refused("out of memory with a single text of ", "prompts.query_max_length or passage_max_length"):
        encode(embedder, ["a"], prompts, "passage", "fp32")


def test_errors_that_smaller_batches_do_not_help_are_raised():
    """An error that is no lack of memory is not swallowed."""
    embedder, prompts = model("mistral")
    fail_on_batches(embedder, RuntimeError("another"))
    with pytest.raises(RuntimeError, match="another"):
        encode(embedder, ["a"], prompts, "passage", "fp32")


@pytest.mark.parametrize("texts", [TEXTS, [*TEXTS, *TEXTS[:2]]])
def test_vectors_can_go_straight_to_a_file(texts, tmp_path):
    """A memory-mapped result holds the vectors of one in memory, repeats included."""
    embedder, prompts = model("mistral")
    on_disk = functools.partial(np.lib.format.open_memmap, tmp_path / "vectors.npy", "w+", np.float32)
    encode(embedder, texts, prompts, "passage", "fp32", options=EncodingOptions(allocate=on_disk))
    expected = encode(embedder, texts, prompts, "passage", "fp32")
    np.testing.assert_array_equal(np.load(tmp_path / "vectors.npy"), expected)


def mean_pooled():
    """BERT reads the whole text in its vector, so that one token's NaN shows in it."""
    return model("bert")


OVERFLOWING = ["two thirds", "an angle", "a kite zzz", "three zzz", "x"]

ALL_DTYPES = (torch.float16, torch.bfloat16, torch.float32)


@pytest.mark.parametrize(
    ("precision", "dtypes"),
    [("fp16", ALL_DTYPES[:1]), ("fp16", ALL_DTYPES[:2]), ("bf16", ALL_DTYPES[1:2])],
)
def test_vectors_that_overflow_are_computed_in_a_wider_precision(precision, dtypes, capsys):
    """Texts whose vectors are not finite, and no others, are computed again, and a line counts them."""
    embedder, prompts = mean_pooled()
    expected = encode(embedder, OVERFLOWING, prompts, "passage", "fp32")
    plain = encode(embedder, OVERFLOWING, prompts, "passage", precision)
    make_numbers_overflow(embedder, "zzz", dtypes)
    report_once.cache_clear()
    vectors = encode(embedder, OVERFLOWING, prompts, "passage", precision)
    np.testing.assert_array_equal(vectors[[0, 1, 4]], plain[[0, 1, 4]])
    assert (vectors * expected).sum(axis=1).min() > 0.999
    assert f"{precision} overflows in 2 of 5 texts" in capsys.readouterr().out


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32"])
def test_vectors_that_are_finite_in_no_precision_are_refused(precision):
    """The line names the ids; nothing passes for a vector."""
    embedder, prompts = mean_pooled()
    make_numbers_overflow(embedder, "zzz", ALL_DTYPES)
    options = EncodingOptions(names=[f"p{number}" for number in range(len(OVERFLOWING))])
    with refused("no finite numbers", "p2", "p3"):
        encode(embedder, OVERFLOWING, prompts, "passage", precision, options=options)


def test_activations_beyond_fp16_are_computed_in_bf16(tmp_path, capsys):
    """Of a model that overflows in every text each vector is that of fp32; the line names it, and the way out."""
    recipe = write_overflowing_model(tmp_path, 1e5)
    narrow = backbone.load(recipe, "fp16", "cpu")
    report_once.cache_clear()
    vectors = encode(narrow, OVERFLOWING, recipe.prompts, "passage", "fp16")
    expected = encode(backbone.load(recipe, "fp32", "cpu"), OVERFLOWING, recipe.prompts, "passage", "fp32")
    assert (vectors * expected).sum(axis=1).min() > 0.99
    line = capsys.readouterr().out
    assert line == (
        f"model {tmp_path}: fp16 overflows in 5 of 5 texts; these are computed in bf16 "
        "(set precision bf16 or fp32 to compute each once)\n"
    )


def test_weights_beyond_fp16_are_refused(tmp_path):
    """They are infinite once they are loaded, so that no precision helps but that of the file."""
    recipe = write_overflowing_model(tmp_path, 1e7)
    with refused(f"model {tmp_path}", "no finite numbers in fp16", "take fp32"):
        encode(backbone.load(recipe, "fp16", "cpu"), OVERFLOWING, recipe.prompts, "passage", "fp16")


def test_a_vector_that_is_not_finite_ends_the_encoding_at_once():
    """A broken text is refused with its batch, not when all other texts are encoded."""
    embedder, prompts = mean_pooled()
    passes = make_numbers_overflow(embedder, "zzz", ALL_DTYPES)
    texts = [f"zzz {'long words ' * 30}", *(f"{number} kites " * 20 for number in range(300))]
    with refused("no finite numbers", "text 1"):
        encode(embedder, texts, prompts, "passage", "fp32")
    assert len(passes) == 1


def test_token_states_that_overflow_are_computed_in_a_wider_precision():
    """Late interaction gets finite states of every text, or the text is refused."""
    embedder, prompts = mean_pooled()
    make_numbers_overflow(embedder, "zzz")
    states = token_states(embedder, OVERFLOWING, prompts, "passage", "fp16", "states")
    assert all(np.isfinite(vectors).all() for _, vectors in states)
    make_numbers_overflow(embedder, "zzz", ALL_DTYPES)
    with refused("no finite numbers", "text 3"):
        token_states(embedder, OVERFLOWING, prompts, "passage", "fp16", "states")


@pytest.mark.parametrize("name", ["qwen2", "bert"])
@pytest.mark.parametrize("attention", ["auto", "eager"])
@pytest.mark.parametrize("shares", [True, False])
def test_a_text_without_tokens_has_a_vector(name, attention, shares):
    """Packed, padded and behind a shared prefix, a text of no tokens has a vector and the others keep theirs."""
    recipe = loader.load("tiny-mistral")
    changes = {"name_or_path": f"random:{name}", "bos": None, "eos": None, "attention": attention}
    changes |= {"pooling": "mean"} if name == "bert" else {}
    recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, **changes))
    prompts = dataclasses.replace(recipe.prompts, passage_prefix="", passage_suffix="", share_prefix=shares)
    embedder = backbone.load(recipe, "fp32", "cpu")
    embedder.tokenizer.backend_tokenizer.post_processor = processors.ByteLevel()
    assert embedder.tokenizer("")["input_ids"] == []
    texts = [*(f"{'a prefix that is shared by many ' * 4}{number}" for number in range(6)), "", "x"]
    vectors = encode(embedder, texts, prompts, "passage", "fp32")
    assert np.isfinite(vectors).all() and np.linalg.norm(vectors[6]) > 0.5
    others = [number for number in range(8) if number != 6]
    alone = encode(embedder, [texts[number] for number in others], prompts, "passage", "fp32")
    np.testing.assert_allclose(vectors[others], alone, atol=2e-6)


@pytest.mark.parametrize("shares_prefix", [False, True])
def test_one_line_tells_how_long_all_tokens_take(shares_prefix, monkeypatch, capsys):
    """It counts the tokens that are computed, shared examples once; the vectors of the same batches are the same."""
    embedder, prompts = model("mistral")
    texts = [f"{text} {number}" for text in TEXTS for number in range(2)]
    examples = [["an example that all of the queries have in common " * 4]] * len(texts)
    monkeypatch.setattr(batching, "TOKEN_BUDGET", 64)
    options = EncodingOptions("encode train", share_prefix=shares_prefix)
    expected = encode(embedder, texts, prompts, "query", "fp32", examples, options)
    assert slow_clock.lines(capsys) == []
    slow_clock.use(monkeypatch)
    for _ in range(2):  # the same model says it once
        np.testing.assert_array_equal(encode(embedder, texts, prompts, "query", "fp32", examples, options), expected)
    (line,) = slow_clock.lines(capsys)
    assert line.startswith("encode train, 8 queries: about ")
    tokens = sum(map(len, tokenize(embedder.tokenizer, texts, prompts, "query", examples)))
    counted = slow_clock.amount(line)
    assert counted < tokens / 2 if shares_prefix else counted == tokens


def test_token_states_tell_how_long_they_take(monkeypatch, capsys):
    """Late interaction's features of candidates have a line as well."""
    embedder, prompts = model("mistral")
    monkeypatch.setattr(batching, "TOKEN_BUDGET", 64)
    slow_clock.use(monkeypatch)
    token_states(embedder, TEXTS * 3, prompts, "passage", "fp32", "passage tokens")
    (line,) = slow_clock.lines(capsys)
    assert line.startswith("passage tokens, 12 passages: about ")
