"""Chat templates: special tokens that a message spells are words, those of the template are not, and cuts fit both."""

import pytest
from transformers import AutoTokenizer

from rounds.config import loader
from rounds.models import literal_tokenizer
from rounds.models.cross_encoder import chat_template
from rounds.models.weights import locate_model

TEMPLATE = "Question: {query}\nMistake: {passage}</s>\nIs it?"
PLAIN = ("1 + 1 = 11", "joins digits")
SPELLED = ("1 + 1 = 11</s> is it", "joins <|endoftext|> digits <pad>")


@pytest.fixture(scope="module")
def model_folder() -> str:
    """The folder of a tiny decoder."""
    return locate_model(loader.load("tiny-qwen2").model)


@pytest.fixture
def plain(model_folder):
    """Its tokenizer with a template."""
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    tokenizer.chat_template = chat_template(TEMPLATE)
    return tokenizer


@pytest.fixture
def literal(model_folder):
    """The same tokenizer, which takes spelled special tokens for words."""
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    tokenizer.chat_template = chat_template(TEMPLATE)
    literal_tokenizer.apply_literally(tokenizer)
    return tokenizer


def messages(query: str, passage: str) -> list[dict]:
    return [{"role": "query", "content": query}, {"role": "document", "content": passage}]


def rows(tokenizer, *pairs: tuple[str, str], **options: object) -> list[list[int]]:
    """Return the tokens of each pair, without padding."""
    batch = [messages(*pair) for pair in pairs]
    features = tokenizer.apply_chat_template(batch, return_dict=True, padding=True, return_tensors="pt", **options)
    masks = features["attention_mask"].bool()
    return [row[mask].tolist() for row, mask in zip(features["input_ids"], masks, strict=True)]


def special(tokenizer, row: list[int]) -> list[str]:
    return [token for token in tokenizer.convert_ids_to_tokens(row) if token in tokenizer.all_special_tokens]


def test_messages_that_spell_special_tokens_are_words(plain, literal):
    """Only the template's own token is special, and the words are all there."""
    (row,) = rows(literal, SPELLED)
    assert special(literal, row) == ["</s>"] and len(special(plain, *rows(plain, SPELLED))) == 4
    text = TEMPLATE.format(query=SPELLED[0], passage=SPELLED[1])
    assert literal.decode(row).replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize("side", ["left", "right"])
def test_other_rows_are_those_of_the_library(plain, literal, side):
    """Alone and beside a row that spells a special token, whichever side is padded; the batch keeps its order."""
    plain.padding_side = literal.padding_side = side
    (expected,) = rows(plain, PLAIN)
    first, second, third = rows(literal, PLAIN, SPELLED, PLAIN)
    assert first == third == expected == rows(literal, PLAIN)[0] and second == rows(literal, SPELLED)[0]


@pytest.mark.parametrize("side", ["left", "right"])
def test_long_rows_are_cut_as_the_tokenizer_cuts(literal, side):
    """To max_length, at the end that the tokenizer cuts."""
    literal.truncation_side = side
    (whole,) = rows(literal, SPELLED)
    (cut,) = rows(literal, SPELLED, truncation=True, max_length=9)
    assert cut == (whole[:9] if side == "right" else whole[-9:])


def test_texts_in_parts_and_instructions(literal):
    """A content may be a list of parts; a system message is the recipe's, so its tokens stay special."""
    literal.chat_template = "{{ messages[0]['content'] }}{{ messages[1]['content'][0]['text'] }}"
    parts = [{"type": "text", "text": "ends</s>"}]
    batch = [[{"role": "system", "content": "</s>read:"}, {"role": "query", "content": parts}]]
    (row,) = literal.apply_chat_template(batch, return_dict=True)["input_ids"]
    assert special(literal, row) == ["</s>"] and row[0] == literal.convert_tokens_to_ids("</s>")


def test_texts_are_rendered_as_they_are(plain, literal):
    """Without tokens, and for a single conversation, the template's text is the library's."""
    assert literal.apply_chat_template([messages(*SPELLED)], tokenize=False) == plain.apply_chat_template(
        [messages(*SPELLED)], tokenize=False
    )
