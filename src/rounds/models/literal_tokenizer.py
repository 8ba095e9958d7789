"""Literal tokenizer: reads what a text spells like a special token as words, and those that are meant as tokens."""

import functools
import json
import re
import secrets
import weakref
from collections.abc import Callable, Iterable

from tokenizers import Encoding, Tokenizer

INSTRUCTION = "system"  # role of a message that the recipe or the model writes, not the data


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

    def encode(self, text: str, is_framed: bool = True) -> tuple[list[int], Encoding]:
        """Return the tokens of a text whose meant special tokens are marked, and where they stand in it.

        Args:
            is_framed: add the special tokens that the tokenizer puts around a text.
        """
        encoding = self.backend.encode(text, add_special_tokens=is_framed)
        return encoding.ids, encoding


_COPIES: "weakref.WeakKeyDictionary" = weakref.WeakKeyDictionary()


def of(tokenizer) -> LiteralTokenizer:
    """Return the copy of a tokenizer, which must have a Rust backend; one that was made before is used again."""
    if tokenizer not in _COPIES:
        _COPIES[tokenizer] = LiteralTokenizer(tokenizer)
    return _COPIES[tokenizer]


def apply_literally(tokenizer) -> None:
    """Have a tokenizer's chat template take special tokens that messages spell for words, in place.

    Those of the template itself and of system messages stay special tokens. Tokenizers without a Rust backend stay as
    they are.
    """
    if not tokenizer.is_fast:
        return
    apply = tokenizer.apply_chat_template

    def apply_to_words(conversation: list, *arguments: object, tokenize: bool = True, **options: object):
        features = apply(conversation, *arguments, tokenize=tokenize, **options)
        copy = of(tokenizer)
        is_batch = bool(conversation) and not isinstance(conversation[0], dict)
        spelled = [row for row, each in enumerate(conversation) if is_batch and _spells(each, copy)]
        if not (tokenize and spelled):
            return features
        rendering = {name: value for name, value in options.items() if name not in TOKENIZING}
        render = functools.partial(apply, *arguments, tokenize=False, **rendering)
        rows = _rows(features)
        for row in spelled:
            rows[row] = _cut(tokenizer, _encode(conversation[row], render, copy), options)
        if not options.get("return_tensors"):
            return {**features, "input_ids": rows}
        padding = {name: options[name] for name in ("padding", "return_tensors") if name in options}
        return tokenizer.pad({"input_ids": rows}, **padding)

    tokenizer.apply_chat_template = apply_to_words


# Options of `apply_chat_template` that shape tokens, not the text.
TOKENIZING = ("padding", "truncation", "max_length", "return_tensors", "return_dict", "tokenizer_kwargs")


def _encode(conversation: list[dict], render: Callable[[list[dict]], str], copy: LiteralTokenizer) -> list[int]:
    """Return the tokens of a conversation behind its template, in which messages' special tokens are words."""
    numbers = {content: f"\ufdd2{number}\ufdd3" for number, content in enumerate(copy.stand_ins)}
    text = copy.mark(render(_map_texts(conversation, lambda text: copy.spelled.sub(lambda m: numbers[m[0]], text))))
    for content, number in numbers.items():
        text = text.replace(number, content)
    return copy.encode(text, is_framed=False)[0]


def _map_texts(conversation: list[dict], change: Callable[[str], str]) -> list[dict]:
    """Return a conversation with other texts, apart from instructions; a content is a text, or a list of parts."""

    def changed(content: object) -> object:
        if isinstance(content, str):
            return change(content)
        return [{**part, "text": change(part["text"])} if "text" in part else part for part in content]

    return [
        message if message["role"] == INSTRUCTION else {**message, "content": changed(message["content"])}
        for message in conversation
    ]


def _spells(conversation: list[dict], copy: LiteralTokenizer) -> bool:
    """Return whether a message of a conversation spells a special token."""
    found: set[str] = set()
    _map_texts(conversation, lambda text: found.update(copy.find(text)) or text)
    return bool(found)


def _rows(features: dict) -> list[list[int]]:
    """Return the tokens of each row without padding."""
    mask = features.get("attention_mask")
    if mask is None:
        return [list(row) for row in features["input_ids"]]
    return [
        [token for token, is_read in zip(row, marks, strict=True) if is_read]
        for row, marks in zip(_lists(features["input_ids"]), _lists(mask), strict=True)
    ]


def _lists(values: object) -> list[list[int]]:
    return values if isinstance(values, list) else values.tolist()


def _cut(tokenizer, ids: list[int], options: dict) -> list[int]:
    """Cut tokens to the length and on the side on which the tokenizer cuts a text."""
    limit = options.get("max_length") or tokenizer.model_max_length
    if not options.get("truncation") or len(ids) <= limit:
        return ids
    return ids[:limit] if tokenizer.truncation_side == "right" else ids[-limit:]
