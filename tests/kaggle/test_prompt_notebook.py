"""Prompt recovery's offline notebook: it writes what submit writes, finds base models, and ends in time."""

import contextlib
import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.namespaces import needs_namespaces
from helpers.offline_notebook import kaggle_folder
from helpers.scripts import call
from helpers.tiny_generator import PROMPT, make_recipe, make_rows
from helpers.tiny_task import refused

from rounds import estimate
from rounds.artifacts import store
from rounds.evaluation import ledger
from rounds.generation import generator, predicting
from rounds.generation.baselines import TITLES
from rounds.generation.rows import PromptRow
from rounds.generation.tuning import TuningJob, tune
from rounds.kaggle import bundle_file, prompt_bundle, prompt_notebook
from rounds.kaggle.bundle import Upload
from rounds.kaggle.bundle_file import BundleFile, TrainedSplit
from rounds.kaggle.prompt_bundle import PromptContents, PromptPredictor
from rounds.kaggle.wheels import Target
from rounds.models.weights import locate_model

COMPETITION = "llm-prompt-recovery"
UPLOAD = Upload("someone", "prompts", COMPETITION)
COLUMNS = ("id", "original_text", "rewritten_text", "rewrite_prompt")


def write_raw(folder: Path) -> Path:
    """Write training and test rows as the competition does, and the sample submission in another order."""
    folder.mkdir()
    train = [row for number in range(8) for row in make_rows(2, 2 * number, f"{PROMPT} Have {number} items.")]
    test = make_rows(5, 20)
    for name, columns, listed in (("train", COLUMNS, train), ("test", COLUMNS[:3], test)):
        with open(folder / f"{name}.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerows([columns, *([getattr(row, column) for column in columns] for row in listed)])
    ids = [row.id for row in reversed(test)]
    lines = "".join(f"{identifier},x\n" for identifier in ids)
    (folder / "sample_submission.csv").write_text(f"id,rewrite_prompt\n{lines}")
    return folder


def run(script: str, *flags: object) -> str:
    """Run a script, and return what it prints."""
    result = call(script, *flags)
    assert not result.returncode, result.stderr
    return result.stdout


@pytest.mark.slow
@needs_namespaces
def test_from_rows_to_the_notebook(offline, tmp_path):
    """Tuned, predicted, submitted; and the notebook without network writes the same bytes as the submission."""
    raw, data, baselines, train = write_raw(tmp_path / "raw"), *(tmp_path / name for name in ("data", "b", "train"))
    run("gen_prompt_data.py", "--raw_dir", raw, "--output_dir", data)
    tuning = ("--recipe", "tiny-generator", "--data_dir", data, "--output_dir", train, "--steps", 4, "--batch_size", 2)
    tuning = (
        *tuning,
        "--method",
        "prompt",
        "--tokens",
        2,
        "--checkpoint_steps",
        3,
        "--replace_stale",
        "--device",
        "cpu",
    )
    run("tune.py", *tuning)
    assert sorted(path.name for path in train.iterdir()) == ["manifest.json", "step_3", "step_4"]
    run("prompt_baselines.py", "--data_dir", data, "--output_dir", baselines)
    predict = ("--model_path", train, "--data_dir", data)
    for side in ("validation", "test"):
        run("predict.py", *predict, "--side", side, "--output_dir", tmp_path / side)
    manifest = json.loads((tmp_path / "test" / "manifest.json").read_text())
    assert manifest["title"] == "tiny-generator, prompt 2 tokens, 4 steps"
    kept = ("--data_dir", data, "--model_output", tmp_path)
    folders = ("--predictions", baselines / "fixed", tmp_path / "validation", "--output", tmp_path / "scores")
    assert manifest["title"] in run("eval_prompts.py", *kept, *folders).replace("\n", " ")
    run("prompt_brittle.py", *predict, "--output_dir", tmp_path / "brittle")
    assert len(json.loads((tmp_path / "brittle" / "manifest.json").read_text())["effects"]) == 3
    submit = (*kept, "--predictions", tmp_path / "test", "--sample", raw / "sample_submission.csv")
    assert f"submit {COMPETITION}" in run("submit_prompts.py", *submit, "--output_file", tmp_path / "own.csv")
    rows = {row["label"]: row["submission"] for row in ledger.read(tmp_path / "ledger.csv")}
    assert rows == {TITLES["fixed"]: "", manifest["title"]: "own"}

    flags = ("--model_path", train, *kept, "--baselines", baselines, "--name", "tiny", "--owner", "someone")
    offline.bundle("bundle_prompts.py", tmp_path / "submissions", *flags)
    assert {row["submission"] for row in ledger.read(tmp_path / "ledger.csv")} == {"", "tiny"}
    root = kaggle_folder(tmp_path / "kaggle", raw, tmp_path / "submissions", COMPETITION)
    assert "estimate: " in offline.run(tmp_path / "submissions", root, tmp_path)
    assert (root / "working" / "submission.csv").read_bytes() == (tmp_path / "own.csv").read_bytes()


@pytest.fixture(scope="module")
def tuned(tmp_path_factory) -> generator.SavedGenerator:
    """Return an adapter whose base model has a name of the hub."""
    train = tmp_path_factory.mktemp("tuned") / "train"
    recipe = make_recipe("lora", steps=1).replace("generation", batch_size=2)
    tune(TuningJob(recipe, make_rows(4), [], train, "cpu"))
    source = generator.find_checkpoint(train)
    named = recipe.replace("model", name_or_path="someone/model").to_dict()
    store.write_manifest(source.folder / store.MANIFEST, source.manifest.with_values(recipe=named))
    return generator.find_checkpoint(train)


def make_contents(source: generator.SavedGenerator | None, train: Path, **predictor: object) -> PromptContents:
    """Return the contents of a bundle."""
    values = {"fixed": PROMPT, "baseline": "" if source else "fixed", "embedder": "minilm", "seed": 42, **predictor}
    split = TrainedSplit(split="submission", seed=42, fold=0)
    target = Target("3.11", (), {})
    return PromptContents(
        split=split, target=target, project=Path(), predictor=PromptPredictor(**values), source=source, train=train
    )


def write_inputs(root: Path, contents: PromptContents, base: Path | None = None) -> Path:
    """Write the inputs of a notebook: raw rows, the bundle's files, and the base model."""
    (root / "working").mkdir(parents=True)
    bundle, raw = root / "input" / "bundle", root / "input" / COMPETITION
    bundle.mkdir(parents=True)
    contents.write_files(bundle, UPLOAD)
    content = BundleFile(submission="s", competition=COMPETITION, split="v6", seed=42, fold=0, wheel="x.whl")
    bundle_file.write(bundle, content)
    write_raw(raw)
    if base:
        (root / "input" / "model").symlink_to(base)
    return root


def read_prompts(path: Path) -> dict[str, str]:
    """Return the prompts of a submission by id, in its order."""
    with open(path, encoding="utf-8", newline="") as file:
        return {row["id"]: row["rewrite_prompt"] for row in csv.DictReader(file)}


def test_an_adapter_finds_its_base_among_the_inputs(tuned, tmp_path, capsys):
    """Its predictions are those of the same adapter over the base model by its own name."""
    base = locate_model(make_recipe("lora").model)
    root = write_inputs(tmp_path / "kaggle", make_contents(tuned, tmp_path), Path(base))
    prompts = read_prompts(prompt_notebook.run_notebook(root))
    own_name = tuned.recipe.replace("model", name_or_path=make_recipe().model.name_or_path).to_dict()
    here = replace(tuned, manifest=tuned.manifest.with_values(recipe=own_name))
    job = predicting.PredictionJob(here, make_rows(5, 20), tmp_path / "out", "cpu", here.recipe, "t")
    predicting.predict(job)
    expected = {row["id"]: row["prediction"] for row in store.read_jsonl(tmp_path / "out" / predicting.PREDICTIONS)}
    assert prompts == expected and list(prompts) == list(expected)[::-1]
    assert "estimate: " in capsys.readouterr().out


def test_a_base_model_in_a_folder_is_bundled(tuned, tmp_path):
    """No input but the bundle is needed, which then runs where the folder is not."""
    base = tmp_path / "base"
    shutil.copytree(locate_model(make_recipe("lora").model), base)
    local = tuned.recipe.replace("model", name_or_path=str(base)).to_dict()
    source = replace(tuned, manifest=tuned.manifest.with_values(recipe=local))
    contents = make_contents(source, tmp_path)
    contents.check(UPLOAD)
    root = write_inputs(tmp_path / "kaggle", contents)
    store.write_manifest(root / "input" / "bundle" / "checkpoint" / store.MANIFEST, source.manifest)
    shutil.rmtree(base)
    assert len(read_prompts(prompt_notebook.run_notebook(root))) == 5


def test_inputs_without_the_base_model_ask_for_it(tuned, tmp_path):
    """The line names the model and the variable that adds one; nothing is written."""
    root = write_inputs(tmp_path, make_contents(tuned, tmp_path))
    with refused("someone/model", "BASE="):
        prompt_notebook.run_notebook(root)
    assert not list((root / "working").iterdir())


@pytest.mark.parametrize(("seconds", "hours", "late"), [(1000, 1, 0), (1500, 1, 1), (2000, 1, 3), (1, 0, 5)])
def test_rows_without_time_get_the_fixed_prompt(seconds, hours, late, tuned, tmp_path, monkeypatch, capsys):
    """Batches of two rows take so many seconds; rows that no batch is begun for are counted, and the file is whole."""
    base, now, write = Path(locate_model(make_recipe("lora").model)), [0.0], generator.Generator.write

    def write_slowly(*arguments):
        now[0] += seconds
        return write(*arguments)

    root = write_inputs(tmp_path, make_contents(tuned, tmp_path, fixed="The mean prompt."), base)
    monkeypatch.setattr(estimate, "clock", lambda: now[0])
    monkeypatch.setattr(generator.Generator, "write", write_slowly)
    prompts = read_prompts(prompt_notebook.run_notebook(root, hours))
    printed = capsys.readouterr().out
    assert len(prompts) == 5 and list(prompts.values()).count("The mean prompt.") == late
    assert (f"{late} of 5 rows: no time left" in printed) == bool(late)
    assert ("; 3600 s left" in printed) == bool(hours)


def test_rows_with_an_empty_text_get_the_fixed_prompt(tmp_path, capsys):
    """One such row among the hidden ones must not cost the submission."""
    root = write_inputs(tmp_path, make_contents(None, tmp_path, baseline="copy", fixed="The mean prompt."))
    path = root / "input" / COMPETITION / "test.csv"
    ids = [row.id for row in make_rows(5, 20)]
    lines = "".join(f"{name},a text,{'' if name == 'r22' else 'another'}\n" for name in ids)
    path.write_text(f"{','.join(COLUMNS[:3])}\n{lines}")
    prompts = read_prompts(prompt_notebook.run_notebook(root))
    assert prompts == {name: "The mean prompt." if name == "r22" else "a text" for name in ids}
    assert "1 rows: a text is empty" in capsys.readouterr().out


def test_numbers_that_overflow_are_computed_again(tuned, tmp_path, monkeypatch, capsys):
    """A generator whose logits are not finite starts again in a wider precision; in fp32 it is refused."""
    base, tried = Path(locate_model(make_recipe("lora").model)), []

    def overflow(job, *_):
        tried.append(job.recipe.model.precision)
        if len(tried) == 1:
            raise generator.NotFiniteError("m", "bf16")
        return {row.id: PROMPT for row in job.rows}

    narrow = tuned.recipe.replace("model", precision="bf16").to_dict()
    source = replace(tuned, manifest=tuned.manifest.with_values(recipe=narrow))
    root = write_inputs(tmp_path, make_contents(source, tmp_path), base)
    manifest = root / "input" / "bundle" / "checkpoint" / store.MANIFEST
    store.write_manifest(manifest, source.manifest)
    monkeypatch.setattr(prompt_notebook.predicting, "predict_in_time", overflow)
    prompt_notebook.run_notebook(root)
    assert tried == ["bf16", "fp32"] and "gives no finite numbers in bf16" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kept", "predictor", "base", "part"),
    [
        (True, {}, "", "BASE=owner/model"),
        (True, {}, "someone/weights", None),
        (False, {"baseline": "nearest", "embedder": "sentence-t5-base"}, "", "EMBEDDER=minilm"),
        (False, {"baseline": "fixed", "embedder": "sentence-t5-base"}, "", None),
        (False, {"baseline": "nearset"}, "", "copy, fixed, nearest, joined"),
    ],
)
def test_what_a_notebook_cannot_reach_is_refused(kept, predictor, base, part, tuned, tmp_path):
    """A base model needs an input, and an embedder a package, where the bundle uses it."""
    contents = make_contents(tuned if kept else None, tmp_path, **predictor)
    with refused(part) if part else contextlib.nullcontext():
        contents.check(replace(UPLOAD, base=base))


@pytest.mark.parametrize("name", ["copy", "fixed", "nearest", "joined"])
def test_a_baseline_predicts_without_a_generator(name, tmp_path):
    """The nearest needs the training rows, which the bundle holds."""
    train = tmp_path / "train.jsonl"
    store.write_jsonl(train, [row.__dict__ for row in (*make_rows(4), PromptRow("z", "z", "z", "Other."))])
    root = write_inputs(tmp_path / "kaggle", make_contents(None, train, baseline=name))
    prompts = read_prompts(prompt_notebook.run_notebook(root))
    originals = {row.id: row.original_text.strip() for row in make_rows(5, 20)}
    assert prompts == (originals if name == "copy" else dict.fromkeys(originals, PROMPT))
    assert (root / "input" / "bundle" / prompt_bundle.TRAIN).exists() == (name in ("nearest", "joined"))
