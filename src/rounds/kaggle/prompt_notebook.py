"""The work of prompt recovery's offline notebook: predict the test rows' prompts, write the checked submission.csv."""

import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from rounds import estimate, process
from rounds.config.generator import GeneratorRecipe
from rounds.config.recipe import FOUR_BIT_PRECISIONS
from rounds.generation import baselines, generator, predicting, raw, rows
from rounds.generation.embedder import PromptEmbedder
from rounds.generation.generator import NotFiniteError, SavedGenerator
from rounds.generation.predicting import PredictionJob
from rounds.generation.rows import PromptRow
from rounds.kaggle import bundle_file, prompt_bundle, prompt_submission
from rounds.kaggle.bundle_file import BUNDLE
from rounds.kaggle.notebook import find_input, link_checkpoint, with_base
from rounds.kaggle.prompt_bundle import PromptPredictor
from rounds.models.devices import device_name, resolve_device, total_memory
from rounds.models.weights import base_model_digest


def run_notebook(root: Path, hours: float = 8.5) -> Path:
    """Write `working/submission.csv`, and return its path.

    Args:
        root: A folder such as /kaggle, with `input/` (the competition's files and the bundle, at any depth) and
            `working/`.
        hours: The available time; rows that it does not suffice for get the bundle's fixed prompt, as rows with an
            empty text do, and a line counts them.

    Raises:
        UserError: An input is missing or there twice, or the weights differ from those of the manifest.
    """
    end = estimate.clock() + 3600 * hours
    process.quiet_libraries()
    inputs, output = root / "input", root / "working" / "submission.csv"
    bundle = find_input(inputs, BUNDLE)
    contents, predictor = bundle_file.read(bundle), prompt_bundle.read_predictor(bundle)
    folder = find_input(inputs, "test.csv", contents.competition)
    sample, without_text = folder / raw.SAMPLE, []
    test = rows.read_rows(folder / "test.csv", is_test=True, without_text=without_text)
    if predictor.baseline:
        print(f"{contents.submission}: baseline {predictor.baseline}", flush=True)
        predictions = _predict_by_baseline(predictor, bundle, test)
    else:
        predictions = _predict_by_generator(predictor, bundle, inputs, test, end)
    if late := [row.id for row in test if row.id not in predictions]:
        print(f"{len(late)} of {len(test)} rows: no time left, so they get the fixed prompt {predictor.fixed!r}")
    if without_text:
        print(f"{len(without_text)} rows: a text is empty, so they get the fixed prompt {predictor.fixed!r}")
    texts = {name: predictions.get(name, predictor.fixed) for name in (*(row.id for row in test), *without_text)}
    count = prompt_submission.write(texts, sample if sample.is_file() else None, output)
    print(f"{output}: {count} rows, checked against {sample if sample.is_file() else folder / 'test.csv'}")
    return output


def _predict_by_baseline(predictor: PromptPredictor, bundle: Path, test: list[PromptRow]) -> dict[str, str]:
    """Return a baseline's predictions by row id."""
    if predictor.baseline not in prompt_bundle.EMBEDDING:
        return {row.id: predictor.fixed if predictor.baseline == "fixed" else row.original_text for row in test}
    train = rows.read_rows(bundle / prompt_bundle.TRAIN)
    texts = baselines.predict(train, test, PromptEmbedder(predictor.embedder))[predictor.baseline]
    return {row.id: text for row, text in zip(test, texts, strict=True)}


def _predict_by_generator(
    predictor: PromptPredictor, bundle: Path, inputs: Path, test: list[PromptRow], end: float
) -> dict[str, str]:
    """Return the generator's predictions by row id, in a precision that does not overflow; late rows are missing."""
    device = resolve_device(None)
    with tempfile.TemporaryDirectory() as scratch:
        source = copy_generator(bundle / prompt_bundle.CHECKPOINT, Path(scratch) / "checkpoint", inputs)
        recipe = suit_device(source, device)
        has_draws = recipe.generation.samples > 1
        job = PredictionJob(source, test, Path(scratch), device, recipe, title="", seed=predictor.seed)
        title = predicting.title(recipe, source.manifest.step)
        print(f"{title}: {len(test)} rows on {device_name(device)}", flush=True)
        embed = PromptEmbedder(predictor.embedder, device) if has_draws else None
        try:
            return predicting.predict_in_time(job, end, embed)
        except NotFiniteError as error:
            if recipe.model.precision in ("fp32", *FOUR_BIT_PRECISIONS):
                raise
            message = str(error)  # the error itself holds the model, through the frames that it came by
        wider = _wider_precision(device)
        print(f"{message}; the notebook computes in {wider}", flush=True)
        return predicting.predict_in_time(replace(job, recipe=recipe.replace("model", precision=wider)), end, embed)


def _wider_precision(device: str) -> str:
    """Return fp32 where the GPU has twice the memory that fp16 took, else bf16, which a T4 computes in slowly."""
    if not device.startswith("cuda"):
        return "fp32"
    return "fp32" if 2 * torch.cuda.max_memory_allocated(device) / 2**20 < total_memory(device) else "bf16"


def copy_generator(folder: Path, copy: Path, inputs: Path) -> SavedGenerator:
    """Copy a checkpoint to a writable folder, with links to its weights and its base model taken from the inputs.

    Args:
        folder: The checkpoint.
        copy: The folder to write.
        inputs: The folder of the notebook's inputs.

    Raises:
        UserError: The checkpoint has no manifest, or no input holds the base model.
    """
    link_checkpoint(folder, copy)
    source = generator.find_checkpoint(copy)
    manifest = source.manifest
    if source.recipe.tuning.method == "full":
        return source
    recipe = with_base(
        manifest.recipe,
        source.recipe.model,
        inputs,
        folder,
        lambda model: base_model_digest(model) == manifest.base_digest,
    )
    return SavedGenerator(copy, manifest.with_values(recipe=recipe))


def suit_device(source: SavedGenerator, device: str) -> GeneratorRecipe:
    """Return a generator's recipe in a precision and attention that the device supports: a T4 lacks bf16."""
    recipe = source.recipe
    if recipe.model.precision == "fp16" or (device.startswith("cuda") and recipe.model.precision == "bf16"):
        recipe = recipe.replace("model", precision="auto")
    if device.startswith("cuda") and torch.cuda.get_device_capability(device) < (8, 0):
        recipe = recipe.replace("model", attention="sdpa")
    return recipe
