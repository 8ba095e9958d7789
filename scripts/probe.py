"""Probe a checkpoint: brittleness of its vectors, tokens of the data, tokens that fit into a training chunk."""

import itertools
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from rounds import cli
from rounds.data import collection
from rounds.data.collection import Collection
from rounds.data.prompts import max_input_length
from rounds.encoding import run_store
from rounds.encoding.encoding_speed import measure_speed
from rounds.encoding.token_statistics import count_tokens
from rounds.encoding.tokenization import tokenize
from rounds.errors import UserError
from rounds.evaluation import robustness
from rounds.evaluation.table import Column, Table
from rounds.flags import OneDevice, RecipeOfCheckpoint
from rounds.models import checkpoint, peft_methods
from rounds.models.checkpoint import Checkpoint
from rounds.models.devices import resolve_device
from rounds.models.weights import hub_revision, locate_model
from rounds.training.batch_size_finder import LEAST_TOKENS, BatchSizeFinder, ChunkFit, Speed, best_chunk

ENCODED = 64  # queries that fit_batch encodes and trains on

TEXTS_SHARE = 0.2  # of fit_batch's time that encoding these queries may take, and training on them

PROBES = ("brittle", "tokens", "fit_batch")


@dataclass(kw_only=True)
class Flags(OneDevice, RecipeOfCheckpoint):
    """The probe, and what it looks at."""

    probe: str = field(metadata={"help": ", ".join(PROBES)})
    data_dir: str = field(metadata={"help": "collection whose texts are taken"})
    model_path: str = field(default="", metadata={"help": "checkpoint or finetune folder; default: the recipe's model"})
    queries: int = field(default=500, metadata={"help": "brittle: how many"})
    seconds: int = field(default=180, metadata={"help": "fit_batch: about how long it measures"})


def main(flags: Flags) -> None:
    """Probe a checkpoint."""
    if flags.probe not in PROBES:
        raise UserError(f"probe {flags.probe!r} is not one of {', '.join(PROBES)}")
    data = collection.read(Path(flags.data_dir))
    recipe = flags.load_recipe(flags.model_path)
    source = checkpoint.resolve(flags.model_path or None, recipe, resolve_device(flags.device), takes_recipe=True)
    {"brittle": _brittle, "tokens": _tokens, "fit_batch": _fit_batch}[flags.probe](source, data, flags)


def _brittle(source: Checkpoint, data: Collection, flags: Flags) -> None:
    if flags.queries < 1:
        raise UserError(f"--queries {flags.queries}: take at least 1")
    queries = dict(itertools.islice((data.validation or data.test).items(), flags.queries))
    examples = run_store.few_shot_examples(source, data, queries)
    effects = robustness.brittleness(source, queries, data.passages, examples, data.identical)
    rows = [[effect.change, f"{effect.mean:.4f}", f"{effect.least:.4f}", f"{effect.overlap:.1%}"] for effect in effects]
    _show(
        ["", "mean cosine", "least cosine", f"top {robustness.TOP} kept"],
        rows,
        f"{source.name}, {len(queries)} queries",
    )


def _tokens(source: Checkpoint, data: Collection, flags: Flags) -> None:
    tokenizer = source.load().tokenizer
    texts = {"query": _queries(data), "passage": list(data.passages.values())}
    rows = []
    for kind, listed in texts.items():
        count = count_tokens(tokenizer, listed, source.recipe.prompts, kind)
        shares = [f"{count.unknown:.2%}", f"{count.truncated:.2%}"]
        lengths = [f"{count.mean:.0f}", str(count.longest), str(count.limit)]
        rows.append([count.kind, f"{count.texts:,}", *shares, *lengths])
    _show(["", "texts", "unknown tokens", "cut texts", "mean", "longest", "limit"], rows, source.recipe.name)


def _queries(data: Collection) -> list[str]:
    """Return the texts of all queries; public benchmarks may have none to train on."""
    file = data.folder / collection.FINETUNE
    train = [row["query"] for row in collection.read_rows(file, ("pos",))] if file.stat().st_size else []
    return [*train, *data.validation.values(), *data.test.values()]


def _fit_batch(source: Checkpoint, data: Collection, flags: Flags) -> None:
    """Print what each chunk takes as soon as it is measured, then the table and the size to take."""
    chunks = f"training chunks of {LEAST_TOKENS:,} tokens and more, until memory, speed or time ends"
    print(f"{source.name}: loading; then {ENCODED} queries, and {chunks}: about {flags.seconds} s", flush=True)
    recipe, embedder, end = source.recipe, source.load(), time.monotonic() + flags.seconds
    queries = list(dict.fromkeys(_queries(data)))[:ENCODED]
    seconds = TEXTS_SHARE * flags.seconds
    encoding = measure_speed(embedder, queries, recipe.prompts, "query", source.precision, seconds)
    line = f"encoding {encoding.texts} queries: {_describe(Speed(encoding.speed, encoding.bound))}"
    print(line, flush=True)
    base = locate_model(recipe.model)
    peft_methods.apply(embedder, recipe.tuning, base, hub_revision(base, recipe.model))
    peft_methods.leave_casts_to_autocast(embedder, source.precision)
    embedder.train()
    if recipe.training.gradient_checkpointing:
        embedder.gradient_checkpointing_enable({"use_reentrant": False})
    finder = BatchSizeFinder(embedder, max_input_length(recipe.prompts), source.precision)
    fits = list(_print_each(finder.fits(end - seconds - time.monotonic())))
    if not fits:
        raise UserError(f"{source.name}: not even {LEAST_TOKENS} tokens fit; shorten the texts")
    rows = [
        [f"{fit.tokens:,}", f"{fit.peak:,.0f}", f"{fit.training.tokens:,.0f}", f"{fit.training.share:.0%}"]
        for fit in fits
    ]
    chunk = best_chunk(fits).tokens
    ids = tokenize(embedder.tokenizer, queries, recipe.prompts, "query")
    trained, training = finder.train_on(ids, chunk, seconds)
    _show(["tokens", "peak MiB", "tokens/s", "of the bound"], rows, f"{recipe.name}, training")
    print(line)
    print(f"training on {trained} queries: {_describe(training)}")
    print(
        "bound: tokens/s if nothing but the products of weights took time, at the rate of a large product measured now"
    )
    print(f"recipe: training: {{micro_batch_tokens: {chunk}}}")


def _print_each(fits: Generator[ChunkFit, None, str]) -> Iterator[ChunkFit]:
    """Yield chunks, printing each, and print why they end."""

    def reason() -> Iterator[ChunkFit]:
        end = yield from fits
        print(f"no larger chunk: {end}", flush=True)

    for fit in reason():
        speeds = f"training {_describe(fit.training)}, encoding {_describe(fit.encoding)}"
        print(f"{fit.tokens:,} tokens: {speeds}, peak {fit.peak:,.0f} MiB", flush=True)
        yield fit


def _describe(speed: Speed) -> str:
    return f"{speed.tokens:,.0f} tokens/s, {speed.share:.0%} of the bound"


def _show(header: list[str], rows: list[list[str]], title: str) -> None:
    columns = [Column(name, is_text=not name) for name in header]
    Console().print(Table(columns, rows, title).screen())


if __name__ == "__main__":
    cli.run(main, Flags)
