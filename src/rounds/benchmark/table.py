"""Bench: the same work by us and by our peers, side by side in one run, results compared before times are."""

import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rounds.benchmark import workloads
from rounds.benchmark.workloads import FLAG, OURS, STOCK, UNSHARED, Contender, Outcome
from rounds.config import loader
from rounds.config.recipe import Recipe
from rounds.data import collection
from rounds.data.prompts import prefix_and_suffix
from rounds.encoding.tokenization import EXAMPLE_END, tokenize
from rounds.errors import UserError
from rounds.models.weights import locate_model

NONE = "-"

SHARING, IN_STEP = 256, 16  # queries behind one set of examples, in encoding and in a training step

WORDS, PREFIX = 21, 540  # of each query, and tokens of the examples

STEPS = 24

SIZES, DIMS, ASKING = (10_000, 100_000, 1_000_000), (384, 1024), 1000

SAME, ALIKE, TOP = 0.9999, 0.98, 25

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"


@dataclass(frozen=True)
class Row:
    """One peer's work beside ours.

    Attributes:
        theirs, ours: by precision.
        agreement: what was compared, in words.
    """

    work: str
    peer: str
    theirs: dict[str, Outcome]
    ours: dict[str, Outcome]
    agreement: str

    def ratio(self, theirs: str, ours: str) -> float:
        """Their seconds in one precision over ours in another."""
        return self.theirs[theirs].seconds / self.ours[ours].seconds


@dataclass(frozen=True)
class Task:
    """What all rows work on.

    Attributes:
        recipe: the model of rows b to e.
        mined: mined JSONL of the collection's training rows.
        folder: the collection.
        say: called with a line for each outcome.
    """

    recipe: Recipe
    mined: Path
    folder: Path
    say: Callable[[str], None]

    def ask(self, work: Callable, party: Contender, *arguments) -> Outcome:
        """One party's outcome, and a line about it."""
        outcome = workloads.run_alone(work, party, *arguments)
        who = f"{party.name}, {party.precision}"
        self.say(f"  {work.__name__:14s} {who:32s} {outcome.seconds:9.2f} s  {outcome.peak:6.0f} MiB")
        return outcome


def run(task: Task, only: str) -> tuple[list[Row], dict[tuple[int, int], Outcome]]:
    """Rows of the table, and the scale curve by (passages, dim).

    Args:
        only: letters of the rows to run; empty for all.

    Raises:
        UserError: an unknown letter, too few rows, or results that differ.
    """
    if unknown := set(only) - set(WORKS):
        raise UserError(f"ONLY={only}: no row {', '.join(sorted(unknown))}; there are {', '.join(WORKS)}")
    rows: list[Row] = []
    scale: dict[tuple[int, int], Outcome] = {}
    for letter, work in WORKS.items():
        if not only or letter in only:
            task.say(f"{letter}: {work.__doc__}")
            found = work(task)
            if letter == "s":
                scale = found
            else:
                rows += [dataclasses.replace(row, work=f"({letter}) {row.work}") for row in found]
    return rows, scale


def _compare(
    task: Task, title: str, peers: list[str], work: Callable, arguments: tuple, agree: Callable[..., str]
) -> list[Row]:
    """All parties' outcomes in both precisions, ours first, and what the results have in common."""
    present = [peer for peer in peers if workloads.is_installed(peer)]
    found = {
        name: {each: task.ask(work, Contender(name, each), *arguments) for each in workloads.precisions(name)}
        for name in (OURS, *present)
    }
    ours = found.pop(OURS)
    return [Row(title, peer, theirs, ours, agree(title, peer, theirs, ours)) for peer, theirs in found.items()]


def _behind_examples(task: Task) -> list[Row]:
    """encode queries behind shared examples"""
    found = []
    for name, shape in DECODERS.items():
        with _decoder(shape) as recipe:
            queries, before, shared, own = _shared_texts(task, recipe, SHARING)
            title = f"{name}: {len(queries)} queries, {shared} shared + {own:.0f} own tokens"
            agree = _vectors_agree(len(queries))
            peers = [UNSHARED, STOCK, FLAG]
            found += _compare(task, title, peers, workloads.encode_texts, (recipe, queries, before, []), agree)
    return found


def _encode(task: Task) -> list[Row]:
    """encode queries and corpus with the recipe's model"""
    data = collection.read(task.folder)
    queries = list(dict.fromkeys(row["query"] for row in _rows(task)))
    passages = list(data.passages.values())
    title = f"{task.recipe.name}: encode {len(queries)} queries, {len(passages)} passages"
    return _compare(
        task,
        title,
        [STOCK, FLAG],
        workloads.encode_texts,
        (task.recipe, queries, None, passages),
        _vectors_agree(len(queries)),
    )


def _mine(task: Task) -> list[Row]:
    """mine, end to end: load, encode, search, sample"""
    title = f"{task.recipe.name}: mine {task.recipe.mining.range_for_sampling} for {len(_rows(task))} rows"

    def agree(title: str, peer: str, theirs: dict, ours: dict) -> str:
        counts = {len(each) for side in (theirs, ours) for each in side["fp32"].result.values()}
        if counts != {task.recipe.mining.negative_number}:
            raise UserError(f"{title}: {peer} and rounds mined different numbers of negatives ({counts})")
        return f"{counts.pop()} negatives each"

    recipe = task.recipe.replace("mining", candidates="corpus")  # as the peer mines
    return _compare(task, title, [STOCK], workloads.mine, (recipe, task.folder), agree)


def _steps(task: Task) -> list[Row]:
    """training steps"""
    training = task.recipe.training
    if len(_rows(task)) < STEPS * training.batch_size:
        raise UserError(f"{task.mined}: has fewer than the {STEPS * training.batch_size} rows that are needed")
    title = f"{task.recipe.name}: training step, {training.batch_size} x {training.group_size}"

    def agree(title: str, peer: str, theirs: dict, ours: dict) -> str:
        off = np.abs(np.array(theirs["fp32"].result) - ours["fp32"].result).max()
        if off > 1e-3:
            raise UserError(f"{title}: the losses of {peer} and rounds differ by up to {off:.4f}")
        return f"loss +- {off:.0e}"

    rows = _compare(task, title, [STOCK], workloads.steps, (task.recipe, task.mined, STEPS), agree)
    with _decoder(DECODERS["decoder, 97M"]) as recipe:
        queries, before, shared, own = _shared_texts(task, recipe, IN_STEP)
        title = f"decoder, 97M: step of {IN_STEP} queries, {shared} shared + {own:.0f} own tokens"
        arguments = (recipe, queries, before)
        return rows + _compare(
            task, title, [UNSHARED, STOCK], workloads.examples_step, arguments, _vectors_agree(len(queries))
        )


def _round(task: Task) -> list[Row]:
    """a whole round: mine, train one epoch, evaluate"""

    def agree(title: str, peer: str, theirs: dict, ours: dict) -> str:
        return f"MAP@25 {theirs['fp32'].result:.3f} / {ours['fp32'].result:.3f}"

    title = f"{task.recipe.name}: round of one epoch"
    return _compare(task, title, [STOCK], workloads.whole_round, (task.recipe, task.folder), agree)


def _scale(task: Task) -> dict[tuple[int, int], Outcome]:
    """search and mine for 1,000 queries as the corpus grows"""
    party = Contender(OURS, "fp32")
    return {
        (size, dim): task.ask(workloads.search_corpus, party, ASKING, size, dim) for dim in DIMS for size in SIZES
    }  # fmt: skip


WORKS: dict[str, Callable] = {
    "a": _behind_examples, "b": _encode, "c": _mine, "d": _steps, "e": _round, "s": _scale,
}  # fmt: skip


# Random Mistrals: hidden size, layers, heads, inner size.
DECODERS = {"tiny decoder": (64, 2, 4, 128), "decoder, 97M": (768, 12, 12, 2816)}


def _rows(task: Task) -> list[dict]:
    return collection.read_rows(task.mined, ("pos", "neg"))


@contextmanager
def _decoder(shape: tuple[int, int, int, int]) -> Iterator[Recipe]:
    """A recipe like bge-en-icl's on a Mistral of random weights."""
    import torch
    from transformers import AutoTokenizer, MistralConfig, MistralModel

    hidden, layers, heads, inner = shape
    tiny = loader.load("tiny-mistral")
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = AutoTokenizer.from_pretrained(locate_model(tiny.model))
        tokenizer.save_pretrained(folder)
        config = MistralConfig(
            vocab_size=len(tokenizer), hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers,
            num_attention_heads=heads, num_key_value_heads=heads // 2, max_position_embeddings=2048,
            sliding_window=None,
        )  # fmt: skip
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            MistralModel(config).save_pretrained(folder)
        recipe = dataclasses.replace(tiny, model=dataclasses.replace(tiny.model, name_or_path=folder))
        full = dataclasses.replace(recipe.tuning, method="full")
        yield dataclasses.replace(recipe, tuning=full).replace(
            "prompts", query_max_length=200, examples="fixed", examples_number=60, examples_max_length=2 * PREFIX
        )


def _shared_texts(task: Task, recipe: Recipe, count: int) -> tuple[list[str], list[list[str]], int, float]:
    """Short queries of the training rows, the examples that stand before each, and the mean tokens of both."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(recipe.model.name_or_path)
    short = list(dict.fromkeys(" ".join(row["query"].split()[:WORDS]) for row in _rows(task)))
    queries, rest = short[:count], short[count:]
    prefix, suffix = prefix_and_suffix(recipe.prompts, "query")
    examples: list[str] = []
    for word in " ".join(rest).split():  # examples of some thirty words each, as many as it takes
        if not examples or len(examples[-1].split()) > 30:
            examples.append(f"{prefix}{word}")
        else:
            examples[-1] += f" {word}"
        whole = "".join(each + EXAMPLE_END for each in examples)
        if len(tokenizer(whole)["input_ids"]) > PREFIX:
            break
    before = [examples] * len(queries)
    ids = tokenize(tokenizer, queries, recipe.prompts, "query", before)
    shared = min(_common(ids[0], row) for row in ids[1:])
    return queries, before, shared, sum(map(len, ids)) / len(ids) - shared


def _common(one: list[int], other: list[int]) -> int:
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _vectors_agree(queries: int) -> Callable[..., str]:
    """Same precision: least cosine, and the top 25 up to ties; in bf16: how much of our fp32 top 25 each keeps."""

    def agree(title: str, peer: str, theirs: dict, ours: dict) -> str:
        one, other = theirs["fp32"].result, ours["fp32"].result
        cosine = float((one * other).sum(axis=1).min())
        if cosine < SAME or _overlap(one, other, queries) < 1:
            raise UserError(f"{title}: the vectors of {peer} and rounds differ (least cosine {cosine:.5f})")
        kept = [
            f"{_overlap(side['bf16'].result, other, queries):.3f}" if "bf16" in side else NONE
            for side in (theirs, ours)
        ]
        return f"cosine {cosine:.5f}; bf16 keeps {kept[0]} / {kept[1]}"

    return agree


def _overlap(one: np.ndarray, other: np.ndarray, queries: int, tie: float = 2e-5) -> float:
    """Share of `other`'s top 25 that `one` ranks there too, or would but for ties; of queries among themselves where
    there are no passages."""
    start = queries if len(one) > queries else 0
    scores = [vectors[:queries] @ vectors[start:].T for vectors in (one, other)]
    depth = min(TOP, scores[0].shape[1])
    edges = [np.partition(each, -depth, axis=1)[:, -depth, None] for each in scores]
    wanted = scores[1] > edges[1] + tie
    return float((wanted & (scores[0] >= edges[0] - tie)).sum() / max(wanted.sum(), 1))


def table(rows: list[Row], scale: dict[tuple[int, int], Outcome]) -> str:
    """Markdown: seconds as theirs / ours, ratios, memory, and the scale curve."""
    lines = []
    if rows:
        lines += [
            "| work | against | fp32, s | | bf16, s | | fp32 / our bf16 | peak MiB, bf16 | agreement |",
            "|---|---|---:|---:|---:|---:|---:|---:|---|",
        ]
    for row in rows:
        cells = [row.work, row.peer]
        for precision, ours in row.ours.items():
            theirs = row.theirs.get(precision)
            cells.append(f"{_figure(theirs.seconds) if theirs else NONE} / {_figure(ours.seconds)}")
            cells.append(f"{row.ratio(precision, precision):.1f}x" if theirs else NONE)
        peaks = f"{row.theirs.get('bf16', row.theirs['fp32']).peak:.0f} / {row.ours['bf16'].peak:.0f}"
        cells += [f"{row.ratio('fp32', 'bf16'):.1f}x", peaks, row.agreement]
        lines.append(f"| {' | '.join(cells)} |")
    if scale:
        lines += [""] * bool(rows) + [
            f"| mine for {ASKING:,} queries | {' | '.join(f'{size:,} passages' for size in SIZES)} |",
            "|---|" + "---:|" * len(SIZES),
        ]
        for dim in DIMS:
            cells = [f"{_figure(scale[size, dim].seconds)} s, {scale[size, dim].peak:.0f} MiB" for size in SIZES]
            lines.append(f"| {dim} dimensions | {' | '.join(cells)} |")
    return "\n".join(lines)


def _figure(seconds: float) -> str:
    return f"{seconds:.0f}" if seconds >= 100 else f"{seconds:.3g}"


def write(text: str, path: Path) -> None:
    """Put a table between the two markers of a file.

    Raises:
        UserError: the markers are not there.
    """
    whole = path.read_text(encoding="utf-8")
    if BEGIN not in whole or END not in whole.partition(BEGIN)[2]:
        raise UserError(f"{path}: has no line {BEGIN} with {END} below it; the table goes between them")
    before, _, rest = whole.partition(BEGIN)
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
