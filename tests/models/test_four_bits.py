"""4-bit weights on a CPU: LoRA trains over them, reloads, and merges into the weights that they came from."""

import copy
import dataclasses
import json

import numpy as np
import pytest
import torch
from helpers.fresh_process import embed_in_fresh_process
from helpers.tiny_task import chunks_and_labels, refused
from helpers.training import finetune
from helpers.tuned_models import randomize_lora

from rounds.config import loader
from rounds.config.recipe import Training
from rounds.data import collection
from rounds.encoding import merged_checkpoint
from rounds.encoding.encoder import encode
from rounds.evaluation.stage import evaluate_checkpoint, expand_variants, resolve_epochs
from rounds.models import backbone, checkpoint, peft_methods
from rounds.training.collator import Collator
from rounds.training.dataset import read_training_groups
from rounds.training.loss_module import EmbeddingLoss
from rounds.training.stage import FinetuneJob, finetune_round

bitsandbytes = pytest.importorskip("bitsandbytes")


def four_bit_recipe(precision: str = "nf4", double_quant: bool = False):
    tiny = loader.load("tiny-mistral")
    model = dataclasses.replace(tiny.model, precision=precision, double_quant=double_quant)
    return dataclasses.replace(tiny, model=model, tuning=tiny.tuning).replace("training", epochs=1)


@pytest.fixture(scope="module")
def trained(tiny_mined, tiny_collection, tmp_path_factory):
    """A LoRA checkpoint trained over NF4 weights."""
    folder = tmp_path_factory.mktemp("nf4")
    finetune(four_bit_recipe(), tiny_mined, folder / "train", tiny_collection)
    return folder / "train"


def loss_of(embedder, recipe, mined, rows: int = 8) -> torch.Tensor:
    data = read_training_groups(mined, 42, recipe)
    collate = Collator(data, embedder, recipe, 42)
    batch = chunks_and_labels(collate([{"row": row} for row in range(rows)]))
    return EmbeddingLoss(embedder, Training(temperature=0.05), "fp32")(*batch)


def gradients(embedder, recipe, mined) -> dict[str, torch.Tensor]:
    embedder.zero_grad()
    loss_of(embedder, recipe, mined).backward()
    return {name: value.grad.clone() for name, value in peft_methods.trainable_parameters(embedder).items()}


@pytest.mark.parametrize("precision", ["nf4", "fp4"])
@pytest.mark.parametrize("double_quant", [False, True])
def test_gradients_equal_those_of_the_unpacked_weights(precision, double_quant, tiny_mined):
    """LoRA's gradients over 4-bit weights are those over the same weights unpacked, after an evaluation in between too.

    bitsandbytes repacks the weights for CPUs at the first forward pass in evaluation mode; gradients are garbage then.
    """
    recipe = four_bit_recipe(precision, double_quant)
    torch.manual_seed(0)
    packed = backbone.load(recipe, precision, "cpu")
    peft_methods.apply(
        packed, dataclasses.replace(recipe.tuning, lora=dataclasses.replace(recipe.tuning.lora, dropout=0.0))
    )
    randomize_lora(packed)
    _compute_in_fp32(packed)
    unpacked = _unpack(copy.deepcopy(packed))
    expected = gradients(unpacked.train(), recipe, tiny_mined)
    encode(packed.eval(), ["a", "b"], recipe.prompts, "query", "fp32")
    gradients_over_packed = gradients(packed.train(), recipe, tiny_mined)
    assert gradients_over_packed.keys() == expected.keys()
    for name, value in expected.items():
        gradient = gradients_over_packed[name]
        cosine = torch.nn.functional.cosine_similarity(gradient.flatten(), value.flatten(), dim=0)
        assert cosine > 0.9999, name
        assert torch.allclose(gradient, value, rtol=1e-2, atol=1e-4 * float(value.abs().max())), name


def _compute_in_fp32(embedder) -> None:
    """Compute in fp32, and unpack the 4-bit weights to it, where a CPU would take bf16."""
    for module in embedder.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            module.compute_dtype = module.weight.quant_state.dtype = torch.float32
        else:
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.float()


def _unpack(embedder):
    """Plain linear layers with the 4-bit layers' values, under the same adapters."""
    for module in list(embedder.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, bitsandbytes.nn.Linear4bit):
                weight = bitsandbytes.functional.dequantize_4bit(child.weight.data, child.weight.quant_state)
                plain = torch.nn.Linear(child.in_features, child.out_features, bias=child.bias is not None)
                plain.weight = torch.nn.Parameter(weight.float().view_as(plain.weight), requires_grad=False)
                setattr(module, name, plain)
    return embedder


def test_the_weights_are_in_four_bits():
    """With precision nf4 the linear layers are packed, two values a byte."""
    embedder = backbone.load(four_bit_recipe(), "nf4", "cpu")
    packed = [m for m in embedder.modules() if isinstance(m, bitsandbytes.nn.Linear4bit)]
    assert len(packed) == 14, "7 in each of 2 layers"
    assert all(m.weight.dtype == torch.uint8 and m.weight.quant_type == "nf4" for m in packed)
    assert all(m.weight.numel() * 2 == m.in_features * m.out_features for m in packed)


def test_training_lowers_the_loss(trained, tiny_mined):
    """The loss on the training rows falls."""
    recipe = four_bit_recipe()
    before = backbone.load(recipe, "nf4", "cpu")
    after = checkpoint.resolve(str(trained), device="cpu").load()
    with torch.no_grad():
        assert loss_of(after, recipe, tiny_mined, 24) < loss_of(before, recipe, tiny_mined, 24)


def test_a_fresh_process_gives_the_same_vectors(trained):
    """Loaded in a process where nothing is left over from training, the embeddings are the same."""
    texts = ["x y", "angle"]
    source = checkpoint.resolve(str(trained), device="cpu")
    assert source.precision == "nf4"
    here = encode(source.load(), texts, source.recipe.prompts, "query", source.precision)
    np.testing.assert_allclose(embed_in_fresh_process(trained, texts), here, atol=1e-6)


def test_vectors_at_the_end_of_training_are_those_of_the_reloaded(tiny_mined, tiny_collection, tmp_path):
    """The metrics of the last epoch are those of the reloaded checkpoint."""
    finetune(four_bit_recipe(), tiny_mined, tmp_path / "train", tiny_collection)
    manifest = json.loads((tmp_path / "train" / "manifest.json").read_text())
    source = checkpoint.resolve(str(tmp_path / "train"), device="cpu")
    row = evaluate_checkpoint(source, collection.read(tiny_collection), tmp_path / "other", False)
    assert row.metrics["MAP@25"] == pytest.approx(manifest["epochs"][-1]["metrics"]["MAP@25"], abs=1e-9)


def test_merging_in_four_bits_is_refused(trained, tmp_path):
    """Merging into 4-bit weights is refused: rounding would erase the adapter."""
    with refused("precision nf4", "bf16"):
        merged_checkpoint.merge(checkpoint.resolve(str(trained), device="cpu"), tmp_path / "merged", ["a"])
    assert not (tmp_path / "merged").exists()


def test_a_quantized_base_is_refused(trained, tmp_path):
    """An adapter is not merged into a base model whose files are quantized."""
    source = checkpoint.resolve(str(trained), device="cpu", precision="fp32")
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text('{"quantization_config": {}}')
    model = dataclasses.replace(source.recipe.model, name_or_path=str(base))
    with refused(base, "quantized"):
        merged_checkpoint.merge(
            dataclasses.replace(source, recipe=dataclasses.replace(source.recipe, model=model)), tmp_path / "m", ["a"]
        )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_merged_checkpoint_gives_the_adapter_s_vectors(trained, tmp_path, precision):
    """Merged into 16 or 32 bits and reloaded by its own manifest, a model gives the adapter's embeddings."""
    source = checkpoint.resolve(str(trained), device="cpu", precision=precision)
    cosine = merged_checkpoint.merge(source, tmp_path / "merged", ["one", "two thirds", "an angle"])
    assert cosine > 0.999
    merged = checkpoint.resolve(str(tmp_path / "merged"), device="cpu")
    assert (merged.kind, merged.precision, merged.lineage) == ("merged", precision, source.lineage)
    texts = ["some other text"]
    one, other = (
        encode(model.load(), texts, model.recipe.prompts, "query", model.precision) for model in (source, merged)
    )
    assert float((one * other).sum()) > 0.999


def test_vectors_that_differ_are_not_written(trained, tmp_path, monkeypatch):
    """A merge that changes the vectors fails and leaves nothing behind."""
    source = checkpoint.resolve(str(trained), device="cpu", precision="fp32")
    vectors = iter([np.eye(2), np.ones((2, 2))])
    monkeypatch.setattr(merged_checkpoint, "embed_passages", lambda *_: next(vectors))
    with refused(tmp_path / "merged", "least cosine 0.7071", "nothing was written"):
        merged_checkpoint.merge(source, tmp_path / "merged", ["a", "b"])
    assert list(tmp_path.iterdir()) == []


def test_a_base_model_is_not_merged(tiny, tmp_path):
    """A base model has no adapter to merge."""
    with refused("is not an adapter"):
        merged_checkpoint.merge(checkpoint.resolve(None, tiny, "cpu"), tmp_path / "merged", ["a"])


@pytest.mark.parametrize("kind", ["adapter", "merged", "restart"])
def test_round_two_from_an_adapter_a_merged_checkpoint_and_the_base(
    kind, trained, tiny_mined, tiny_collection, tmp_path
):
    """Round 2 trains from each of them, and its manifest names the kind of parent."""
    recipe, start = four_bit_recipe(), str(trained)
    if kind == "merged":
        recipe = loader.load("tiny-mistral").replace("training", epochs=1)
        source = checkpoint.resolve(start, device="cpu", precision="fp32")
        merged_checkpoint.merge(source, tmp_path / "merged", ["one", "two"])
        start = str(tmp_path / "merged")
    if kind == "restart":
        recipe, start = recipe.replace("training", start_from="base"), None
    data, output = collection.read(tiny_collection), tmp_path / "train"
    source = checkpoint.resolve(start, device="cpu") if start else checkpoint.resolve(None, recipe, "cpu")
    job = FinetuneJob(
        start=source,
        recipe=recipe,
        train_data=tiny_mined,
        output=output,
        model_output=tmp_path,
        seed=42,
        round_number=2,
        validation=data,
    )
    finetune_round(job)
    manifest = json.loads((output / "lora_epoch_1" / "manifest.json").read_text())
    expected = {"adapter": "adapter", "merged": "merged", "restart": "base"}[kind]
    assert manifest["parent"]["kind"] == expected
    assert manifest["round"] == 2
    reloaded = checkpoint.resolve(str(output), device="cpu")
    assert reloaded.is_adapter and set(reloaded.lineage) == set(data.questions["train"])


def test_a_second_precision_stands_beside_the_first(trained):
    """Evaluated in a second precision, a checkpoint has a row for each."""
    epochs = resolve_epochs(str(trained), None, "cpu")
    rows = expand_variants(epochs, "fp32", None, "rounds")
    assert [(mark, source.precision) for mark, source in rows.items()] == [
        ("last, best, nf4", "nf4"),
        ("last, best, fp32", "fp32"),
    ]
    assert len({json.dumps(source.key, sort_keys=True) for source in rows.values()}) == 2
