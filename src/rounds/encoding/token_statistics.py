"""Token statistics of texts under a recipe's tokenizer: lengths, shares of truncated texts and unknown tokens."""

from dataclasses import dataclass

from rounds.config.recipe import Prompts
from rounds.data.prompts import format_texts, max_length


@dataclass(frozen=True)
class TokenStatistics:
    """What the tokenizer makes of the texts of one kind.

    Attributes:
        kind: `query` or `passage`.
        texts: number of texts.
        unknown: share of tokens that are not in the vocabulary.
        truncated: share of texts that are longer than `limit`.
        mean, longest: tokens of a text, prompt and special tokens included.
        limit: the recipe's maximum length.
    """

    kind: str
    texts: int
    unknown: float
    truncated: float
    mean: float
    longest: int
    limit: int


def count_tokens(tokenizer, texts: list[str], prompts: Prompts, kind: str) -> TokenStatistics:
    """Count the tokens of `query` or `passage` texts with their prompt, before truncation."""
    rows = tokenizer(format_texts(prompts, kind, texts), verbose=False)["input_ids"]
    lengths, limit = [len(row) for row in rows], max_length(prompts, kind)
    unknown_id = tokenizer.unk_token_id
    unknown = sum(row.count(unknown_id) for row in rows) if unknown_id is not None else 0
    return TokenStatistics(
        kind=kind,
        texts=len(rows),
        unknown=unknown / sum(lengths),
        truncated=sum(length > limit for length in lengths) / len(rows),
        mean=sum(lengths) / len(rows),
        longest=max(lengths),
        limit=limit,
    )
