"""Prompts: from the parts of a question to the text that a model reads. Knows no model."""

from rounds.config.recipe import Prompts
from rounds.data import latex
from rounds.data.dataset import Query


def query_text(query: Query, prompts: Prompts) -> str:
    """The query's own text in the recipe's format, without instruction, and with `latex: words` without markup.

    >>> from rounds.config.loader import load
    >>> fields = {"construct": "Add", "subject": "Sums", "question": "1 + 1?", "correct": "2", "wrong": "11"}
    >>> query_text(Query("5_B", "5", fields), load("minilm").prompts).splitlines()
    ['Add', 'Sums', '1 + 1?', '2', '11']
    >>> query_text(Query("7", "7", {"question": "Who wrote it?"}), load("minilm").prompts)
    'Who wrote it?'
    """
    plain = "construct" not in query.fields
    text = query.fields["question"] if plain else prompts.query.format(**query.fields)
    return latex.words(text) if prompts.latex == "words" else text


def wrap(prompts: Prompts, kind: str) -> tuple[str, str]:
    """Prefix and suffix around each text of one kind, `query` or `passage`; `{task}` is filled in."""
    if kind == "passage":
        return prompts.passage_prefix, prompts.passage_suffix
    return prompts.query_prefix.replace("{task}", prompts.task), prompts.query_suffix


def max_length(prompts: Prompts, kind: str) -> int:
    """Longest input in tokens, prefix, suffix and special tokens included, examples not."""
    return prompts.passage_max_length if kind == "passage" else prompts.query_max_length


def longest(prompts: Prompts) -> int:
    """Tokens of the longest text there can be, examples included."""
    examples = prompts.examples_max_length if prompts.examples != "none" else 0
    return max(prompts.query_max_length + examples, prompts.passage_max_length)
