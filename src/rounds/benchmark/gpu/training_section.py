"""Training section: LoRA steps over 16-bit and 4-bit weights, and a checkpoint that is saved, reloaded and merged."""

import importlib.util
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from rounds.artifacts.manifests import Parent
from rounds.benchmark.gpu import random_decoders, sample_texts
from rounds.benchmark.gpu.harness import GIB, Harness, row_cosines
from rounds.benchmark.gpu.results import SectionResults
from rounds.config.recipe import Recipe
from rounds.data import lineage
from rounds.data.prompts import max_input_length
from rounds.encoding import merged_checkpoint, prefix_cache
from rounds.encoding.encoder import encode
from rounds.models import checkpoint, peft_methods
from rounds.training.collator import Collator
from rounds.training.dataset import TrainingGroups, read_training_groups
from rounds.training.loss_module import EmbeddingLoss
from rounds.training.plan import Plan, RoundOrigin
from rounds.training.trainer import finetune

SIZES = {"batch_size": 16, "group_size": 8}
SMALL_SIZES = {"batch_size": 4, "group_size": 4}
STEPS, SMALL_STEPS = 4, 2  # of each variant; the first step is not timed
ROWS, SMALL_ROWS = 64, 12  # training rows
COMPARED_QUERIES = 64
CHUNK_TOKENS = 4096  # of a gradient-cache chunk, as in bge-en-icl's recipe
MAX_LOSS_DIFFERENCE = 0.05  # relative, between the variants' first losses, which are computed in bf16
MIN_COSINE_RELOADED, MIN_COSINE_MERGED = 0.9999, 0.999


@dataclass(frozen=True)
class StepSetup:
    """Hold what all variants of the training step share.

    Attributes:
        embedder: Model with adapters, in training mode.
        groups: Training groups of the sample.
    """

    harness: Harness
    embedder: SentenceTransformer
    recipe: Recipe
    groups: TrainingGroups


def run(harness: Harness, results: SectionResults) -> None:
    """Time LoRA steps over bf16 and NF4 weights, then train an adapter, reload it and merge it."""
    recipe = random_decoders.recipe_for("random:mistral", "bf16")
    folder = sample_texts.write_collection(harness.sample_folder, recipe, harness.folder("train-data"))
    mined = sample_texts.write_training_rows(folder, SMALL_ROWS if harness.small else ROWS)
    _measure_steps(harness, results, mined, "bf16")
    if importlib.util.find_spec("bitsandbytes") is None:
        results.note("4-bit weights, and an adapter over them", left_out="bitsandbytes is not installed")
        return
    _measure_steps(harness, results, mined, "nf4")
    _train_and_reload(harness, results, mined)


def _make_recipe(harness: Harness, model: Path | str, precision: str) -> Recipe:
    recipe = random_decoders.recipe_for(model, precision).replace("training", epochs=1, examples_limit=2)
    return recipe.replace("training", **(SMALL_SIZES if harness.small else SIZES))


def _measure_steps(harness: Harness, results: SectionResults, mined: Path, precision: str) -> None:
    """Build the 7B decoder in `precision` with adapters and measure all variants of its training step."""
    random_decoders.free_memory()
    recipe = _make_recipe(harness, "random:mistral", precision)
    shape = harness.shape(random_decoders.SEVEN_B)
    embedder = random_decoders.build_embedder(shape, recipe, precision, harness.device)
    results.note(f"{shape.name} in {precision}", held_gib=harness.peak_gib())
    torch.manual_seed(0)
    peft_methods.apply(embedder, recipe.tuning)
    groups = read_training_groups(mined, 0, recipe)
    _compare_variants(results, StepSetup(harness, embedder.train(), recipe, groups))


def _compare_variants(results: SectionResults, setup: StepSetup) -> None:
    """Run the same steps from the same weights with gradient checkpointing and gradient cache on and off."""
    recipe = setup.recipe
    snapshot, first_losses = peft_methods.snapshot_trainable(setup.embedder), []
    for checkpointing, cached in itertools.product((True, False), (True, False)):
        variant = recipe.replace(
            "training",
            gradient_checkpointing=checkpointing,
            micro_batch_tokens=CHUNK_TOKENS if cached else 0,
        )
        switches = f"checkpointing {'on' if checkpointing else 'off'}, gradient cache {'on' if cached else 'off'}"
        sizes = f"{recipe.training.batch_size} x {recipe.training.group_size}"
        title = f"{recipe.model.precision} step, {sizes}: {switches}"
        _restore_parameters(setup.embedder, snapshot)
        random_decoders.free_memory()
        try:
            seconds, losses = _time_steps(setup, variant)
        except torch.OutOfMemoryError as error:
            reason = f"out of memory: {' '.join(str(error).split())[:200]}"
            held, free = torch.cuda.memory_allocated() / GIB, torch.cuda.mem_get_info()[0] / GIB
            setup.embedder.zero_grad()
            results.note(title, left_out=reason, held_gib=held, free_gib=free)
            continue
        results.note(title, seconds=seconds, peak_gib=setup.harness.peak_gib(), losses=losses)
        results.check(f"{title}: the loss falls", losses[-1] - losses[0], losses[-1] < losses[0])
        first_losses.append(losses[0])
    if len(first_losses) > 1:
        difference = (max(first_losses) - min(first_losses)) / min(first_losses)
        label = f"first losses of the variants differ by, relative, at most {MAX_LOSS_DIFFERENCE}"
        results.check(f"{recipe.model.precision}: {label}", difference, difference <= MAX_LOSS_DIFFERENCE)


def _restore_parameters(embedder: SentenceTransformer, snapshot: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in peft_methods.trainable_parameters(embedder).items():
            parameter.copy_(snapshot[name])


def _time_steps(setup: StepSetup, recipe: Recipe) -> tuple[float, list[float]]:
    """Train on one batch for some steps.

    Returns:
        Median seconds of a step after the first, and the loss of each step.
    """
    embedder, harness, training = setup.embedder, setup.harness, recipe.training
    if training.gradient_checkpointing:
        embedder.gradient_checkpointing_enable({"use_reentrant": False})
    else:
        embedder[0].model.gradient_checkpointing_disable()
    chunks, labels = _collate_batch(setup, recipe)
    compute_loss = EmbeddingLoss(embedder, training, recipe.model.precision, recipe.normalizes)
    optimizer = torch.optim.AdamW(peft_methods.trainable_parameters(embedder).values(), lr=training.learning_rate)

    def step() -> float:
        optimizer.zero_grad()
        loss = compute_loss([dict(chunk) for chunk in chunks], labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    measured = [harness.time(step) for _ in range(SMALL_STEPS if harness.small else STEPS)]
    optimizer.zero_grad()
    return float(np.median([seconds for seconds, _ in measured[1:]])), [round(loss, 4) for _, loss in measured]


class MaxExamplesGenerator:
    """Replace a random generator so that every query of a batch gets the maximum number of examples."""

    def randint(self, low: int, high: int) -> int:
        """Return `high`."""
        return high


def _collate_batch(setup: StepSetup, recipe: Recipe) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
    """Collate the first batch and return its chunks and labels, as the Trainer passes them to the loss."""
    embedder, device = setup.embedder, setup.harness.device
    shares_prefix = prefix_cache.can_share(embedder, max_input_length(recipe.prompts))
    collator = Collator(setup.groups, embedder, recipe, 0, shares_prefix)
    collator.sizes = MaxExamplesGenerator()
    batch = collator([{"row": row} for row in range(recipe.training.batch_size)])
    labels = {name: tensor.to(device) for name, tensor in batch.pop("label").items()}
    chunks: dict[str, dict[str, Tensor]] = {}
    for name, tensor in batch.items():
        chunk, _, key = name.partition("_")
        chunks.setdefault(chunk, {})[key] = tensor.to(device)
    return list(chunks.values()), labels


def _train_and_reload(harness: Harness, results: SectionResults, mined: Path) -> None:
    """Train an adapter over a model that is loaded from disk in 4 bits; compare its reloaded and merged vectors."""
    random_decoders.free_memory()
    shape = harness.shape(random_decoders.HALF_B)
    folder = random_decoders.save_model(shape, harness.folder("base"), harness.device)
    recipe = _make_recipe(harness, folder, "nf4")
    texts = harness.texts(recipe, COMPARED_QUERIES)
    live_vectors: list[np.ndarray] = []

    def embed(embedder: SentenceTransformer) -> np.ndarray:
        return encode(embedder, texts.queries, recipe.prompts, "query", "nf4", examples=texts.examples)

    def evaluate(embedder: SentenceTransformer, _) -> dict:
        live_vectors.append(embed(embedder))
        return {}

    output = harness.folder("adapter")
    base = checkpoint.resolve(None, recipe, harness.device)
    parent = Parent(name=base.name, weights=base.weights_digest, base=True, kind=base.kind)
    plan = Plan(base, recipe, mined, output, {}, RoundOrigin(1, None, None, parent, lineage.CLEAN, {}))
    seconds, _ = harness.time(lambda: finetune(plan, evaluate))
    results.note(f"{shape.name} in nf4: an epoch by the Trainer", seconds=seconds)
    random_decoders.free_memory()
    reloaded = checkpoint.resolve(str(output), device=harness.device)
    cosine = float(row_cosines(live_vectors[-1], embed(reloaded.load())).min())
    label = f"cosine of the reloaded adapter, at least {MIN_COSINE_RELOADED}"
    results.check(label, cosine, cosine >= MIN_COSINE_RELOADED)
    source = checkpoint.resolve(str(output), device=harness.device, precision="bf16")
    seconds, cosine = harness.time(lambda: merged_checkpoint.merge(source, harness.folder("merged"), texts.passages))
    results.note(f"{shape.name}: merge in 16 bits", seconds=seconds)
    results.check(f"cosine of the merged model, at least {MIN_COSINE_MERGED}", cosine, cosine >= MIN_COSINE_MERGED)
