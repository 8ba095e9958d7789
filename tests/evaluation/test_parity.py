"""Fingerprint and parity: the first thing in which two runs differ is named as the cause."""

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
from helpers.scripts import call
from helpers.tiny_task import refused

from rounds.artifacts import manifest_parsing, store
from rounds.config import loader
from rounds.data import collection
from rounds.data.prompts import prefix_and_suffix
from rounds.encoding import fingerprint, run_store
from rounds.evaluation import parity, results
from rounds.evaluation.parity import Side, Tolerance
from rounds.evaluation.results import ResultRow
from rounds.models import checkpoint
from rounds.retrieval.run import Run


@pytest.fixture(scope="module")
def data(tiny_collection):
    return collection.read(tiny_collection)


def side(recipe, data, folder, precision="fp32") -> Side:
    source = checkpoint.resolve(None, recipe, "cpu", precision)
    return parity.load(run_store.run_folder(source, data, folder), precision)


@pytest.fixture(scope="module")
def plain(tiny, data, tmp_path_factory) -> Side:
    return side(tiny, data, tmp_path_factory.mktemp("plain"))


def test_a_run_carries_what_it_came_from(tiny, plain, data):
    """Versions, device, precision, prompts, lengths, hashes of both lists and the weights, and 32 probe vectors."""
    origin = plain.fingerprint
    assert origin.model["precision"] == "fp32" and origin.made["queries"].device == "cpu"
    assert "torch" in origin.made["queries"].versions
    assert origin.model["weights"] == checkpoint.resolve(None, tiny, "cpu").weights_digest
    assert origin.texts["query_prefix"] == tiny.prompts.query_prefix
    assert origin.corpus.number == len(data.passages) and origin.queries.number == len(data.validation)
    assert [len(each) for each in origin.probes.values()] == [16, 16]


def test_probes_are_the_vectors_of_formatted_texts(tiny, data, tmp_path):
    """A probe's text is what the model reads, its vector the one that the run was ranked with."""
    source = checkpoint.resolve(None, tiny, "cpu", "fp32")
    found = parity.load(run_store.run_folder(source, data, tmp_path), "x").fingerprint.probes["passages"]
    vectors, _ = run_store.open_store(source, tmp_path).vectors(list(data.passages.values()), "passage", "corpus")
    start, end = prefix_and_suffix(tiny.prompts, "passage")
    for row, (key, text) in enumerate(data.passages.items()):
        if key in found:
            assert found[key].text == start + text + end
            np.testing.assert_allclose(found[key].vector, vectors[row], atol=1e-7)


def test_a_run_is_on_a_par_with_itself(plain, data):
    """Nothing differs."""
    checks = parity.compare(plain, plain, qrels=data.qrels)
    assert len(checks) == 6 and all(check.same for check in checks) and parity.cause(checks) is None
    assert parity.table(plain, plain, checks).endswith("parity")


@pytest.mark.parametrize("name", ["tiny-tokens", "tiny-splade"])
def test_vectors_of_other_kinds_are_compared(name, data, tmp_path):
    """Probes of token vectors differ in length; a run equals itself, and another precision is within the tolerance."""
    recipe = loader.load(name)
    one, other = (side(recipe, data, tmp_path / precision, precision) for precision in ("fp32", "bf16"))
    assert all(check.same for check in parity.compare(one, one, qrels=data.qrels))
    vectors = parity.compare(one, other, qrels=data.qrels)[3]
    assert vectors.name == "vectors" and (vectors.same, vectors.within) == (False, True)
    assert vectors.found.startswith("cosine of 32 probes: min 0.99")


def test_fp32_and_bf16_are_on_a_par(tiny, data, plain, tmp_path):
    """The vectors differ within the tolerance, and the precision is named beside."""
    other = side(tiny, data, tmp_path, "bf16")
    checks = parity.compare(plain, other, Tolerance(overlap=0.8, metric=0.1), data.qrels)
    assert [check.same for check in checks[:4]] == [True, True, True, False]
    assert parity.cause(checks) is None
    assert 'model.precision: "fp32" -> "bf16"' in parity.table(plain, other, checks)


@pytest.mark.parametrize(
    ("changed", "cause"),
    [({"query_prefix": "find: "}, "prompts.query_prefix"), ({"passage_suffix": " end"}, "prompts.passage_suffix")],
)
def test_another_prompt_is_named(changed, cause, tiny, data, plain, tmp_path):
    """Lists are equal, formatted texts are not: the setting is the cause, whatever follows from it."""
    other = side(tiny.replace("prompts", **changed), data, tmp_path)
    checks = parity.compare(plain, other, qrels=data.qrels)
    first = parity.cause(checks)
    assert first.name == "formatted texts" and cause in first.cause
    assert [check.within for check in checks[:3]] == [True, True, False]


def test_a_shorter_limit_is_seen_in_the_texts(tiny, data, plain, tmp_path):
    """The model reads less of the texts: the limit is named."""
    other = side(tiny.replace("prompts", query_max_length=60), data, tmp_path)
    first = parity.cause(parity.compare(plain, other, qrels=data.qrels))
    assert first.name == "formatted texts" and "prompts.query_max_length: " in first.cause


def test_other_examples_are_another_text(tiny, data, tmp_path):
    """Few-shot examples belong to what the model reads."""
    some = tiny.replace("prompts", examples="fixed", examples_number=2)
    pair = [side(recipe, data, tmp_path) for recipe in (some, some.replace("prompts", examples_seed=5))]
    first = parity.cause(parity.compare(*pair, qrels=data.qrels))
    assert first.name == "formatted texts" and "prompts.examples_seed" in first.cause


@pytest.mark.parametrize("lost", ["passages", "queries"])
def test_another_list_comes_first(lost, tiny, data, plain, tmp_path):
    """A corpus or query list that differs is the cause, before anything that follows from it."""
    key = next(iter(data.passages if lost == "passages" else data.validation))
    kept = "passages" if lost == "passages" else "validation"
    fewer = dataclasses.replace(data, **{kept: {k: v for k, v in getattr(data, kept).items() if k != key}})
    first = parity.cause(parity.compare(plain, side(tiny, fewer, tmp_path), qrels=data.qrels))
    assert first.name == ("corpus list" if lost == "passages" else "queries") and "list" in first.cause


def test_other_weights_are_named(plain, data):
    """The same settings with other vectors: weights come first among what could have moved them."""
    content = copy.deepcopy(plain.fingerprint.to_json())
    content["model"]["weights"] = "0" * 64
    for probes in content["probes"].values():
        for probe in probes.values():
            probe["vector"] = probe["vector"][::-1]
    other = dataclasses.replace(plain, fingerprint=manifest_parsing.parse(content, "other"))
    first = parity.cause(parity.compare(plain, other, qrels=data.qrels))
    assert first.name == "vectors" and first.cause.startswith("model.weights")


def test_another_order_alone_is_seen_in_overlap_and_metric(plain, data):
    """Equal vectors and another ranking: the share of the top 25 that both hold, and MAP@25, as counted by hand."""
    run = plain.run
    last = run.passages[:, ::-1].copy()
    last[:, 0] = [data.qrels[query][0] for query in run.queries]
    checks = parity.compare(plain, dataclasses.replace(plain, run=Run(run.queries, last, run.scores)), qrels=data.qrels)
    found = {check.name: check for check in checks}
    shared = [len(set(own[:25]) & set(other[:25])) / 25 for own, other in zip(run.passages, last, strict=True)]
    assert found["vectors"].same and parity.cause(checks) == found["top-25 overlap"]
    assert found["top-25 overlap"].found == f"{np.mean(shared):.4f}"
    assert found["MAP@25"].within is False


def test_what_is_no_run_is_refused(tmp_path):
    """A folder without a fingerprint, and a file that is none."""
    with refused(tmp_path / fingerprint.FILE, "no such file"):
        parity.load(tmp_path, "x")
    store.write_json(tmp_path / fingerprint.FILE, {"kind": "else"})
    (tmp_path / "run.trec").touch()
    with refused(tmp_path / fingerprint.FILE, "fingerprint"):
        parity.load(tmp_path, "x")


def test_an_evaluation_names_its_run_and_a_checkpoint_none(tmp_path):
    """The last row's run is that of an evaluation; a checkpoint's own metrics.json names none, so its run is made."""
    row = ResultRow("round 1", {"MAP@25": 0.5}, np.zeros(1), ["q"], run="base/run")
    results.save([row], tmp_path)
    assert parity.recorded(tmp_path, Path("out")) == Path("out/base/run")
    epoch = tmp_path / "lora_epoch_1"
    epoch.mkdir()
    store.write_json(epoch / "metrics.json", {"MAP@25": 0.5})
    assert parity.recorded(epoch, Path("out")) is None


def test_the_script_ends_with_1_beyond_tolerance(tiny_collection, tmp_path, tiny):
    """0 within, 1 beyond, with the cause as the last line; 2 for what is neither run nor checkpoint."""
    other = tmp_path / "other.yaml"
    other.write_text('extends: tiny-mistral\nprompts:\n  query_prefix: "find: "\n')
    flags = ["--data_dir", tiny_collection, "--model_output", tmp_path, "--device", "cpu"]
    same = call("parity.py", "--a", "tiny-mistral", "--b", "tiny-mistral", *flags)
    assert same.returncode == 0 and same.stdout.rstrip().endswith("parity"), same.stderr
    apart = call("parity.py", "--a", "tiny-mistral", "--b", other, *flags)
    assert apart.returncode == 1 and "cause: formatted texts: prompts.query_prefix" in apart.stdout.splitlines()[-1]
    wrong = call("parity.py", "--a", "tiny-mistral", "--b", "./nowhere", *flags)
    assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1
