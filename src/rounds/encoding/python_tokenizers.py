"""Tokenizers without a Rust backend, such as PhoBERT's: they do not say which characters a token stands for."""

from itertools import takewhile

from rounds.errors import UserError


def no_room(setting: str, fixed: int) -> str:
    """Return the message for a limit that leaves no token to the text."""
    return f"{setting}: the prompt and special tokens alone are {fixed} tokens; raise it or shorten the prompt"


def count_tokens(tokenizer, text: str) -> int:
    """Return the number of tokens of a text, special tokens excluded."""
    return len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def truncate(
    tokenizer, row: list[int], whole: str, place: tuple[int, int], limit: int, setting: str
) -> tuple[list[int], int]:
    """Drop tokens from the end of a text; what follows it (suffix, closing special tokens) stays.

    The tokens that follow are those in which the whole ends with and without the text.

    Args:
        row: the token ids of `whole`.
        whole: the text between its prompt, behind its examples.
        place: the characters of `whole` from and up to which the text itself goes.
        limit: tokens to keep.
        setting: the recipe's key and value that limit the tokens.

    Returns:
        the tokens that are kept, and the characters up to the end of the text's last one.

    Raises:
        UserError: the prompt and special tokens leave no token to the text.
    """
    start, stop = place
    rest = tokenizer(whole[:start] + whole[stop:], verbose=False)["input_ids"]
    common = takewhile(lambda pair: pair[0] == pair[1], zip(reversed(row), reversed(rest), strict=False))
    special = set(tokenizer.all_special_ids)
    opening = sum(1 for _ in takewhile(special.__contains__, row))
    before = opening + count_tokens(tokenizer, whole[:start])
    tail = min(sum(1 for _ in common), len(rest) - before)
    end = limit - tail
    if end <= before:
        raise UserError(no_room(setting, before + tail))
    return row[:end] + row[len(row) - tail :], _end_of_tokens(tokenizer, whole[:stop], end - opening)


def _end_of_tokens(tokenizer, text: str, count: int) -> int:
    """Return how many characters of a text its first `count` tokens stand for."""
    fits, exceeds = 0, len(text) + 1
    while exceeds - fits > 1:
        middle = (fits + exceeds) // 2
        if count_tokens(tokenizer, text[:middle]) <= count:
            fits = middle
        else:
            exceeds = middle
    return fits
