"""Token statistics of a dataset under a recipe's tokenizer: lengths, truncated and unknown shares."""

from dataclasses import dataclass

from rounds.config.recipe import Prompts
from rounds.data.prompts import max_length, prefix_and_suffix


@dataclass(frozen=True)
class TokenStatistics:
    """What the tokenizer makes of texts of one kind.

    Attributes:
        unknown: share of tokens that stand for what the vocabulary lacks.
        cut: share of texts that are longer than the recipe's limit.
        mean, longest: tokens, prompt and special tokens included.
    """

    kind: str
    texts: int
    unknown: float
    cut: float
    mean: float
    longest: int
    limit: int


def tokens(tokenizer, texts: list[str], prompts: Prompts, kind: str) -> TokenStatistics:
    """Count tokens of `query` or `passage` texts, uncut, with their prompt."""
    start, end = prefix_and_suffix(prompts, kind)
    rows = tokenizer([start + text + end for text in texts], verbose=False)["input_ids"]
    lengths, limit = [len(row) for row in rows], max_length(prompts, kind)
    unknown = tokenizer.unk_token_id
    lost = sum(row.count(unknown) for row in rows) if unknown is not None else 0
    cut = sum(length > limit for length in lengths) / len(rows)
    return TokenStatistics(kind, len(rows), lost / sum(lengths), cut, sum(lengths) / len(rows), max(lengths), limit)
