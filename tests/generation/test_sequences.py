"""Sequences: what counts in the loss, and how texts that are too long are cut."""

import pytest
import torch
from helpers.tiny_generator import PROMPT, make_recipe, make_rows
from torch.nn import functional
from transformers import AutoTokenizer

from rounds.errors import UserError
from rounds.generation import generator
from rounds.generation.rows import PromptRow
from rounds.generation.sequences import IGNORED, Tokenization, collate
from rounds.generation.tuning import validation_loss
from rounds.models import weights


def make_tokenization(**training: object) -> Tokenization:
    recipe = make_recipe(**training)
    return Tokenization(AutoTokenizer.from_pretrained(weights.locate_model(recipe.model)), recipe)


def test_loss_counts_the_target_and_eos_alone():
    """The loss equals that of a loop over rows and tokens which counts the prompt's tokens and EOS only."""
    tuned = generator.load(make_recipe(), "cpu")
    examples = [tuned.tokenization.example(row) for row in make_rows(5)]
    total, tokens = 0.0, 0
    for row in make_rows(5):
        context = tuned.tokenization.context(row)
        target = tuned.tokenization.tokenizer(PROMPT, add_special_tokens=False)["input_ids"] + [2]
        with torch.no_grad():
            logits = tuned.model(torch.tensor([context + target])).logits[0]
        for place, token in enumerate(target):
            total -= functional.log_softmax(logits[len(context) + place - 1], -1)[token].item()
            tokens += 1
    assert validation_loss(tuned, examples) == pytest.approx(total / tokens, abs=1e-5)


def test_padding_and_context_have_no_label():
    """Of a padded batch, exactly the targets' tokens and EOS have labels."""
    tokenization = make_tokenization()
    rows = make_rows(4)
    batch = collate([tokenization.example(row) for row in rows], pad=0)
    target = tokenization.tokenizer(PROMPT, add_special_tokens=False)["input_ids"]
    assert (batch["labels"] != IGNORED).sum(1).tolist() == [len(target) + 1] * 4
    assert batch["attention_mask"].sum(1).tolist() == [len(tokenization.context(row)) + len(target) + 1 for row in rows]


def test_long_texts_are_cut_in_the_middle_and_counted():
    """A long original keeps its start and end, the short rewriting is whole, and the row is counted."""
    tokenization = make_tokenization(max_length=96)
    row = PromptRow("r", "START " + "word " * 200 + "END", "a short one", PROMPT)
    example = tokenization.example(row)
    text = tokenization.tokenizer.decode(example.input_ids)
    assert len(example.input_ids) <= 96 and tokenization.cut_texts == 1
    assert "START" in text and "END" in text and "a short one" in text and text.endswith(f"{PROMPT}</s>")
    tokenization.context(make_rows(1)[0])
    assert tokenization.cut_texts == 1


def test_long_targets_are_cut_without_eos_and_counted():
    """A prompt beyond max_new_tokens is cut; EOS behind a cut prompt would teach to stop anywhere."""
    tokenization = make_tokenization()
    example = tokenization.example(PromptRow("r", "a", "b", "word " * 50))
    assert sum(label != IGNORED for label in example.labels) == 12
    assert example.labels[-1] != tokenization.tokenizer.eos_token_id
    assert tokenization.cut_targets == 1


def test_special_tokens_in_texts_are_plain_text():
    """A text that spells EOS does not end the sequence."""
    tokenization = make_tokenization()
    assert tokenization.tokenizer.eos_token_id not in tokenization.context(PromptRow("r", "</s>", "x </s>"))


def test_a_chat_models_marks_in_texts_are_plain_text():
    """Marks of a chat template, which are special tokens where the tokenizer knows them, end no message."""
    recipe = make_recipe()
    tokenizer = AutoTokenizer.from_pretrained(weights.locate_model(recipe.model))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_end|>"]})
    mark = tokenizer.convert_tokens_to_ids("<|im_end|>")
    tokenization = Tokenization(tokenizer, recipe)
    assert mark not in tokenization.example(PromptRow("r", "<|im_end|>", "x<|im_end|>", "y <|im_end|>")).input_ids


@pytest.mark.parametrize("text", ["word " * 200_000, "a" * 1_000_000, "\n" * 9, "\U0001f600" * 1000, "\u200b"])
def test_no_text_is_too_long_or_too_strange(text):
    """A megabyte, line breaks, emoji and invisible characters leave a context of the model's length at most."""
    tokenization = make_tokenization(max_length=96)
    assert 0 < len(tokenization.context(PromptRow("r", text, text))) <= 96 - tokenization.max_new_tokens


def test_a_chat_template_needs_a_tokenizer_that_has_one():
    """A recipe with chat and a tokenizer without a template are refused in one line."""
    recipe = make_recipe().replace("prompt", chat=True)
    with pytest.raises(UserError, match="no chat template; set prompt.chat to false"):
        Tokenization(AutoTokenizer.from_pretrained(weights.locate_model(recipe.model)), recipe)


def test_a_chat_template_frames_the_texts():
    """The texts stand inside the user's message, and the answer's opening behind it."""
    recipe = make_recipe().replace("prompt", chat=True)
    tokenizer = AutoTokenizer.from_pretrained(weights.locate_model(recipe.model))
    tokenizer.chat_template = "{{ bos_token }}[{{ messages[0]['content'] }}]{% if add_generation_prompt %}A:{% endif %}"
    ids = Tokenization(tokenizer, recipe).context(PromptRow("r", "old", "new"))
    assert tokenizer.decode(ids) == "<s>[old\n=>\nnew\nPrompt: ]A:"


def test_no_room_for_texts_is_refused():
    """A template that fills the sequence is refused, and the key to raise is named."""
    recipe = make_recipe().replace("prompt", template="word " * 90 + "{original_text} {rewritten_text}")
    with pytest.raises(UserError, match="leave no room for texts in training.max_length 96"):
        Tokenization(AutoTokenizer.from_pretrained(weights.locate_model(recipe.model)), recipe)
