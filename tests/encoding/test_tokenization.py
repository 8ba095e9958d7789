"""Tokenization: limits hold, what frames a text survives, and what is read of a text is known."""

import dataclasses
import random

import pytest
from helpers.tiny_task import refused
from tokenizers import processors
from transformers import AutoTokenizer

from rounds.config.recipe import Prompts
from rounds.encoding.tokenization import Cuts, model_texts, tokenize, tokenize_with_cuts
from rounds.models import random_models

WORDS = "the quick brown fox"


@pytest.fixture(scope="module")
def roberta():
    """A byte-level tokenizer whose offsets leave out the blanks before a word, as RoBERTa's do."""
    tokenizer = AutoTokenizer.from_pretrained(str(random_models.random_model_folder("mistral")))
    ids = {name: (name, tokenizer.convert_tokens_to_ids(name)) for name in ("<s>", "</s>")}
    tokenizer.backend_tokenizer.post_processor = processors.RobertaProcessing(
        ids["</s>"], ids["<s>"], trim_offsets=True, add_prefix_space=False
    )
    return tokenizer


@pytest.fixture(scope="module")
def bare():
    """A tokenizer that adds no special token."""
    tokenizer = AutoTokenizer.from_pretrained(str(random_models.random_model_folder("qwen2")))
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    assert tokenizer("")["input_ids"] == []
    return tokenizer


@pytest.mark.parametrize("blanks", [" " * 40, "\t" * 40, " \n" * 20, "\u00a0" * 40])
def test_words_stay_before_blanks_that_fill_the_limit(roberta, blanks):
    """A text that ends in more blanks than fit keeps its words and its special tokens, within the limit."""
    words = roberta(WORDS)["input_ids"][:-1]
    limit = len(words) + 3
    (row,) = tokenize(roberta, [WORDS + blanks], Prompts(passage_max_length=limit), "passage")
    assert len(row) <= limit
    assert row[: len(words)] == words
    assert row[-1] == roberta.convert_tokens_to_ids("</s>")


def random_text(generator: random.Random, most: int) -> str:
    pieces = ["word", " ", "  ", "\n", "fox", "½", "</s>", "x", "é", " " * 9]
    return "".join(generator.choice(pieces) for _ in range(generator.randint(0, most)))


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("name", ["roberta", "bare"])
def test_rows_keep_their_frame_within_the_limit(request, name, seed):
    """Whatever text, prompt and limit: no row exceeds it, and a cut row is the whole one without a part before its end.

    The part that remains behind the cut holds at least the suffix and the closing special token.
    """
    tokenizer, generator = request.getfixturevalue(name), random.Random(seed)
    prefix, suffix = generator.choice(["", "query: ", "  "]), generator.choice(["", " answer", "  end", "</s>", "\n"])
    texts = [random_text(generator, 40) for _ in range(20)]
    limit = generator.randint(12, 30)
    loose, tight = (Prompts(passage_prefix=prefix, passage_suffix=suffix, passage_max_length=n) for n in (10**6, limit))
    closing = len(tokenizer("")["input_ids"]) // 2
    least = len(tokenizer(suffix, add_special_tokens=False)["input_ids"]) + closing
    whole_rows, rows = (tokenize(tokenizer, texts, prompts, "passage") for prompts in (loose, tight))
    for whole, row in zip(whole_rows, rows, strict=True):
        assert len(row) == min(len(whole), limit)
        if len(whole) > limit:
            kept = limit - least
            assert any(row == whole[: limit - behind] + whole[len(whole) - behind :] for behind in range(least, limit))
            assert row[:1] == whole[:1] and kept >= 1


@pytest.mark.parametrize("part", ["query_prefix", "query_suffix"])
def test_a_limit_that_holds_no_text_is_refused(roberta, part):
    """Where the prompt leaves no token to the text, all texts would have one vector: the line names the key."""
    prompts = Prompts(**{part: " and a prompt of many words" * 3}, query_max_length=8)
    with refused("prompts.query_max_length 8", "shorten the prompt"):
        tokenize(roberta, [WORDS * 9], prompts, "query")


def test_a_limit_that_holds_one_token_of_the_text_is_kept(roberta):
    """The limit above the prompt's own tokens tells texts by their first token; the one below it is refused."""
    prompts, texts = Prompts(query_prefix="query:", query_suffix=" ok"), ["a few words", "b few words"]
    least = len(roberta("query: ok")["input_ids"])
    rows = tokenize(roberta, texts, dataclasses.replace(prompts, query_max_length=least + 1), "query")
    assert rows[0] != rows[1] and {len(row) for row in rows} == {least + 1}
    with refused(f"query_max_length {least}", f"alone are {least} tokens"):
        tokenize(roberta, texts, dataclasses.replace(prompts, query_max_length=least), "query")


def test_examples_never_take_a_row_over_both_limits(roberta):
    """Examples that take more tokens when joined than by themselves leave the sum of both limits as it is."""
    examples = ["a\n", "b \n\n", "c  "] * 5
    alone = sum(len(roberta(example + "\n\n", add_special_tokens=False)["input_ids"]) for example in examples)
    prompts = Prompts(query_max_length=12, examples_max_length=alone)
    rows = tokenize(roberta, ["word " * 30, "x"], prompts, "query", [examples, examples])
    assert max(map(len, rows)) <= 12 + alone


@pytest.mark.parametrize("text", ["", " "])
def test_every_text_has_a_token(bare, text):
    """A text without tokens is read as a special token, so that it has a vector, and a line counts such texts."""
    bare.backend_tokenizer.normalizer = None
    rows = tokenize(bare, [text, "x"], Prompts(), "passage")
    assert all(rows)


def test_texts_without_tokens_are_counted(bare, capsys):
    """The line says how many texts have none."""
    rows = tokenize(bare, ["", "x", ""], Prompts(), "passage")
    assert rows[0] == rows[2] == [bare.eos_token_id]
    assert "2 of 3 passage texts have no tokens" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["roberta", "bare"])
def test_what_is_read_of_a_text_gives_its_tokens(request, name):
    """The text as it is read, tokenized with nothing cut, is the row of tokens that the model gets."""
    tokenizer = request.getfixturevalue(name)
    prompts = Prompts(
        query_prefix="query: ", query_suffix="\nanswer", query_max_length=30, examples_max_length=9, examples="fixed"
    )
    texts = [WORDS, f"{WORDS} " * 9, "x"]
    examples = [["one two", "three " * 20, "four"], ["five"], []]
    rows, cuts = tokenize_with_cuts(tokenizer, texts, prompts, "query", examples)
    assert list(cuts.examples) == [0] and 1 not in cuts.examples[0]
    assert list(cuts.characters) == [1] and 0 < cuts.characters[1] < len(texts[1])
    read = model_texts(prompts, "query", texts, examples, cuts)
    assert tokenizer(read)["input_ids"] == rows


def test_an_image_s_marker_is_no_part_of_what_is_cut():
    """The characters of a cut count from the text's words; its image stays."""
    marker = "<image:a.png#0123456789abcdef>\n"
    (text,) = model_texts(Prompts(), "query", [f"{marker}Whose emblem?"], cuts=Cuts({0: 5}))
    assert text == f"{marker}Whose"
