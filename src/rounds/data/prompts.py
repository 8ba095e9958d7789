"""Build the text that a model reads from the parts of a question and the recipe's prompts."""

from collections.abc import Iterable, Mapping

from rounds.config.recipe import Prompts
from rounds.config.sections.prompts import EXPLAINED_FIELDS, template_fields
from rounds.data import latex
from rounds.data.dataset import Query, RetrievalDataset
from rounds.errors import UserError


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


def has_passage_parts(prompts: Prompts) -> bool:
    """Return whether `prompts.passage` joins the name and the explanation of a misconception."""
    return bool(template_fields(prompts.passage) & set(EXPLAINED_FIELDS))


def passage_text(name: str, explanation: str, prompts: Prompts) -> str:
    r"""Return a misconception in the recipe's format, without prefix and suffix; white space around its parts goes.

    It is its name alone if it has no explanation and the format names one; a format of other fields leaves it as it is.

    >>> prompts = Prompts(passage="{name}\n{explanation}")
    >>> passage_text("Adds instead", "Sums.", prompts), passage_text("Adds instead", "", prompts)
    ('Adds instead\nSums.', 'Adds instead')
    """
    if not has_passage_parts(prompts):
        return name
    name, explanation = name.strip(), explanation.strip()
    if not explanation and "explanation" in template_fields(prompts.passage):
        return name
    return prompts.passage.format(name=name, explanation=explanation)


def passage_texts(dataset: RetrievalDataset, prompts: Prompts) -> Mapping[str, str]:
    """Return the text of each passage in the recipe's format, passage id -> text, in the corpus's order."""
    if not has_passage_parts(prompts):
        return dataset.passages
    explanations = dataset.explanations
    return {key: passage_text(name, explanations.get(key, ""), prompts) for key, name in dataset.passages.items()}


def check_passage_format(prompts: Prompts, task: str, explanations: str) -> None:
    """Check that `prompts.passage` fits the task, and that it names explanations where they are given, and only there.

    Args:
        task: kind of data.
        explanations: the file of explanations, as the message calls it; empty without one.

    Raises:
        UserError: the format and the data do not fit.
    """
    template, names_explanation = prompts.passage, "explanation" in template_fields(prompts.passage)
    if explanations and task != "eedi":
        raise UserError(f"{explanations}: explains misconceptions, which only task eedi has, not {task}; leave it out")
    if task != "eedi" and has_passage_parts(prompts):
        raise UserError(
            f"prompts.passage {template!r}: task {task} has no {' and '.join(EXPLAINED_FIELDS)}; take another recipe"
        )
    if explanations and not names_explanation:
        raise UserError(
            f"{explanations}: prompts.passage {template!r} does not use explanations; say "
            r'prompts.passage: "{name}\n{explanation}" in the recipe, or leave the file out'
        )
    if names_explanation and not explanations:
        raise UserError(
            f"prompts.passage {template!r}: no explanations are given; name their file (EXPLANATIONS=FILE of make, "
            "--explanations of scripts), or take another recipe"
        )


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
