"""Predicting: let a generator write a prompt for each row, into a folder that a killed call goes on with."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from rounds import estimate
from rounds.artifacts import store
from rounds.artifacts.prompt_manifests import PredictionsManifest
from rounds.config.generator import GeneratorRecipe
from rounds.errors import UserError
from rounds.estimate import Estimate
from rounds.generation import generator, minimum_risk
from rounds.generation.generator import Generator, SavedGenerator
from rounds.generation.metrics import Embed
from rounds.generation.predictions import generator_columns
from rounds.generation.rows import PromptRow, texts_digest
from rounds.training import partial_folder

PREDICTIONS = "predictions.jsonl"
PROMPTS = {"all": "", "first_half": ", first half", "second_half": ", second half"}  # of the training prompts
ORDERS = {"shuffled": "", "file": ", in the file's order", "grouped": ", grouped by prompt"}


@dataclass(frozen=True)
class PredictionJob:
    """Rows to predict the prompts of.

    Attributes:
        source: a tuned generator, or the recipe of an untuned one.
        rows: the rows; their own prompts are not read.
        output: folder for the predictions.
        device: resolved device.
        recipe: the recipe with the generation settings of this call; its template and lengths are those of `source`.
        title: name of the row in tables.
        embedder: name of the embedder that chooses among samples; empty where one text is written.
        seed: of drawn texts.
        overwrite: replace an output folder that was made in another way.
        made_from: what the pipeline makes the folder from, which then decides whether it is kept; None without one.
    """

    source: SavedGenerator | GeneratorRecipe
    rows: Sequence[PromptRow]
    output: Path
    device: str
    recipe: GeneratorRecipe
    title: str
    embedder: str = ""
    seed: int = 42
    overwrite: bool = False
    made_from: dict | None = None

    @property
    def config(self) -> dict:
        """Everything that shapes the predictions; the batch size does not."""
        tuned = isinstance(self.source, SavedGenerator)
        generation = self.recipe.to_dict()["generation"]
        if self.recipe.generation.samples == 1:
            del generation["batch_size"]  # draws depend on it, greedy texts do not
        return {
            "generation": generation,
            "recipe": {key: value for key, value in self.recipe.to_dict().items() if key != "generation"},
            "weights": self.source.manifest.weights_digest if tuned else "",
            "base": self.source.manifest.base_digest if tuned else generator.base_digest(self.source),
            "rows": texts_digest(self.rows),
            "embedder": self.embedder,
            "seed": self.seed if self.recipe.generation.samples > 1 else None,
        }

    def load(self) -> Generator:
        """Load the generator, with the generation settings of this call."""
        if isinstance(self.source, SavedGenerator):
            return self.source.load(self.device, self.recipe)
        return generator.load(self.recipe, self.device)


def predict(job: PredictionJob, embed: Embed | None = None) -> PredictionsManifest | None:
    """Write `predictions.jsonl` (`id`, `prediction`, in the order of the rows) and its manifest.

    A prediction is one line: whitespace and line breaks become single blanks. Where nothing was written, the recipe's
    `generation.fallback` stands, and the manifest and a line count such rows.

    Args:
        embed: embeds texts as the metric does, to choose among samples; needed where the recipe asks for several.

    Returns:
        The manifest; None if the folder was there already.

    Raises:
        UserError: no rows, or an output folder of another configuration.
    """
    if not job.rows:
        raise UserError(f"{job.output}: no rows to predict; choose another split")
    if store.is_finished(job.output, job.config, job.overwrite, job.made_from):
        return None
    writer = job.load()
    contexts = {row.id: writer.tokenization.context(row) for row in job.rows}
    partial = job.output.with_name(f"{job.output.name}.partial")
    partial_folder.prepare(partial, job.config)
    file = partial / PREDICTIONS
    done = _read_finished(file)
    for texts, _ in _write(job, writer, contexts, done):
        chosen = {row: _choose(drawn, embed) for row, drawn in texts.items()}
        with open(file, "a", encoding="utf-8") as lines:
            for row, text in chosen.items():
                lines.write(json.dumps({"id": row, "prediction": text}, ensure_ascii=False) + "\n")
        done |= chosen
    return _finish(job, partial, writer, done)


def predict_in_time(
    job: PredictionJob, end: float, embed: Embed | None = None, say: Callable[[str], None] = print
) -> dict[str, str]:
    """Return predictions by row id, as `predict` writes them; rows that the time does not suffice for are missing.

    Batches are those of `predict`, and none is begun that would take longer than the time left, if it took as long as
    the slowest so far. Nothing is written.

    Args:
        job: what to predict; its output is not used.
        end: when to have ended, on the clock of `rounds.estimate`.
        embed: as `predict` takes it.
        say: prints the estimate of the time for all rows, behind the first batch.
    """
    writer, done, slowest = job.load(), {}, 0.0
    contexts = {row.id: writer.tokenization.context(row) for row in job.rows}
    started = since = estimate.clock()
    batches = _write(job, writer, contexts, done)
    while since + slowest < end and (batch := next(batches, None)):
        texts, share = batch
        done |= {row: _choose(drawn, embed) or job.recipe.generation.fallback for row, drawn in texts.items()}
        now = estimate.clock()
        if not slowest:
            say(f"estimate: {(now - started) / share:.0f} s for {len(job.rows)} rows; {end - started:.0f} s left")
        slowest, since = max(slowest, now - since), now
    return done


def _finish(job: PredictionJob, partial: Path, writer: Generator, done: dict[str, str]) -> PredictionsManifest:
    """Put the complete folder in place, in the order of the rows, with the fallback for empty predictions."""
    recipe, tuned = job.recipe, job.source.manifest if isinstance(job.source, SavedGenerator) else None
    empty = sum(not done[row.id] for row in job.rows)
    cut = writer.tokenization.cut_texts
    if cut:
        limit = recipe.training.max_length
        tqdm.write(f"{cut} of {len(job.rows)} rows: texts cut in the middle (training.max_length {limit})")
    if empty:
        tqdm.write(f"{empty} of {len(job.rows)} predictions were empty: generation.fallback stands in their place")
    fallback = recipe.generation.fallback
    store.write_jsonl(
        partial / PREDICTIONS, ({"id": row.id, "prediction": done[row.id] or fallback} for row in job.rows)
    )
    manifest = PredictionsManifest(
        config=job.config,
        title=job.title,
        rows=len(job.rows),
        cut_texts=cut,
        empty=empty,
        lineage=tuned.lineage if tuned else {},
        step=tuned.step if tuned else 0,
        validation_loss=tuned.validation_loss if tuned else None,
        made_from=job.made_from,
    )
    store.write_manifest(partial / store.MANIFEST, manifest)
    store.put_in_place(partial, job.output)  # before what a killed call would go on with is removed
    (job.output / partial_folder.CONFIG).unlink()
    return manifest


def _write(
    job: PredictionJob, writer: Generator, contexts: dict[str, list[int]], done: dict[str, str]
) -> Iterator[tuple[dict[str, list[str]], float]]:
    """Yield the texts of each batch that has rows left, longest contexts first, and the share of the work done so far.

    The batches are those of an earlier call.
    """
    generation, size = job.recipe.generation, job.recipe.generation.batch_size
    ordered = sorted(contexts, key=lambda row: -len(contexts[row]))
    batches = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    left = [(number, batch) for number, batch in enumerate(batches) if not done.keys() >= set(batch)]
    work = [sum(len(contexts[row]) + generation.max_new_tokens for row in batch) for _, batch in left]
    line = Estimate(f"predict {len(job.rows):,} prompts", "tokens", job.device != "cpu")
    line.update(0, sum(work))
    for finished, (number, batch) in enumerate(tqdm(left, desc="predict", unit="batch"), 1):
        torch.manual_seed(job.seed + number)
        texts = writer.write([contexts[row] for row in batch], generation.samples)
        yield dict(zip(batch, texts, strict=True)), sum(work[:finished]) / sum(work)
        line.update(sum(work[:finished]), sum(work))


def _choose(texts: list[str], embed: Embed | None) -> str:
    """Return one of a row's texts on one line; an empty one only where all are."""
    lines = [line for text in texts if (line := " ".join(text.split()))]
    if len(lines) < 2:
        return lines[0] if lines else ""
    return minimum_risk.choose(lines, embed)


def _read_finished(file: Path) -> dict[str, str]:
    """Return the predictions that a killed call wrote; its last line may be torn and does not count."""
    if not file.is_file():
        return {}
    done = {}
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    for line in whole:
        row = json.loads(line)
        done[row["id"]] = row["prediction"]
    if len(whole) < len(lines):
        store.write_text(file, "".join(whole))
    return done


def columns(source: SavedGenerator, embedder: str, seed: int) -> dict[str, str]:
    """Return the ledger's columns that say which generator predicts, whatever the rows.

    Args:
        source: a tuned generator, which writes as its recipe says.
        embedder: chooses among samples, where the recipe asks for several.
        seed: of drawn texts.
    """
    recipe = source.recipe
    name, chooses = title(recipe, source.manifest.step), recipe.generation.samples > 1
    job = PredictionJob(source, [], Path(), "", recipe, name, embedder if chooses else "", seed)
    return generator_columns(name, job.config)


def title(recipe: GeneratorRecipe, steps: int) -> str:
    """Return the name of a generator in tables.

    Args:
        recipe: its recipe.
        steps: optimizer steps that it was tuned for; 0 for the untuned model.
    """
    return f"{recipe.name}, {way(recipe)}, {steps} steps" if steps else f"{recipe.name}, untuned"


def way(recipe: GeneratorRecipe) -> str:
    """Return the tuning method of a recipe with its size, and its training rows where not all of them are shuffled."""
    tuning, training = recipe.tuning, recipe.training
    size = f" {tuning.virtual.tokens} tokens" if tuning.has_virtual_tokens else f" r={tuning.lora.r}" * tuning.has_lora
    return f"{tuning.method}{size}{PROMPTS[training.prompts]}{ORDERS[training.order]}"


def describe(output: Path, manifest: PredictionsManifest | None) -> str:
    """Return the line to print.

    Args:
        output: the folder.
        manifest: what `predict` returned.
    """
    if manifest is None:
        return f"{output}: up to date"
    return f"{output}: {manifest.rows} predictions"
