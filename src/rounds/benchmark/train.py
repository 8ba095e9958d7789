"""Train: LoRA steps of a random 7B decoder over 16-bit and 4-bit weights, and a checkpoint's way to disk and back."""

import importlib.util
import itertools
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from rounds.benchmark import models, texts
from rounds.benchmark.bench import Bench, cosines
from rounds.benchmark.report import Section
from rounds.config.recipe import Recipe
from rounds.data.prompts import max_input_length
from rounds.encoding import merged_checkpoint, prefix_cache
from rounds.encoding.encoder import encode
from rounds.models import checkpoint, peft_methods
from rounds.training.collator import Collator
from rounds.training.dataset import TrainingGroups, read_training_groups
from rounds.training.loss_module import EmbeddingLoss
from rounds.training.plan import Plan
from rounds.training.trainer import finetune

BATCH, GROUP = 16, 8
SMALL = {"batch_size": 4, "group_size": 4}
STEPS = 4  # of each variant; the first is not timed
ROWS = 64  # training rows of the checkpoint that goes to disk
CHUNK = 4096  # tokens of a gradient-cached chunk, as in the recipe
ALIKE = 0.05  # variants' first losses, relative: they compute the same in bf16
LEAST_RELOADED, LEAST_MERGED = 0.9999, 0.999


def run(bench: Bench, section: Section) -> None:
    """LoRA steps of 16 queries x 8 passages over bf16 and NF4 weights; reload and merge an adapter"""
    start = models.recipe_for("random:mistral", "bf16")
    rows = 12 if bench.small else ROWS
    mined = texts.mined(texts.collect(bench.raw, start, bench.folder("train-data")), rows)
    shape = bench.shape(models.SEVEN_B)
    for precision in ("bf16", "nf4"):
        if precision == "nf4" and importlib.util.find_spec("bitsandbytes") is None:
            section.note("4-bit weights, and an adapter over them", left_out="bitsandbytes is not installed")
            return
        models.free()
        recipe = _recipe(bench, "random:mistral", precision)
        embedder = models.embedder(shape, recipe, precision, bench.device)
        section.note(f"{shape.name} in {precision}", held_gib=bench.peak_gib())
        torch.manual_seed(0)
        peft_methods.apply(embedder, recipe.tuning)
        _variants(bench, section, embedder.train(), recipe, read_training_groups(mined, 0, recipe))
        del embedder
    _to_disk_and_back(bench, section, mined)


def _recipe(bench: Bench, folder: object, precision: str) -> Recipe:
    found = models.recipe_for(folder, precision).replace("training", epochs=1, examples_limit=2)
    sizes = SMALL if bench.small else {"batch_size": BATCH, "group_size": GROUP}
    return found.replace("training", **sizes)


class _AllExamples:
    """In place of a generator: each batch's queries have all their examples before them."""

    def randint(self, low: int, high: int) -> int:
        return high


def _variants(
    bench: Bench, section: Section, embedder: SentenceTransformer, recipe: Recipe, data: TrainingGroups
) -> None:
    """The same steps from the same weights with checkpointing and gradient cache on and off."""
    before, losses = peft_methods.snapshot_trainable(embedder), {}
    for checkpointing, cached in itertools.product((True, False), (True, False)):
        name = f"checkpointing {'on' if checkpointing else 'off'}, gradient cache {'on' if cached else 'off'}"
        how = recipe.training
        title = f"{recipe.model.precision} step, {how.batch_size} x {how.group_size}: {name}"
        own = recipe.replace(
            "training", gradient_checkpointing=checkpointing, micro_batch_tokens=CHUNK if cached else 0
        )
        _restore(embedder, before)
        models.free()
        try:
            seconds, found = _steps(bench, embedder, own, data)
        except torch.OutOfMemoryError as error:
            reason = f"out of memory: {' '.join(str(error).split())[:200]}"
            held, free = torch.cuda.memory_allocated() / 2**30, torch.cuda.mem_get_info()[0] / 2**30
            embedder.zero_grad()
            section.note(title, left_out=reason, held_gib=held, free_gib=free)
            continue
        section.note(title, seconds=seconds, peak_gib=bench.peak_gib(), losses=found)
        section.check(f"{title}: the loss falls", found[-1] - found[0], found[-1] < found[0])
        losses[name] = found[0]
    if len(losses) > 1:
        apart = (max(losses.values()) - min(losses.values())) / min(losses.values())
        what = f"{recipe.model.precision}: first losses of the variants differ by, relative, at most {ALIKE}"
        section.check(what, apart, apart <= ALIKE)


def _restore(embedder: SentenceTransformer, values: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in peft_methods.trainable_parameters(embedder).items():
            parameter.copy_(values[name])


def _steps(
    bench: Bench, embedder: SentenceTransformer, recipe: Recipe, data: TrainingGroups
) -> tuple[float, list[float]]:
    """Median seconds of a step on one batch, and each step's loss."""
    how = recipe.training
    if how.gradient_checkpointing:
        embedder.gradient_checkpointing_enable({"use_reentrant": False})
    else:
        embedder[0].model.gradient_checkpointing_disable()
    share = prefix_cache.can_share(embedder, max_input_length(recipe.prompts))
    collator = Collator(data, embedder, recipe, 0, share)
    collator.sizes = _AllExamples()
    chunks, labels = _on(bench.device, collator([{"row": row} for row in range(how.batch_size)]))
    loss_of = EmbeddingLoss(embedder, how, recipe.model.precision, recipe.normalizes)
    optimizer = torch.optim.AdamW(peft_methods.trainable_parameters(embedder).values(), lr=how.learning_rate)
    losses, seconds = [], []

    def step() -> float:
        optimizer.zero_grad()
        loss = loss_of([dict(chunk) for chunk in chunks], labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    for _ in range(2 if bench.small else STEPS):
        spent, loss = bench.time(step)
        seconds.append(spent)
        losses.append(round(loss, 4))
    optimizer.zero_grad()
    return float(np.median(seconds[1:])), losses


def _on(device: str, batch: dict) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
    """A collated batch as the Trainer hands it to the loss: chunks and labels, on the device."""
    labels = {name: value.to(device) for name, value in batch.pop("label").items()}
    chunks: dict[str, dict[str, Tensor]] = {}
    for name, value in batch.items():
        chunk, _, key = name.partition("_")
        chunks.setdefault(chunk, {})[key] = value.to(device)
    return list(chunks.values()), labels


def _to_disk_and_back(bench: Bench, section: Section, mined: Path) -> None:
    """Train an adapter over a model that is loaded in 4 bits from disk; its reloaded and its merged vectors."""
    models.free()
    shape = bench.shape(models.HALF_B)
    folder = models.write(shape, bench.folder("base"), bench.device)
    recipe = _recipe(bench, folder, "nf4")
    given = bench.texts(recipe, 64)
    live: list[np.ndarray] = []

    def embed(embedder: SentenceTransformer, precision: str) -> np.ndarray:
        return encode(embedder, given.queries, recipe.prompts, "query", precision, examples=given.before)

    def evaluate(embedder: SentenceTransformer, _) -> dict:
        live.append(embed(embedder, "nf4"))
        return {}

    output = bench.folder("adapter")
    start = checkpoint.resolve(None, recipe, bench.device)
    plan = Plan(start, recipe, mined, output, {}, {"lineage": {}, "round": 1})
    seconds, _ = bench.time(lambda: finetune(plan, evaluate))
    section.note(f"{shape.name} in nf4: an epoch by the Trainer", seconds=seconds)
    models.free()
    source = checkpoint.resolve(str(output), device=bench.device)
    least = float(cosines(live[-1], embed(source.load(), "nf4")).min())
    section.check(f"cosine of the reloaded adapter, at least {LEAST_RELOADED}", least, least >= LEAST_RELOADED)
    wide = checkpoint.resolve(str(output), device=bench.device, precision="bf16")
    seconds, least = bench.time(lambda: merged_checkpoint.merge(wide, bench.folder("merged"), given.passages))
    section.note(f"{shape.name}: merge in 16 bits", seconds=seconds)
    section.check(f"cosine of the merged model, at least {LEAST_MERGED}", least, least >= LEAST_MERGED)
