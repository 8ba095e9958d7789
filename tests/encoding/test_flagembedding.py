"""FlagEmbedding: its model classes give our vectors, and its trainer takes our mined rows.

`make interop` installs it; without it, these tests are skipped.
"""

import dataclasses
import json
import subprocess
import sys

import pytest
from helpers.training import finetune, mine

from rounds.config import loader
from rounds.data import collection
from rounds.encoding import flagembedding
from rounds.encoding.encoder import encode
from rounds.encoding.tokenization import join_examples
from rounds.evaluation.stage import evaluate_checkpoint
from rounds.models import checkpoint
from rounds.models.weights import locate_model
from rounds.retrieval.vectors import cosines

pytestmark = [pytest.mark.interop, pytest.mark.slow]
pytest.importorskip("FlagEmbedding", reason="make interop installs FlagEmbedding")

TEXTS = ["two thirds", "a longer text about adding fractions with unlike denominators " * 3, "x", "angles in a kite"]


def recipe_of(name: str, **prompts):
    recipe = loader.load(name)
    return dataclasses.replace(recipe, prompts=dataclasses.replace(recipe.prompts, query_max_length=512, **prompts))


def least_cosine(source, kind: str, examples=None) -> float:
    ours = encode(source.load(), TEXTS, source.recipe.prompts, kind, source.precision, examples=examples)
    theirs = flagembedding.encode(source, TEXTS, kind, examples)
    return float(cosines(ours, theirs).min())


@pytest.mark.parametrize("kind", ["query", "passage"])
@pytest.mark.parametrize("name", ["tiny-mistral", "tiny-qwen2", "minilm"])
def test_vectors_are_flagembedding_s(name, kind):
    """The same folder and prompts give FlagICLModel's, FlagLLMModel's and FlagModel's vectors."""
    recipe = recipe_of(name)
    source = checkpoint.resolve(None, recipe, "cpu", "fp32")
    assert least_cosine(source, kind) >= 0.9999


def test_vectors_with_examples_are_flagicl_s():
    """The same examples before the query give FlagICLModel's vectors."""
    source = checkpoint.resolve(None, recipe_of("tiny-mistral", examples="fixed", examples_number=2), "cpu", "fp32")
    example = "<instruct>task\n<query>one half plus one half\n<response>adds denominators"
    examples = [[example, "<instruct>task\n<query>2 + 2\n<response>multiplies"], [example], [example], []]
    assert least_cosine(source, "query", examples) >= 0.9999


def test_examples_as_flagembedding_formats_them():
    """Our example texts, joined, are the prefix that FlagICLModel makes of the same pairs."""
    from FlagEmbedding import FlagICLModel

    from rounds.data.few_shot import ExampleBank, QueryMetadata

    recipe = recipe_of("tiny-mistral", examples="fixed", examples_number=2)
    rows = [(QueryMetadata("one half", "1"), "adds denominators"), (QueryMetadata("2 + 2", "2"), "multiplies")]
    bank = ExampleBank(rows, recipe.prompts)
    chosen = bank.choose(QueryMetadata("other", "3"), 2)
    folder = locate_model(recipe.model)
    pairs = [{"instruct": recipe.prompts.task, "query": a.text, "response": r} for a, r in rows]
    pairs.sort(key=lambda pair: [pair["response"] in text for text in chosen].index(True))
    model = FlagICLModel(folder, examples_for_task=pairs, use_fp16=False, devices="cpu")
    (lead,) = join_examples(model.tokenizer, [chosen], recipe.prompts, "query")
    assert model.prefix == lead


def test_an_adapter_encodes_through_flagembedding(tiny, tiny_mined, tiny_collection, tmp_path):
    """A trained adapter, merged for FlagEmbedding, gives the adapter's vectors."""
    data = collection.read(tiny_collection)
    finetune(tiny, tiny_mined, tmp_path / "train")
    source = checkpoint.resolve(str(tmp_path / "train"), device="cpu")
    assert least_cosine(source, "passage") >= 0.9999
    ours, theirs = (
        evaluate_checkpoint(each, data, tmp_path, False)
        for each in (source, source.with_options(engine="flagembedding"))
    )
    assert theirs.metrics["MAP@25"] == pytest.approx(ours.metrics["MAP@25"], abs=0.01)
    assert theirs.fingerprint != ours.fingerprint


def test_flagembedding_mines_the_same_negatives(tiny, tiny_collection, tmp_path):
    """`--engine flagembedding` mines nearly the same negatives as our own engine."""
    found = []
    for engine in ("rounds", "flagembedding"):
        source = checkpoint.resolve(None, tiny, "cpu").with_options(engine=engine)
        output = tmp_path / f"{engine}.jsonl"
        mine(tiny, tiny_collection, output, source=source)
        found.append([set(json.loads(line)["neg_id"]) for line in output.read_text().splitlines()])
    shared = sum(len(one & other) for one, other in zip(*found, strict=True))
    assert shared / sum(len(one) for one in found[0]) > 0.95


def test_flagembedding_s_trainer_takes_our_mined_rows(tiny, tiny_mined, tmp_path):
    """The decoder-only ICL trainer runs on our mined JSONL, unchanged, and leaves an adapter."""
    flags = {
        "model_name_or_path": locate_model(tiny.model),
        "train_data": tiny_mined,
        "output_dir": tmp_path / "theirs",
        "cache_path": tmp_path / "cache",
        "train_group_size": 4,
        "query_max_len": 600,
        "passage_max_len": 64,
        "query_instruction_for_retrieval": "task",
        "query_instruction_format": "<instruct>{}\n<query>{}",
        "icl_suffix_str": "\n<response>",
        "learning_rate": "1e-4",
        "max_steps": 2,
        "per_device_train_batch_size": 2,
        "lora_rank": 4,
        "temperature": 0.02,
        "save_steps": 2,
        "use_cpu": True,
        "report_to": "none",
        "ddp_backend": "gloo",
        "same_dataset_within_batch": True,
        "normalize_embeddings": True,
        "sentence_pooling_method": "last_token",
    }
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "1"]
    trainer = ["-m", "FlagEmbedding.finetune.embedder.decoder_only.icl"]
    arguments = [part for name, value in flags.items() for part in (f"--{name}", str(value))]
    result = subprocess.run([*launcher, *trainer, *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    assert list((tmp_path / "theirs").rglob("adapter_model.*"))
