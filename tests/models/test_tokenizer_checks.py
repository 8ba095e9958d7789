"""Tokenizers: what they add twice, cannot pad or do not know is refused or said in one line when a model is loaded."""

import dataclasses
import shutil

import numpy as np
import pytest
from helpers import tiny_architectures
from helpers.tiny_task import refused
from tokenizers import processors
from transformers import AutoTokenizer, LlamaForSequenceClassification, Qwen2ForCausalLM

from rounds.models import backbone, cross_encoder
from rounds.models.random_models import random_model_folder


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    """A folder with a tiny decoder, whose tokenizer adds <s> and </s>, and its recipe."""
    folder = tmp_path_factory.mktemp("decoder")
    tokenizer = AutoTokenizer.from_pretrained(random_model_folder("mistral"))
    return folder, tiny_architectures.save(tiny_architectures.build("llama"), folder, tokenizer)


def copy_with_tokenizer(decoder, folder, tokenizer):
    """Return the recipe of a copy of the decoder with another tokenizer."""
    source, recipe = decoder
    shutil.copytree(source, folder)
    tokenizer.save_pretrained(folder)
    return dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, name_or_path=str(folder)))


def with_prompts(decoder, **prompts):
    return dataclasses.replace(decoder[1], prompts=dataclasses.replace(decoder[1].prompts, **prompts))


@pytest.mark.parametrize(
    ("key", "text", "verb"),
    [("query_prefix", "<s>query: ", "begins with <s>"), ("passage_suffix", " end</s>", "ends in </s>")],
)
def test_a_special_token_that_the_tokenizer_adds_itself_is_refused_in_a_prompt(key, text, verb, decoder):
    """The model would read it twice, as it never did in its training."""
    with refused(f"prompts.{key} {verb}", "adds itself"):
        backbone.load(with_prompts(decoder, **{key: text}), "fp32", "cpu")


def test_a_tokenizer_that_adds_a_token_twice_is_refused(decoder, tmp_path):
    """The recipe's `bos: true` holds, but not once."""
    tokenizer = AutoTokenizer.from_pretrained(decoder[0])
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> <s> $A", special_tokens=[("<s>", 1)]
    )
    recipe = copy_with_tokenizer(decoder, tmp_path / "model", tokenizer)
    with refused("adds <s> <s>", "twice"):
        backbone.load(recipe, "fp32", "cpu")


def test_special_tokens_within_a_prompt_are_the_tokenizer_s_own(decoder, capsys):
    """</s> between texts is one token; what only looks like one is named, with what it becomes."""
    backbone.load(with_prompts(decoder, query_prefix="task</s>query: "), "fp32", "cpu")
    assert not capsys.readouterr().out
    embedder = backbone.load(with_prompts(decoder, query_prefix="<|im_start|>user\n"), "fp32", "cpu")
    count = len(embedder.tokenizer("<|im_start|>", add_special_tokens=False)["input_ids"])
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("prompts.query_prefix: <|im_start|> is no special token")
    assert line.endswith(f"it is read as {count} plain tokens") and count > 1


def test_the_token_that_pads_in_place_of_a_missing_one_is_named(decoder, tmp_path, capsys):
    """A decoder's tokenizer has none, mostly."""
    tokenizer = AutoTokenizer.from_pretrained(decoder[0], pad_token=None)
    recipe = copy_with_tokenizer(decoder, tmp_path / "model", tokenizer)
    assert backbone.load(recipe, "fp32", "cpu").tokenizer.pad_token == "</s>"
    assert "no padding token; batches are padded with </s>, masked" in capsys.readouterr().out


def test_tokens_beyond_the_embeddings_are_refused(decoder, tmp_path):
    """A text with such a token would end in an IndexError, or read another's memory on a GPU."""
    tokenizer = AutoTokenizer.from_pretrained(decoder[0])
    tokenizer.add_tokens(["fraction"])
    recipe = copy_with_tokenizer(decoder, tmp_path / "model", tokenizer)
    with refused(f"model {tmp_path / 'model'}", "1001 tokens", "embeddings of 1000", "'fraction'"):
        backbone.load(recipe, "fp32", "cpu")


def test_a_special_token_beyond_the_embeddings_that_no_text_holds_is_no_fault(decoder, tmp_path):
    """Gemma 3's tokenizer has a placeholder of images that its text models have no embedding of."""
    tokenizer = AutoTokenizer.from_pretrained(decoder[0])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image_soft_token>"]})
    backbone.load(copy_with_tokenizer(decoder, tmp_path / "model", tokenizer), "fp32", "cpu")


PAIRS = [("1 + 1 = 11", "joins"), ("2", "adds all of the numbers in the row, and so on")]


@pytest.mark.parametrize("pad", [None, "<pad>"])
def test_a_decoder_s_head_for_classes_scores_batches_as_single_pairs(pad, tmp_path):
    """It reads the last token that is no padding, so that padding must not be EOS, in which each pair ends."""
    tokenizer = AutoTokenizer.from_pretrained(random_model_folder("mistral"), pad_token=pad)
    model = LlamaForSequenceClassification(tiny_architectures.tiny_config("llama", num_labels=1, pad_token_id=None))
    recipe = tiny_architectures.save(model, tmp_path, tokenizer).replace("reranking", max_length=64)
    scorer = cross_encoder.load(str(tmp_path), recipe, "cpu")
    assert scorer.tokenizer.pad_token != "</s>"
    alone = np.concatenate([scorer.predict([pair]) for pair in PAIRS])
    np.testing.assert_allclose(scorer.predict(PAIRS), alone, atol=1e-6)


def test_special_tokens_in_a_pair_s_texts_are_read_as_words(tmp_path):
    """A passage that spells </s> does not end there."""
    recipe = tiny_architectures.save(tiny_architectures.build("bert"), tmp_path).replace("reranking", max_length=64)
    scorer = cross_encoder.load(str(tmp_path), recipe, "cpu")
    spelling, plain = (
        scorer.tokenizer.convert_ids_to_tokens(scorer.preprocess([("1 + 1", text)])["input_ids"][0])
        for text in ("a </s> b <pad> c", "a b c")
    )
    assert len(spelling) > len(plain)
    assert [spelling.count(token) for token in ("<s>", "</s>", "<pad>")] == [plain.count("<s>"), plain.count("</s>"), 0]


def test_a_template_without_the_opening_token_is_said(tmp_path, capsys):
    """A chat template is read as it stands: BOS must be in it."""
    tokenizer = AutoTokenizer.from_pretrained(random_model_folder("mistral"))
    tokenizer.add_tokens(["yes", "no"])
    model = Qwen2ForCausalLM(tiny_architectures.tiny_config("qwen2", vocab_size=len(tokenizer)))
    recipe = tiny_architectures.save(model, tmp_path, tokenizer)
    template = "{query} with {passage}: "
    cross_encoder.load(str(tmp_path), recipe.replace("reranking", template=f"<s>{template}", max_length=64), "cpu")
    assert not capsys.readouterr().out
    cross_encoder.load(str(tmp_path), recipe.replace("reranking", template=template, max_length=64), "cpu")
    assert "reranking.template: does not begin with <s>" in capsys.readouterr().out
