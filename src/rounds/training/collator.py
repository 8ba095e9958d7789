"""Group rows into batches and collate them into chunks of tokens, labels and masks."""

import random
from collections.abc import Iterator

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.sampler import DefaultBatchSampler

from rounds.config.recipe import Recipe
from rounds.data.prompts import max_input_length
from rounds.encoding import batching, prefix_cache
from rounds.encoding.batching import Layout
from rounds.encoding.tokenization import tokenize
from rounds.models import dual_encoder, image_inputs
from rounds.training.dataset import Groups, _names


class BatchSampler(DefaultBatchSampler):
    """Shuffles rows anew each epoch; each process gets an equal part of every batch.

    A batch of B queries is the same whatever the number of processes; they take B / processes each, one after the
    other. What cannot be divided at an epoch's end is left out (fewer rows than processes).
    """

    def __init__(self, rows: int, batch_size: int, processes: int, seed: int) -> None:
        super().__init__(range(rows), batch_size=batch_size, drop_last=False, seed=seed)
        self.rows, self.processes = rows, processes

    def __iter__(self) -> Iterator[list[int]]:
        order = list(range(self.rows))
        random.Random(f"{self.seed}-{self.epoch}").shuffle(order)
        whole = self.batch_size * self.processes
        for start in range(0, self.rows, whole):
            batch = order[start : start + whole]
            share = len(batch) // self.processes
            for process in range(self.processes if share else 0):
                yield batch[process * share : (process + 1) * share]

    def __len__(self) -> int:
        whole = self.batch_size * self.processes
        rest = self.rows % whole
        return (self.rows // whole + (rest >= self.processes)) * self.processes


class Collator:
    """Row numbers -> chunks of tokens and the loss's labels, each distinct passage of the batch once.

    Packed, all texts are one chunk, or as few as `micro_batch_tokens` allows; padded, a chunk holds texts of like
    length. What queries share at their start (examples) is computed once for each chunk, where `share` says so. The
    Trainer finds chunk N under `chunkN_input_ids`, ...

    Attributes:
        epoch: set by `start` at each epoch; decides which negatives and how many examples are drawn.
        first: rows of the epoch's first batch, to see that each epoch is shuffled anew.
    """

    valid_label_columns: list[str] = []

    def __init__(
        self, groups: Groups, embedder: SentenceTransformer, recipe: Recipe, seed: int, share: bool = False
    ) -> None:
        self.groups, self.tokenizer, self.prompts, self.seed = groups, embedder.tokenizer, recipe.prompts, seed
        self.group_size, self.examples_limit = recipe.training.group_size, recipe.training.examples_limit
        self.layout, self.share = (
            Layout.for_model(dual_encoder.encoder_for(embedder, "query"), max_input_length(recipe.prompts)),
            share,
        )
        self.separate = dual_encoder.is_dual(embedder)
        self.budget = recipe.training.micro_batch_tokens or None
        distinct = list(dict.fromkeys(groups.queries))
        ids = tokenize(self.tokenizer, distinct, self.prompts, "query")
        self.query_ids = dict(zip(distinct, ids, strict=True))
        self.passage_ids = tokenize(self.tokenizer, groups.passages, self.prompts, "passage")
        self.image_inputs = image_inputs.load_image_inputs(
            dual_encoder.encoder_for(embedder, "query"), [*distinct, *groups.passages]
        )
        self.start(0)

    def start(self, epoch: int) -> None:
        """Begin an epoch (from 0). All processes draw the same number of examples for the same batch."""
        self.first: list[int] = []
        self.epoch, self.sizes = epoch, random.Random(f"{self.seed}-{epoch}-examples")

    def _queries(self, rows: list[int]) -> list[list[int]]:
        """Token ids of the rows' queries, with this batch's number of examples before them."""
        number = self.sizes.randint(0, self.examples_limit) if self.examples_limit else 0
        if not number:
            return [self.query_ids[self.groups.queries[row]] for row in rows]
        texts, before = [self.groups.queries[row] for row in rows], [self.groups.before[row][:number] for row in rows]
        return tokenize(self.tokenizer, texts, self.prompts, "query", before, report=False)

    def __call__(self, rows: list[dict[str, int]]) -> dict:
        numbers = [row["row"] for row in rows]
        self.first = self.first or numbers
        drawn = [self.groups.draw(row, self.epoch, self.group_size) for row in numbers]
        passages = list(dict.fromkeys(n for positive, negatives in drawn for n in (positive, *negatives)))
        ids = [self._queries(numbers), [self.passage_ids[n] for n in passages]]
        texts = [self.groups.queries[row] for row in numbers], [self.groups.passages[n] for n in passages]
        if self.separate:
            batch, order = self._by_side(*ids, *texts)
        else:
            batch, order, _ = self._chunks(ids[0] + ids[1], texts[0] + texts[1])
        known = [sorted(self.groups.known[row]) for row in numbers]
        width = max(len(each) for each in known)
        batch["label"] = {
            "query_order": torch.tensor(order[: len(numbers)]),
            "passage_order": torch.tensor(order[len(numbers) :]),
            "passages": torch.tensor(passages),
            "positive": torch.tensor([positive for positive, _ in drawn]),
            "known": torch.tensor([each + [-2] * (width - len(each)) for each in known]),
        }
        if self.groups.teacher:
            batch["label"] |= self._taught(numbers, drawn, passages)
        return batch

    def _by_side(
        self, queries: list[list[int]], passages: list[list[int]], asked: list[str], told: list[str]
    ) -> tuple[dict, list[int]]:
        """Chunks as `_chunks` makes them, none with texts of both kinds, and each with its side's number."""
        own, places, count = self._chunks(queries, asked)
        others, more, _ = self._chunks(passages, told, len(_names(own)))
        sides = {f"{name}_side": torch.tensor(side) for side, part in enumerate((own, others)) for name in _names(part)}
        return own | others | sides, places + [count + place for place in more]

    def _taught(
        self, rows: list[int], drawn: list[tuple[int, list[int]]], passages: list[int]
    ) -> dict[str, torch.Tensor]:
        """Each query's group as rows of the batch's passages, the positive first and -1 for a gap, and its scores."""
        place = {number: row for row, number in enumerate(passages)}
        groups = [[positive, *negatives] for positive, negatives in drawn]
        scores = [[self.groups.teacher[row][n] for n in group] for row, group in zip(rows, groups, strict=True)]
        missing = [self.group_size - len(group) for group in groups]
        return {
            "group": torch.tensor([[place[n] for n in g] + [-1] * m for g, m in zip(groups, missing, strict=True)]),
            "teacher": torch.tensor([each + [0.0] * m for each, m in zip(scores, missing, strict=True)]),
        }

    def _chunks(self, ids: list[list[int]], texts: list[str], first: int = 0) -> tuple[dict, list[int], int]:
        """Tensors by name, for each text the row of its vector in the chunks' concatenated output, and its rows."""
        found, place, count = {}, [0] * len(ids), 0
        parts = prefix_cache.group_by_prefix(ids, self.layout) if self.share else [(0, list(range(len(ids))))]
        for shared, members in parts:
            own, layout = [ids[row][shared:] for row in members], self.layout.after_prefix(shared)
            # Packed: all of a batch in one chunk.
            budget = self.budget or (None if layout.packed else batching.TOKEN_BUDGET)
            for numbers in batching.plan_batches([len(row) for row in own], layout, budget):
                chunk = batching.to_tensors([own[n] for n in numbers], layout, None, shared)
                if self.image_inputs:
                    chunk |= self.image_inputs.batch([texts[members[n]] for n in numbers], batching.count_rows(chunk))
                name = f"chunk{first + len(_names(found))}"
                found.update({f"{name}_{key}": value for key, value in chunk.items()})
                if shared:
                    found[f"{name}_prefix"] = torch.tensor([ids[members[0]][:shared]])
                for position, number in enumerate(numbers):
                    place[members[number]] = count + position
                count += batching.count_rows(chunk)
        return found, place, count
