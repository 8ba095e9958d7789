"""GPU check: every section runs on tiny models, a broken one ends alone, figures are on disk after each."""

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

from rounds.benchmark import gpu_check, models, report, texts, wheels
from rounds.benchmark.gpu_check import Bench, Options, Part
from rounds.benchmark.report import Report, Skipped
from rounds.encoding.encoder import encode, encode_ids
from rounds.encoding.tokenization import tokenize

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "gpu_check.py"


def test_small_runs_every_section(tmp_path):
    """On a CPU, each section is ok or says why it is skipped, and the files say so."""
    command = [sys.executable, SCRIPT, "--small", "--output_dir", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads((tmp_path / report.JSON).read_text())
    assert list(found["sections"]) == list(gpu_check.PARTS)
    for name, section in found["sections"].items():
        assert section["status"] == "ok" or section["reason"], name
        assert all(check["holds"] for check in section["checks"])
    assert [name for name, section in found["sections"].items() if section["status"] == "skipped"] == ["compile"]
    lines = result.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines[:-1]] == list(gpu_check.PARTS), "one line a section"
    table = (tmp_path / report.TABLE).read_text()
    assert table.startswith(f"CPU, {found['date']}") and "| encode | " in table


@pytest.mark.parametrize(
    ("sections", "minutes", "small", "parts"),
    [
        (["encode", "nothing"], 9, True, ["sections nothing", "encode, train, fp16"]),
        ([], 0, True, ["minutes 0"]),
        ([], 9, False, ["no CUDA GPU", "--small"]),
    ],
)
def test_bad_flags_are_refused(sections, minutes, small, parts, tmp_path, monkeypatch):
    """Unknown sections, no time, and no card; nothing is written."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with refused(*parts):
        gpu_check.run(Options(minutes, sections, small, tmp_path / "out"), print)
    assert not (tmp_path / "out").exists()


def _measure(bench, section) -> None:
    section.note("a thing", seconds=1.5)


def _break(bench, section) -> None:
    section.note("a part of it", seconds=2)
    raise RuntimeError("the card\nis on fire")


def _miss(bench, section) -> None:
    section.check("cosine, at least 0.9", float("nan"), False)


def _need(bench, section) -> None:
    raise Skipped("no library for it")


PARTS = {name: Part(work, 0) for name, work in {"broken": _break, "wrong": _miss, "absent": _need}.items()}


def test_a_section_that_fails_ends_alone(tmp_path):
    """Its traceback and what it had are kept; the others run; the whole has failed."""
    said: list[str] = []
    parts = PARTS | {"good": Part(_measure, 0)}
    found = gpu_check.run(Options(1, [], True, tmp_path), said.append, parts)
    sections = json.loads((tmp_path / report.JSON).read_text())["sections"]
    statuses = {name: section["status"] for name, section in sections.items()}
    assert statuses == {"broken": "error", "wrong": "failed", "absent": "skipped", "good": "ok"}
    assert "in _break" in sections["broken"]["traceback"] and sections["broken"]["rows"][0]["seconds"] == 2
    assert sections["broken"]["reason"] == "RuntimeError: the card is on fire"
    assert sections["wrong"]["checks"][0]["value"] == "nan", "JSON has no such number"
    assert found.failed and len(said) == 5 and all("\n" not in line for line in said)
    table = (tmp_path / report.TABLE).read_text()
    assert "**does not hold**" in table and "the card is on fire" in table and "in _break" in table


def test_a_failed_section_makes_the_script_end_with_1(tmp_path, monkeypatch, capsys):
    """As a shell or make sees it; the other sections are not asked for."""
    monkeypatch.setitem(gpu_check.PARTS, "encode", Part(lambda bench, section: 1 / 0, 0))
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    found = runpy.run_path(str(SCRIPT))
    with pytest.raises(SystemExit) as ended:
        found["main"](found["Flags"](small=True, sections="encode", output_dir=str(tmp_path)))
    assert ended.value.code == 1 and "ZeroDivisionError" in capsys.readouterr().out
    assert list(json.loads((tmp_path / report.JSON).read_text())["sections"]) == ["encode"]


def test_a_section_that_would_not_fit_is_skipped(tmp_path):
    """It says how much time is left, and the next one may still fit."""
    bench = Bench("cpu", True, tmp_path)
    bench.small = False
    written = Report(tmp_path, {"device": "a card"})
    line = gpu_check.run_section(written, bench, "long", Part(_measure, 100), 60.0)
    assert "60 s are left, it takes about 100" in line and written.sections["long"]["status"] == "skipped"
    assert gpu_check.run_section(written, bench, "short", Part(_measure, 10), 60.0).startswith("ok")


def test_vectors_lost_in_fp16_are_computed_again():
    """A layer beyond fp16's range leaves no vector that is not a number."""
    recipe = models.recipe_for("random:mistral", "fp16")
    embedder = models.embedder(models.TINY, recipe, "fp32", "cpu")
    words = ["one", "two words", "three more words"]
    last = embedder[0].model.layers[-1].mlp
    with torch.no_grad():
        for matrix in (last.up_proj, last.down_proj):
            matrix.weight.mul_(1e3)
    wanted = encode(embedder, words, recipe.prompts, "passage", "fp32")
    ids = tokenize(embedder.tokenizer, words, recipe.prompts, "passage")
    assert not np.isfinite(encode_ids(embedder, ids, "fp16")).all()
    found = encode(embedder, words, recipe.prompts, "passage", "fp16")
    assert np.isfinite(found).all() and (found * wanted).sum(1).min() > 0.99


def test_packed_weights_are_in_four_bits():
    """All linear layers, doubly quantized; vectors stay near those of the 16-bit weights."""
    bitsandbytes = pytest.importorskip("bitsandbytes")
    recipe = models.recipe_for("random:mistral", "nf4")
    found = []
    for precision in ("bf16", "nf4"):
        embedder = models.embedder(models.TINY, recipe, precision, "cpu")
        found.append(encode(embedder, ["one", "two words"], recipe.prompts, "passage", precision))
    layers = [each for each in embedder.modules() if isinstance(each, bitsandbytes.nn.Linear4bit)]
    assert len(layers) == 14 and all(each.weight.quant_state.nested for each in layers)
    assert (found[0] * found[1]).sum(1).min() > 0.9


def test_texts_are_distinct_and_share_their_examples(tmp_path):
    """As many as asked for; no query is among its own examples."""
    recipe = models.recipe_for("random:mistral", "bf16")
    given = texts.of(texts.generate(tmp_path, small=False), recipe, small=False)
    assert len(set(given.queries)) == len(given.before) == texts.QUERIES
    assert len(set(given.passages)) == texts.PASSAGES
    assert len({tuple(each) for each in given.before}) == 1 and len(given.before[0]) == 2
    assert not any(query in example for example in given.before[0] for query in given.queries)


# Packages of the bare GPU machine that ran the check (docs/gpu.md), as far as the check imports them.
BARE = """
accelerate anyio certifi charset-normalizer click cloudpickle cycler filelock fonttools fsspec h11 httpcore httpx
huggingface-hub idna jinja2 joblib kiwisolver llvmlite markupsafe matplotlib mpmath narwhals networkx numba numpy
packaging pandas pillow protobuf psutil pyarrow pygments pyparsing python-dateutil pyyaml regex requests rich
safetensors scikit-learn scipy seaborn setuptools six sympy tabulate threadpoolctl tokenizers torch tqdm transformers
typing-extensions urllib3 xxhash
"""
NEWER = {"httpcore2", "httpx2", "truststore"}  # required by newer releases of what it holds


def test_all_imports_are_carried_or_on_the_bare_machine():
    """Each package that the check imports is in gpu_wheels.sh or on the bare machine."""
    code = "import sys, rounds.cli, rounds.benchmark.gpu_check; print(*{n.partition('.')[0] for n in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    modules = importlib.metadata.packages_distributions()
    imported = {_canonical(name) for module in loaded for name in modules.get(module, [])} - {"rounds"}
    script = (SCRIPT.parent / "gpu_wheels.sh").read_text()
    carried = set(map(_canonical, re.split(r"\s+", re.sub("==[^ ]*", "", script.split("(\n")[1].split("\n)")[0]))))
    assert imported - carried - set(BARE.split()) - NEWER == set()


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_a_rewritten_wheel_has_its_record(tmp_path):
    """Files that are left out are gone from RECORD too, digests are those of the files, the version says it was cut."""
    wheel = tmp_path / "thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in {
            "thing/libbitsandbytes_cuda118.so": "old",
            "thing/libbitsandbytes_cuda130.so": "new",
            "thing-1.0.dist-info/METADATA": "Name: thing\nVersion: 1.0\n",
            "thing-1.0.dist-info/RECORD": "",
        }.items():
            archive.writestr(name, content)
    written = wheels.rewrite(wheel, wheels.keep_libraries, "+cut")
    assert written.name == "thing-1.0+cut-py3-none-any.whl" and not wheel.exists()
    with zipfile.ZipFile(written) as archive:
        names, record = archive.namelist(), archive.read("thing-1.0+cut.dist-info/RECORD").decode()
        assert "Version: 1.0+cut" in archive.read("thing-1.0+cut.dist-info/METADATA").decode()
    assert "thing/libbitsandbytes_cuda118.so" not in names and len(record.splitlines()) == len(names) == 3
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"new").digest()).decode().rstrip("=")
    assert f"thing/libbitsandbytes_cuda130.so,sha256={digest},3" in record


def test_too_large_a_folder_is_refused(tmp_path):
    """Wheels above the limit are refused, with a way to make the folder smaller."""
    (tmp_path / "a-1-py3-none-any.whl").write_bytes(b"x" * 100)
    with refused(tmp_path, "leave a package out"):
        wheels.cut(tmp_path, limit=99)
