"""Blocks of texts: what a corpus too large to be tokenized at once is divided into; each distinct text comes once."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from sentence_transformers import SentenceTransformer

from rounds.config.recipe import Prompts
from rounds.encoding import model_outputs
from rounds.encoding.tokenization import Cuts, Tally, tokenize_with_cuts

BLOCK_TEXTS = 50_000  # texts whose tokens are in memory at once

TOKENIZED_AT_ONCE = 4096  # texts of which the tokenizer's own records are in memory, which are larger than the tokens


@dataclass(frozen=True)
class TextBlock:
    """Distinct texts of a corpus, and the rows that have them.

    Attributes:
        texts: the texts.
        examples: their few-shot examples; None without any.
        first_rows: the first row that has each text.
        rows: all rows that have one of the texts.
        places: for each of `rows`, the place of its text in `texts`.
    """

    texts: list[str]
    examples: list[Sequence[str]] | None
    first_rows: np.ndarray
    rows: np.ndarray
    places: np.ndarray

    def parts(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield rows and places, at most `BLOCK_TEXTS` at a time: one text may be that of most rows."""
        for start in range(0, len(self.rows), BLOCK_TEXTS):
            yield self.rows[start : start + BLOCK_TEXTS], self.places[start : start + BLOCK_TEXTS]

    def tokenize(self, tokenizer, prompts: Prompts, kind: str, tally: Tally) -> tuple[list[list[int]], Cuts]:
        """Return the token ids of each text, and what was left out of the corpus's rows."""
        ids, cuts = _tokenize(tokenizer, self.texts, prompts, kind, self.examples, tally)
        return ids, self.cuts_of_rows(cuts)

    def cuts_of_rows(self, cuts: Cuts) -> Cuts:
        """Return what was left out of the corpus's rows, by what was left out of each text."""
        read = cuts.of_rows(self.places.tolist())
        rows = self.rows.tolist()
        return Cuts(*({rows[number]: value for number, value in part.items()} for part in vars(read).values()))


class TextBlocks:
    """Texts in blocks of `BLOCK_TEXTS` distinct ones, in the order in which they first occur.

    Args:
        texts: the texts, which are read a block at a time.
        examples: few-shot examples of each text.
    """

    def __init__(self, texts: Sequence[str], examples: Sequence[Sequence[str]] | None = None) -> None:
        self._texts, self._examples = texts, examples
        self._first = _first_rows(texts, examples)
        self._order = np.argsort(self._first, kind="stable")
        self._distinct = np.flatnonzero(self._first == np.arange(len(self._first)))

    @property
    def count(self) -> int:
        """The number of texts, repeated ones included."""
        return len(self._first)

    @property
    def distinct_count(self) -> int:
        """The number of distinct texts."""
        return len(self._distinct)

    def __len__(self) -> int:
        return -(-len(self._distinct) // BLOCK_TEXTS)

    def __iter__(self) -> Iterator[TextBlock]:
        first_of_sorted = self._first[self._order]
        for start in range(0, len(self._distinct), BLOCK_TEXTS):
            chosen = self._distinct[start : start + BLOCK_TEXTS]
            begin, end = np.searchsorted(first_of_sorted, [chosen[0], chosen[-1] + 1])
            rows = self._order[begin:end]
            yield TextBlock(
                texts=self._read(chosen),
                examples=self._examples and [self._examples[row] for row in chosen],
                first_rows=chosen,
                rows=rows,
                places=np.searchsorted(chosen, self._first[rows]),
            )

    def _read(self, rows: np.ndarray) -> list[str]:
        first, last = int(rows[0]), int(rows[-1])
        if last - first + 1 == len(rows):
            return list(self._texts[first : last + 1])
        return [self._texts[row] for row in rows.tolist()]


def _first_rows(texts: Sequence[str], examples: Sequence[Sequence[str]] | None) -> np.ndarray:
    """Return (texts,) int64: the first row with the same text and examples, by a hash of 128 bits."""
    digests = np.empty((len(texts), 2), np.uint64)
    for row, text in enumerate(texts):
        content = text if examples is None else json.dumps([text, *examples[row]])
        digests[row] = np.frombuffer(hashlib.blake2b(content.encode(), digest_size=16).digest(), np.uint64)
    order = np.lexsort((digests[:, 1], digests[:, 0]))  # rows of one text stay in their order
    is_new = np.ones(len(order), bool)
    is_new[1:] = (digests[order[1:]] != digests[order[:-1]]).any(axis=1)
    first = np.empty(len(order), np.int64)
    first[order] = order[is_new][np.cumsum(is_new) - 1]
    return first


def count_vectors(embedder: SentenceTransformer, blocks: TextBlocks, prompts: Prompts, kind: str) -> np.ndarray:
    """Return the number of vectors of each text; where it depends on the tokens, tokenize for it alone."""
    counts = np.ones(blocks.count, np.int64)
    if model_outputs.has_one_vector(embedder):
        return counts
    for block in blocks:
        ids, _ = block.tokenize(embedder.tokenizer, prompts, kind, Tally())
        counts[block.rows] = np.array(model_outputs.vector_counts(embedder, ids, kind))[block.places]
    return counts


def find_cuts(
    tokenizer, texts: Sequence[str], prompts: Prompts, kind: str, examples: Sequence[Sequence[str]] | None
) -> Cuts:
    """Return what a model does not read of texts, of whose tokens only a part is in memory."""
    cuts = Cuts()
    for start in range(0, len(texts), BLOCK_TEXTS):
        part = texts[start : start + BLOCK_TEXTS]
        part_examples = None if examples is None else examples[start : start + BLOCK_TEXTS]
        cuts.update(_tokenize(tokenizer, part, prompts, kind, part_examples, Tally())[1].shifted(start))
    return cuts


def _tokenize(
    tokenizer,
    texts: Sequence[str],
    prompts: Prompts,
    kind: str,
    examples: Sequence[Sequence[str]] | None,
    tally: Tally,
) -> tuple[list[list[int]], Cuts]:
    ids, cuts = [], Cuts()
    for start in range(0, len(texts), TOKENIZED_AT_ONCE):
        stop = start + TOKENIZED_AT_ONCE
        part_examples = None if examples is None else examples[start:stop]
        part_ids, part_cuts = tokenize_with_cuts(
            tokenizer, texts[start:stop], prompts, kind, part_examples, tally=tally
        )
        ids += part_ids
        cuts.update(part_cuts.shifted(start))
    return ids, cuts
