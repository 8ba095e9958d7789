"""Search: exact search of a million vectors on the card, and attention over texts that are packed without padding."""

import inspect

import numpy as np
import torch
from torch import Tensor

from rounds.benchmark import models
from rounds.benchmark.bench import Bench
from rounds.benchmark.report import Section
from rounds.retrieval import ann_index, search
from rounds.retrieval.run import Run

PASSAGES, QUERIES, DIM, DEPTH = 1_000_000, 1000, 1024, 200
BLOCK = 100_000
LEAST_OVERLAP = 0.999
HEADS, HEAD_DIM, TEXTS = 32, 128, 256
LEAST_COSINE = 0.999  # of a head's output for a token, in bf16


def run(bench: Bench, section: Section) -> None:
    """exact search of 1M x 1,024 vectors for 1,000 queries; attention over packed texts beside padded ones"""
    models.free()
    _search(bench, section)
    models.free()
    _packed(bench, section)


def nearest(queries: Tensor, passages: Tensor, depth: int) -> tuple[Tensor, Tensor]:
    """Top `depth` by inner product, exactly, a block of passages at a time.

    Args:
        queries: (queries, dim) float32.
        passages: (corpus, dim) float32, on the same device.

    Returns:
        scores and row numbers, (queries, depth) each, best first.

    >>> nearest(torch.eye(2)[:1], torch.eye(2), 1)[1].tolist()
    [[0]]
    """
    depth = min(depth, len(passages))
    scores = torch.empty(len(queries), 0, device=queries.device)
    order = torch.empty(len(queries), 0, dtype=torch.long, device=queries.device)
    for start in range(0, len(passages), BLOCK):
        found = queries @ passages[start : start + BLOCK].T
        own, rows = found.topk(min(depth, found.shape[1]), dim=1)
        scores, order = torch.cat([scores, own], 1), torch.cat([order, rows + start], 1)
        scores, places = scores.topk(min(depth, scores.shape[1]), dim=1)
        order = order.gather(1, places)
    return scores, order


def _search(bench: Bench, section: Section) -> None:
    count, asked, dim, depth = (2000, 20, 16, 50) if bench.small else (PASSAGES, QUERIES, DIM, DEPTH)
    generator = torch.Generator(bench.device).manual_seed(0)
    corpus, queries = (
        torch.nn.functional.normalize(torch.randn(rows, dim, device=bench.device, generator=generator), dim=1)
        for rows in (count, asked)
    )
    nearest(queries[:8], corpus[: BLOCK * 2], depth)
    title = f"{count:,} x {dim:,} vectors, {asked:,} queries, top {depth}"
    seconds, (_, order) = bench.time(lambda: nearest(queries, corpus, depth))
    section.note(f"{title}: torch in fp32", seconds=seconds, peak_gib=bench.peak_gib())
    on_host = [vectors.cpu().numpy() for vectors in (queries, corpus)]
    ids = [[f"{kind}{number}" for number in range(rows)] for kind, rows in (("q", asked), ("p", count))]
    seconds, run = bench.time(lambda: search.rank(ids[0], on_host[0], ids[1], on_host[1], depth))
    section.note(f"{title}: make's ranking (faiss)", seconds=seconds)
    found = Run(ids[0], np.array(ids[1], dtype=object)[order.cpu().numpy()], run.scores)
    overlap = ann_index.recall(found, run, depth)
    section.check(f"both rank the same passages, share at least {LEAST_OVERLAP}", overlap, overlap >= LEAST_OVERLAP)


def _packed(bench: Bench, section: Section) -> None:
    """Causal attention over texts of mixed lengths: padded to the longest, and packed where torch can."""
    title = "attention over packed texts"
    if not bench.on_card:
        section.note(title, left_out="torch packs texts on a card only")
        return
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError as error:
        section.note(title, left_out=str(error)[:120])
        return
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(20, 400, (TEXTS,), generator=generator).to(bench.device)
    total, longest = int(lengths.sum()), int(lengths.max())
    states = [torch.randn(total, HEADS, HEAD_DIM, device=bench.device, dtype=torch.bfloat16) for _ in range(3)]
    starts = torch.cat([torch.zeros_like(lengths[:1]), lengths.cumsum(0)]).int()
    present = torch.arange(longest, device=bench.device)[None] < lengths[:, None]
    padded = [_pad(each, present) for each in states]
    named = inspect.signature(varlen_attn).parameters
    causal = {"window_size": (-1, 0)} if "window_size" in named else {"is_causal": True}

    def packed() -> Tensor:
        return varlen_attn(*states, starts, starts, longest, longest, **causal)

    def whole() -> Tensor:
        return torch.nn.functional.scaled_dot_product_attention(*padded, is_causal=True)

    results = {}
    for name, work in (("padded (SDPA)", whole), ("packed (varlen)", packed)):
        work()
        seconds = min(bench.time(work)[0] for _ in range(5))
        results[name] = work()
        section.note(
            f"attention, {TEXTS} texts, {total:,} tokens, longest {longest}: {name}", milliseconds=seconds * 1e3
        )
    one, other = results["padded (SDPA)"].transpose(1, 2)[present], results["packed (varlen)"]
    least = float(torch.nn.functional.cosine_similarity(one.float(), other.float(), dim=-1).min())
    section.check(f"cosine of packed attention to padded, at least {LEAST_COSINE}", least, least >= LEAST_COSINE)


def _pad(states: Tensor, present: Tensor) -> Tensor:
    """(tokens, heads, dim) -> (texts, heads, longest, dim), zeros behind each text."""
    padded = states.new_zeros(*present.shape, *states.shape[1:])
    padded[present] = states
    return padded.transpose(1, 2)
