"""Sparse models: their vectors are SparseEncoder's, heads start as they should, and tuned weights come back."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.tiny_task import refused
from helpers.tuned_models import build_tuned_model, reload
from sentence_transformers import SparseEncoder
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
    DistilBertModel,
    ElectraConfig,
    ElectraModel,
    RobertaConfig,
    RobertaModel,
)

from rounds.config import loader
from rounds.config.recipe import Recipe
from rounds.encoding.batching import Layout, to_tensors
from rounds.models import checkpoint, merging, peft_methods, weights_io
from rounds.models.random_models import VOCABULARY, random_model_folder

TEXTS = ["adding fractions", "x", "The pupil adds the denominators of 3/4 and 1/8, and the numerators as well"]

SMALL = {"vocab_size": VOCABULARY, "max_position_embeddings": 600, "pad_token_id": 0}
BERT = {**SMALL, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
DISTILBERT = {**SMALL, "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}


def recipe(name_or_path: str = "random:bert", **tuning) -> Recipe:
    model = {"name_or_path": str(name_or_path), "pooling": "splade", "precision": "fp32", "dropout": 0.0}
    return loader.from_dict({"name": "tiny", "model": model, "tuning": tuning}, "test")


def write_model(model, folder: Path) -> Path:
    """Write a model with the random models' tokenizer."""
    model.save_pretrained(folder)
    for file in random_model_folder("bert").glob("tokenizer*"):
        shutil.copy(file, folder)
    return folder


def load(name_or_path: str, **tuning):
    return checkpoint.resolve(None, recipe(name_or_path, **tuning), "cpu").load()


def embed(embedder) -> np.ndarray:
    with torch.inference_mode():
        return embedder(embedder.preprocess(TEXTS))["sentence_embedding"].numpy()


def stock(folder: Path) -> np.ndarray:
    return SparseEncoder(str(folder), device="cpu").encode(TEXTS, convert_to_sparse_tensor=False).numpy()


def masked_lm(folder: Path) -> Path:
    """Write a BERT with a head of random weights whose logits spread."""
    torch.manual_seed(0)
    model = BertForMaskedLM(BertConfig(**BERT))
    for parameter in model.cls.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return write_model(model, folder)


def test_a_saved_model_loads_in_sentence_transformers(tmp_path):
    """SparseEncoder gives the vectors of ours from the files that we write."""
    embedder = load("random:bert")
    weights_io.save_weights(embedder, tmp_path, recipe().tuning)
    assert np.allclose(stock(tmp_path), embed(embedder), atol=1e-5) and (embed(embedder) > 0).any()


def test_a_published_model_loads_as_base(tmp_path):
    """A folder that SparseEncoder wrote has its vectors in ours, head included."""
    published = SparseEncoder(str(masked_lm(tmp_path / "mlm")), device="cpu")
    published.save_pretrained(str(tmp_path / "splade"), create_model_card=False)
    vectors = embed(load(tmp_path / "splade"))
    assert np.allclose(vectors, stock(tmp_path / "splade"), atol=1e-5) and (vectors > 0).any()


def test_a_head_of_the_folder_is_used(tmp_path, capsys):
    """A plain masked language model keeps its head, and nothing is said of a new one."""
    folder = masked_lm(tmp_path)
    head = load(folder)[0].model.cls.predictions.transform.dense.weight
    assert torch.equal(head, BertForMaskedLM.from_pretrained(folder).cls.predictions.transform.dense.weight)
    assert "head" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "model",
    [
        DistilBertModel(DistilBertConfig(**DISTILBERT)),
        RobertaModel(RobertaConfig(**BERT, type_vocab_size=1)),
        ElectraModel(ElectraConfig(**BERT, embedding_size=16)),
    ],
    ids=["distilbert", "roberta", "electra"],
)
def test_a_missing_head_starts_tied_and_the_same(model, tmp_path):
    """The decoder of a new head is the word embeddings, and two loads give one head."""
    folder = write_model(model, tmp_path)
    first, second = load(folder), load(folder)
    transformer = first[0].model
    assert transformer.get_output_embeddings().weight is transformer.get_input_embeddings().weight
    assert np.array_equal(embed(first), embed(second))
    weights_io.save_weights(first, tmp_path / "saved", recipe().tuning)
    assert np.allclose(stock(tmp_path / "saved"), embed(first), atol=1e-5)


def test_a_new_head_passes_states_unchanged():
    """Behind the transform of a new head stand a token's own states, scaled to mean 0 and variance 1."""
    model = load("random:bert")[0].model
    states = torch.nn.functional.layer_norm(torch.randn(3, 64, generator=torch.Generator().manual_seed(0)), (64,))
    transformed = model.cls.predictions.transform(0.3 * states)
    assert torch.nn.functional.cosine_similarity(transformed, states).min() > 0.999


def test_a_new_head_is_announced(tmp_path, capsys):
    """One line says that a base model has no head, and what it starts as; a second load is silent."""
    folder = write_model(DistilBertModel(DistilBertConfig(**DISTILBERT)), tmp_path)
    capsys.readouterr()
    load(folder)
    load(folder)
    lines = [line for line in capsys.readouterr().out.splitlines() if "masked-LM head" in line]
    assert len(lines) == 1 and str(folder) in lines[0] and "identity" in lines[0]


def test_a_decoder_is_refused():
    """A model type without a masked-LM head is named with the way out."""
    with refused("random:mistral", "model.pooling splade", "masked-LM head", "mistral", "another model.pooling"):
        load("random:mistral")


@pytest.mark.parametrize(
    ("settings", "asked"),
    [({"pooling_strategy": "sum"}, "pooling_strategy sum"), ({"activation_function": "log1p_relu"}, "log1p_relu")],
)
def test_another_pooling_of_logits_is_refused(settings, asked, tmp_path):
    """A published model that pools in another way would get other vectors here."""
    published = SparseEncoder(str(masked_lm(tmp_path / "mlm")), device="cpu")
    published.save_pretrained(str(tmp_path / "splade"), create_model_card=False)
    file = tmp_path / "splade" / "1_SpladePooling" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **settings}), encoding="utf-8")
    with refused(tmp_path / "splade", asked, "take another model"):
        load(tmp_path / "splade")


def test_packed_and_padded_batches_agree(tmp_path):
    """A text's vector is the same in one row with others, in a padded batch, and in sentence-transformers."""
    embedder = load(masked_lm(tmp_path))
    ids = embedder.tokenizer(TEXTS)["input_ids"]
    vectors = []
    for packed in (True, False):
        layout = Layout(packed=packed, pad_id=0)
        with torch.inference_mode():
            output = embedder(to_tensors(ids, layout))["sentence_embedding"]
        vectors.append(output[: len(ids)].numpy())
    assert np.allclose(vectors[0], vectors[1], atol=1e-5) and np.allclose(vectors[0], stock(tmp_path), atol=1e-5)


def test_gradients_equal_sentence_transformers_(tmp_path):
    """The maximum before the activation has the gradients of the activation before the maximum."""
    weights = torch.randn(len(TEXTS), VOCABULARY, generator=torch.Generator().manual_seed(0))
    folder, gradients = masked_lm(tmp_path), []
    for model in (load(folder), SparseEncoder(str(folder), device="cpu")):
        (model(model.preprocess(TEXTS))["sentence_embedding"] * weights).sum().backward()
        gradients.append({name: value.grad for name, value in model[0].model.named_parameters()})
    ours, theirs = gradients
    assert ours.keys() == theirs.keys() and theirs["cls.predictions.bias"].any()
    for name, gradient in theirs.items():
        assert torch.norm(ours[name] - gradient) <= 1e-4 * torch.norm(gradient) + 1e-7, name


@pytest.mark.parametrize("method", ["full", "lora", "ia3", "bottleneck"])
def test_a_tuned_model_comes_back(method, tmp_path):
    """A checkpoint of each method has the vectors of the model in training; its head is trained, its decoder tied."""
    tuning = {"method": method, "lora": {"targets": "all-linear"}, "bottleneck": {"targets": "all-linear"}}
    embedder = build_tuned_model(recipe(**tuning))
    trained = peft_methods.trainable_parameters(embedder)
    assert any("transform.dense.weight" in name for name in trained) and any(
        "predictions.bias" in name for name in trained
    )
    assert (any("word_embeddings" in name for name in trained)) == (method == "full")
    loaded = reload(embedder.eval(), recipe(**tuning), tmp_path / "checkpoint")
    assert np.allclose(embed(loaded), embed(embedder), atol=1e-6) and (embed(loaded) > 0).any()


def test_a_merged_adapter_loads_in_sentence_transformers(tmp_path):
    """LoRA merged into the base model, with the trained head beside it, is a whole SparseEncoder."""
    tuning = {"method": "lora", "lora": {"targets": ["query", "value"]}}
    embedder = build_tuned_model(recipe(**tuning))
    reload(embedder.eval(), recipe(**tuning), tmp_path / "adapter")
    merging.write_merged(checkpoint.resolve(str(tmp_path / "adapter"), device="cpu"), tmp_path / "merged")
    assert np.allclose(stock(tmp_path / "merged"), embed(embedder), atol=1e-5)


def test_weights_of_a_killed_run_come_back(tmp_path):
    """The Trainer's state of a fully tuned model is read back, although its file holds tied weights once."""
    embedder = build_tuned_model(recipe())
    before = embed(embedder.eval())
    weights_io.save_weights(embedder, tmp_path, recipe().tuning)
    with torch.no_grad():
        embedder[0].model.cls.predictions.transform.dense.weight.zero_()
    weights_io.load_weights(embedder, tmp_path, recipe().tuning)
    assert np.array_equal(embed(embedder), before)


def test_a_checkpoint_without_its_head_is_refused(tmp_path):
    """Weights of an encoder alone are not those of a sparse checkpoint."""
    folder = write_model(DistilBertForMaskedLM(DistilBertConfig(**DISTILBERT)), tmp_path / "mlm")
    embedder = load(folder)
    reload(embedder, recipe(folder), tmp_path / "checkpoint")
    DistilBertModel(DistilBertConfig(**DISTILBERT)).save_pretrained(tmp_path / "checkpoint")
    with refused("the weights are not those"):
        checkpoint.resolve(str(tmp_path / "checkpoint"), device="cpu").load()
