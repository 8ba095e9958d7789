"""Mining: run -> hard negatives, by id and by text. Works without torch."""

import random
from dataclasses import dataclass, field

from rounds.prompts import normalize_text
from rounds.ranking import Run
from rounds.recipe import Mining, parse_range


@dataclass(frozen=True)
class Negatives:
    """Hard negatives of each query, best ranked first.

    Attributes:
        ids: query id -> passage ids.
        scores: query id -> similarities, in the same order.
        deepened: queries for which the range held too few, so that later ranks filled up.
        short: queries that have fewer than asked for even so.
    """

    ids: dict[str, list[str]]
    scores: dict[str, list[float]]
    deepened: list[str] = field(default_factory=list)
    short: list[str] = field(default_factory=list)


def mine(run: Run, qrels: dict[str, list[str]], passages: dict[str, str], mining: Mining, seed: int) -> Negatives:
    """Sample negatives from a range of ranks.

    Ranks count from 0 over the whole ranking, positives included (FlagEmbedding's `--range_for_sampling`). Left out
    are the query's positives, passages with a positive's text, repeats of a text, what scores within the margin of
    the best positive, and what is no candidate. Each query draws from its own generator: with the whole corpus as
    candidates, neither order nor number of the queries changes its negatives.

    Args:
        run: ranks the corpus for each query of `qrels`; deeper than the range where it may have to deepen.
        qrels: query id -> relevant passage ids.
        passages: passage id -> text.
    """
    first, last = parse_range(mining.range_for_sampling)
    normal = {identifier: normalize_text(text) for identifier, text in passages.items()}
    labelled = {passage for positives in qrels.values() for passage in positives}
    candidates = labelled if mining.candidates == "labelled" else set(passages)
    found = Negatives({}, {})
    for row, query in enumerate(run.queries):
        ranked = list(zip(run.passages[row].tolist(), run.scores[row].tolist(), strict=True))
        allowed = _allowed(ranked, qrels[query], normal, mining.relative_margin, candidates)
        inside = [rank for rank in allowed if first <= rank < last]
        if len(inside) > mining.negative_number:
            inside = sorted(random.Random(f"{seed}-{query}").sample(inside, mining.negative_number))
        elif len(inside) < mining.negative_number:
            missing = mining.negative_number - len(inside)
            deeper = [rank for rank in allowed if rank >= last][:missing]
            if deeper:
                found.deepened.append(query)
            if len(deeper) < missing:
                found.short.append(query)
            inside += deeper
        found.ids[query] = [ranked[rank][0] for rank in inside]
        found.scores[query] = [ranked[rank][1] for rank in inside]
    return found


def _allowed(
    ranked: list[tuple[str, float]],
    positives: list[str],
    normal: dict[str, str],
    margin: float | None,
    candidates: set[str],
) -> list[int]:
    """Ranks that may serve as negatives, each text once."""
    taken = {normal[passage] for passage in positives}
    limit = None
    if margin is not None:
        scores = [score for passage, score in ranked if passage in positives]
        best = max(scores, default=ranked[-1][1])
        limit = best - abs(best) * margin
    allowed = []
    for rank, (passage, score) in enumerate(ranked):
        if passage not in candidates or normal[passage] in taken or (limit is not None and score > limit):
            continue
        taken.add(normal[passage])
        allowed.append(rank)
    return allowed


def enough(negatives: Negatives, run: Run, corpus: int) -> bool:
    """Whether a deeper run could not help: nobody fell short, or the run holds the whole corpus."""
    return not negatives.short or run.scores.shape[1] >= corpus
