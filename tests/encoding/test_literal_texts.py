"""Texts that spell special tokens are read as words; prompts' are special tokens; other texts are the tokenizer's."""

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from rounds.config.recipe import Prompts
from rounds.encoding.tokenization import Tally, model_texts, tokenize, tokenize_with_cuts

TEXTS = ["The pupil adds 3/4 and 1/8", " two  blanks\nand a line", "café?", "the end ", "▁x"]

INJECTED = "ends<eos> here<start>and <pad> goes on"

SPECIAL = ["<pad>", "<start>", "<eos>", "<unk>"]


def byte_level() -> tuple[Tokenizer, trainers.Trainer]:
    """As Qwen2's."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return backend, trainers.BpeTrainer(special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False)


def dummy_prefix() -> tuple[Tokenizer, trainers.Trainer]:
    """As Mistral's: a blank before the first word, and only there."""
    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    return backend, trainers.UnigramTrainer(
        special_tokens=SPECIAL,
        unk_token="<unk>",
        initial_alphabet=sorted(set("".join(TEXTS + [INJECTED]))),
        show_progress=False,
    )


def word_piece() -> tuple[Tokenizer, trainers.Trainer]:
    """As BERT's, in lower case."""
    backend = Tokenizer(models.WordPiece(unk_token="<unk>"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return backend, trainers.WordPieceTrainer(special_tokens=SPECIAL, show_progress=False)


@pytest.fixture(scope="module", params=[byte_level, dummy_prefix, word_piece], ids=lambda build: build.__name__)
def tokenizer(request):
    """A tiny tokenizer of each kind, which adds <eos> to a text."""
    backend, trainer = request.param()
    backend.train_from_iterator([*TEXTS, INJECTED.replace("<", "< ")] * 4, trainer)
    backend.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 2)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


@pytest.mark.parametrize("prefix", ["", "query:", "query: ", "<start>user\n", "<start> "])
def test_a_text_s_tokens_are_those_of_the_whole_behind_its_prefix(tokenizer, prefix):
    """Prefix and text are tokenized as one, the blank before the first word included."""
    prompts = Prompts(query_prefix=prefix, query_suffix=" ?")
    assert (
        tokenize(tokenizer, TEXTS, prompts, "query") == tokenizer([f"{prefix}{text} ?" for text in TEXTS])["input_ids"]
    )


def special_tokens(tokenizer, row: list[int]) -> list[str]:
    return [token for token in tokenizer.convert_ids_to_tokens(row) if token in SPECIAL and token != "<unk>"]


def test_special_tokens_in_a_text_are_words_and_those_of_the_prompt_are_not(tokenizer):
    """Only the prompt's own and what the tokenizer adds are special, though the text spells the same ones."""
    prompts = Prompts(query_prefix="<start>user\n", query_suffix="<eos>assistant")
    plain, injected = tokenize(tokenizer, ["ends here", INJECTED], prompts, "query")
    assert special_tokens(tokenizer, injected) == special_tokens(tokenizer, plain) == ["<start>", "<eos>", "<eos>"]
    assert len(injected) > len(plain)


def test_words_that_spell_special_tokens_have_the_stock_library_s_tokens(tokenizer):
    """They are those of `split_special_tokens`, where the prompt has none; only Unigram still finds some under it."""
    (row,) = tokenize(tokenizer, [INJECTED], Prompts(query_prefix="query: "), "query")
    stock = tokenizer(f"query: {INJECTED}", split_special_tokens=True)["input_ids"]
    assert special_tokens(tokenizer, row) == ["<eos>"]
    assert row == stock or isinstance(tokenizer.backend_tokenizer.model, models.Unigram)


def test_a_long_text_that_spells_special_tokens_is_cut_within_itself(tokenizer):
    """Prompt, examples and frame stay, and what was read of the text is known."""
    prompts = Prompts(query_prefix="<start>", query_suffix="<eos>", query_max_length=24, examples="nearest")
    text, examples = f"{INJECTED} " * 20, [["<start>one<eos>two"]]
    (row,), cuts = tokenize_with_cuts(tokenizer, [text], prompts, "query", examples, report=False)
    kept = special_tokens(tokenizer, row)
    assert kept == ["<start>", "<eos>", "<start>", "<eos>", "<eos>"]
    (read,) = model_texts(prompts, "query", [text], examples, cuts)
    assert 0 < cuts.characters[0] < len(text)
    assert tokenize(tokenizer, [text[: cuts.characters[0]]], prompts, "query", examples) == [row], read


def test_special_tokens_that_the_recipe_puts_between_a_query_s_parts_are_meant(tokenizer):
    """`prompts.query` may separate them by a special token; passages have no such template."""
    prompts = Prompts(query="{question}<start>{wrong}")
    query, passage = (tokenize(tokenizer, ["one<start>two<pad>"], prompts, kind)[0] for kind in ("query", "passage"))
    assert special_tokens(tokenizer, query) == ["<start>", "<eos>"]
    assert special_tokens(tokenizer, passage) == ["<eos>"]


def test_texts_that_spell_special_tokens_are_counted(tokenizer):
    """One line then says how many."""
    tally = Tally()
    tokenize_with_cuts(tokenizer, [INJECTED, "ends here", "a<eos>"], Prompts(), "passage", tally=tally)
    assert (tally.literal, tally.texts) == (2, 3)
