"""Probes: small changes of a text are measured, and tokens are counted."""

import numpy as np
import pytest

from rounds.encoding.encoder import encode
from rounds.encoding.token_statistics import count_tokens
from rounds.evaluation import robustness
from rounds.models import checkpoint

QUERIES = [f"add {n} and {n + 1} on a number Line" for n in range(6)]
PASSAGES = [f"adds {n} twice" for n in range(40)]


def test_each_change_is_a_change_of_the_text():
    """A space, a newline, and one word whose letters change case; a text without letters keeps its words."""
    space, newline, case = (change(QUERIES[0]) for change in robustness.CHANGES.values())
    assert (space, newline) == (f"{QUERIES[0]} ", f"{QUERIES[0]}\n")
    assert case != QUERIES[0] and case.lower() == QUERIES[0].lower()
    assert robustness.CHANGES["a word in other case"]("1 + 2") == "1 + 2"


def test_brittleness_is_that_of_encoding_again(tiny):
    """Cosines and overlaps are those of vectors encoded one change at a time."""
    source = checkpoint.resolve(None, tiny, "cpu")
    passages = {f"p{n}": text for n, text in enumerate(PASSAGES)}
    found = robustness.brittleness(source, {f"q{n}": text for n, text in enumerate(QUERIES)}, passages)
    embedder = source.load()
    texts = [(query, f"{query}\n") for query in QUERIES]
    pairs = [encode(embedder, list(pair), tiny.prompts, "query", "fp32") for pair in texts]
    cosines = [float(one @ other) for one, other in pairs]
    newline = next(each for each in found if each.change == "a trailing newline")
    assert newline.mean == pytest.approx(np.mean(cosines), abs=1e-5)
    assert newline.least == pytest.approx(min(cosines), abs=1e-5)
    corpus = encode(embedder, PASSAGES, tiny.prompts, "passage", "fp32")
    tops = [[set(np.argsort(-(corpus @ vector))[: robustness.TOP]) for vector in pair] for pair in pairs]
    shares = [len(before & after) / robustness.TOP for before, after in tops]
    assert newline.overlap == pytest.approx(np.mean(shares), abs=0.5 / robustness.TOP)


def test_a_query_s_own_passage_is_not_among_those_that_stay(tiny):
    """Of two passages one is the query itself, so one is ranked, and it stays whatever changes."""
    source = checkpoint.resolve(None, tiny, "cpu")
    passages = {"own": QUERIES[0], **{f"p{n}": text for n, text in enumerate(PASSAGES[: robustness.TOP])}}
    found = robustness.brittleness(source, {"q": QUERIES[0]}, passages, identical={"q": ["own"]})
    assert [effect.overlap for effect in found] == [1.0] * 3


def test_brittleness_is_that_behind_few_shot_examples(tiny):
    """Examples are read before the query and before what is changed of it."""
    source = checkpoint.resolve(None, tiny, "cpu")
    examples = [["add 5 and 6\nadds 5 twice"]]
    found = robustness.brittleness(source, {"q": QUERIES[0]}, {"p": PASSAGES[0]}, examples)
    one, other = (
        encode(source.load(), [text], tiny.prompts, "query", "fp32", examples=examples)[0]
        for text in (QUERIES[0], f"{QUERIES[0]}\n")
    )
    assert found[1].mean == pytest.approx(float(one @ other), abs=1e-5)


def test_tokens_are_counted_uncut(tiny):
    """Lengths with prompt and special tokens, those over the limit, and what the vocabulary lacks."""
    tokenizer = checkpoint.resolve(None, tiny, "cpu").load().tokenizer
    prompts = tiny.replace("prompts", passage_max_length=12).prompts
    found = count_tokens(
        tokenizer, ["short", "a much longer passage about fractions and their sums " * 3], prompts, "passage"
    )
    assert (found.texts, found.truncated, found.limit, found.unknown) == (2, 0.5, 12, 0)
    assert found.longest > 12 and found.mean < found.longest
