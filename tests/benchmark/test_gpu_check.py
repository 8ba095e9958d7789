"""GPU check: every section runs on tiny models, a failing one ends alone, and figures are on disk after each."""

import base64
import hashlib
import importlib.metadata
import json
import re
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.tiny_task import refused

from rounds.benchmark.gpu import check, fp16_section, random_decoders, results, sample_texts, wheels
from rounds.benchmark.gpu.check import CheckOptions, CheckSection
from rounds.benchmark.gpu.harness import Harness
from rounds.benchmark.gpu.results import CheckResults, SectionSkipped
from rounds.encoding.encoder import EncodingOptions, encode, encode_ids
from rounds.encoding.tokenization import tokenize

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "gpu_check.py"


def test_small_runs_every_section(tmp_path):
    """On a CPU, each section passes or gives a reason for skipping, in the output, the JSON and the table."""
    command = [sys.executable, SCRIPT, "--small", "--output_dir", str(tmp_path)]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
    content = json.loads((tmp_path / results.JSON).read_text())
    sections = content["sections"]
    assert list(sections) == list(check.SECTIONS)
    for name, section in sections.items():
        assert section["status"] == "ok" or section["reason"], name
        assert all(row["holds"] for row in section["checks"])
    assert [name for name, section in sections.items() if section["status"] == "skipped"] == ["compile"]
    lines = process.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines[:-1]] == list(check.SECTIONS), "one line per section"
    table = (tmp_path / results.TABLE).read_text()
    assert table.startswith(f"CPU, {content['date']}") and "| encode | " in table


@pytest.mark.parametrize(
    ("sections", "minutes", "small", "parts"),
    [
        (["encode", "nothing"], 9, True, ["sections nothing", "encode, train, fp16"]),
        ([], 0, True, ["minutes 0"]),
        ([], 9, False, ["no CUDA GPU", "--small"]),
    ],
)
def test_bad_flags_are_refused(sections, minutes, small, parts, tmp_path, monkeypatch):
    """Unknown sections, zero minutes and a missing GPU are refused before anything is written."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with refused(*parts):
        check.run(CheckOptions(minutes, sections, small, tmp_path / "out"), print)
    assert not (tmp_path / "out").exists()


def _pass(harness, section_results) -> None:
    section_results.note("a thing", seconds=1.5)


def _raise_error(harness, section_results) -> None:
    section_results.note("a part of it", seconds=2)
    raise RuntimeError("the card\nis on fire")


def _fail_check(harness, section_results) -> None:
    section_results.check("cosine, at least 0.9", float("nan"), False)


def _skip(harness, section_results) -> None:
    raise SectionSkipped("no library for it")


def test_a_section_that_fails_ends_alone(tmp_path):
    """An error keeps its traceback and the section's rows, the other sections run, and the check has failed."""
    functions = {"broken": _raise_error, "wrong": _fail_check, "absent": _skip, "good": _pass}
    sections = {name: CheckSection(measure, 0) for name, measure in functions.items()}
    logged: list[str] = []
    check_results = check.run(CheckOptions(1, [], True, tmp_path), logged.append, sections)
    contents = json.loads((tmp_path / results.JSON).read_text())["sections"]
    statuses = {name: content["status"] for name, content in contents.items()}
    assert statuses == {"broken": "error", "wrong": "failed", "absent": "skipped", "good": "ok"}
    assert "in _raise_error" in contents["broken"]["traceback"] and contents["broken"]["rows"][0]["seconds"] == 2
    assert contents["broken"]["reason"] == "RuntimeError: the card is on fire"
    assert contents["wrong"]["checks"][0]["value"] == "nan", "JSON has no such number"
    assert check_results.failed and len(logged) == 5 and all("\n" not in line for line in logged)
    table = (tmp_path / results.TABLE).read_text()
    assert "**does not hold**" in table and "the card is on fire" in table and "in _raise_error" in table


def test_a_failed_section_makes_the_script_end_with_1(tmp_path, monkeypatch, capsys):
    """The script exits with code 1 if a section fails, and runs only the selected sections."""
    monkeypatch.setitem(check.SECTIONS, "encode", CheckSection(lambda harness, section_results: 1 / 0, 0))
    script = runpy.run_path(str(SCRIPT))
    with pytest.raises(SystemExit) as exit_info:
        script["main"](script["Flags"](small=True, sections="encode", output_dir=str(tmp_path)))
    assert exit_info.value.code == 1 and "ZeroDivisionError" in capsys.readouterr().out
    assert list(json.loads((tmp_path / results.JSON).read_text())["sections"]) == ["encode"]


def test_a_section_that_would_not_fit_is_skipped(tmp_path):
    """A skipped section reports the seconds left and needed, and a shorter one still runs."""
    harness = Harness("cpu", True, tmp_path)
    harness.small = False  # time budgets hold in full runs only
    check_results = CheckResults(tmp_path, {"device": "a card"})
    line = check.run_section(check_results, harness, "long", CheckSection(_pass, 100), 60.0)
    assert "60 s are left, it takes about 100" in line and check_results.sections["long"]["status"] == "skipped"
    line = check.run_section(check_results, harness, "short", CheckSection(_pass, 10), 60.0)
    assert line.startswith("ok")


def test_vectors_lost_in_fp16_are_computed_again():
    """Texts whose vectors overflow in fp16 get finite vectors close to those in fp32."""
    recipe = random_decoders.recipe_for("random:mistral", "fp16")
    embedder = random_decoders.build_embedder(random_decoders.TINY, recipe, "fp32", "cpu")
    texts = ["one", "two words", "three more words"]
    fp16_section.enlarge_last_layer(embedder)
    references = encode(embedder, texts, recipe.prompts, "passage", "fp32")
    ids = tokenize(embedder.tokenizer, texts, recipe.prompts, "passage")
    assert not np.isfinite(encode_ids(embedder, ids, "fp16", EncodingOptions(checks_numbers=False))).all()
    vectors = encode(embedder, texts, recipe.prompts, "passage", "fp16")
    assert np.isfinite(vectors).all() and (vectors * references).sum(1).min() > 0.99


def test_quantized_weights_are_in_four_bits():
    """All linear layers are 4-bit layers with double quantization, and vectors stay near those in bf16."""
    bitsandbytes = pytest.importorskip("bitsandbytes")
    recipe = random_decoders.recipe_for("random:mistral", "nf4")
    vectors = []
    for precision in ("bf16", "nf4"):
        embedder = random_decoders.build_embedder(random_decoders.TINY, recipe, precision, "cpu")
        vectors.append(encode(embedder, ["one", "two words"], recipe.prompts, "passage", precision))
    layers = [module for module in embedder.modules() if isinstance(module, bitsandbytes.nn.Linear4bit)]
    assert len(layers) == 14 and all(layer.weight.quant_state.nested for layer in layers)
    assert (vectors[0] * vectors[1]).sum(1).min() > 0.9


def test_texts_are_distinct_and_share_their_examples(tmp_path):
    """There are as many distinct queries and passages as promised, and no query is among the shared examples."""
    recipe = random_decoders.recipe_for("random:mistral", "bf16")
    texts = sample_texts.read(sample_texts.generate(tmp_path, small=False), recipe, small=False)
    assert len(set(texts.queries)) == len(texts.examples) == sample_texts.QUERIES
    assert len(set(texts.passages)) == sample_texts.PASSAGES
    assert len({tuple(examples) for examples in texts.examples}) == 1 and len(texts.examples[0]) == 2
    assert not any(query in example for example in texts.examples[0] for query in texts.queries)


# Packages of the bare GPU machine that ran the check (docs/gpu.md), as far as the check imports them.
BARE = """
accelerate anyio certifi charset-normalizer click cloudpickle cycler filelock fonttools fsspec h11 httpcore httpx
huggingface-hub idna jinja2 joblib kiwisolver llvmlite markupsafe matplotlib mpmath narwhals networkx numba numpy
packaging pandas pillow protobuf psutil pyarrow pygments pyparsing python-dateutil pyyaml regex requests rich
safetensors scikit-learn scipy seaborn setuptools six sympy tabulate threadpoolctl tokenizers torch tqdm transformers
typing-extensions urllib3 xxhash
"""
NEWER = {"httpcore2", "httpx2", "truststore"}  # required by newer releases of what it holds

# Libraries import them where they are installed; s3fs and Gradio bring them.
OPTIONAL = ("boto3", "brotli", "orjson", "pytz")


def test_all_imports_are_carried_or_on_the_bare_machine():
    """Each package that the check imports is in gpu_wheels.sh or on the bare machine; it does without optional ones."""
    code = f"import sys; sys.modules.update(dict.fromkeys({OPTIONAL})); import rounds.cli, rounds.benchmark.gpu.check; "
    code += "print(*{name.partition('.')[0] for name, module in sys.modules.items() if module})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    modules = importlib.metadata.packages_distributions()
    imported = {_canonical(name) for module in loaded for name in modules.get(module, [])} - {"rounds"}
    script = (SCRIPT.parent / "gpu_wheels.sh").read_text()
    carried = set(map(_canonical, re.split(r"\s+", re.sub("==[^ ]*", "", script.split("(\n")[1].split("\n)")[0]))))
    assert imported - carried - set(BARE.split()) - NEWER == set()


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_a_rewritten_wheel_has_its_record(tmp_path):
    """RECORD lists exactly the files that remain, with their digests, and the version gets the local suffix."""
    wheel = tmp_path / "thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in {
            "thing/libbitsandbytes_cuda118.so": "old",
            "thing/libbitsandbytes_cuda130.so": "new",
            "thing-1.0.dist-info/METADATA": "Name: thing\nVersion: 1.0\n",
            "thing-1.0.dist-info/RECORD": "",
        }.items():
            archive.writestr(name, content)
    rewritten = wheels.rewrite(wheel, wheels.keep_libraries, "+cut")
    assert rewritten.name == "thing-1.0+cut-py3-none-any.whl" and not wheel.exists()
    with zipfile.ZipFile(rewritten) as archive:
        names, record = archive.namelist(), archive.read("thing-1.0+cut.dist-info/RECORD").decode()
        assert "Version: 1.0+cut" in archive.read("thing-1.0+cut.dist-info/METADATA").decode()
    assert "thing/libbitsandbytes_cuda118.so" not in names and len(record.splitlines()) == len(names) == 3
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"new").digest()).decode().rstrip("=")
    assert f"thing/libbitsandbytes_cuda130.so,sha256={digest},3" in record


def test_too_large_a_folder_is_refused(tmp_path):
    """Wheels above the limit are refused with a hint how to make the folder smaller."""
    (tmp_path / "a-1-py3-none-any.whl").write_bytes(b"x" * 100)
    with refused(tmp_path, "leave a package out"):
        wheels.shrink(tmp_path, limit=99)
