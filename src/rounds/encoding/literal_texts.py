"""Literal texts: what a text spells like a special token is read as words; those of the recipe's prompts are meant.

A passage that quotes `<|im_end|>` or `</s>` would otherwise end there, or pretend to be another part of the prompt.
"""

from collections.abc import Sequence
from typing import NamedTuple

from tokenizers import Encoding

from rounds.config.recipe import Prompts
from rounds.data.images import strip_image
from rounds.data.prompts import prefix_and_suffix
from rounds.models import literal_tokenizer


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
    copy = literal_tokenizer.of(tokenizer)
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
