"""Arrange the texts of a batch in chunks: tensors that the model embeds in one forward pass each."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from rounds.encoding import batching, prefix_cache
from rounds.encoding.batching import Layout


@dataclass
class Chunks:
    """A batch's chunks, and the place of each text's embedding in their concatenated output.

    Attributes:
        tensors: `chunk0_input_ids`, ... -> tensor; the Trainer passes the tensors of each chunk to the loss.
        embedding_rows: row of each text's embedding in the output of all chunks; or the rows of its tokens.
        row_count: rows of that output, padding included.
        names: `chunk0`, `chunk1`, ...
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    embedding_rows: list = field(default_factory=list)
    row_count: int = 0
    names: list[str] = field(default_factory=list)

    def apart(self) -> list[dict[str, Tensor]]:
        """Return the tensors of each chunk, by their own names."""
        starts = [f"{name}_" for name in self.names]
        return [
            {key.removeprefix(start): value for key, value in self.tensors.items() if key.startswith(start)}
            for start in starts
        ]


@dataclass(frozen=True)
class ChunkBuilder:
    """Arranges texts in chunks.

    Packed, all texts are one chunk, or as few as the budget allows; padded, a chunk holds texts of similar length.

    Attributes:
        layout: how the model takes its texts.
        token_budget: tokens of a chunk at most; None for no limit (packed) or the encoder's (padded).
        share_prefixes: compute what texts share at their start (few-shot examples) once for each chunk.
        image_inputs: the images of the texts; None without any.
    """

    layout: Layout
    token_budget: int | None
    share_prefixes: bool
    image_inputs: object | None

    def build(
        self,
        token_ids: list[list[int]],
        texts: list[str],
        first_chunk: int = 0,
        kept_tokens: list[np.ndarray] | None = None,
    ) -> Chunks:
        """Return the chunks of texts, numbered from `first_chunk`.

        Args:
            kept_tokens: of a model that embeds tokens, which tokens of each text are compared; None for other models.
        """
        chunks = Chunks(embedding_rows=[0] * len(token_ids))
        groups = [(0, list(range(len(token_ids))))]
        if self.share_prefixes:
            groups = prefix_cache.group_by_prefix(token_ids, self.layout)
        for prefix_length, members in groups:
            layout = self.layout.after_prefix(prefix_length)
            suffixes = [token_ids[row][prefix_length:] for row in members]
            # Packed: all of a batch in one chunk.
            budget = self.token_budget or (None if layout.packed else layout.token_budget)
            for batch in batching.plan_batches([len(suffix) for suffix in suffixes], layout, budget):
                tensors = batching.to_tensors([suffixes[n] for n in batch], layout, None, prefix_length)
                rows = [members[n] for n in batch]
                places, row_count = range(len(rows)), batching.count_rows(tensors)
                if kept_tokens:
                    width, row_count = tensors["input_ids"].shape[1], tensors["input_ids"].numel()
                    places = batching.token_places([kept_tokens[row] for row in rows], layout, width)
                if self.image_inputs:
                    tensors |= self.image_inputs.batch([texts[row] for row in rows], row_count)
                if prefix_length:
                    tensors["prefix"] = torch.tensor([token_ids[members[0]][:prefix_length]])
                name = f"chunk{first_chunk + len(chunks.names)}"
                chunks.names.append(name)
                chunks.tensors |= {f"{name}_{key}": value for key, value in tensors.items()}
                for place, row in zip(places, rows, strict=True):
                    chunks.embedding_rows[row] = chunks.row_count + place
                chunks.row_count += row_count
        return chunks

    def build_by_side(
        self, queries: tuple[list[list[int]], list[str]], passages: tuple[list[list[int]], list[str]]
    ) -> Chunks:
        """Return chunks that hold queries only or passages only, each with the number of its side.

        Args:
            queries, passages: token ids and texts.
        """
        query_chunks = self.build(*queries)
        passage_chunks = self.build(*passages, first_chunk=len(query_chunks.names))
        sides = {
            f"{name}_side": torch.tensor(side)
            for side, chunks in enumerate((query_chunks, passage_chunks))
            for name in chunks.names
        }
        passage_rows = [query_chunks.row_count + row for row in passage_chunks.embedding_rows]
        return Chunks(
            tensors=query_chunks.tensors | passage_chunks.tensors | sides,
            embedding_rows=query_chunks.embedding_rows + passage_rows,
            row_count=query_chunks.row_count + passage_chunks.row_count,
            names=query_chunks.names + passage_chunks.names,
        )
