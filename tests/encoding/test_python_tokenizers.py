"""Python-only tokenizers (PhoBERT's) work like all others, and a decoder needs neither a padding nor an EOS token."""

import dataclasses

import numpy as np
import pytest
from helpers import tiny_architectures
from helpers.tiny_task import refused
from transformers import AutoTokenizer, PhobertTokenizer, PreTrainedTokenizerFast

from rounds.config.recipe import Prompts
from rounds.encoding.encoder import encode
from rounds.encoding.tokenization import tokenize
from rounds.models import backbone, cross_encoder
from rounds.models.random_models import random_model_folder

WORDS = ("the", "quick", "brown", "fox", "query:", "end", "example")


@pytest.fixture
def phobert(tmp_path):
    """PhoBERT's tokenizer of a few whole words."""
    vocabulary, merges = tmp_path / "vocab.txt", tmp_path / "bpe.codes"
    vocabulary.write_text("".join(f"{word} 1\n" for word in WORDS))
    merges.write_text("".join(_merges(word) for word in WORDS))
    tokenizer = PhobertTokenizer(str(vocabulary), str(merges))
    assert not tokenizer.is_fast
    return tokenizer


def _merges(word: str) -> str:
    """Return the merges that put a word together from its characters, the last with the end-of-word mark."""
    pieces = [*word[:-1], f"{word[-1]}</w>"]
    return "".join(f"{''.join(pieces[:end])} {pieces[end]} 1\n" for end in range(1, len(pieces)))


def words(tokenizer, rows) -> list[str]:
    """Return rows of token ids as words."""
    return [" ".join(tokenizer.convert_ids_to_tokens(row)) for row in rows]


def test_a_long_text_is_cut_to_the_limit(phobert):
    """The text loses its own last tokens; prompt, suffix and special tokens stay."""
    prompts = Prompts(query_prefix="query: ", query_suffix=" end", query_max_length=9)
    texts = ["the quick brown fox " * 4, "fox"]
    rows = tokenize(phobert, texts, prompts, "query", report=False)
    assert words(phobert, rows) == ["<s> query: the quick brown fox the end </s>", "<s> query: fox end </s>"]


def test_a_limit_that_holds_no_text_is_refused(phobert):
    """The prompt and special tokens are eight; the ninth token is the text's first."""
    prompts = Prompts(query_prefix="query: the quick brown fox ", query_suffix=" end", query_max_length=8)
    with refused("prompts.query_max_length 8", "alone are 8 tokens"):
        tokenize(phobert, ["fox"], prompts, "query")
    (row,) = tokenize(phobert, ["fox the"], dataclasses.replace(prompts, query_max_length=9), "query")
    assert words(phobert, [row]) == ["<s> query: the quick brown fox fox end </s>"]


def test_examples_have_a_limit_of_their_own(phobert):
    """What stands before the text is not counted as text."""
    prompts = Prompts(query_max_length=8, examples="nearest", examples_max_length=20)
    rows = tokenize(phobert, ["the quick brown fox " * 3], prompts, "query", [["example example"]], report=False)
    assert words(phobert, rows)[0].startswith("<s> example ")
    assert words(phobert, rows)[0].endswith(" the quick brown fox the quick </s>")


def test_a_model_with_such_a_tokenizer_embeds(phobert, tmp_path):
    """Loaded from a folder, long and short texts get vectors."""
    recipe = tiny_architectures.save(tiny_architectures.build("roberta"), tmp_path / "model", phobert)
    embedder = backbone.load(recipe, "fp32", "cpu")
    vectors = encode(embedder, ["the quick brown fox " * 30, "fox"], recipe.prompts, "passage", "fp32")
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def tokenizer_without_special_tokens() -> PreTrainedTokenizerFast:
    """A tokenizer with neither a padding nor an EOS token."""
    backend = AutoTokenizer.from_pretrained(random_model_folder("qwen2")).backend_tokenizer
    return PreTrainedTokenizerFast(tokenizer_object=backend)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_decoder_with_neither_pad_nor_eos_token_embeds_batches(attention, tmp_path):
    """Any token serves as padding, for it is masked: a batch gives what each text alone gives."""
    model = tiny_architectures.build("llama")
    recipe = tiny_architectures.save(model, tmp_path, tokenizer_without_special_tokens())
    recipe = recipe.replace("model", attention=attention)
    embedder = backbone.load(recipe, "fp32", "cpu")
    assert embedder.tokenizer.pad_token is None
    texts = ["1 + 1 = 11", "joins the digits of both numbers"]
    together = encode(embedder, texts, recipe.prompts, "passage", "fp32")
    alone = [encode(embedder, [text], recipe.prompts, "passage", "fp32")[0] for text in texts]
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_a_reranker_with_neither_pad_nor_eos_token_is_refused(tmp_path):
    """sentence-transformers pads pairs by the tokenizer, which then needs a token for it."""
    recipe = tiny_architectures.save(tiny_architectures.build("llama"), tmp_path, tokenizer_without_special_tokens())
    with refused("reranker", tmp_path, "neither a padding nor an EOS token"):
        cross_encoder.load(str(tmp_path), recipe, "cpu")
