"""Tuning methods: each trains only its own weights, is saved and loaded completely, and continues in the next round."""

import dataclasses

import numpy as np
import pytest
import torch
from helpers.fresh_process import embed_in_fresh_process
from helpers.tiny_task import refused
from helpers.training import few_rows, finetune
from helpers.tuned_models import build_tuned_model, save_checkpoint, tuned_recipe
from transformers import AutoTokenizer

from rounds.artifacts import store
from rounds.config.recipe import TUNING_METHODS, HoulsbyAdapters, Projection, VirtualTokens
from rounds.encoding import batching, merged_checkpoint
from rounds.encoding.batching import Layout
from rounds.encoding.encoder import encode
from rounds.encoding.tokenization import tokenize
from rounds.models import checkpoint, peft_methods, weights_io
from rounds.models.weights import locate_model

TEXTS = ["two thirds of a number", "angles in a kite", "x", "the sum of two odd numbers is even because " * 3]
FROZEN = [method for method in TUNING_METHODS if method not in ("full", "qlora")]


def embed(embedder, recipe, texts=TEXTS) -> np.ndarray:
    """Embed texts as queries."""
    return encode(embedder, texts, recipe.prompts, "query", "fp32")


@pytest.mark.parametrize("model", ["mistral", "bert"])
@pytest.mark.parametrize("method", FROZEN)
def test_what_is_saved_is_what_is_loaded(method, model, tmp_path):
    """Loaded again the vectors are the trained ones, and the base model's weights are not in the folder."""
    recipe = tuned_recipe(method, model)
    embedder = build_tuned_model(recipe)
    expected = embed(embedder, recipe)
    source = checkpoint.resolve(str(save_checkpoint(embedder, recipe, tmp_path / "c")), device="cpu")
    np.testing.assert_allclose(embed(source.load(), recipe), expected, atol=2e-6)
    assert source.kind == "adapter" and not (tmp_path / "c" / weights_io.MODEL_WEIGHTS).exists()
    untrained = embed(checkpoint.resolve(None, recipe, "cpu").load(), recipe)
    assert np.abs(untrained - expected).max() > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("method", FROZEN)
def test_a_fresh_process_loads_the_trained_vectors(method, tmp_path):
    """Nothing of a method lives in the process that trained it."""
    recipe = tuned_recipe(method, unfreeze=["layer_norms"], projection=Projection(24))
    embedder = build_tuned_model(recipe)
    folder = save_checkpoint(embedder, recipe, tmp_path / "c")
    np.testing.assert_allclose(embed_in_fresh_process(folder, TEXTS), embed(embedder, recipe), atol=2e-6)


@pytest.mark.parametrize(("model", "side"), [("mistral", "left"), ("mistral", "right"), ("bert", "right")])
@pytest.mark.parametrize("method", ["prompt", "p_tuning", "prefix", "bottleneck"])
def test_a_text_has_one_vector_alone_or_in_a_batch(method, side, model):
    """Virtual tokens belong to no text: neither padding nor its side moves a vector."""
    recipe = tuned_recipe(method, model, side)
    embedder = build_tuned_model(recipe)
    together = embed(embedder, recipe)
    for row, text in enumerate(TEXTS):
        np.testing.assert_allclose(embed(embedder, recipe, [text])[0], together[row], atol=2e-6)


@pytest.mark.parametrize("model", ["mistral", "bert"])
@pytest.mark.parametrize("method", ["prompt", "p_tuning", "prefix"])
def test_packed_texts_behind_virtual_tokens_equal_padded_ones(method, model):
    """Vectors, and the gradients of what is trained, are those of padded batches with plain attention."""
    vectors, gradients = [], []
    for attention in ("sdpa", "eager"):
        recipe = tuned_recipe(method, model).replace("model", attention=attention)
        embedder = build_tuned_model(recipe)
        layout = Layout.for_model(embedder, 64)
        assert layout.packed == (attention == "sdpa")
        rows = tokenize(embedder.tokenizer, TEXTS, recipe.prompts, "query")
        embeddings = embedder(batching.to_tensors(rows, layout))["sentence_embedding"][: len(TEXTS)]
        (embeddings @ embeddings.T).tril(-1).sum().backward()
        vectors.append(embeddings.detach())
        gradients.append({name: value.grad for name, value in peft_methods.trainable_parameters(embedder).items()})
    torch.testing.assert_close(*vectors, rtol=0, atol=2e-6)
    for name, expected in gradients[1].items():
        assert torch.norm(gradients[0][name] - expected) <= 1e-4 * torch.norm(expected) + 1e-8, name


@pytest.mark.parametrize("method", ["prompt", "p_tuning"])
def test_virtual_tokens_are_attended_to_but_not_pooled(method):
    """Against a slow loop: virtual tokens stand before the text's own, and only the text's states are averaged."""
    recipe = tuned_recipe(method, "bert")
    embedder = build_tuned_model(recipe)
    model = embedder[0].model
    for text, vector in zip(TEXTS, embed(embedder, recipe), strict=True):
        (ids,) = tokenize(embedder.tokenizer, [text], recipe.prompts, "query")
        with torch.no_grad():
            text_embeddings = model.base_model.get_input_embeddings()(torch.tensor([ids]))
            inputs = torch.cat([model.get_prompt(1), text_embeddings], dim=1)
            states = model.base_model(inputs_embeds=inputs).last_hidden_state[0, 5:]
        expected = torch.nn.functional.normalize(states.mean(0), dim=0)
        np.testing.assert_allclose(vector, expected.numpy(), atol=2e-6)


@pytest.mark.parametrize("method", FROZEN)
def test_a_method_trains_only_its_own_weights(method):
    """None of the base model's weights is trainable."""
    recipe = tuned_recipe(method, "bert")
    base = {name for name, _ in checkpoint.resolve(None, recipe, "cpu").load().named_parameters()}
    embedder = build_tuned_model(recipe, step=0)
    assert not base & set(peft_methods.trainable_parameters(embedder))
    parts = {"lora": "lora_", "ia3": "ia3_", "bottleneck": ".bottleneck."}
    assert all(parts.get(method, ".prompt_encoder.") in name for name in peft_methods.trainable_parameters(embedder))


@pytest.mark.parametrize("model", ["mistral", "bert"])
def test_bottlenecks_change_nothing_at_first(model):
    """The up-projection starts at zero, so the embeddings are the base model's."""
    recipe = tuned_recipe("bottleneck", model)
    base = checkpoint.resolve(None, recipe, "cpu").load()
    np.testing.assert_array_equal(embed(build_tuned_model(recipe, step=0), recipe), embed(base, recipe))


@pytest.mark.parametrize("method", ["lora", "prompt", "bottleneck"])
@pytest.mark.parametrize("part", ["layer_norms", "input_embeddings"])
def test_unfrozen_weights_are_trained_saved_and_loaded(method, part, tmp_path):
    """Unfrozen weights are saved beside the adapter, in fp32 whatever the frozen weights' precision."""
    recipe = tuned_recipe(method, unfreeze=[part]).replace("model", precision="bf16")
    embedder = build_tuned_model(recipe)
    names = [name for name in peft_methods.trainable_parameters(embedder) if "norm" in name or "embed_tokens" in name]
    assert names and all(peft_methods.trainable_parameters(embedder)[name].dtype == torch.float32 for name in names)
    source = checkpoint.resolve(str(save_checkpoint(embedder, recipe, tmp_path / "c")), device="cpu")
    loaded = dict(source.load().named_parameters())
    assert all(torch.equal(loaded[name], peft_methods.trainable_parameters(embedder)[name]) for name in names)


@pytest.mark.parametrize("method", ["full", "lora", "bottleneck"])
@pytest.mark.parametrize("normalize", [True, False])
def test_a_projection_head_is_saved_and_loaded(method, normalize, tmp_path):
    """The head sets the embeddings' dimension and whether they have unit length, after a reload too."""
    recipe = tuned_recipe(method, projection=Projection(24, normalize))
    embedder = build_tuned_model(recipe)
    expected = embed(embedder, recipe)
    source = checkpoint.resolve(str(save_checkpoint(embedder, recipe, tmp_path / "c")), device="cpu")
    reloaded = embed(source.load(), recipe)
    np.testing.assert_allclose(reloaded, expected, atol=2e-6)
    assert reloaded.shape[1] == 24
    assert np.allclose(np.linalg.norm(reloaded, axis=1), 1, atol=1e-5) == normalize


def test_a_square_projection_head_keeps_similarities_at_first():
    """The head starts orthogonal, so all similarities are the base model's."""
    recipe = tuned_recipe("lora", projection=Projection(64))
    base = checkpoint.resolve(None, recipe, "cpu").load()
    dim = base.get_embedding_dimension()
    recipe = tuned_recipe("lora", projection=Projection(dim))
    one, other = embed(build_tuned_model(recipe, step=0), recipe), embed(base, recipe)
    np.testing.assert_allclose(one @ one.T, other @ other.T, atol=1e-5)


def test_a_prompt_starts_from_a_text():
    """Virtual tokens begin as the embeddings of the text's tokens."""
    recipe = tuned_recipe("prompt")
    text = dataclasses.replace(
        recipe.tuning, virtual=VirtualTokens(tokens=3, init="text", init_text="find the mistake")
    )
    embedder = build_tuned_model(dataclasses.replace(recipe, tuning=text), step=0)
    model = embedder[0].model
    ids = embedder.tokenizer("find the mistake")["input_ids"][:3]
    expected = model.get_input_embeddings().weight[ids]
    torch.testing.assert_close(model.prompt_encoder["default"].embedding.weight, expected.float())


def test_the_text_s_tokenizer_is_loaded_in_the_model_s_revision(monkeypatch):
    """A hub model's tokenizer may have other tokens in another revision."""
    recipe, load, asked = tuned_recipe("prompt"), AutoTokenizer.from_pretrained, []
    tuning = dataclasses.replace(recipe.tuning, virtual=VirtualTokens(tokens=3, init="text", init_text="find it"))

    def record(name, revision=None, **arguments):
        asked.append(revision)
        return load(name, **arguments)

    embedder = checkpoint.resolve(None, recipe, "cpu").load()
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", record)
    peft_methods.apply(embedder, tuning, locate_model(recipe.model), "a-commit")
    assert asked == ["a-commit"]


@pytest.mark.slow
@pytest.mark.parametrize("method", [*FROZEN, "full"])
def test_the_next_round_continues_with_every_method(method, tiny_mined, tiny_collection, tmp_path):
    """Round 2 starts from round 1's weights: with a tiny learning rate it gives the same embeddings."""
    recipe = tuned_recipe(method, projection=Projection(24)).replace("training", epochs=1)
    data = few_rows(tiny_mined, tmp_path)
    finetune(recipe, data, tmp_path / "one", tiny_collection)
    start = checkpoint.resolve(str(tmp_path / "one"), device="cpu")
    still = recipe.replace("training", learning_rate=1e-9)
    finetune(still, data, tmp_path / "two", tiny_collection, start=tmp_path / "one")
    end = checkpoint.resolve(str(tmp_path / "two"), device="cpu")
    np.testing.assert_allclose(embed(end.load(), recipe), embed(start.load(), recipe), atol=1e-4)
    base = embed(checkpoint.resolve(None, recipe, "cpu").load(), recipe)
    assert base.shape[1] != 24 and start.lineage == end.lineage != {}


@pytest.mark.parametrize("method", ["prompt", "bottleneck"])
def test_adapters_that_no_weight_matrix_can_hold_are_not_merged(method, tmp_path):
    """Merging virtual tokens or bottlenecks is refused by name."""
    recipe = tuned_recipe(method)
    source = checkpoint.resolve(str(save_checkpoint(build_tuned_model(recipe), recipe, tmp_path / "c")), device="cpu")
    with refused("tuning.method", method, "cannot be merged"):
        merged_checkpoint.merge(source, tmp_path / "m", TEXTS)


def test_a_merged_adapter_keeps_head_and_norms(tmp_path):
    """A merged checkpoint contains the unfrozen weights, and the head beside them."""
    recipe = tuned_recipe("lora", projection=Projection(24), unfreeze=["layer_norms"])
    embedder = build_tuned_model(recipe)
    source = checkpoint.resolve(str(save_checkpoint(embedder, recipe, tmp_path / "c")), device="cpu")
    assert merged_checkpoint.merge(source, tmp_path / "m", TEXTS) > 0.999
    merged = checkpoint.resolve(str(tmp_path / "m"), device="cpu")
    assert merged.kind == "merged"
    np.testing.assert_allclose(embed(merged.load(), recipe), embed(embedder, recipe), atol=1e-5)


def test_bottleneck_targets_that_match_nothing_are_refused():
    """A name that no layer has is refused in one line."""
    recipe = tuned_recipe("bottleneck")
    missing = dataclasses.replace(recipe.tuning, bottleneck=HoulsbyAdapters(4, ["fc9"]))
    with refused("tuning.bottleneck.targets", "fc9"):
        build_tuned_model(dataclasses.replace(recipe, tuning=missing))


def test_a_recipe_starts_from_another_task_s_weights(tiny_mined, tiny_collection, tmp_path):
    """`init_from` brings weights and lineage along; prompts are the recipe's own."""
    recipe = tuned_recipe("lora")
    folder = tmp_path / "c"
    save_checkpoint(build_tuned_model(recipe), recipe, folder, lineage={"77": "abcdef01"}, round=3)
    start = dataclasses.replace(recipe, tuning=dataclasses.replace(recipe.tuning, init_from=str(folder)))
    start = start.replace("prompts", query_suffix="\n<answer>").replace("training", epochs=1)
    source = checkpoint.resolve(None, start, "cpu")
    other = checkpoint.resolve(str(folder), device="cpu")
    assert source.weights_digest == other.weights_digest and not source.is_base
    assert source.recipe.prompts.query_suffix == "\n<answer>" != other.recipe.prompts.query_suffix
    finetune(start, few_rows(tiny_mined, tmp_path), tmp_path / "train", tiny_collection)
    trained = checkpoint.resolve(str(tmp_path / "train"), device="cpu")
    assert trained.lineage["77"] == "abcdef01" and len(trained.lineage) > 1
    assert store.read_manifest(trained.folder).parent.weights == source.weights_digest


def test_a_recipe_starts_from_checkpoints_only(tmp_path):
    """A folder in `init_from` that is not a checkpoint is refused by name."""
    recipe = tuned_recipe("lora")
    without = dataclasses.replace(recipe, tuning=dataclasses.replace(recipe.tuning, init_from=str(tmp_path)))
    with refused(tmp_path):
        checkpoint.resolve(None, without, "cpu")


@pytest.mark.parametrize("method", ["full", "lora", "bottleneck", "p_tuning"])
def test_separate_encoders_are_saved_and_loaded(method, tmp_path):
    """Queries and passages have weights of their own, after a reload too; each encoder is a folder."""
    recipe = tuned_recipe(method, separate=True, projection=Projection(24))
    embedder = build_tuned_model(recipe)
    before = [encode(embedder, TEXTS, recipe.prompts, kind, "fp32") for kind in ("query", "passage")]
    source = checkpoint.resolve(str(save_checkpoint(embedder, recipe, tmp_path / "c")), device="cpu")
    reloaded = source.load()
    for kind, expected in zip(("query", "passage"), before, strict=True):
        np.testing.assert_allclose(encode(reloaded, TEXTS, recipe.prompts, kind, "fp32"), expected, atol=2e-6)
    same = recipe.replace("prompts", query_prefix="", query_suffix="", query_max_length=64, passage_max_length=64)
    one, other = (encode(reloaded, TEXTS, same.prompts, kind, "fp32") for kind in ("query", "passage"))
    assert np.abs(one - other).max() > 1e-3
    with refused("two encoders"):
        merged_checkpoint.merge(source, tmp_path / "m", TEXTS)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("budget", [0, 400])
def test_separate_encoders_train_and_continue(method, budget, tiny_mined, tiny_collection, tmp_path):
    """Both encoders change, with gradient caching too, and round 2 starts from them."""
    recipe = tuned_recipe(method, separate=True).replace("training", epochs=1, micro_batch_tokens=budget)
    data = few_rows(tiny_mined, tmp_path)
    finetune(recipe, data, tmp_path / "one", tiny_collection)
    still = recipe.replace("training", learning_rate=1e-9)
    finetune(still, data, tmp_path / "two", tiny_collection, start=tmp_path / "one")
    base, one, two = (
        checkpoint.resolve(str(path) if path else None, None if path else recipe, "cpu").load()
        for path in (None, tmp_path / "one", tmp_path / "two")
    )
    for kind in ("query", "passage"):
        vectors = [encode(embedder, TEXTS, recipe.prompts, kind, "fp32") for embedder in (base, one, two)]
        assert np.abs(vectors[0] - vectors[1]).max() > 1e-3
        np.testing.assert_allclose(vectors[1], vectors[2], atol=1e-4)


def test_lora_targets_that_match_nothing_are_refused():
    """Targets that name no module are refused at once."""
    recipe = tuned_recipe("lora")
    lora = dataclasses.replace(recipe.tuning.lora, targets=["no_such_proj"])
    with refused("tuning.lora.targets", "no_such_proj"):
        build_tuned_model(dataclasses.replace(recipe, tuning=dataclasses.replace(recipe.tuning, lora=lora)))


def test_lora_without_casts_computes_the_same_numbers():
    """Under autocast, vectors and gradients are equal bit by bit whether LoRA casts its input or autocast does."""
    recipe = tuned_recipe("lora")
    lora = dataclasses.replace(recipe.tuning.lora, dropout=0.0)
    embedder = build_tuned_model(dataclasses.replace(recipe, tuning=dataclasses.replace(recipe.tuning, lora=lora)))
    batch = embedder.tokenizer(TEXTS, padding=True, return_tensors="pt")

    def embed_and_differentiate() -> list[torch.Tensor]:
        embedder.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            vectors = embedder({"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]})
        vectors["sentence_embedding"].square().cumsum(1).sum().backward()
        gradients = [parameter.grad.clone() for parameter in peft_methods.trainable_parameters(embedder).values()]
        return [vectors["sentence_embedding"].detach(), *gradients]

    cast = embed_and_differentiate()
    peft_methods.leave_casts_to_autocast(embedder, "bf16")
    layers = [layer for layer in embedder.modules() if hasattr(layer, "cast_input_dtype_enabled")]
    assert layers and not any(layer.cast_input_dtype_enabled for layer in layers)
    for before, after in zip(cast, embed_and_differentiate(), strict=True):
        assert torch.equal(before, after)


def test_lora_with_dropout_keeps_its_casts():
    """Dropout draws masks for what was cast, so its layers are left as they are."""
    embedder = build_tuned_model(tuned_recipe("lora"))
    peft_methods.leave_casts_to_autocast(embedder, "bf16")
    assert all(getattr(layer, "cast_input_dtype_enabled", True) for layer in embedder.modules())


def test_a_training_that_moves_no_lora_b_is_refused():
    """LoRA whose B matrices stay at zero changes nothing, even where A moved."""
    embedder = build_tuned_model(tuned_recipe("lora"), step=0)
    before = peft_methods.snapshot_trainable(embedder)
    with torch.no_grad():
        for name, parameter in peft_methods.trainable_parameters(embedder).items():
            if "lora_A" in name:
                parameter.mul_(0.9)
    with refused("moved none"):
        peft_methods.check_weights_moved(before, peft_methods.trainable_parameters(embedder))
