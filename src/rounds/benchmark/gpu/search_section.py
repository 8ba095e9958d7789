"""Search section: exact search of a million vectors, and attention over texts packed without padding."""

import inspect
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from rounds.benchmark.gpu import random_decoders
from rounds.benchmark.gpu.harness import Harness
from rounds.benchmark.gpu.results import SectionResults
from rounds.retrieval import ann_index, search
from rounds.retrieval.run import Run

PASSAGES, QUERIES, DIM, DEPTH = 1_000_000, 1000, 1024, 200
SMALL_PASSAGES, SMALL_QUERIES, SMALL_DIM, SMALL_DEPTH = 2000, 20, 16, 50
BLOCK = 100_000  # passages that are scored at a time
MIN_OVERLAP = 0.999
HEADS, HEAD_DIM, TEXTS = 32, 128, 256
REPEATS = 5
MIN_COSINE = 0.999  # of the attention outputs of one head and token, in bf16


def run(harness: Harness, results: SectionResults) -> None:
    """Search 1M x 1,024 vectors exactly for 1,000 queries, and compute attention over packed and padded texts."""
    random_decoders.free_memory()
    _measure_search(harness, results)
    random_decoders.free_memory()
    _measure_attention(harness, results)


def nearest(queries: Tensor, passages: Tensor, depth: int) -> tuple[Tensor, Tensor]:
    """Return the top `depth` passages by inner product, computed exactly, one block of passages at a time.

    Args:
        queries: (queries, dim) float32.
        passages: (corpus, dim) float32, on the same device.

    Returns:
        Scores and row numbers, (queries, depth) each, best first.

    >>> nearest(torch.eye(2)[:1], torch.eye(2), 1)[1].tolist()
    [[0]]
    """
    depth = min(depth, len(passages))
    scores = torch.empty(len(queries), 0, device=queries.device)
    order = torch.empty(len(queries), 0, dtype=torch.long, device=queries.device)
    for start in range(0, len(passages), BLOCK):
        similarity = queries @ passages[start : start + BLOCK].T
        block_scores, rows = similarity.topk(min(depth, similarity.shape[1]), dim=1)
        scores, order = torch.cat([scores, block_scores], 1), torch.cat([order, rows + start], 1)
        scores, columns = scores.topk(min(depth, scores.shape[1]), dim=1)
        order = order.gather(1, columns)
    return scores, order


def _measure_search(harness: Harness, results: SectionResults) -> None:
    """Search random vectors with torch on the device and with faiss, and check that both rank the same passages."""
    full_size, small_size = (PASSAGES, QUERIES, DIM, DEPTH), (SMALL_PASSAGES, SMALL_QUERIES, SMALL_DIM, SMALL_DEPTH)
    passage_count, query_count, dim, depth = small_size if harness.small else full_size
    generator = torch.Generator(harness.device).manual_seed(0)
    passages, queries = (
        torch.nn.functional.normalize(torch.randn(rows, dim, device=harness.device, generator=generator), dim=1)
        for rows in (passage_count, query_count)
    )
    nearest(queries[:8], passages[: BLOCK * 2], depth)  # warm up
    title = f"{passage_count:,} x {dim:,} vectors, {query_count:,} queries, top {depth}"
    seconds, (_, order) = harness.time(lambda: nearest(queries, passages, depth))
    results.note(f"{title}: torch in fp32", seconds=seconds, peak_gib=harness.peak_gib())
    query_vectors, passage_vectors = queries.cpu().numpy(), passages.cpu().numpy()
    query_ids = [f"q{number}" for number in range(query_count)]
    passage_ids = [f"p{number}" for number in range(passage_count)]
    seconds, faiss_run = harness.time(
        lambda: search.rank(query_ids, query_vectors, passage_ids, passage_vectors, depth)
    )
    results.note(f"{title}: make's ranking (faiss)", seconds=seconds)
    torch_run = Run(query_ids, np.array(passage_ids, dtype=object)[order.cpu().numpy()], faiss_run.scores)
    overlap = ann_index.recall(torch_run, faiss_run, depth)
    results.check(f"both rank the same passages, share at least {MIN_OVERLAP}", overlap, overlap >= MIN_OVERLAP)


def _measure_attention(harness: Harness, results: SectionResults) -> None:
    """Compute causal attention over texts of mixed lengths, padded and packed, if torch can pack here."""
    title = "attention over packed texts"
    if not harness.uses_gpu:
        results.note(title, left_out="torch packs texts on a card only")
        return
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError as error:
        results.note(title, left_out=str(error)[:120])
        return
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(20, 400, (TEXTS,), generator=generator).to(harness.device)
    total, longest = int(lengths.sum()), int(lengths.max())
    # Queries, keys and values: (tokens, heads, head dim) each.
    states = [torch.randn(total, HEADS, HEAD_DIM, device=harness.device, dtype=torch.bfloat16) for _ in range(3)]
    mask = torch.arange(longest, device=harness.device)[None] < lengths[:, None]
    title = f"attention, {TEXTS} texts, {total:,} tokens, longest {longest}"
    padded = [_pad(tensor, mask) for tensor in states]
    padded_output = _time_attention(
        harness,
        results,
        f"{title}: padded (SDPA)",
        lambda: torch.nn.functional.scaled_dot_product_attention(*padded, is_causal=True),
    )
    packed_output = _time_attention(
        harness, results, f"{title}: packed (varlen)", _packed_attention(varlen_attn, states, lengths)
    )
    padded_output = padded_output.transpose(1, 2)[mask]
    cosine = float(torch.nn.functional.cosine_similarity(padded_output.float(), packed_output.float(), dim=-1).min())
    results.check(f"cosine of packed attention to padded, at least {MIN_COSINE}", cosine, cosine >= MIN_COSINE)


def _packed_attention(varlen_attn: Callable, states: list[Tensor], lengths: Tensor) -> Callable[[], Tensor]:
    """Return a function that computes causal attention over packed texts with torch's varlen kernel."""
    starts = torch.cat([torch.zeros_like(lengths[:1]), lengths.cumsum(0)]).int()
    longest = int(lengths.max())
    # Some versions of torch take a window in place of `is_causal`.
    has_window = "window_size" in inspect.signature(varlen_attn).parameters
    causal = {"window_size": (-1, 0)} if has_window else {"is_causal": True}
    return lambda: varlen_attn(*states, starts, starts, longest, longest, **causal)


def _time_attention(harness: Harness, results: SectionResults, title: str, attend: Callable[[], Tensor]) -> Tensor:
    """Record the best time of some calls and return the output."""
    attend()
    seconds = min(harness.time(attend)[0] for _ in range(REPEATS))
    output = attend()
    results.note(title, milliseconds=seconds * 1e3)
    return output


def _pad(states: Tensor, mask: Tensor) -> Tensor:
    """Pad packed states with zeros at the end of each text.

    Args:
        states: (tokens, heads, dim).
        mask: (texts, longest) bool, true where a text has a token.

    Returns:
        (texts, heads, longest, dim).
    """
    padded = states.new_zeros(*mask.shape, *states.shape[1:])
    padded[mask] = states
    return padded.transpose(1, 2)
