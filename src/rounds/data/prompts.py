"""Build the text that a model reads from the parts of a question and the recipe's prompts."""

from collections.abc import Iterable

from rounds.config.recipe import Prompts
from rounds.data import latex
from rounds.data.dataset import Query


def query_text(query: Query, prompts: Prompts) -> str:
    """Return the query in the recipe's format, without prefix and suffix; `latex: words` replaces its markup.

    >>> from rounds.config.loader import load
    >>> fields = {"construct": "Add", "subject": "Sums", "question": "1 + 1?", "correct": "2", "wrong": "11"}
    >>> query_text(Query("5_B", "5", fields), load("minilm").prompts).splitlines()
    ['Add', 'Sums', '1 + 1?', '2', '11']
    >>> query_text(Query("7", "7", {"question": "Who wrote it?"}), load("minilm").prompts)
    'Who wrote it?'
    """
    is_plain = "construct" not in query.fields
    text = query.fields["question"] if is_plain else prompts.query.format(**query.fields)
    return latex.words(text) if prompts.latex == "words" else text


def prefix_and_suffix(prompts: Prompts, kind: str) -> tuple[str, str]:
    """Return the fixed text around each text of a kind, `query` or `passage`, with `{task}` filled in."""
    if kind == "passage":
        return prompts.passage_prefix, prompts.passage_suffix
    return prompts.query_prefix.replace("{task}", prompts.task), prompts.query_suffix


def has_suffixes(prompts: Prompts) -> bool:
    """Return whether fixed text follows queries or passages."""
    return any(prefix_and_suffix(prompts, kind)[1] for kind in ("query", "passage"))


def format_texts(prompts: Prompts, kind: str, texts: Iterable[str]) -> list[str]:
    """Return the texts of a kind, `query` or `passage`, each between the recipe's prefix and suffix.

    >>> format_texts(Prompts(query_prefix="query: ", query_suffix="</s>"), "query", ["1 + 1?"])
    ['query: 1 + 1?</s>']
    """
    prefix, suffix = prefix_and_suffix(prompts, kind)
    return [f"{prefix}{text}{suffix}" for text in texts]


def max_length(prompts: Prompts, kind: str) -> int:
    """Return the longest input of a kind in tokens, with prefix, suffix and special tokens, without examples."""
    return prompts.passage_max_length if kind == "passage" else prompts.query_max_length


def max_input_length(prompts: Prompts) -> int:
    """Return the longest input of either kind in tokens, with few-shot examples."""
    examples = prompts.examples_max_length if prompts.examples != "none" else 0
    return max(prompts.query_max_length + examples, prompts.passage_max_length)
