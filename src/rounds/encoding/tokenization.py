"""Tokenize texts with prompts and few-shot examples, within the recipe's length limits."""

import functools
from collections.abc import Sequence

from tokenizers import Encoding
from tqdm import tqdm

from rounds.config.recipe import Prompts
from rounds.data.images import find_image, strip_image
from rounds.data.prompts import max_length, prefix_and_suffix

EXAMPLE_END = "\n\n"  # as FlagEmbedding joins them


def tokenize(
    tokenizer,
    texts: Sequence[str],
    prompts: Prompts,
    kind: str,
    before: Sequence[Sequence[str]] | None = None,
    report: bool = True,
) -> list[list[int]]:
    """Token ids of each text's words with its prompt, and of its picture where the model reads it with them (`joint`).

    A text that is too long loses its own last tokens; prefix, suffix and special tokens survive. How many texts had
    to be cut, and how many examples left out, is reported once.

    Args:
        before: each text's examples, best first; they have a limit of their own.
    """
    prefix, suffix = prefix_and_suffix(prompts, kind)
    picture = getattr(tokenizer, "image_placeholder", "")
    texts = [(picture if find_image(text) else "") + strip_image(text) for text in texts]
    limit = max_length(prompts, kind)
    leads = lead_texts(tokenizer, before, prompts, kind, report) if before is not None else [""] * len(texts)
    whole = tokenizer(
        [lead + prefix + text + suffix for lead, text in zip(leads, texts, strict=True)],
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    ids, cut = [], 0
    for number, (lead, text, row) in enumerate(zip(leads, texts, whole["input_ids"], strict=True)):
        found = whole[number]
        examples = _tokens_in(found, lead) if lead else 0
        if len(row) - examples > limit:
            cut += 1
            row = _cut(row, found.offsets, len(lead) + len(prefix) + len(text), limit + examples)
        ids.append(row)
    if cut and report:
        say_once(f"{cut} of {len(texts)} {kind} texts are longer than {limit} tokens and were cut")
    return ids


def lead_texts(
    tokenizer, before: Sequence[Sequence[str]], prompts: Prompts, kind: str, report: bool = True
) -> list[str]:
    """What stands before each text: its examples, as many of them as `examples_max_length` holds."""
    distinct = list(dict.fromkeys(example for examples in before for example in examples))
    lengths: dict[str, int] = {}
    if distinct:
        rows = tokenizer([example + EXAMPLE_END for example in distinct], add_special_tokens=False, verbose=False)
        lengths = {example: len(row) for example, row in zip(distinct, rows["input_ids"], strict=True)}
    leads, short = [], 0
    for examples in before:
        kept, used = [], 0
        for example in examples:
            if used + lengths[example] <= prompts.examples_max_length:
                kept.append(example)
                used += lengths[example]
        short += len(kept) < len(examples)
        leads.append("".join(example + EXAMPLE_END for example in kept))
    if short and report:
        say_once(
            f"{short} of {len(before)} {kind} texts have fewer examples than asked for: "
            f"they are longer than {prompts.examples_max_length} tokens"
        )
    return leads


def _tokens_in(found: Encoding, lead: str) -> int:
    """How many tokens end within `lead`, special ones not counted; without a copy of all offsets, which is slow."""
    covered = (token for place in range(len(lead)) if (token := found.char_to_token(place)) is not None)
    first = next(covered, None)
    if first is None:
        return 0
    places = range(len(lead) - 1, -1, -1)
    last = next(token for place in places if (token := found.char_to_token(place)) is not None)
    return last - first + (found.token_to_chars(last)[1] <= len(lead))


def _cut(row: list[int], offsets: list[tuple[int, int]], text_end: int, limit: int) -> list[int]:
    """Drop tokens from the text's end; what starts behind it (suffix, closing special tokens) stays."""
    tail = len(row)
    while tail > 0 and (offsets[tail - 1][0] >= text_end or offsets[tail - 1][0] == offsets[tail - 1][1]):
        tail -= 1
    kept = len(row) - tail
    return row[: max(limit - kept, 0)] + row[tail:]


@functools.cache
def say_once(line: str) -> None:
    tqdm.write(line)
