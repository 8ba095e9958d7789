"""Benchmark table: time the same work with Rounds and with peer libraries, after checking that the results agree."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rounds.benchmark import cluster_work, contenders, curves, encoding_work, ray_nodes, round_work, training_work
from rounds.benchmark.contenders import FLAG, OURS, STOCK, UNSHARED, Contender, Outcome
from rounds.benchmark.curves import Curve, figure
from rounds.benchmark.random_decoder import PREFIX, SHAPES, random_decoder
from rounds.benchmark.vector_check import NONE, make_vector_check
from rounds.config.recipe import Recipe
from rounds.data import collection, few_shot
from rounds.data.prompts import prefix_and_suffix
from rounds.encoding.tokenization import EXAMPLE_END, tokenize
from rounds.errors import UserError

SHARING, IN_STEP = 256, 16  # queries behind one set of examples, in encoding and in a training step

WORDS = 21  # of each query

STEPS = 24

CANDIDATES, RERANKED = 10, 32  # passages of each query, and queries, that a random reranker scores

WHOLE_RERANKED = 8  # queries that the recipe's own reranker scores

WHOLE_QUERIES, WHOLE_PASSAGES = 48, 300  # that the recipe's own decoder embeds behind its few-shot examples

BESIDE_STEPS = 12  # a step beside a busy core may take ten times as long


@dataclass(frozen=True)
class Comparison:
    """A row of the table: one peer's work beside ours.

    Attributes:
        work: Description of the work.
        peer: The peer's name.
        theirs, ours: Outcomes by precision.
        agreement: How far the results agree, in words.
    """

    work: str
    peer: str
    theirs: dict[str, Outcome]
    ours: dict[str, Outcome]
    agreement: str

    def ratio(self, theirs: str, ours: str) -> float:
        """Return the peer's seconds in one precision over ours in another."""
        return self.theirs[theirs].seconds / self.ours[ours].seconds


@dataclass(frozen=True)
class BenchmarkInputs:
    """The model and the data that all rows work on.

    Attributes:
        recipe: Recipe of the model in rows b to f, h and r, and in g if it is a decoder's that reranks.
        mined: Mined JSONL of the collection's training rows.
        folder: The collection.
        log: Called with one line for each outcome.
        encoded: Passages that row r encodes.
        repeats: How many times it does.
        searched: Passages of each corpus that row r searches.
    """

    recipe: Recipe
    mined: Path
    folder: Path
    log: Callable[[str], None]
    encoded: int = 50_000
    repeats: int = 2
    searched: tuple[int, ...] = (50_000, 500_000)

    def measure(self, work: Callable, contender: Contender, *arguments) -> Outcome:
        """Run the work with one contender, and log its outcome."""
        outcome = contenders.run_alone(work, contender, *arguments)
        name = f"{contender.name}, {contender.precision}"
        self.log(f"  {work.__name__:14s} {name:32s} {outcome.seconds:9.2f} s  {outcome.peak:6.0f} MiB")
        return outcome


def run(inputs: BenchmarkInputs, only: str) -> tuple[list[Comparison], list[Curve]]:
    """Run the benchmark.

    Args:
        inputs: The model and the data.
        only: Letters of the rows to run; empty for all.

    Returns:
        The rows of the table, and the curves, which have tables of their own.

    Raises:
        UserError: `only` has an unknown letter, there are too few training rows, or results differ.
    """
    if unknown := set(only) - set(WORKS):
        raise UserError(f"ONLY={only}: no row {', '.join(sorted(unknown))}; there are {', '.join(WORKS)}")
    rows: list[Comparison] = []
    found_curves: list[Curve] = []
    for letter, work in WORKS.items():
        if not only or letter in only:
            inputs.log(f"{letter}: {work.__doc__}")
            for result in work(inputs):
                if isinstance(result, Curve):
                    found_curves.append(result)
                else:
                    rows.append(dataclasses.replace(result, work=f"({letter}) {result.work}"))
    return rows, found_curves


def _compare(
    inputs: BenchmarkInputs, title: str, peers: list[str], work: Callable, arguments: tuple, agree: Callable[..., str]
) -> list[Comparison]:
    """Measure all contenders in both precisions, ours first, and check that their results agree."""
    present = [peer for peer in peers if contenders.is_installed(peer)]
    found = {
        name: {each: inputs.measure(work, Contender(name, each), *arguments) for each in contenders.precisions(name)}
        for name in (OURS, *present)
    }
    ours = found.pop(OURS)
    return [Comparison(title, peer, theirs, ours, agree(title, peer, theirs, ours)) for peer, theirs in found.items()]


def _behind_examples(inputs: BenchmarkInputs) -> list[Comparison]:
    """encode queries behind shared examples"""
    found = []
    for name, shape in SHAPES.items():
        with random_decoder(shape) as recipe:
            queries, before, shared, own = make_shared_texts(inputs, recipe, SHARING)
            title = f"{name}: {len(queries)} queries, {shared} shared + {own:.0f} own tokens"
            agree = make_vector_check(len(queries))
            peers = [UNSHARED, STOCK, FLAG]
            found += _compare(inputs, title, peers, encoding_work.encode_texts, (recipe, queries, before, []), agree)
    return found


def _encode(inputs: BenchmarkInputs) -> list[Comparison]:
    """encode queries and corpus with the recipe's model"""
    data = collection.read(inputs.folder)
    queries = list(dict.fromkeys(row["query"] for row in _rows(inputs)))
    passages = list(data.passages.values())
    title = f"{inputs.recipe.name}: encode {len(queries)} queries, {len(passages)} passages"
    return _compare(
        inputs,
        title,
        [STOCK, FLAG],
        encoding_work.encode_texts,
        (inputs.recipe, queries, None, passages),
        make_vector_check(len(queries)),
    )


def _mine(inputs: BenchmarkInputs) -> list[Comparison]:
    """mine, end to end: load, encode, search, sample"""
    title = f"{inputs.recipe.name}: mine {inputs.recipe.mining.range_for_sampling} for {len(_rows(inputs))} rows"

    def agree(title: str, peer: str, theirs: dict, ours: dict) -> str:
        counts = {len(each) for side in (theirs, ours) for each in side["fp32"].result.values()}
        if counts != {inputs.recipe.mining.negative_number}:
            raise UserError(f"{title}: {peer} and rounds mined different numbers of negatives ({counts})")
        return f"{counts.pop()} negatives each"

    recipe = inputs.recipe.replace("mining", candidates="corpus")  # as the peer mines
    return _compare(inputs, title, [STOCK], round_work.mine, (recipe, inputs.folder), agree)


def _steps(inputs: BenchmarkInputs) -> list[Comparison]:
    """training steps"""
    training = inputs.recipe.training
    if len(_rows(inputs)) < STEPS * training.batch_size:
        raise UserError(f"{inputs.mined}: has fewer than the {STEPS * training.batch_size} rows that are needed")
    title = f"{inputs.recipe.name}: training step, {training.batch_size} x {training.group_size}"

    def agree(title: str, peer: str, theirs: dict, ours: dict) -> str:
        off = np.abs(np.array(theirs["fp32"].result) - ours["fp32"].result).max()
        if off > 1e-3:
            raise UserError(f"{title}: the losses of {peer} and rounds differ by up to {off:.4f}")
        return f"loss +- {off:.0e}"

    rows = _compare(inputs, title, [STOCK], training_work.steps, (inputs.recipe, inputs.mined, STEPS), agree)
    with random_decoder(SHAPES["decoder, 97M"]) as recipe:
        queries, before, shared, own = make_shared_texts(inputs, recipe, IN_STEP)
        title = f"decoder, 97M: step of {IN_STEP} queries, {shared} shared + {own:.0f} own tokens"
        arguments = (recipe, queries, before)
        return rows + _compare(
            inputs,
            title,
            [UNSHARED, STOCK],
            training_work.examples_step,
            arguments,
            make_vector_check(len(queries)),
        )


def _round(inputs: BenchmarkInputs) -> list[Comparison]:
    """a whole round: mine, train one epoch, evaluate"""

    def agree(title: str, peer: str, theirs: dict, ours: dict) -> str:
        return f"MAP@25 {theirs['fp32'].result:.3f} / {ours['fp32'].result:.3f}"

    title = f"{inputs.recipe.name}: round of one epoch"
    return _compare(inputs, title, [STOCK], round_work.whole_round, (inputs.recipe, inputs.folder), agree)


def _beside(inputs: BenchmarkInputs) -> list[Comparison]:
    """training steps beside another program that keeps one core busy"""
    title = f"{inputs.recipe.name}: training step beside a busy core / alone"
    arguments = (inputs.recipe, inputs.mined, BESIDE_STEPS)
    rows = []
    for name in (OURS, STOCK):
        contender = Contender(name, "fp32")
        alone = inputs.measure(training_work.steps, contender, *arguments)
        with contenders.busy_core():
            beside = inputs.measure(training_work.steps, contender, *arguments)
        off = np.abs(np.array(beside.result) - alone.result).max()
        rows.append(Comparison(title, f"{name} itself", {"fp32": beside}, {"fp32": alone}, f"loss +- {off:.0e}"))
    return rows


def _rerank(inputs: BenchmarkInputs) -> list[Comparison]:
    """score the candidates of queries with a decoder that answers yes or no"""
    passages = list(collection.read(inputs.folder).passages.values())[:CANDIDATES]
    queries = list(dict.fromkeys(row["query"] for row in _rows(inputs)))[:RERANKED]

    def agree(title: str, peer: str, theirs: dict, ours: dict) -> str:
        off = np.abs(theirs["fp32"].result - ours["fp32"].result).max()
        if off > 1e-3:
            raise UserError(f"{title}: the scores of {peer} and rounds differ by up to {off:.4f}")
        return f"scores +- {off:.0e}"

    def compare(name: str, recipe: Recipe, count: int) -> list[Comparison]:
        pairs = [(query, passage) for query in queries[:count] for passage in passages]
        title = f"{name}: {len(queries[:count])} queries x {len(passages)} candidates"
        return _compare(inputs, title, [UNSHARED, STOCK], encoding_work.score_pairs, (recipe, pairs), agree)

    if inputs.recipe.reranking.template:
        return compare(inputs.recipe.name, inputs.recipe, WHOLE_RERANKED)
    with random_decoder(SHAPES["decoder, 97M"], answers=True) as recipe:
        return compare("decoder, 97M", recipe, RERANKED)


def _behind_own_examples(inputs: BenchmarkInputs) -> list[Comparison]:
    """encode validation queries behind the recipe's few-shot examples, and passages, with the recipe's model"""
    recipe, data = inputs.recipe, collection.read(inputs.folder)
    bank = collection.example_bank(_rows(inputs), recipe.prompts)
    if bank is None:
        inputs.log(f"  none: recipe {recipe.name} has no prompts.examples")
        return []
    chosen = [data.metadata[query] for query in data.validation][:WHOLE_QUERIES]
    queries, examples = [query.text for query in chosen], few_shot.select_examples(bank, chosen)
    passages = list(data.passages.values())[:WHOLE_PASSAGES]
    title = (
        f"{recipe.name}: {len(queries)} queries behind {recipe.prompts.examples_number} examples, "
        f"{len(passages)} passages"
    )
    arguments = (recipe, queries, examples, passages)
    return _compare(
        inputs, title, [STOCK, FLAG], encoding_work.encode_texts, arguments, make_vector_check(len(queries))
    )


def _scale(inputs: BenchmarkInputs) -> list[Curve]:
    """search and mine for 1,000 queries as the corpus grows"""
    return [curves.measure_search(inputs.measure)]


def _stages(inputs: BenchmarkInputs) -> list[Curve]:
    """stages with a tiny random model as the corpus grows"""
    return [curves.measure_stages(inputs.measure)]


def _cluster(inputs: BenchmarkInputs) -> list[Comparison | Curve]:
    """encode short passages on Ray nodes of one core, and search by one of them"""
    if reason := ray_nodes.reason_against(cluster_work.NODES):
        inputs.log(f"  none: {reason}")
        return []
    outcomes = cluster_work.measure_encoding(inputs.measure, inputs.recipe, inputs.encoded, inputs.repeats)
    title = f"{inputs.recipe.name}: encode {inputs.encoded:,} short passages"
    rows = [
        _compare_repeats(f"{title}, {slower} / {faster}", outcomes[slower], outcomes[faster])
        for slower, faster in (
            (cluster_work.ONE_NODE, cluster_work.NO_RAY),
            (cluster_work.ONE_NODE, cluster_work.ALL_NODES),
        )
    ]
    return [*rows, curves.measure_worker(inputs.measure, inputs.searched)]


def _compare_repeats(title: str, slower: list[Outcome], faster: list[Outcome]) -> Comparison:
    """Return a row of mean seconds, which ends with the ratio of each repeat."""
    ratios = ", ".join(f"{one.seconds / other.seconds:.3f}x" for one, other in zip(slower, faster, strict=True))
    means = [
        {"fp32": Outcome(float(np.mean([one.seconds for one in side])), max(one.peak for one in side), None)}
        for side in (slower, faster)
    ]
    loading = " / ".join(figure(float(np.mean([one.result.loading for one in side]))) for side in (slower, faster))
    return Comparison(title, "rounds itself", *means, f"same bytes; {ratios}; model loaded in {loading} s before")


WORKS: dict[str, Callable] = {
    "a": _behind_examples,
    "b": _encode,
    "c": _mine,
    "d": _steps,
    "e": _round,
    "f": _beside,
    "g": _rerank,
    "h": _behind_own_examples,
    "s": _scale,
    "m": _stages,
    "r": _cluster,
}


def _rows(inputs: BenchmarkInputs) -> list[dict]:
    return collection.read_rows(inputs.mined, ("pos", "neg"))


def make_shared_texts(
    inputs: BenchmarkInputs, recipe: Recipe, count: int
) -> tuple[list[str], list[list[str]], int, float]:
    """Return short training queries, the examples before each, and the mean numbers of shared and of other tokens."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(recipe.model.name_or_path)
    short = list(dict.fromkeys(" ".join(row["query"].split()[:WORDS]) for row in _rows(inputs)))
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


def table(rows: list[Comparison], found_curves: list[Curve]) -> str:
    """Return the Markdown tables: seconds as theirs / ours, ratios and memory; then the curves."""
    lines = []
    if rows:
        lines += [
            "| work | against | fp32, s | | bf16, s | | fp32 / our bf16 | peak MiB, bf16 | agreement |",
            "|---|---|---:|---:|---:|---:|---:|---:|---|",
        ]
    for row in rows:
        cells = [row.work, row.peer]
        for precision in ("fp32", "bf16"):
            theirs, ours = row.theirs.get(precision), row.ours.get(precision)
            cells.append(" / ".join(figure(each.seconds) if each else NONE for each in (theirs, ours)))
            cells.append(f"{row.ratio(precision, precision):.1f}x" if theirs and ours else NONE)
        peaks = [side.get("bf16", side["fp32"]).peak for side in (row.theirs, row.ours)]
        cells.append(f"{row.ratio('fp32', 'bf16'):.1f}x" if "bf16" in row.ours else NONE)
        cells += [f"{peaks[0]:.0f} / {peaks[1]:.0f}", row.agreement]
        lines.append(f"| {' | '.join(cells)} |")
    for curve in found_curves:
        lines += [""] * bool(lines) + curve.lines()
    return "\n".join(lines)
