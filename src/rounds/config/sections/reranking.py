"""Section `reranking`: how a model reranks candidates."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from rounds.config.sections.base import SECTION, Integer, Number, Text


def _check_template(template: str) -> str:
    if template and not ("{query}" in template and "{passage}" in template):
        raise ValueError("reranking.template must hold {query} and {passage}")
    return template


@dataclass(frozen=True, config=SECTION)
class Reranking:
    """How the recipe's model reranks: it reads query and passage together (`make rerank`).

    An encoder's states are pooled as in `model` and end in one output. A decoder (an architecture `...ForCausalLM`)
    answers: its score is the log-odds of `yes` against `no` as the next token (Nogueira et al. 2020, arXiv:2003.06713).
    """

    depth: Integer = Field(50, ge=1)
    """Candidates of each query that are scored: the best of the embedder's ranking."""

    max_length: Integer = Field(192, ge=8)
    """Longest pair of query and passage in tokens."""

    loss: Literal["listwise", "pointwise"] = "listwise"
    """Cross-entropy over the positive and its group (`listwise`; ListNet: Cao et al. 2007), or binary cross-entropy of
    each pair (`pointwise`)."""

    template: Annotated[Text, AfterValidator(_check_template)] = ""
    """What a decoder reads; `{query}` and `{passage}` are filled in."""

    residual: Number = Field(0.0, ge=0)
    """The first stage's similarity times this is added to the score, in training too, so that the reranker learns what
    the first stage lacks. 0: the reranker's score alone."""

    start_from: Literal["base", "refined"] = "base"
    """Start from the recipe's model, or from the checkpoint whose ranking is refined."""
