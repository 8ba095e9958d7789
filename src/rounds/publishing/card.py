"""Model card: what a published model was trained on, what it scores, and how to use it. It quotes no data."""

import json
from dataclasses import dataclass

import yaml

from rounds.data import lineage
from rounds.data.dataset import Query
from rounds.data.prompts import has_passage_parts, has_suffixes, query_text
from rounds.data.source import FOLDED
from rounds.evaluation import results, significance, tables
from rounds.evaluation.results import ResultRow, RowKind
from rounds.models.checkpoint import Checkpoint
from rounds.models.embedder_classes import EMBEDDER_CLASSES
from rounds.publishing import embedder_kinds, files
from rounds.publishing.files import Form
from rounds.training.plan import DISTILLED

# Stand-ins for the parts of a query; they are no question of any data.
PARTS = {
    "construct": "Name of the skill",
    "subject": "Name of the subject",
    "question": "Text of the question",
    "correct": "The right answer",
    "wrong": "The wrong answer",
}

PLAIN_QUESTION = "Where do swallows spend the winter?"

PASSAGES = ["A passage about migratory birds.", "A passage about steam engines."]

USAGE = """\
from sentence_transformers import {encoder}

model = {encoder}({arguments})


{embed}

queries = embed_queries([{question}])
passages = embed_passages({passages})
print(model.similarity(queries, passages))
"""


@dataclass(frozen=True)
class TrainingData:
    """What a checkpoint was trained and evaluated on, without any of it.

    Attributes:
        name: of the data.
        description: where the data come from; empty if nobody recorded it.
        split, seed, fold, n_folds: of the collection.
        queries: number of training queries, outside ones included.
        outside_queries: number of training queries from outside questions.
        validation: number of validation queries; 0 if all labelled queries were trained on.
        unseen: number of validation queries whose passages no training query labels.
        passages: number of passages in the corpus.
        has_parts: whether queries consist of parts (`prompts.query`), rather than of one text.
    """

    name: str
    description: str
    split: str
    seed: int
    fold: int
    n_folds: int
    queries: int
    outside_queries: int
    validation: int
    unseen: int
    passages: int
    has_parts: bool


@dataclass(frozen=True)
class Ancestor:
    """A checkpoint in the chain of rounds.

    Attributes:
        name: `round 1, epoch 2`, or the base model's name.
        weights: SHA-256 of its weights.
    """

    name: str
    weights: str


@dataclass(frozen=True)
class CardFacts:
    """What a card says.

    Attributes:
        repo: OWNER/NAME on the hub.
        source: the checkpoint.
        form: in which form it is published.
        data: what it was trained on.
        lineage_status: of `data.lineage`.
        leaked: number of validation questions that it or an ancestor was trained on.
        ancestors: what it comes from, the base model first.
        rows: evaluated runs, in the order of the table; empty without validation queries.
        license: the licence that the user names; may be empty.
        least_cosine: between this project's vectors and those of the published folder, in a fresh process.
    """

    repo: str
    source: Checkpoint
    form: Form
    data: TrainingData
    lineage_status: str
    leaked: int
    ancestors: list[Ancestor]
    rows: list[ResultRow]
    license: str = ""
    least_cosine: float = 1.0


def render(facts: CardFacts) -> str:
    """Return the card: the hub's metadata, then Markdown."""
    base = files.base_label(facts.source.recipe.model)
    manifest = facts.source.manifest
    times = "one round" if manifest.round == 1 else f"{manifest.round or ''} rounds".strip()
    further = f" Its weights are the {manifest.title}." if manifest.parents else ""
    if manifest.title == DISTILLED:
        further = " It then learned how an ensemble of such rounds, votes and networks scores passages."
    sections = [
        f"---\n{yaml.safe_dump(metadata(facts), sort_keys=False, allow_unicode=True)}---",
        f"# {facts.repo}",
        f"A text embedder for retrieval: `{base}`, fine-tuned on `{facts.data.name}` in {times} of hard-negative "
        f"mining and training.{further} {embedder_kinds.of(facts.source).purpose}",
        *_warnings(facts),
        "## How to use it",
        *_usage_section(facts),
        "## Training data",
        *_data_section(facts),
        "## Results",
        *_results_section(facts),
        "## Lineage",
        *_lineage_section(facts),
        "## Training",
        _training_section(facts),
        "## Limits and safeguards",
        _limits_section(facts),
    ]
    return "\n\n".join(sections) + "\n"


def metadata(facts: CardFacts) -> dict:
    """Return the card's metadata in the hub's keys; nobody but the user knows the licence."""
    tuning, base = facts.source.recipe.tuning, files.hub_name(facts.source.recipe.model)
    is_adapter = facts.form == Form.ADAPTER
    kind = embedder_kinds.of(facts.source)
    values: dict[str, object] = {"library_name": "sentence-transformers", "pipeline_tag": kind.pipeline}
    values["tags"] = [*kind.tags, *(["peft", tuning.method] if is_adapter else [])]
    if base:
        values["base_model"] = base
        values["base_model_relation"] = "adapter" if is_adapter else "finetune"
    if facts.license:
        values["license"] = facts.license
    return values


def usage(name: str, source: Checkpoint, has_parts: bool) -> str:
    """Return Python code that loads a model and compares a query with passages, with the recipe's prompts and limits.

    Args:
        name: the model's name on the hub, or a folder.
        has_parts: whether queries consist of parts.
    """
    prompts, trusted = source.recipe.prompts, source.recipe.model.trust_remote_code
    fields = PARTS if has_parts else {"question": PLAIN_QUESTION}
    return USAGE.format(
        encoder=EMBEDDER_CLASSES[source.representation].__name__,
        arguments=f"{json.dumps(name)}{', trust_remote_code=True' if trusted else ''}",
        embed=embedder_kinds.of(source).embed_code(prompts),
        question=repr(query_text(Query("q", "q", fields), prompts)),
        passages=PASSAGES,
    )


def _warnings(facts: CardFacts) -> list[str]:
    """Return what a reader must know before any number."""
    if facts.lineage_status == lineage.UNKNOWN:
        return [
            "> **Lineage unknown.** Nobody recorded what this checkpoint or one of its ancestors was trained on. It "
            "may have seen the questions that it is evaluated on, here or elsewhere."
        ]
    if facts.lineage_status == lineage.POLLUTED:
        return [
            f"> **POLLUTED.** This checkpoint or one of its ancestors was trained on {facts.leaked:,} of the "
            "validation questions. The scores below do not show how it ranks new questions."
        ]
    return []


def _usage_section(facts: CardFacts) -> list[str]:
    prompts, kind = facts.source.recipe.prompts, embedder_kinds.of(facts.source)
    needs = "sentence-transformers and peft" if facts.form == Form.ADAPTER else "sentence-transformers"
    lines = [
        f"It needs {needs}.",
        f"```python\n{usage(facts.repo, facts.source, facts.data.has_parts)}```",
        f"Prefixes, suffixes and limits are those of the training: {prompts.query_max_length} tokens for queries, "
        f"{prompts.passage_max_length} for passages, special tokens and prompts included. Pooling is "
        f"`{facts.source.recipe.model.pooling}`; vectors are compared by {kind.comparison(facts.source.normalizes)}.",
    ]
    if facts.data.has_parts:
        lines.append(f"A query consists of parts, joined as `{prompts.query!r}`.")
    if has_passage_parts(prompts):
        lines.append(f"A passage consists of parts, joined as `{prompts.passage!r}`.")
    if prompts.latex == "words":
        lines.append("LaTeX markup in queries was replaced by plain characters (`prompts.latex: words`).")
    if kind.folder_has_prompts(prompts):
        lines.append("The folder holds them for `encode_query` and `encode_document`; `encode` adds no prefix.")
    if has_suffixes(prompts):
        lines.append(
            "sentence-transformers cuts a text that is too long at its end, and the suffix with it; in training the "
            "text was cut before its suffix. Shorten long texts yourself."
        )
    if prompts.examples != "none":
        lines.append(
            f"In training and evaluation, up to {prompts.examples_number} solved examples from the training data stood "
            f"before each query (`prompts.examples: {prompts.examples}`, {prompts.examples_max_length} further "
            "tokens). They are data, and no part of this repository. Without them the vectors of queries are others, "
            "and the scores below do not hold; put examples of your own before the prefix, each in the form of a query "
            "with its passage behind the suffix, followed by an empty line."
        )
    return lines


def _data_section(facts: CardFacts) -> list[str]:
    data = facts.data
    origin = f" ({data.description})" if data.description else ""
    fold = f", fold {data.fold} of {data.n_folds}" if data.split in FOLDED else ""
    validation = (
        f"{data.validation:,}, of which {data.unseen:,} on passages that no training query labels"
        if data.validation
        else "none: all labelled queries were trained on"
    )
    sources = lineage.outside_sources(facts.source.lineage)
    outside = ", ".join(f"{source} {count:,}" for source, count in sources.items())
    queries = f"{data.queries:,}"
    if data.outside_queries:
        queries = f"{data.queries - data.outside_queries:,}, and {data.outside_queries:,} of outside questions"
    return [
        f"- Data: `{data.name}`{origin}\n- Split: `{data.split}`, seed {data.seed}{fold}\n"
        f"- Training queries: {queries}\n- Validation queries: {validation}\n- Passages: {data.passages:,}"
        + (f"\n- Outside questions, by source: {outside}; their labels make no passage seen" if outside else ""),
        "The data themselves are not published here.",
    ]


def _results_section(facts: CardFacts) -> list[str]:
    if not facts.rows:
        return [
            f"Split `{facts.data.split}` leaves no queries to evaluate on, so there are no scores of this checkpoint."
            if not facts.data.validation
            else "This checkpoint was not evaluated."
        ]
    table = tables.main_table(facts.rows)
    row = published_row(facts)
    comparisons = _comparisons(row, facts.rows) if row else []
    return [
        f"{len(facts.rows[0].queries):,} validation queries. *seen* and *unseen*: queries on passages that a training "
        f"query labels, and the others. {table.caption}.",
        table.markdown().rstrip("\n"),
        *([f"This model is the row `{row.label}`. {' '.join(comparisons)}".rstrip()] if row else []),
    ]


def published_row(facts: CardFacts) -> ResultRow | None:
    """Return the row of the published checkpoint; None if it was not evaluated."""
    weights = facts.source.manifest.merged or facts.source.weights_digest
    digests = {weights, facts.source.weights_digest}
    return next((row for row in facts.rows if row.weights in digests), None)


def _comparisons(row: ResultRow, rows: list[ResultRow]) -> list[str]:
    """Return a sentence on the model against each baseline: the change of MAP@25, and Fisher's p."""
    name = results.MAIN_COLUMNS[0]
    sentences = []
    for other in rows:
        if other.kind not in (RowKind.BM25, RowKind.ZERO_SHOT) or None in (
            row.metrics.get(name),
            other.metrics.get(name),
        ):
            continue
        change = row.metrics[name] - other.metrics[name]
        p = significance.fisher_p_value(row.per_query, other.per_query)
        sentences.append(f"Against {other.label}: {name} {change:+.4f}, p = {p:.4f} (Fisher's randomization test).")
    return sentences


def _lineage_section(facts: CardFacts) -> list[str]:
    questions = facts.source.lineage
    chain = "\n".join(f"{n}. {each.name}: `{each.weights}`" for n, each in enumerate(facts.ancestors, 1))
    if facts.lineage_status == lineage.UNKNOWN:
        status = f"Status: {lineage.UNKNOWN}."
    elif facts.lineage_status == lineage.POLLUTED:
        status = f"Status: {lineage.POLLUTED}, {facts.leaked:,} validation questions were trained on."
    elif facts.data.validation:
        status = (
            f"Status: {lineage.CLEAN}. Neither this checkpoint nor an ancestor that these rounds trained was trained "
            f"on a validation question; together they were trained on {len(questions):,} questions. What the base "
            "model was pretrained on is its authors' to say."
        )
    else:
        status = f"Trained on all {len(questions):,} labelled questions; none was held out."
    return ["What was trained from what, with the SHA-256 of the weights:", chain, status]


def _training_section(facts: CardFacts) -> str:
    recipe, manifest = facts.source.recipe, facts.source.manifest
    tuning, training, mining = recipe.tuning, recipe.training, recipe.mining
    method = tuning.method
    if tuning.has_lora:
        method += f", r {tuning.lora.r}, alpha {tuning.lora.alpha:g}"
    base = f"`{files.base_label(recipe.model)}`" + (
        f", revision `{recipe.model.revision}`" if recipe.model.revision else ""
    )
    sources = ", ".join(f"{name.partition(':')[0]} {ratio:g}" for name, ratio in mining.negatives.items())
    lines = {
        "Base model": base,
        "Recipe": f"`{recipe.name}`",
        "Method": method,
        "Loss": f"{training.loss}, temperature {training.temperature:g}",
        "Batch": f"{training.batch_size} queries, {training.group_size} passages each",
        "Learning rate": f"{training.learning_rate:g}, epochs {training.epochs}",
        "Hard negatives": None
        if manifest.title == DISTILLED
        else f"ranks {mining.range_for_sampling}, {mining.negative_number} per query, from {sources}",
        "Round and epoch": None if manifest.round is None else f"{manifest.round} and {manifest.epoch}",
        "Weights": manifest.title if manifest.parents or manifest.title == DISTILLED else None,
        "Seed": manifest.seed,
        "Precision": facts.source.manifest.precision,
        "Versions": ", ".join(f"{name} {number}" for name, number in manifest.versions.items()),
    }
    return "\n".join(f"- {name}: {value}" for name, value in lines.items() if value is not None)


def _limits_section(facts: CardFacts) -> str:
    lines = [
        "It was trained for one task. On other texts, in other languages or with other prompts it may rank worse than "
        "its base model.",
        "Scores on seen passages are higher than a new corpus would give; the unseen column is nearer to that."
        if facts.rows
        else "It has no scores of its own: judge it on queries of yours before you rely on it.",
        "Before a round is evaluated, its lineage is compared with the validation questions, and an overlap is refused "
        "or marked.",
        "The weights were compared with their recorded SHA-256 before they were published. The code above was run on "
        "the published files in a fresh process without this project; the least cosine with the project's own vectors "
        f"of made-up texts was {facts.least_cosine:.4f}.",
        "Only weights, configs and the tokenizer are published: no query, passage, example, id or log.",
    ]
    if facts.form == Form.MERGED:
        lines.append("It was trained as an adapter, which was merged into the base model's weights.")
    if not facts.license:
        lines.append(
            "No licence is stated here. Those of the base model and of the training data may limit what you may do."
        )
    return "\n".join(f"- {line}" for line in lines)
