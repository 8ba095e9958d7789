"""Tokenize texts with prompts and few-shot examples, within the recipe's length limits."""

import functools
from collections.abc import Sequence

from tokenizers import Encoding
from tqdm import tqdm

from rounds.config.recipe import Prompts
from rounds.data.images import find_image, strip_image
from rounds.data.prompts import max_length, prefix_and_suffix

EXAMPLE_END = "\n\n"  # as FlagEmbedding joins examples


def tokenize(
    tokenizer,
    texts: Sequence[str],
    prompts: Prompts,
    kind: str,
    examples: Sequence[Sequence[str]] | None = None,
    report: bool = True,
) -> list[list[int]]:
    """Tokenize texts with their prompt, and with image tokens where the model reads images and text together.

    A text that is too long loses its own last tokens; prefix, suffix and special tokens stay.

    Args:
        kind: `query` or `passage`.
        examples: few-shot examples of each text, best first; they have their own length limit.
        report: print once how many texts were truncated and how many examples were left out.

    Returns:
        the token ids of each text.
    """
    prefix, suffix = prefix_and_suffix(prompts, kind)
    image_placeholder = getattr(tokenizer, "image_placeholder", "")
    texts = [(image_placeholder if find_image(text) else "") + strip_image(text) for text in texts]
    limit = max_length(prompts, kind)
    leads = [""] * len(texts) if examples is None else join_examples(tokenizer, examples, prompts, kind, report)
    batch = tokenizer(
        [lead + prefix + text + suffix for lead, text in zip(leads, texts, strict=True)],
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    rows, truncated = [], 0
    for number, (lead, text, row) in enumerate(zip(leads, texts, batch["input_ids"], strict=True)):
        encoding = batch[number]
        lead_length = _count_lead_tokens(encoding, lead) if lead else 0
        if len(row) - lead_length > limit:
            truncated += 1
            text_end = len(lead) + len(prefix) + len(text)
            row = _truncate(row, encoding.offsets, text_end, limit + lead_length)
        rows.append(row)
    if truncated and report:
        report_once(f"{truncated} of {len(texts)} {kind} texts are longer than {limit} tokens and were cut")
    return rows


def join_examples(
    tokenizer, examples: Sequence[Sequence[str]], prompts: Prompts, kind: str, report: bool = True
) -> list[str]:
    """Join each text's few-shot examples into what stands before the text.

    An example that would exceed `prompts.examples_max_length` is left out.

    Args:
        examples: of each text, best first.
        report: print once how many texts lost examples.
    """
    distinct = list(dict.fromkeys(example for chosen in examples for example in chosen))
    lengths: dict[str, int] = {}
    if distinct:
        rows = tokenizer([example + EXAMPLE_END for example in distinct], add_special_tokens=False, verbose=False)
        lengths = {example: len(row) for example, row in zip(distinct, rows["input_ids"], strict=True)}
    leads, shortened = [], 0
    for chosen in examples:
        kept, used = [], 0
        for example in chosen:
            if used + lengths[example] <= prompts.examples_max_length:
                kept.append(example)
                used += lengths[example]
        shortened += len(kept) < len(chosen)
        leads.append("".join(example + EXAMPLE_END for example in kept))
    if shortened and report:
        report_once(
            f"{shortened} of {len(examples)} {kind} texts have fewer examples than requested: "
            f"they are longer than {prompts.examples_max_length} tokens"
        )
    return leads


def _count_lead_tokens(encoding: Encoding, lead: str) -> int:
    """Count the tokens that end within `lead`, special tokens excluded; reading all of `offsets` would be slow."""
    covered = (token for place in range(len(lead)) if (token := encoding.char_to_token(place)) is not None)
    first = next(covered, None)
    if first is None:
        return 0
    backwards = range(len(lead) - 1, -1, -1)
    last = next(token for place in backwards if (token := encoding.char_to_token(place)) is not None)
    return last - first + (encoding.token_to_chars(last)[1] <= len(lead))


def _truncate(row: list[int], offsets: list[tuple[int, int]], text_end: int, limit: int) -> list[int]:
    """Drop tokens from the end of the text; what follows it (suffix, closing special tokens) stays."""
    #   tokens   [prefix | text text text | suffix EOS]
    #                            text_end ^ tail        special tokens have empty offsets
    tail = len(row)
    while tail > 0 and (offsets[tail - 1][0] >= text_end or offsets[tail - 1][0] == offsets[tail - 1][1]):
        tail -= 1
    kept = len(row) - tail
    return row[: max(limit - kept, 0)] + row[tail:]


@functools.cache
def report_once(line: str) -> None:
    """Print a line above the progress bars, unless this process has printed it before."""
    tqdm.write(line)
