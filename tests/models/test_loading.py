"""Loading a model prints our own lines only, and files that do not fit are refused in one line."""

import functools
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import tiny_architectures
from helpers.tiny_task import refused
from helpers.tuned_models import build_tuned_model, save_checkpoint, tuned_recipe
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, BertForMaskedLM, CLIPVisionConfig, CLIPVisionModel, LlamaForCausalLM
from transformers.utils.logging import get_verbosity, set_verbosity

from rounds.config import loader
from rounds.models import backbone, cross_encoder, vision_tower
from rounds.models.random_models import random_model_folder

ONE_WEIGHT = "layers.1.mlp.down_proj.weight"


def change_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    """Replace weights in a model's file; None removes one."""
    file = folder / "model.safetensors"
    weights = load_file(file) | changes
    save_file({name: value for name, value in weights.items() if value is not None}, file, metadata={"format": "pt"})


@pytest.fixture
def llama(tmp_path):
    """The recipe of a tiny decoder in a folder of its own."""
    return tiny_architectures.save(tiny_architectures.build("llama"), tmp_path)


@pytest.fixture
def load_reports():
    """What transformers says while it loads weights."""
    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logger = logging.getLogger("transformers.modeling_utils")
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)


def test_a_language_models_head_is_no_matter_for_the_screen(load_reports, tmp_path):
    """transformers' LOAD REPORT of weights that an embedder does not use stays hidden."""
    recipe = tiny_architectures.save(LlamaForCausalLM(tiny_architectures.tiny_config("llama")), tmp_path)
    assert "lm_head.weight" in load_file(tmp_path / "model.safetensors")
    backbone.load(recipe, "fp32", "cpu")
    assert not load_reports


@pytest.mark.parametrize("level", [logging.WARNING, logging.ERROR])
def test_weights_that_are_missing_are_refused(level, load_reports, llama, tmp_path, request):
    """A model would be random in part, even where transformers is to say errors only."""
    request.addfinalizer(functools.partial(set_verbosity, get_verbosity()))
    set_verbosity(level)
    change_weights(tmp_path, **{ONE_WEIGHT: None})
    with refused(f"model {tmp_path}", "lack the weights", ONE_WEIGHT):
        backbone.load(llama, "fp32", "cpu")
    assert not load_reports


def test_weights_of_other_shapes_are_refused(llama, tmp_path):
    """The line has the file's shape and the model's."""
    change_weights(tmp_path, **{ONE_WEIGHT: torch.zeros(32, 63)})
    with refused(f"model {tmp_path}", "config.json", f"{ONE_WEIGHT} [32, 63] for [32, 64]"):
        backbone.load(llama, "fp32", "cpu")


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
@pytest.mark.parametrize("content", [b"version https://git-lfs.github.com/spec/v1", b"{}"], ids=["pointer", "empty"])
def test_a_damaged_file_is_refused(file, content, llama, tmp_path):
    """Whatever library reads it: a pointer to a file in another place, or an empty record."""
    (tmp_path / file).write_bytes(content)
    with refused(f"model {tmp_path}"):
        backbone.load(llama, "fp32", "cpu")


def test_a_reranker_with_weights_missing_is_refused(llama, tmp_path):
    """Its encoder would be random in part."""
    change_weights(tmp_path, **{ONE_WEIGHT: None})
    with refused(f"reranker {tmp_path}", "lack the weights", ONE_WEIGHT):
        cross_encoder.load(str(tmp_path), llama, "cpu")


def test_an_encoder_scores_nothing_where_no_recipe_trains_it(tmp_path):
    """A reranker that filters negatives as it is needs a head: a new one's scores are random."""
    tiny_architectures.save(tiny_architectures.build("bert"), tmp_path)
    with refused(f"reranker {tmp_path}", "lack the weights", "classifier"):
        cross_encoder.load(str(tmp_path), None, "cpu")


def test_a_tower_with_weights_missing_is_refused(tmp_path):
    """An image encoder is checked as a text encoder is."""
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=16, patch_size=8)).save_pretrained(tmp_path)
    name = next(name for name in load_file(tmp_path / "model.safetensors") if name.endswith("fc1.weight"))
    change_weights(tmp_path, **{name: None})
    with refused("model.vision", tmp_path, "lack the weights", "fc1.weight"):
        vision_tower.load(str(tmp_path), 16, loader.load("kbvqa").model.vision, True)


PROGRAM = """
import dataclasses, importlib.util, sys
from rounds import process
process.quiet_libraries()
from rounds.config import loader
from rounds.errors import UserError
from rounds.models import checkpoint, cross_encoder

decoder, encoder, adapter = sys.argv[1:]

def with_model(name, folder, precision="fp32"):
    recipe = loader.load(name)
    changes = {"name_or_path": folder, "sha256": None, "bos": None, "eos": None, "precision": precision}
    recipe = recipe.replace("prompts", query_max_length=64, passage_max_length=64).replace("reranking", max_length=64)
    return dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, **changes))

def load(name, folder, precision="fp32"):
    checkpoint.resolve(None, with_model(name, folder, precision), "cpu").load()

load("tiny-mistral", decoder)
load("minilm", encoder)
load("minilm-tokens", decoder)
load("minilm-splade", encoder)
load("tiny-mistral", decoder, "nf4" if importlib.util.find_spec("bitsandbytes") else "bf16")
checkpoint.resolve(adapter, device="cpu").load()
template = with_model("tiny-mistral", decoder).replace("reranking", template="<s>{query} {passage} yes?")
for folder, recipe in ((decoder, template), (decoder, with_model("tiny-mistral", decoder)), (encoder, None)):
    try:
        model = cross_encoder.load(folder, recipe, "cpu")
        model.predict([("a " * 90, "b " * 90)])
    except UserError as error:
        print(error)
try:
    load("minilm-splade", decoder)
except UserError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_stage_prints_none_of_the_libraries_notices(tmp_path):
    """Whole models, adapters, rerankers and heads that are not used, in a process of their own."""
    decoder, encoder, adapter = (tmp_path / name for name in ("decoder", "encoder", "adapter"))
    tokenizer = AutoTokenizer.from_pretrained(random_model_folder("mistral"))
    tokenizer.add_tokens(["yes", "no"])  # whose logits a reranker compares
    config = tiny_architectures.tiny_config("llama", torch_dtype="float32", vocab_size=len(tokenizer))
    tiny_architectures.save(LlamaForCausalLM(config), decoder, tokenizer)
    tiny_architectures.save(BertForMaskedLM(tiny_architectures.tiny_config("bert")), encoder)
    recipe = tuned_recipe("lora")
    save_checkpoint(build_tuned_model(recipe), recipe, adapter)
    command = [sys.executable, "-c", PROGRAM, *map(str, (decoder, encoder, adapter))]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = result.stdout.splitlines()
    assert (result.returncode, result.stderr, len(lines)) == (0, "", 2), (result.stderr, lines)
    assert lines[0].startswith(f"reranker {encoder}: its files lack the weights")
    assert "splade needs a masked-LM head" in lines[1]
