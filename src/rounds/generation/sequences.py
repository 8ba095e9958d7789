"""Sequences: the token ids that a generator reads and, in training, those that it is to write."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rounds.config.generator import PLACEHOLDERS, GeneratorRecipe
from rounds.errors import UserError
from rounds.generation.rows import PromptRow
from rounds.models import tokenizer_checks

IGNORED = -100  # label of a token that does not count in the loss


@dataclass(frozen=True)
class Example:
    """A training sequence.

    Attributes:
        input_ids: context, target and EOS.
        labels: the same ids for target and EOS, `IGNORED` for the context.
    """

    input_ids: list[int]
    labels: list[int]


class Tokenization:
    """Turns rows into token ids of at most `training.max_length`, of which the target has `max_new_tokens`.

    The texts are tokenized apart from the template, so that they can be cut in the middle without touching it; what
    spells like a special token in a text is read as plain text.

    Args:
        tokenizer: the model's tokenizer.
        recipe: the prompt's template and the lengths.

    Attributes:
        cut_texts: number of rows whose texts were cut.
        cut_targets: number of rows whose target was cut; they end without EOS.

    Raises:
        UserError: the tokenizer has no EOS token, or no chat template where the recipe asks for one; or the template
            leaves no room for texts.
    """

    def __init__(self, tokenizer, recipe: GeneratorRecipe) -> None:
        self.tokenizer, self.cut_texts, self.cut_targets = tokenizer, 0, 0
        self.max_new_tokens = recipe.generation.max_new_tokens
        if tokenizer.eos_token_id is None:
            raise UserError(f"model {recipe.model.name_or_path}: its tokenizer has no EOS token to end a text with")
        tokenizer.split_special_tokens = False  # those of the template are meant
        parts = _split_template(tokenizer, recipe)
        opening = [] if recipe.prompt.chat else tokenizer_checks.frame(tokenizer)[0]
        self._parts = [self._tokenize(part) for part in parts]
        self._parts[0] = [*opening, *self._parts[0]]
        tokenizer.split_special_tokens = True
        self._room = recipe.training.max_length - self.max_new_tokens - sum(map(len, self._parts))
        if self._room < 2:
            raise UserError(
                f"recipe {recipe.name}: prompt.template and generation.max_new_tokens leave no room for texts in "
                f"training.max_length {recipe.training.max_length}; raise it"
            )

    def context(self, row: PromptRow) -> list[int]:
        """Return what the model reads before it writes."""
        texts = [self._tokenize(getattr(row, name)) for name in PLACEHOLDERS]
        lengths = share_room(len(texts[0]), len(texts[1]), self._room)
        self.cut_texts += lengths != (len(texts[0]), len(texts[1]))
        original, rewritten = (cut_middle(ids, length) for ids, length in zip(texts, lengths, strict=True))
        head, between, tail = self._parts
        return [*head, *original, *between, *rewritten, *tail]

    def example(self, row: PromptRow) -> Example:
        """Return a row's training sequence."""
        context, target = self.context(row), [*self._tokenize(row.rewrite_prompt), self.tokenizer.eos_token_id]
        self.cut_targets += len(target) > self.max_new_tokens
        target = target[: self.max_new_tokens]
        return Example([*context, *target], [IGNORED] * len(context) + target)

    def _tokenize(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]


def _split_template(tokenizer, recipe: GeneratorRecipe) -> list[str]:
    """Return the parts of the whole prompt before, between and behind the two texts.

    Raises:
        UserError: the recipe asks for a chat template, and the tokenizer has none or one that changes the message.
    """
    text = recipe.prompt.template
    if recipe.prompt.chat:
        if not tokenizer.chat_template:
            raise UserError(
                f"model {recipe.model.name_or_path}: its tokenizer has no chat template; set prompt.chat to false"
            )
        messages = [{"role": "user", "content": text}]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    parts = re.split("|".join(rf"\{{{name}\}}" for name in PLACEHOLDERS), text)
    if len(parts) != len(PLACEHOLDERS) + 1:
        raise UserError(
            f"model {recipe.model.name_or_path}: its chat template does not keep the message as it is; "
            "set prompt.chat to false"
        )
    return parts


def share_room(first: int, second: int, room: int) -> tuple[int, int]:
    """Return the lengths that two texts are cut to: the longer one is cut before the shorter one.

    >>> share_room(10, 20, 40), share_room(10, 100, 40), share_room(90, 100, 40)
    ((10, 20), (10, 30), (20, 20))
    """
    half = room // 2
    if first + second <= room:
        return first, second
    if min(first, second) <= half:
        return (first, room - first) if first < second else (room - second, second)
    return half, room - half


def cut_middle(ids: list[int], length: int) -> list[int]:
    """Return the first and last of some ids, `length` together.

    >>> cut_middle([1, 2, 3, 4, 5, 6], 3)
    [1, 2, 6]
    """
    if len(ids) <= length:
        return ids
    start = -(-length // 2)
    return [*ids[:start], *ids[len(ids) - (length - start) :]]


def collate(examples: Sequence[Example], pad: int) -> dict[str, Tensor]:
    """Return a training batch, padded on the right: `input_ids`, `attention_mask`, `labels`, each (rows, length)."""
    width = max(len(example.input_ids) for example in examples)

    def stack(rows: list[list[int]], filler: int) -> Tensor:
        return torch.tensor([[*row, *[filler] * (width - len(row))] for row in rows])

    return {
        "input_ids": stack([example.input_ids for example in examples], pad),
        "attention_mask": stack([[1] * len(example.input_ids) for example in examples], 0),
        "labels": stack([example.labels for example in examples], IGNORED),
    }
