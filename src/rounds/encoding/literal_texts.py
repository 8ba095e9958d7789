"""Literal texts: what a text spells like a special token is read as words; those of the recipe's prompts are meant.

A passage that quotes `<|im_end|>` or `</s>` would otherwise end there, or pretend to be another part of the prompt.
"""

import functools
import json
import re
import secrets
import weakref
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tokenizers import Encoding, Tokenizer

from rounds.config.recipe import Prompts
from rounds.data.images import strip_image
from rounds.data.prompts import prefix_and_suffix


class LiteralText(NamedTuple):
    """A text between its prompt and behind its examples, as it is tokenized where it spells special tokens.

    Attributes:
        whole: all of it, with stand-ins for the special tokens that are meant.
        lead: its examples.
        words: the text itself, without its image's marker.
        suffix: what stands behind the text.
        ids: its tokens.
        encoding: where they stand in `whole`.
        stand_ins: special token -> what stands for it.
    """

    whole: str
    lead: str
    words: str
    suffix: str
    ids: list[int]
    encoding: Encoding
    stand_ins: dict[str, str]

    def count_characters(self, count: int) -> int:
        """Return how many characters of the text itself the first ones of `words` are."""
        read = self.words[:count]
        for content, stand_in in self.stand_ins.items() if "\ufdd0" in read else ():
            read = read.replace(stand_in, content)
        return len(read)


class LiteralTokenizer:
    """A copy of a tokenizer whose special tokens go by other names: stand-ins, which no text can spell.

    All else is split as the tokenizer itself does it, the blank before a first word included. Without the names,
    Unigram models would find special tokens among their pieces, as they do under `split_special_tokens`.
    """

    def __init__(self, tokenizer) -> None:
        self.tokenizer = weakref.proxy(tokenizer)
        special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        longest_first = sorted(filter(None, special), key=len, reverse=True)
        self.spelled = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        key = secrets.token_hex(8)  # so that no text holds a stand-in by intention
        self.stand_ins = {content: f"\ufdd0{key}{number}\ufdd1" for number, content in enumerate(longest_first)}

    def find(self, text: str) -> set[str]:
        """Return the special tokens that a text spells."""
        return set(self.spelled.findall(text))

    def mark(self, text: str, meant: Iterable[str] | None = None) -> str:
        """Put stand-ins in the place of special tokens: all that a text spells, or those that are `meant`."""

        def replace(match: re.Match) -> str:
            content = match.group()
            return self.stand_ins[content] if meant is None or content in meant else content

        return self.spelled.sub(replace, text)

    @functools.cached_property
    def backend(self) -> Tokenizer:
        """The copy; made when it is first needed, since that takes a second of a large vocabulary."""
        record = json.loads(self.tokenizer.backend_tokenizer.to_str())
        model = record["model"]
        for token in record["added_tokens"]:
            token["content"] = self._rename(token["content"])
        if isinstance(model["vocab"], dict):
            model["vocab"] = {self._rename(token): number for token, number in model["vocab"].items()}
        else:
            model["vocab"] = [[self._rename(token), score] for token, score in model["vocab"]]
        if model.get("unk_token"):
            model["unk_token"] = self._rename(model["unk_token"])
        backend = Tokenizer.from_str(json.dumps(record))
        backend.no_truncation()
        backend.no_padding()
        return backend

    def _rename(self, content: str) -> str:
        return self.stand_ins.get(content, content)

    def encode(self, text: str) -> tuple[list[int], Encoding]:
        """Return the tokens of a text whose meant special tokens are marked, and where they stand in it."""
        encoding = self.backend.encode(text)
        return encoding.ids, encoding


_COPIES: "weakref.WeakKeyDictionary" = weakref.WeakKeyDictionary()


def tokenize(
    tokenizer, texts: Sequence[str], leads: Sequence[str] | None, prompts: Prompts, kind: str, image: str | None
) -> dict[int, LiteralText]:
    """Tokenize those texts that spell special tokens; tokenizers without a Rust backend leave all as they are.

    Special tokens that `prompts.query` puts between a query's parts are meant, and so are those of the prompts in
    examples.

    Args:
        leads: each text's few-shot examples.
        kind: `query` or `passage`.
        image: what stands for a text's image; None keeps its marker.

    Returns:
        row -> its text.
    """
    if not tokenizer.is_fast:
        return {}
    if tokenizer not in _COPIES:
        _COPIES[tokenizer] = LiteralTokenizer(tokenizer)
    copy = _COPIES[tokenizer]
    prefix, suffix = prefix_and_suffix(prompts, kind)
    between = copy.find(prompts.query) if kind == "query" else set()
    in_examples = between | copy.find("".join(prefix_and_suffix(prompts, "query")))
    literal = {}
    for row, text in enumerate(texts):
        words, lead = strip_image(text), leads[row] if leads else ""
        if not (copy.find(words) - between or copy.find(lead) - in_examples):
            continue
        marker = text[: len(text) - len(words)]
        if image is not None and marker:
            marker = copy.mark(image)
        lead, words, end = copy.mark(lead, in_examples), copy.mark(words, between), copy.mark(suffix)
        whole = f"{lead}{copy.mark(prefix)}{marker}{words}{end}"
        literal[row] = LiteralText(whole, lead, words, end, *copy.encode(whole), copy.stand_ins)
    return literal
